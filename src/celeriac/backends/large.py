"""Big results in a second store; the first one keeps a reference.

`Large`: a store around two stores. What is longer than `size` bytes goes to the second one, under the task's
id, and then a short document of the same state to the first one, whose value says where the real one is. Who
reads with the same settings gets the real one. Celery's clients see the state and the reference.

Both expire after the same time. A document whose reference was never written, as its process died in between,
expires, too. Parts of chords and saved groups are not kept by reference.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from celeriac import states
from celeriac.backends.around import Around, unreadable
from celeriac.backends.base import ResultBackend, StoredResult
from celeriac.backends.values import dumps, open_document
from celeriac.exceptions import DecodeError
from celeriac.wire.saferepr import saferepr

__all__ = ["KEY", "Large"]

logger = logging.getLogger("celeriac.backend")

#: In the value of a reference: how many bytes the document has.
KEY: Final = "celeriac_large"
_SHOWN: Final = ("args", "kwargs")


class Large(Around):
    """See `celeriac.backends.base.ResultBackend`.

    Args:
        store: where results are kept.
        second: where those are kept that are too big.
        size: bytes of a document at most, to be kept in `store`.
        serializer: the setting `result_serializer`.

    Example:
        >>> from celeriac.backends.memory import MemoryBackend
        >>> first, second = (MemoryBackend(f"memory://{name}", {}) for name in ("first", "second"))
        >>> store = Large(first, second, size=100)
        >>> store.store([StoredResult("id-1", b'{"status": "SUCCESS", "result": "' + b"x" * 100 + b'"}')])
        >>> first.load(["id-1"])["id-1"]
        b'{"status": "SUCCESS", "result": {"celeriac_large": 135, "kept_in": "memory://second"}}'
        >>> len(store.load(["id-1"])["id-1"])
        135
    """

    def __init__(
        self, store: ResultBackend, second: ResultBackend, size: int, serializer: str = "json"
    ) -> None:
        super().__init__(store)
        both = store.capabilities.expiry and second.capabilities.expiry
        self.capabilities = store.capabilities._replace(expiry=both)
        self._second = second
        self._size = size
        self._serializer = serializer

    def inward(self, batch: Sequence[StoredResult]) -> Sequence[StoredResult]:
        stored, big = [], []
        for result in batch:
            reference = self._reference(result.document) if len(result.document) > self._size else None
            if reference is not None:
                big.append(result)
                result = result._replace(document=reference)
            stored.append(result)
        if big:
            self._second.store(big)  # first, so that no reference leads nowhere
        return stored

    def _reference(self, document: bytes) -> bytes | None:
        """None: it is no result document, and stays where it is."""
        try:
            read = open_document(document, self._serializer)
        except DecodeError:
            return None
        if not isinstance(read, dict) or not isinstance(read.get("status"), str):
            return None
        where = {KEY: len(document), "kept_in": self._second.describe()}
        value = read.get("result")
        if read["status"] in states.EXCEPTION_STATES and isinstance(value, dict) and "exc_type" in value:
            message = [f"The error has {len(document)} bytes and is kept in {self._second.describe()}."]
            where |= {"exc_type": value["exc_type"], "exc_message": message}
            where |= {"exc_module": value.get("exc_module")}
        shown = {key: saferepr(read[key]) for key in _SHOWN if read.get(key) is not None}
        return dumps({**read, **shown, "result": where}, self._serializer)

    def outward(self, found: Mapping[str, bytes]) -> Mapping[str, bytes]:
        referring = [task_id for task_id, document in found.items() if self._refers(document)]
        if not referring:
            return found
        real = self._second.load(referring)
        gone = f"It was kept in {self._second.describe()}, and is not there (any more)."
        lost = unreadable(gone, self._serializer)
        return {**found, **{task_id: real.get(task_id, lost) for task_id in referring}}

    def _refers(self, document: bytes) -> bool:
        if KEY.encode() not in document:
            return False
        try:
            read: Any = open_document(document, self._serializer)
        except DecodeError:
            return False
        value = read.get("result") if isinstance(read, dict) else None
        return isinstance(value, dict) and isinstance(value.get(KEY), int) and "kept_in" in value

    def forget(self, ids: Sequence[str]) -> None:
        referring = [task_id for task_id, each in self.inner.load(ids).items() if self._refers(each)]
        super().forget(ids)
        if referring:
            self._second.forget(referring)

    def expire(self) -> int:
        return super().expire() + self._second.expire()

    def describe(self) -> str:
        return f"{super().describe()} (above {self._size} bytes: {self._second.describe()})"

    def close(self) -> None:
        super().close()
        self._second.close()
