"""Waiting for result documents: pushed, not polled; in threads and in coroutines.

1. `arrivals`: documents of ids as they come, in the caller's own thread. Each thread keeps one watch.
2. `wait_async`: the same for coroutines. One thread per result store (`Hub`) watches for all of them.
3. `allow_join_result`: waiting inside a task is refused, because workers that all wait for each other wait
   for ever; this allows it.

Not here: what a document means to whoever waits (`one.py`, `many.py`).
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from celeriac import _state, exceptions
from celeriac.exceptions import OperationalError

if TYPE_CHECKING:
    from celeriac.backends.base import ResultBackend, Watch

__all__ = [
    "allow_join_result",
    "arrivals",
    "denied_join_result",
    "hub_of",
    "joins_allowed",
    "refuse_inside_task",
    "wait_async",
]

logger = logging.getLogger("celeriac.result")

_WOULD_BLOCK: Final = (
    "Never call result.get() within a task! The worker's processes may all come to wait for tasks that wait "
    "for a free process. Use a callback or a chain; or, when you know that another worker runs the task, "
    "`with allow_join_result():`."
)

_join_allowed: ContextVar[bool | None] = ContextVar("celeriac_join_allowed", default=None)


# -- inside tasks ----------------------------------------------------------------------------------------


def refuse_inside_task() -> None:
    """Raise `RuntimeError` when this code runs in a task of a worker and nobody allowed it."""
    allowed = _join_allowed.get()
    if allowed:
        return
    pair = _state.running.get()
    in_worker = pair is not None and not (pair[1].called_directly or pair[1].is_eager)
    if in_worker or allowed is False:
        raise RuntimeError(_WOULD_BLOCK)


@contextmanager
def allow_join_result() -> Iterator[None]:
    """Allow waiting for results inside a task.

    Example:
        >>> with allow_join_result():
        ...     refuse_inside_task()
    """
    token = _join_allowed.set(True)
    try:
        yield
    finally:
        _join_allowed.reset(token)


@contextmanager
def denied_join_result() -> Iterator[None]:
    """Refuse waiting for results, in a task or not."""
    token = _join_allowed.set(False)
    try:
        yield
    finally:
        _join_allowed.reset(token)


def joins_allowed() -> bool:
    """True inside `allow_join_result`."""
    return bool(_join_allowed.get())


# -- threads ---------------------------------------------------------------------------------------------


class _Kept:
    """The watch a thread keeps, so that the next `get` needs no new connection."""

    def __init__(self, backend: ResultBackend) -> None:
        self.backend = backend
        self.watch = backend.watch()
        self.busy = False
        self._pid = os.getpid()

    def close(self) -> None:
        if self._pid == os.getpid():  # a forked child must leave its parent's connection alone
            self.watch.close()

    def __del__(self) -> None:
        self.close()


class _Local(threading.local):
    kept: _Kept | None = None


_local = _Local()


def _forget_in_child() -> None:
    global _local, _hubs, _hubs_lock
    _local, _hubs, _hubs_lock = _Local(), weakref.WeakValueDictionary(), threading.Lock()


@contextmanager
def _watching(backend: ResultBackend, ids: Sequence[str]) -> Iterator[Watch]:
    kept = _local.kept
    if kept is not None and kept.busy:  # a callback waits for another result: it needs a watch of its own
        watch = backend.watch(ids)
        try:
            yield watch
        finally:
            watch.close()
        return
    if kept is None or kept.backend is not backend:
        kept = _local.kept = _Kept(backend)
    kept.busy = True
    try:
        kept.watch.add(ids)
        try:
            yield kept.watch
        finally:
            kept.watch.discard(ids)
    except OperationalError:
        _local.kept = None  # the next wait connects anew
        raise
    finally:
        kept.busy = False


def _timed_out(ids: Sequence[str], timeout: float | None) -> exceptions.TimeoutError:
    what = f"task {ids[0]}" if len(ids) == 1 else f"{len(ids)} tasks"
    return exceptions.TimeoutError(f"The result of {what} was not there within {timeout} seconds.")


def arrivals(
    backend: ResultBackend,
    ids: Sequence[str],
    timeout: float | None = None,
    interval: float = 0.5,
    on_interval: Callable[[], Any] | None = None,
    *,
    fresh: bool = False,
) -> Generator[Mapping[str, bytes], None, None]:
    """Yield documents of `ids` as they come: first what is stored already, then each new state.

    Ends only when the caller stops asking.

    Args:
        backend: the result store.
        ids: task ids.
        timeout: seconds; None waits for ever.
        interval: seconds between two calls of `on_interval`, and between two looks into a store that has to
            be polled, at most.
        on_interval: called while nothing arrives.
        fresh: the calls were made a moment ago: nothing will be stored yet, so that is not asked first.

    Raises:
        TimeoutError: after `timeout` seconds.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    known: Mapping[str, bytes] = {}
    if not fresh:
        known = backend.load(ids)
        yield known
    with _watching(backend, ids) as watch:
        if hasattr(watch, "interval"):
            watch.interval = max(interval, 0.001)
        # What was stored before the watch began: some watches tell it themselves.
        if not getattr(watch, "replays", False):
            yield _news(known, backend.load(ids))
        while True:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                yield _news(known, backend.load(ids))
                raise _timed_out(ids, timeout)
            if on_interval is not None:
                left = interval if left is None else min(left, interval)
            documents = watch.wait(left)
            if documents:
                yield _news(known, documents) if known else documents
            elif on_interval is not None:
                on_interval()


def _news(known: Mapping[str, bytes], documents: Mapping[str, bytes]) -> Mapping[str, bytes]:
    """The documents that are not those the caller was given at the beginning."""
    return {task_id: document for task_id, document in documents.items() if known.get(task_id) != document}


# -- coroutines ------------------------------------------------------------------------------------------

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

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)


def hub_of(backend: ResultBackend) -> Hub:
    """The one hub of `backend` in this process."""
    with _hubs_lock:
        hub = _hubs.get(id(backend))
        if hub is None or hub._backend is not backend:
            hub = _hubs[id(backend)] = Hub(backend)
        return hub


async def wait_async(
    backend: ResultBackend,
    ids: Sequence[str],
    take: Callable[[str, bytes], bool],
    timeout: float | None = None,
) -> None:
    """Give documents of `ids` to `take` as they come, until it returns True; the loop goes on meanwhile.

    Args:
        backend: the result store.
        ids: task ids.
        take: called with an id and its document, first for what is stored already.
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
                raise _timed_out(ids, timeout) from exc
            if isinstance(document, Exception):
                raise document
            if take(task_id, document):
                return
    finally:
        hub.unlisten(ids, listener)
