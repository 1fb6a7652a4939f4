"""A result store that is written against Celery's interface, behind ours.

`ForeignBackend`: documents become calls of `store_result`, and what `get_task_meta` gives becomes documents.

Celery makes its stores for one thread of one process; so there is one for each here, too. It makes no
difference whether a store is derived from Celery's own classes, where Celery is installed, or from ours.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

from celeriac import states
from celeriac.app.settings_values import mask_url
from celeriac.backends.base import BackendCapabilities, ResultTarget, StoredResult
from celeriac.backends.polling import PollingWatch, Seen
from celeriac.exceptions import DecodeError, EncodeError, OperationalError
from celeriac.execution.call import Context
from celeriac.result import result_from_tuple
from celeriac.wire import serialization
from celeriac.wire.errors import describe_exception
from celeriac.wire.results import ResultMeta, decode_group, decode_result, encode_group
from celeriac.wire.saferepr import saferepr

__all__ = ["ForeignBackend"]

logger = logging.getLogger("celeriac.backend")

#: The state, and the beginning of an id, under which documents are kept that are no result documents.
_OPAQUE: Final = "celeriac-opaque"


class ForeignBackend:
    """See `celeriac.backends.base.ResultBackend`.

    Args:
        kind: the class; it is called with `app` and `url`, as Celery does.
        app: the application.
        url: what the setting says, if it is a URL.
    """

    capabilities: BackendCapabilities = BackendCapabilities(push=False, expiry=False, verbatim=False)

    def __init__(self, kind: type[Any], app: Any, url: str | None) -> None:
        self._kind = kind
        self._app = app
        self._url = url
        self._local = threading.local()

    # -- store, load, forget ---------------------------------------------------------------------------------

    def store(self, batch: Sequence[StoredResult]) -> None:
        for task_id, document, _, _ in batch:
            with self._using() as foreign:
                self._store_surely(foreign, task_id, document)

    def _store_surely(self, foreign: Any, task_id: str, document: bytes) -> None:
        """Nobody knows what a store raises when it takes a value never, and what when it is down. So: twice;
        if it takes a failure then, it was the value."""
        try:
            self._store(foreign, task_id, document)
        except Exception as first:
            self._tell(foreign, first)
            try:
                self._store(foreign, task_id, document)
            except Exception as exc:
                failure = describe_exception(EncodeError(f"The result cannot be stored: {exc!r}"))
                foreign.store_result(task_id, failure, states.FAILURE)
                logger.error("The result of task %s is not stored: %r", task_id, exc)

    def _store(self, foreign: Any, task_id: str, document: bytes) -> None:
        try:
            meta = decode_result(document, self._serializer)
        except DecodeError:
            foreign.store_result(task_id, document.decode("latin-1"), _OPAQUE)
            return
        request = self._request(task_id, meta)
        foreign.store_result(task_id, meta.result, meta.status, traceback=meta.traceback, request=request)

    def _request(self, task_id: str, meta: ResultMeta) -> Context:
        """What stores read of the call whose result they keep."""
        args = tuple(meta.args) if isinstance(meta.args, list) else meta.args
        request = Context(
            id=task_id, task=meta.name, args=args, kwargs=meta.kwargs, hostname=meta.worker,
            argsrepr=saferepr(args), kwargsrepr=saferepr(meta.kwargs), retries=meta.retries or 0,
            delivery_info={"routing_key": meta.queue}, parent_id=meta.parent_id, group=meta.group_id,
            stamped_headers=meta.stamped_headers, stamps=meta.stamps,
        )  # fmt: skip
        for child in meta.children or ():
            request.add_child(result_from_tuple(child, self._app))
        return request

    def load(self, ids: Sequence[str]) -> Mapping[str, bytes]:
        return {task_id: seen.document for task_id, seen in self._look(ids).items()}

    def _look(self, ids: Sequence[str]) -> Mapping[str, Seen]:
        found = {}
        for task_id in ids:
            with self._using() as foreign:
                meta = foreign.get_task_meta(task_id, cache=False)
            if meta and meta["status"] != states.PENDING:
                found[task_id] = Seen(self._document(task_id, meta), meta["status"] in states.READY_STATES)
        return found

    def _document(self, task_id: str, meta: Mapping[str, Any]) -> bytes:
        value, done = meta.get("result"), meta.get("date_done")
        if meta["status"] == _OPAQUE:
            return str(value).encode("latin-1")
        document: dict[str, Any] = {
            "status": meta["status"],
            "result": describe_exception(value) if isinstance(value, BaseException) else value,
            "traceback": meta.get("traceback"),
            "children": [_as_tuple(child) for child in meta.get("children") or ()],
            "date_done": done.isoformat() if isinstance(done, datetime) else done,
        }
        for ours, theirs in _EXTENDED:
            shown = meta.get(ours) if meta.get(ours) is not None else meta.get(theirs)
            if shown is not None:
                document[ours] = shown
        document["task_id"] = task_id
        try:
            return serialization.dumps(document, self._serializer)[2]
        except EncodeError as exc:
            why = f"The result of task {task_id} cannot be given on as {self._serializer}: {exc}"
            return serialization.dumps({"unreadable": why}, self._serializer)[2]

    def forget(self, ids: Sequence[str]) -> None:
        for task_id in ids:
            with self._using() as foreign:
                foreign.forget(task_id)

    def watch(self, ids: Iterable[str] = ()) -> PollingWatch:
        return PollingWatch(self._look, ids)

    def target(self) -> ResultTarget | None:
        return None

    # -- groups ----------------------------------------------------------------------------------------------

    def save_group(self, group_id: str, document: bytes, ttl: float | None) -> None:
        try:
            structure = decode_group(document, self._serializer)
        except DecodeError:
            structure = [[f"{_OPAQUE}:{document.decode('latin-1')}", None], None]
        with self._using() as foreign:
            foreign.save_group(group_id, result_from_tuple(structure, self._app))

    def load_group(self, group_id: str) -> bytes | None:
        with self._using() as foreign:
            found = foreign.restore_group(group_id, cache=False)
        if found is None:
            return None
        if str(found.id).startswith(f"{_OPAQUE}:"):
            return str(found.id)[len(_OPAQUE) + 1 :].encode("latin-1")
        return encode_group(found.as_tuple(), self._serializer)

    def delete_group(self, group_id: str) -> None:
        with self._using() as foreign:
            foreign.delete_group(group_id)

    # -- the store -------------------------------------------------------------------------------------------

    def expire(self) -> int:
        """Let it delete what has expired; it does not say how many."""
        with self._using() as foreign:
            foreign.cleanup()
        return 0

    def describe(self) -> str:
        return mask_url(self._url) if self._url else f"{self._kind.__module__}.{self._kind.__qualname__}"

    def close(self) -> None:
        made = getattr(self._local, "made", None)
        self._local.made = None
        if made is not None and made[0] == os.getpid():
            made[1].process_cleanup()

    @property
    def _serializer(self) -> str:
        return str(self._app.conf.result_serializer)

    def _foreign(self) -> Any:
        """This thread's own."""
        made = getattr(self._local, "made", None)
        if made is None or made[0] != os.getpid():
            made = self._local.made = (os.getpid(), self._kind(app=self._app, url=self._url))
        return made[1]

    @contextmanager
    def _using(self) -> Iterator[Any]:
        """It raises what its library raises; all of it means that the store cannot be reached now."""
        foreign = self._foreign()
        try:
            yield foreign
        except (DecodeError, OperationalError):
            raise
        except Exception as exc:
            self._tell(foreign, exc)
            raise OperationalError(f"The result store {self.describe()} fails: {exc!r}") from exc

    def _tell(self, foreign: Any, exc: Exception) -> None:
        """Of an error: here Celery's stores drop a dead connection."""
        tell = getattr(foreign, "exception_safe_to_retry", None)
        if tell is not None:
            tell(exc)


#: Our name of what is kept with the setting `result_extended`, and the one that some stores have.
_EXTENDED: Final = (
    ("name", "task_name"),
    ("args", "task_args"),
    ("kwargs", "task_kwargs"),
    ("worker", "worker"),
    ("retries", "retries"),
    ("queue", "queue"),
    ("group_id", "group_id"),
    ("parent_id", "parent_id"),
)


def _as_tuple(child: Any) -> Any:
    return child.as_tuple() if hasattr(child, "as_tuple") else child
