"""Waiting for result documents in the caller's own thread: pushed, not polled.

1. `arrivals`: documents of ids as they come. Each thread keeps one watch.
2. `allow_join_result`: waiting inside a task is refused, because workers that all wait for each other wait
   for ever; this allows it.

Not here: what a document means to whoever waits (`one.py`, `many.py`), waiting in coroutines (`hub.py`).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
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
    "joins_allowed",
    "refuse_inside_task",
    "timed_out",
]

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
    global _local
    _local = _Local()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)


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


def timed_out(ids: Sequence[str], timeout: float | None) -> exceptions.TimeoutError:
    """The error of whoever waited for `ids` in vain."""
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
                raise timed_out(ids, timeout)
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
