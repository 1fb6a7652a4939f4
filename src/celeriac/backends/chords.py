"""Chords in any store of keys and values that can add a key which is not there yet.

1. `KeyValues`: what such a store has to offer.
2. `KeyValueChords`: `ChordStore` made of that.

For memcached, files, documents, … A chord is a LOG: entries 0, 1, 2, …, each written once by `add`, which
fails when somebody was faster; then the next number is tried. What is true of a chord is what one gets by
reading its log from the beginning, so all processes agree on it, whoever dies when. It is complete at the
first place where as many different members as it has are read, and the member at that place is its closer.
Each process remembers how far it has read.

    <id>.open     {"size": n, "body": true or false}       <id>.body     the body, encoded
    <id>.0, .1    {"size": n, "extra": [ids], "came": [[id, position, bytes], …], "blob": key}
    <blob>        the payloads of one entry, end to end     <id>.closed   the closer's task id
"""

from __future__ import annotations

import threading
import uuid
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

from celeriac.backends.base import Chord, Opening, Part
from celeriac.utils.batches import batches
from celeriac.wire import json

__all__ = ["KeyValueChords", "KeyValues"]

#: Entries that are read in one trip.
_AT_ONCE: Final = 32
#: Bytes of payloads in one value, at most, unless a single one is bigger: memcached takes a million.
_BLOB: Final = 400_000
#: Chords of which a process remembers how far it has read.
_REMEMBERED: Final = 256
#: Seconds for which the closer of a chord without a ttl is remembered.
_DAY: Final = 86_400.0


