"""Results in the memory of one process: the reference implementation of the result seam.

1. `MemoryBackend`: the seam, over the board that the URL names (`transport/memory.py`).
2. `MemoryWatch`: a condition and a pocket of new documents.
3. `MemoryChords`: the reference implementation of `ChordStore`, over the same board.

URL: `memory://` or `memory://name` (also `cache+memory://`). Option: `clock`, for tests.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from celeriac.backends.base import BackendCapabilities, Chord, Opening, Part, ResultTarget, StoredResult
from celeriac.transport.memory import Board, board, store_name

__all__ = ["MemoryBackend", "MemoryChords", "MemoryWatch"]

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


#: Seconds for which the closer of a chord without a ttl is remembered.
REMEMBERED = 86_400.0


@dataclass(slots=True)
class OpenChord:
    """What the board keeps of a chord. `parts`: task id → (position, payload); None when it is closed."""

    size: int = 0
    extras: set[str] = field(default_factory=set)
    body: bytes | None = None
    parts: dict[str, tuple[float, bytes]] | None = field(default_factory=dict)
    closer: str | None = None
    expires: float | None = None


class MemoryChords:
    """See `ChordStore`."""

    def __init__(self, board: Board, clock: Callable[[], float]) -> None:
        self._board = board
        self._clock = clock

    def open_chords(self, openings: Sequence[Opening]) -> None:
        with self._board.chords_lock:
            for opening in openings:
                chord = self._find(opening.chord_id) or self._make(opening.chord_id)
                chord.size = chord.size or opening.size
                chord.body = chord.body or opening.body
                self._keep(chord, opening.ttl)

    def seal_chord(self, chord_id: str, size: int) -> None:
        with self._board.chords_lock:
            chord = self._find(chord_id)
            if chord is not None:
                chord.size = size

    def grow_chord(self, chord_id: str, ids: Sequence[str]) -> None:
        with self._board.chords_lock:
            chord = self._find(chord_id)
            if chord is not None:
                chord.extras.update(ids)

    def arrive(self, parts: Sequence[Part]) -> Sequence[bool]:
        with self._board.chords_lock:
            return [self._arrive(part) for part in parts]

    def _arrive(self, part: Part) -> bool:
        chord = self._find(part.chord_id)
        if chord is None:
            if not part.size:
                return False
            chord = self._make(part.chord_id)
            chord.size = part.size
        if chord.parts is not None and chord.closer is None:
            self._keep(chord, part.ttl)
            if part.extra:
                chord.extras.add(part.task_id)
            position = float("inf") if part.position is None else part.position
            chord.parts.setdefault(part.task_id, (position, part.payload))
            if chord.size and len(chord.parts) >= chord.size + len(chord.extras):
                chord.closer = part.task_id
        return chord.closer == part.task_id

    def load_chord(self, chord_id: str) -> Chord | None:
        with self._board.chords_lock:
            chord = self._find(chord_id)
            if chord is None or chord.parts is None:
                return None
            ordered = sorted(chord.parts.values(), key=lambda part: part[0])
            return Chord(chord.size + len(chord.extras), chord.body, [payload for _, payload in ordered])

    def close_chord(self, chord_id: str) -> None:
        with self._board.chords_lock:
            chord = self._find(chord_id)
            if chord is not None:
                chord.parts, chord.body, chord.extras = None, None, set()
                if chord.expires is None:
                    chord.expires = self._clock() + REMEMBERED

    def expire(self) -> int:
        """Delete the chords that have expired; return how many."""
        now = self._clock()
        with self._board.chords_lock:
            found = self._board.chords
            gone = [name for name, chord in found.items() if chord.expires and chord.expires <= now]
            for name in gone:
                del found[name]
            return len(gone)

    def _find(self, chord_id: str) -> OpenChord | None:
        chord: OpenChord | None = self._board.chords.get(chord_id)
        if chord is not None and chord.expires is not None and chord.expires <= self._clock():
            del self._board.chords[chord_id]
            return None
        return chord

    def _make(self, chord_id: str) -> OpenChord:
        made = self._board.chords[chord_id] = OpenChord()
        return made

    def _keep(self, chord: OpenChord, ttl: float | None) -> None:
        chord.expires = None if ttl is None else self._clock() + ttl


class MemoryBackend:
    """The seam.

    Example:
        >>> from celeriac.backends.base import StoredResult
        >>> backend = MemoryBackend("memory://example", {})
        >>> backend.store([StoredResult("id-1", b"{}")])
        >>> backend.load(["id-1", "id-2"])
        {'id-1': b'{}'}
    """

    capabilities: BackendCapabilities = BackendCapabilities(native_chord=True, compares=True)

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self._name = store_name(url)
        self._board = board(self._name)
        self._clock: Callable[[], float] = options.get("clock", time.time)
        self.chords = MemoryChords(self._board, self._clock)

    def store(self, batch: Sequence[StoredResult]) -> None:
        for result in batch:
            self._put(result.task_id, result.document, result.ttl)

    def store_if(self, batch: Sequence[StoredResult], seen: Mapping[str, bytes]) -> None:
        now = self._clock()
        for task_id, document, ttl, _ in batch:
            expires = None if ttl is None else now + ttl
            self._board.put_if(task_id, document, seen=seen.get(task_id), expires=expires, now=now)

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
        return self._board.expire(now=self._clock()) + self.chords.expire()

    def describe(self) -> str:
        return f"memory://{self._name}"

    def close(self) -> None:
        """Nothing to drop: the board lives as long as its process."""

    def _put(self, key: str, document: bytes, ttl: float | None) -> None:
        self._board.put(key, document, expires=None if ttl is None else self._clock() + ttl)
