"""A result store around a result store: what goes in and what comes out may be changed on the way.

1. `Around`: passes everything on. Who changes documents overrides `inward` and `outward`; who changes what
   chords keep and saved groups, too, overrides `seal` and `unseal`.
2. `unreadable`: stands for a document that cannot be given back.

The messages' broker never carries results for such a store (`target` is None): they would pass it by. They
are stored before the acknowledgement, in a step of their own.

Not here: the changes (`sealed.py`, `large.py`), who composes them (`app/hooks.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from celeriac.backends.base import (
    BackendCapabilities,
    Chord,
    ChordStore,
    Opening,
    Part,
    ResultBackend,
    ResultTarget,
    StoredResult,
    Watch,
)
from celeriac.wire import serialization

__all__ = ["Around", "unreadable"]


def unreadable(reason: str, serializer: str) -> bytes:
    """A document whose reader gets a `DecodeError` that says why.

    Example:
        >>> unreadable("the key is lost", "json")
        b'{"unreadable": "the key is lost"}'
    """
    return serialization.dumps({"unreadable": reason}, serializer)[2]


class Around:
    """See `celeriac.backends.base.ResultBackend`.

    Args:
        store: the result store that keeps everything.
    """

    def __init__(self, store: ResultBackend) -> None:
        self.inner = store
        self.capabilities: BackendCapabilities = store.capabilities

    # -- what is changed -----------------------------------------------------------------------------------

    def inward(self, batch: Sequence[StoredResult]) -> Sequence[StoredResult]:
        """What is stored in place of `batch`, one for one."""
        return batch

    def outward(self, found: Mapping[str, bytes]) -> Mapping[str, bytes]:
        """What is given in place of `found`: the same ids."""
        return found

    def seal(self, data: bytes) -> bytes:
        """What is kept in place of a saved group or a part of a chord."""
        return data

    def unseal(self, data: bytes) -> bytes:
        """The way back."""
        return data

    # -- the seam ------------------------------------------------------------------------------------------

    def store(self, batch: Sequence[StoredResult]) -> None:
        self.inner.store(self.inward(batch))

    def store_if(self, batch: Sequence[StoredResult], seen: Mapping[str, bytes]) -> None:
        """See `celeriac.backends.interim.Comparing`. What is stored is compared as it is stored."""
        store: Any = self.inner
        stored = dict(self.inner.load([result.task_id for result in batch]))
        shown = self.outward(stored)
        same = [each for each in batch if shown.get(each.task_id) == seen.get(each.task_id)]
        if same:
            store.store_if(self.inward(same), stored)

    def load(self, ids: Sequence[str]) -> Mapping[str, bytes]:
        return self.outward(self.inner.load(ids))

    def forget(self, ids: Sequence[str]) -> None:
        self.inner.forget(ids)

    def watch(self, ids: Iterable[str] = ()) -> Watch:
        watch = self.inner.watch(ids)
        return (_PollingAround if hasattr(watch, "interval") else _WatchAround)(watch, self)

    def target(self) -> ResultTarget | None:
        return None

    def save_group(self, group_id: str, document: bytes, ttl: float | None) -> None:
        self.inner.save_group(group_id, self.seal(document), ttl)

    def load_group(self, group_id: str) -> bytes | None:
        document = self.inner.load_group(group_id)
        return None if document is None else self.unseal(document)

    def delete_group(self, group_id: str) -> None:
        self.inner.delete_group(group_id)

    def expire(self) -> int:
        return self.inner.expire()

    def describe(self) -> str:
        return self.inner.describe()

    def close(self) -> None:
        self.inner.close()

    # -- what only some have -------------------------------------------------------------------------------

    @property
    def chords(self) -> ChordStore:
        """See `celeriac.backends.base.ChordStore`; with `native_chord` only."""
        store: Any = self.inner
        return _ChordsAround(store.chords, self)

    @property
    def address(self) -> str:
        """See `celeriac.backends.base.Mailbox`; where results are not shared only."""
        store: Any = self.inner
        return str(store.address)

    def listen(self) -> str:
        """As `address`."""
        store: Any = self.inner
        return str(store.listen())


class _WatchAround:
    """See `celeriac.backends.base.Watch`."""

    def __init__(self, watch: Watch, store: Around) -> None:
        self._watch: Any = watch
        self._store = store
        self.replays: bool = getattr(watch, "replays", False)

    def add(self, ids: Iterable[str]) -> None:
        self._watch.add(ids)

    def discard(self, ids: Iterable[str]) -> None:
        self._watch.discard(ids)

    def wait(self, timeout: float | None) -> Mapping[str, bytes]:
        return self._store.outward(self._watch.wait(timeout))

    def wake(self) -> None:
        self._watch.wake()

    def close(self) -> None:
        self._watch.close()


class _PollingAround(_WatchAround):
    """A watch that looks again and again: how often may be set."""

    @property
    def interval(self) -> float:
        return float(self._watch.interval)

    @interval.setter
    def interval(self, seconds: float) -> None:
        self._watch.interval = seconds


class _ChordsAround:
    """See `celeriac.backends.base.ChordStore`."""

    def __init__(self, chords: ChordStore, store: Around) -> None:
        self._chords = chords
        self._store = store

    def open_chords(self, openings: Sequence[Opening]) -> None:
        seal = self._store.seal
        self._chords.open_chords(
            [each if each.body is None else each._replace(body=seal(each.body)) for each in openings]
        )

    def seal_chord(self, chord_id: str, size: int) -> None:
        self._chords.seal_chord(chord_id, size)

    def grow_chord(self, chord_id: str, ids: Sequence[str]) -> None:
        self._chords.grow_chord(chord_id, ids)

    def arrive(self, parts: Sequence[Part]) -> Sequence[bool]:
        seal = self._store.seal
        return self._chords.arrive([part._replace(payload=seal(part.payload)) for part in parts])

    def load_chord(self, chord_id: str) -> Chord | None:
        found = self._chords.load_chord(chord_id)
        if found is None:
            return None
        unseal = self._store.unseal
        body = None if found.body is None else unseal(found.body)
        return found._replace(body=body, payloads=[unseal(payload) for payload in found.payloads])

    def close_chord(self, chord_id: str) -> None:
        self._chords.close_chord(chord_id)
