"""Waiting for result documents without a thread of one's own: coroutines and callbacks.

1. `Hub`: one thread per result store watches for all who listen.
2. `arrivals_async`: documents of ids as they come, for coroutines; `wait_async`: until one was enough.

Not here: waiting in the caller's thread (`waiting.py`).
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from celeriac.exceptions import OperationalError
from celeriac.result.waiting import timed_out

if TYPE_CHECKING:
    from celeriac.backends.base import ResultBackend, Watch

__all__ = ["Hub", "arrivals_async", "hub_of", "wait_async"]

logger = logging.getLogger("celeriac.result")

#: Called in the hub's thread with the id and its document, or with the exception that ended the hub.
Listener = Callable[[str, "bytes | Exception"], None]

_IDLE: Final = 30.0
_RETRY: Final = 1.0


class Hub:
    """One thread that watches a result store for many listeners. It starts with the first listener and ends
    when there has been none for half a minute."""

    def __init__(self, backend: ResultBackend) -> None:
        self._backend = backend
        self._lock = threading.Lock()
        self._listeners: dict[str, list[Listener]] = {}
        self._new: list[str] = []
        self._gone: list[str] = []
        self._watch: Watch | None = None
        self._thread: threading.Thread | None = None

    def listen(self, ids: Iterable[str], listener: Listener) -> None:
        """Call `listener` with what is stored of `ids`, and with every new document. Never blocks."""
        with self._lock:
            for task_id in ids:
                self._listeners.setdefault(task_id, []).append(listener)
                self._new.append(task_id)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="celeriac-results", daemon=True)
                self._thread.start()
            elif self._watch is not None:
                self._watch.wake()

    def unlisten(self, ids: Iterable[str], listener: Listener) -> None:
        """Undo `listen`."""
        with self._lock:
            for task_id in ids:
                listeners = self._listeners.get(task_id, [])
                if listener in listeners:
                    listeners.remove(listener)
                if not listeners and self._listeners.pop(task_id, None) is not None:
                    self._gone.append(task_id)

    def _run(self) -> None:
        while True:
            try:
                return self._serve()
            except OperationalError as exc:
                logger.warning("Waiting for results was interrupted: %s; trying again in %s s.", exc, _RETRY)
                time.sleep(_RETRY)
            except Exception as exc:  # a bug must reach those who wait, not leave them waiting
                return self._fail(exc)

    def _serve(self) -> None:
        watch = self._backend.watch()
        with self._lock:
            self._watch, self._new, self._gone = watch, list(self._listeners), []
        try:
            while self._turn(watch):
                pass
        finally:
            with self._lock:
                if self._watch is watch:
                    self._watch = None
            watch.close()

    def _turn(self, watch: Watch) -> bool:
        with self._lock:
            new, self._new = self._new, []
            gone = [task_id for task_id in self._gone if task_id not in self._listeners]
            self._gone = []
        if gone:
            watch.discard(gone)
        if new:
            watch.add(new)
            if not getattr(watch, "replays", False):
                self._deliver(self._backend.load(new))
        documents = watch.wait(_IDLE)
        self._deliver(documents)
        with self._lock:
            if self._listeners or documents:
                return True
            self._thread = self._watch = None
            return False

    def _deliver(self, documents: Mapping[str, bytes]) -> None:
        for task_id, document in documents.items():
            with self._lock:
                listeners = tuple(self._listeners.get(task_id, ()))
            for listener in listeners:
                try:
                    listener(task_id, document)
                except Exception:  # somebody's callback: it must not keep the others from their results
                    logger.exception("A callback of the result of task %s raised.", task_id)

    def _fail(self, exc: Exception) -> None:
        logger.error("Waiting for results failed.", exc_info=exc)
        with self._lock:
            listeners, self._listeners, self._thread = self._listeners, {}, None
        for task_id, group in listeners.items():
            for listener in group:
                listener(task_id, exc)


_hubs: weakref.WeakValueDictionary[int, Hub] = weakref.WeakValueDictionary()
_hubs_lock = threading.Lock()


def _forget_in_child() -> None:
    global _hubs, _hubs_lock
    _hubs, _hubs_lock = weakref.WeakValueDictionary(), threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)


def hub_of(backend: ResultBackend) -> Hub:
    """The one hub of `backend` in this process."""
    with _hubs_lock:
        hub = _hubs.get(id(backend))
        if hub is None or hub._backend is not backend:
            hub = _hubs[id(backend)] = Hub(backend)
        return hub


async def arrivals_async(
    backend: ResultBackend, ids: Sequence[str], timeout: float | None = None
) -> AsyncGenerator[tuple[str, bytes], None]:
    """Yield documents of `ids` as they come: first what is stored already, then each new state.

    Ends only when the caller stops asking; the loop goes on meanwhile.

    Args:
        backend: the result store.
        ids: task ids.
        timeout: seconds; None waits for ever.

    Raises:
        TimeoutError: after `timeout` seconds.
    """
    import asyncio  # it is large, and most programs never come here

    loop = asyncio.get_running_loop()
    deadline = None if timeout is None else loop.time() + timeout
    arrived: asyncio.Queue[tuple[str, bytes | Exception]] = asyncio.Queue()

    def listener(task_id: str, document: bytes | Exception) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(arrived.put_nowait, (task_id, document))

    hub = hub_of(backend)
    hub.listen(ids, listener)
    try:
        while True:
            left = None if deadline is None else max(deadline - loop.time(), 0)
            try:
                task_id, document = await asyncio.wait_for(arrived.get(), left)
            except TimeoutError as exc:
                raise timed_out(ids, timeout) from exc
            if isinstance(document, Exception):
                raise document
            yield task_id, document
    finally:
        hub.unlisten(ids, listener)


async def wait_async(
    backend: ResultBackend,
    ids: Sequence[str],
    take: Callable[[str, bytes], bool],
    timeout: float | None = None,
) -> None:
    """Give documents of `ids` to `take` as they come, until it returns True; see `arrivals_async`."""
    async with aclosing(arrivals_async(backend, ids, timeout)) as found:
        async for task_id, document in found:
            if take(task_id, document):
                return
