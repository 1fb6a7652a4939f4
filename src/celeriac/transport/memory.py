"""The board of results of `memory://`: shared by the memory broker and the memory backend of one process.

1. `Board`: documents by id, with expiry, and the watchers to be told about new ones.
2. `board(name)`: the one board of that name in this process.

Not here: queues (`brokers/memory/`), what is in a document (`wire/results.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol

__all__ = ["Board", "Watcher", "board", "store_name"]


class Watcher(Protocol):
    """Told of every document that is stored; decides itself whether it cares. Must not block."""

    def notify(self, task_id: str, document: bytes) -> None: ...


class Board:
    """Result documents of one process. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._documents: dict[str, tuple[bytes, float | None]] = {}
        self._watchers: set[Watcher] = set()
        #: Chords by id (`backends/memory.py`); touch them with `chords_lock` held.
        self.chords: dict[str, Any] = {}
        self.chords_lock = threading.Lock()

    def put(self, task_id: str, document: bytes, *, expires: float | None) -> None:
        """Store `document`; it expires at `expires` (epoch seconds), never when None. Tells the watchers."""
        with self._lock:
            self._documents[task_id] = (document, expires)
            for watcher in self._watchers:
                watcher.notify(task_id, document)

    def put_if(
        self, task_id: str, document: bytes, *, seen: bytes | None, expires: float | None, now: float
    ) -> None:
        """As `put`, if what is there is still `seen` (None: nothing)."""
        with self._lock:
            entry = self._documents.get(task_id)
            if (entry[0] if entry and _lives(entry[1], now) else None) != seen:
                return
            self._documents[task_id] = (document, expires)
            for watcher in self._watchers:
                watcher.notify(task_id, document)

    def get(self, ids: Iterable[str], *, now: float) -> Mapping[str, bytes]:
        """The documents of `ids` that are stored and have not expired."""
        with self._lock:
            found = ((task_id, self._documents.get(task_id)) for task_id in ids)
            return {task_id: entry[0] for task_id, entry in found if entry and _lives(entry[1], now)}

    def forget(self, ids: Iterable[str]) -> None:
        with self._lock:
            for task_id in ids:
                self._documents.pop(task_id, None)

    def expire(self, *, now: float) -> int:
        """Delete what has expired; return how many documents."""
        with self._lock:
            gone = [task_id for task_id, (_, expires) in self._documents.items() if not _lives(expires, now)]
            for task_id in gone:
                del self._documents[task_id]
            return len(gone)

    def subscribe(self, watcher: Watcher) -> None:
        with self._lock:
            self._watchers.add(watcher)

    def unsubscribe(self, watcher: Watcher) -> None:
        with self._lock:
            self._watchers.discard(watcher)


def _lives(expires: float | None, now: float) -> bool:
    return expires is None or expires > now


_boards: Final[dict[str, Board]] = {}
_boards_lock = threading.Lock()


def board(name: str, make: Callable[[], Board] = Board) -> Board:
    """The board called `name`; made on first use."""
    with _boards_lock:
        if name not in _boards:
            _boards[name] = make()
        return _boards[name]


def store_name(url: str) -> str:
    """The name of the store in a `memory://name` URL; empty for the default store.

    Example:
        >>> store_name("memory://orders")
        'orders'
    """
    return url.partition("://")[2].strip("/")