class KeyValues(Protocol):
    """Keys are ASCII text without spaces, below 200 characters (unless a user's own ids are longer). `ttl`:
    seconds, None for ever. Thread-safe; raises `OperationalError`."""

    def get_many(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        """Values by key; unknown and expired keys are absent."""

    def put(self, key: str, value: bytes, ttl: float | None) -> None: ...

    def add(self, key: str, value: bytes, ttl: float | None) -> bool:
        """Store `value` if there is none; True when this call stored it. Atomic among all processes; after a
        lost reply it may answer False although it stored."""

    def delete(self, keys: Sequence[str]) -> None: ...


class _Log:
    """What was read of one chord."""

    __slots__ = ("closer", "extras", "members", "next", "size")

    def __init__(self) -> None:
        self.next = 0
        self.size = 0
        self.extras: set[str] = set()
        self.members: set[str] = set()
        self.closer: str | None = None

    def read(self, entry: Mapping[str, Any]) -> None:
        self.next += 1
        self.size = self.size or entry.get("size", 0)
        self.extras.update(entry.get("extra", ()))
        for task_id, _, _ in entry.get("came", ()):
            self.members.add(task_id)
            if self.closer is None and self.size and len(self.members) >= self.size + len(self.extras):
                self.closer = task_id


class KeyValueChords:
    """See `ChordStore`.

    Args:
        store: the keys and values.
        prefix: what all keys begin with.
    """

    def __init__(self, store: KeyValues, prefix: str = "celeriac-chord-") -> None:
        self._store = store
        self._prefix = prefix
        self._lock = threading.Lock()
        self._logs: OrderedDict[str, _Log] = OrderedDict()

    def open_chords(self, openings: Sequence[Opening]) -> None:
        for chord_id, size, body, ttl in openings:
            if body is not None:
                self._store.put(self._key(chord_id, "body"), body, ttl)
            about = {"size": size, "body": body is not None}
            self._store.add(self._key(chord_id, "open"), json.dumps_text(about).encode(), ttl)

    def seal_chord(self, chord_id: str, size: int) -> None:
        self._append(chord_id, {"size": size}, None)

    def grow_chord(self, chord_id: str, ids: Sequence[str]) -> None:
        self._append(chord_id, {"extra": list(ids)}, None)

    def arrive(self, parts: Sequence[Part]) -> Sequence[bool]:
        by_chord: dict[str, list[Part]] = {}
        for part in parts:
            by_chord.setdefault(part.chord_id, []).append(part)
        closers = {chord_id: self._arrive(chord_id, some) for chord_id, some in by_chord.items()}
        return [closers[part.chord_id] == part.task_id for part in parts]

    def load_chord(self, chord_id: str) -> Chord | None:
        heads = self._heads(chord_id, "open", "closed", "body")
        if "closed" in heads:
            return None
        log = _Log()
        found: dict[int, dict[str, Any]] = {}
        places: dict[str, tuple[float, int, int]] = {}
        for number, entry in self._entries(chord_id, 0):
            log.read(entry)
            for task_id, position, length in entry.get("came", ()):
                places.setdefault(task_id, (float("inf") if position is None else position, number, length))
            found[number] = entry
        about = json.loads(heads["open"]) if "open" in heads else {}
        if not about and not found:
            return None
        payloads = self._payloads(found)
        ordered = sorted(places, key=lambda task_id: places[task_id][0])
        size = (about.get("size") or log.size) + len(log.extras)
        return Chord(size, heads.get("body"), [payloads[places[name][1], name] for name in ordered])

    def close_chord(self, chord_id: str) -> None:
        heads = self._heads(chord_id, "open", "closed")
        if "closed" in heads or not heads:
            return
        log = self._caught_up(chord_id, heads)
        self._store.put(self._key(chord_id, "closed"), (log.closer or "").encode(), _DAY)
        blobs = [entry["blob"] for _, entry in self._entries(chord_id, 0) if "blob" in entry]
        numbers = [str(number) for number in range(log.next)]
        self._store.delete([*blobs, *(self._key(chord_id, name) for name in ("open", "body", *numbers))])
        with self._lock:
            self._logs.pop(chord_id, None)

    # -- the log ---------------------------------------------------------------------------------------------

    def _arrive(self, chord_id: str, parts: Sequence[Part]) -> str | None:
        """Write the parts down; who is the closer, if there is one."""
        heads = self._heads(chord_id, "open", "closed")
        if "closed" in heads:
            return heads["closed"].decode()
        size = max(part.size for part in parts)
        if "open" not in heads and not size:
            return None
        log = self._caught_up(chord_id, heads)
        new = [part for part in parts if part.task_id not in log.members]
        for some in _slices(new):
            entry: dict[str, Any] = {
                "came": [(part.task_id, part.position, len(part.payload)) for part in some],
                "blob": self._key(chord_id, uuid.uuid4().hex),
            }
            extras = [part.task_id for part in some if part.extra]
            if extras:
                entry["extra"] = extras
            if "open" not in heads:
                entry["size"] = size
            self._store.put(entry["blob"], b"".join(part.payload for part in some), some[0].ttl)
            log = self._append(chord_id, entry, some[0].ttl, log)
        return log.closer

    def _append(
        self, chord_id: str, entry: Mapping[str, Any], ttl: float | None, log: _Log | None = None
    ) -> _Log:
        """Write `entry` behind all others."""
        value = json.dumps_text(entry).encode()
        if log is None:
            log = self._caught_up(chord_id, self._heads(chord_id, "open"))
        while not self._store.add(self._key(chord_id, str(log.next)), value, ttl):
            before = log.next
            log = self._caught_up(chord_id, {}, log)
            if log.next == before:  # it has expired since
                continue
        return self._caught_up(chord_id, {}, log)

    def _caught_up(self, chord_id: str, heads: Mapping[str, bytes], log: _Log | None = None) -> _Log:
        """The log of a chord, read to its present end."""
        if log is None:
            with self._lock:
                log = self._logs.get(chord_id)
        fresh = _Log() if log is None else _copy(log)
        if not fresh.size and "open" in heads:
            fresh.size = json.loads(heads["open"])["size"]
        for _, entry in self._entries(chord_id, fresh.next):
            fresh.read(entry)
        with self._lock:
            self._logs[chord_id] = fresh
            self._logs.move_to_end(chord_id)
            while len(self._logs) > _REMEMBERED:
                self._logs.popitem(last=False)
        return fresh

    def _entries(self, chord_id: str, start: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """Entries from `start` on: few at first, as mostly there is nothing new, and some stores take a
        request for each key."""
        ahead = 2
        while True:
            keys = [self._key(chord_id, str(number)) for number in range(start, start + ahead)]
            values = self._store.get_many(keys)
            ahead = min(ahead * 4, _AT_ONCE)
            for key in keys:
                if key not in values:
                    return
                yield start, json.loads(values[key])
                start += 1

    def _payloads(self, entries: Mapping[int, Mapping[str, Any]]) -> dict[tuple[int, str], bytes]:
        """(entry, member) → payload."""
        keys = [entry["blob"] for entry in entries.values() if "blob" in entry]
        blobs: dict[str, bytes] = {}
        for some in batches(keys, _AT_ONCE):
            blobs.update(self._store.get_many(some))
        found: dict[tuple[int, str], bytes] = {}
        for number, entry in entries.items():
            offset = 0
            for task_id, _, length in entry.get("came", ()):
                payload = blobs.get(entry["blob"], b"")[
                    offset : offset + length
                ]  # nothing: the store lost it
                found.setdefault((number, task_id), payload)
                offset += length
        return found

    def _heads(self, chord_id: str, *names: str) -> dict[str, bytes]:
        values = self._store.get_many([self._key(chord_id, name) for name in names])
        found = ((name, values.get(self._key(chord_id, name))) for name in names)
        return {name: value for name, value in found if value is not None}

    def _key(self, chord_id: str, name: str) -> str:
        return f"{self._prefix}{chord_id}.{name}"


def _copy(log: _Log) -> _Log:
    """Two threads may read on from the same place."""
    made = _Log()
    made.next, made.size, made.closer = log.next, log.size, log.closer
    made.extras, made.members = set(log.extras), set(log.members)
    return made


def _slices(parts: Sequence[Part]) -> Iterator[Sequence[Part]]:
    """`parts` in groups whose payloads fit into one value."""
    some: list[Part] = []
    length = 0
    for part in parts:
        if some and length + len(part.payload) > _BLOB:
            yield some
            some, length = [], 0
        some.append(part)
        length += len(part.payload)
    if some:
        yield some
