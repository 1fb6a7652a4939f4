"""Waiting for results in stores that cannot tell anybody: looking again and again, ever more slowly.

1. `PollingWatch`: a `Watch` over a function that loads documents.

The first look comes at once, the next after `first` seconds, each later one after `GROWTH` times as long, up
to `PollingWatch.interval`. News and new ids begin anew. An id whose final document was given is not looked at
again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

__all__ = ["Look", "PollingWatch", "Seen"]

#: Seconds.
FIRST: Final = 0.01
GROWTH: Final = 1.5
INTERVAL: Final = 0.5


class Seen(NamedTuple):
    """A document, and whether it is the last one of its id."""

    document: bytes
    final: bool = False


Look = Callable[[Sequence[str]], Mapping[str, Seen]]


class PollingWatch:
    """See `celeriac.backends.base.Watch`.

    Args:
        look: loads what is stored of ids.
        first: seconds between the first look and the second.

    Attributes:
        interval: seconds between two looks at most; whoever waits may set it.

    Example:
        >>> watch = PollingWatch(lambda ids: {"a": Seen(b"1", True)})
        >>> watch.add(["a", "b"])
        >>> watch.wait(1)
        {'a': b'1'}
        >>> watch.wait(0)
        {}
    """

    replays = True

    def __init__(self, look: Look, ids: Iterable[str] = (), *, first: float = FIRST) -> None:
        self.interval = INTERVAL
        self._first = first
        self._look = look
        self._changed = threading.Condition()
        self._ids = dict.fromkeys(ids)
        self._given: dict[str, int] = {}  # hashes of documents
        self._pause = 0.0
        self._woken = False

    def add(self, ids: Iterable[str]) -> None:
        with self._changed:
            self._ids.update(dict.fromkeys(ids))
            self._pause = 0.0
            self._changed.notify_all()

    def discard(self, ids: Iterable[str]) -> None:
        with self._changed:
            for task_id in ids:
                self._ids.pop(task_id, None)
                self._given.pop(task_id, None)

    def wait(self, timeout: float | None) -> Mapping[str, bytes]:
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            with self._changed:
                pause = self._pause if self._ids else 3600.0
                left = pause if deadline is None else min(pause, deadline - time.monotonic())
                if not self._woken and left > 0:
                    self._changed.wait(left)
                woken, self._woken = self._woken, False
                ids = list(self._ids)
                self._pause = min(max(self._first, self._pause * GROWTH), max(self._first, self.interval))
            if woken:
                return {}
            new = self._news(self._look(ids)) if ids else {}
            if new or (deadline is not None and time.monotonic() >= deadline):
                return new

    def _news(self, found: Mapping[str, Seen]) -> Mapping[str, bytes]:
        new = {}
        with self._changed:
            for task_id, (document, final) in found.items():
                mark = hash(document)
                if task_id not in self._ids or self._given.get(task_id) == mark:
                    continue
                new[task_id] = document
                if final:
                    del self._ids[task_id]
                    self._given.pop(task_id, None)
                else:
                    self._given[task_id] = mark
            if new:
                self._pause = self._first
        return new

    def wake(self) -> None:
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def close(self) -> None:
        self.wake()
