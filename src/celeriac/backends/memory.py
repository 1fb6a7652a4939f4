"""Results in the memory of one process: the reference implementation of the result seam.

1. `MemoryBackend`: the seam, over the board that the URL names (`transport/memory.py`).
2. `MemoryWatch`: a condition and a pocket of new documents.

URL: `memory://` or `memory://name` (also `cache+memory://`). Option: `clock`, for tests.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from celeriac.backends.base import BackendCapabilities, ResultTarget, StoredResult
from celeriac.transport.memory import Board, board, store_name

__all__ = ["MemoryBackend", "MemoryWatch"]

#: Groups share the board with tasks; no task id begins like this.
GROUP = "celeriac-group:"


class MemoryWatch:
    """New documents of the watched ids collect in a pocket until `wait` empties it."""

    def __init__(self, board: Board, ids: Iterable[str]) -> None:
        self._board = board
        self._changed = threading.Condition()
        self._ids = set(ids)
        self._pocket: dict[str, bytes] = {}
        self._woken = False
        board.subscribe(self)

    def add(self, ids: Iterable[str]) -> None:
        with self._changed:
            self._ids.update(ids)

    def discard(self, ids: Iterable[str]) -> None:
        with self._changed:
            for task_id in ids:
                self._ids.discard(task_id)
                self._pocket.pop(task_id, None)

    def notify(self, task_id: str, document: bytes) -> None:
        with self._changed:
            if task_id in self._ids:
                self._pocket[task_id] = document
                self._changed.notify_all()

    def wait(self, timeout: float | None) -> Mapping[str, bytes]:
        with self._changed:
            self._changed.wait_for(lambda: self._pocket or self._woken, timeout)
            new, self._pocket, self._woken = self._pocket, {}, False
            return new

    def wake(self) -> None:
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def close(self) -> None:
        self._board.unsubscribe(self)
        self.wake()


class MemoryBackend:
    """The seam.

    Example:
        >>> from celeriac.backends.base import StoredResult
        >>> backend = MemoryBackend("memory://example", {})
        >>> backend.store([StoredResult("id-1", b"{}")])
        >>> backend.load(["id-1", "id-2"])
        {'id-1': b'{}'}
    """

    capabilities: BackendCapabilities = BackendCapabilities()

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self._name = store_name(url)
        self._board = board(self._name)
        self._clock: Callable[[], float] = options.get("clock", time.time)

    def store(self, batch: Sequence[StoredResult]) -> None:
        for result in batch:
            self._put(result.task_id, result.document, result.ttl)

    def load(self, ids: Sequence[str]) -> Mapping[str, bytes]:
        return self._board.get(ids, now=self._clock())

    def forget(self, ids: Sequence[str]) -> None:
        self._board.forget(ids)

    def watch(self, ids: Iterable[str] = ()) -> MemoryWatch:
        return MemoryWatch(self._board, ids)

    def target(self) -> ResultTarget | None:
        return ResultTarget(("memory", self._name))

    def save_group(self, group_id: str, document: bytes, ttl: float | None) -> None:
        self._put(GROUP + group_id, document, ttl)

    def load_group(self, group_id: str) -> bytes | None:
        return self._board.get([GROUP + group_id], now=self._clock()).get(GROUP + group_id)

    def delete_group(self, group_id: str) -> None:
        self._board.forget([GROUP + group_id])

    def expire(self) -> int:
        return self._board.expire(now=self._clock())

    def describe(self) -> str:
        return f"memory://{self._name}"

    def close(self) -> None:
        """Nothing to drop: the board lives as long as its process."""

    def _put(self, key: str, document: bytes, ttl: float | None) -> None:
        self._board.put(key, document, expires=None if ttl is None else self._clock() + ttl)
