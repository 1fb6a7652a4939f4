"""Results that are compressed, encrypted, or both, before they are stored.

1. `Codec`: what encrypts; the user's.
2. `Sealed`: a store around a store.

A compressed document is as Celery writes it (`wire/packing.py`). An encrypted one is a mark and the codec's
bytes; only who has the codec reads it. That it is the end of its task can be seen. Documents without a mark
are read as they are: those of Celery's workers, and those from before. Compressed first, then encrypted.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from celeriac.backends.around import Around, unreadable
from celeriac.backends.base import ResultBackend, StoredResult
from celeriac.exceptions import DecodeError
from celeriac.wire.packing import ENCRYPTED, ENCRYPTED_OPEN, packed, unpacked
from celeriac.wire.results import is_final

__all__ = ["Codec", "Sealed"]

logger = logging.getLogger("celeriac.backend")

_MARKS: Final = (ENCRYPTED, ENCRYPTED_OPEN)


class Codec(Protocol):
    """Used by several threads at once. What `decode` raises means that the bytes cannot be read."""

    def encode(self, data: bytes) -> bytes: ...

    def decode(self, data: bytes) -> bytes: ...


class Sealed(Around):
    """See `celeriac.backends.base.ResultBackend`.

    Args:
        store: where results are kept.
        method: of compression, or None.
        codec: encrypts, or None.
        serializer: the setting `result_serializer`.

    Example:
        >>> from celeriac.backends.memory import MemoryBackend
        >>> store = Sealed(MemoryBackend("memory://sealed-example", {}), "gzip")
        >>> store.store([StoredResult("id-1", b"{}" * 100)])
        >>> len(store.inner.load(["id-1"])["id-1"]), len(store.load(["id-1"])["id-1"])
        (51, 200)
    """

    def __init__(
        self,
        store: ResultBackend,
        method: str | None = None,
        codec: Codec | None = None,
        serializer: str = "json",
    ) -> None:
        super().__init__(store)
        self._method = method
        self._codec = codec
        self._serializer = serializer

    def inward(self, batch: Sequence[StoredResult]) -> Sequence[StoredResult]:
        return [result._replace(document=self._sealed(result.document)) for result in batch]

    def _sealed(self, document: bytes) -> bytes:
        """Whether it is the end of its task stays to be seen, so that nothing late takes its place."""
        sealed = self.seal(document)
        if self._codec is None or is_final(document, self._serializer):
            return sealed
        return ENCRYPTED_OPEN + sealed[len(ENCRYPTED) :]

    def outward(self, found: Mapping[str, bytes]) -> Mapping[str, bytes]:
        return {task_id: self.unseal(document) for task_id, document in found.items()}

    def seal(self, data: bytes) -> bytes:
        data = packed(data, self._method)
        return data if self._codec is None else ENCRYPTED + self._codec.encode(data)

    def unseal(self, data: bytes) -> bytes:
        """Of what cannot be read, a document that says why."""
        try:
            return unpacked(self._decrypted(data))
        except DecodeError as exc:
            return unreadable(f"The result cannot be read: {exc}", self._serializer)

    def _decrypted(self, data: bytes) -> bytes:
        mark = next((mark for mark in _MARKS if data.startswith(mark)), None)
        if self._codec is None or mark is None:
            return data
        try:
            return self._codec.decode(data[len(mark) :])
        except Exception as exc:  # the codec is the user's; whatever it raises, the bytes were not for us
            logger.error("A result cannot be decrypted: %r", exc)
            raise DecodeError(f"it cannot be decrypted ({type(exc).__name__})") from exc
