"""What is done about chords before deliveries are settled.

`Keeper.settle` turns settlements that owe something to chords into such that owe nothing: chords that begin
with their follow-ups are made known to the store, members that have ended arrive (all of a trip in one
batch), and what a complete chord sets off joins the follow-ups and results of the settlement that completed
it. So it is published together with that settlement, and a settlement that is refused sends no body. It may
be repeated at any time: whoever completed a chord completes it again, until the chord is closed.

Not here: what follows from a complete chord (`app/chords.py`), counting (`backends/`).
"""

from __future__ import annotations

import logging
from collections.abc import Container, Iterable, Sequence
from typing import TYPE_CHECKING

from celeriac import failpoints
from celeriac.app.chords import Completion, Member, Owed, openings
from celeriac.backends.base import ChordStore, StoredResult
from celeriac.backends.retrying import StoreDown
from celeriac.brokers.base import Outgoing, Settlement
from celeriac.exceptions import ChordError, OperationalError

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac

__all__ = ["Keeper"]

logger = logging.getLogger("celeriac.worker")

#: Seconds until the next try when the store cannot be reached.
PAUSE = 0.25


class _Gained:
    """What one settlement gains by chords that it completes."""

    def __init__(self) -> None:
        self.followups: list[Outgoing] = []
        self.results: list[StoredResult] = []
        self.chords: list[str] = []


class Keeper:
    """Used by one thread.

    Args:
        app: whose chords they are.
    """

    def __init__(self, app: Celeriac) -> None:
        self._app = app

    def settle(self, batch: list[Settlement]) -> list[Settlement]:
        """Do what `batch` owes; the settlements as they can be made now. `owed` of those that have completed
        chords are the ids of these, for `close`.

        Raises:
            StoreDown: the store cannot be reached; nothing was changed that matters. Call again.
        """
        if not any(type(end.owed) is Owed for end in batch):
            return batch
        store = self._app.chord_store
        if store is None:  # chords are polled for
            return [end._replace(owed=None) for end in batch]
        try:
            return self._settle(store, batch)
        except OperationalError as exc:
            raise StoreDown(f"Chords cannot be counted: {exc}", PAUSE) from exc

    def close(self, batch: Iterable[Settlement], stale: Container[int]) -> None:
        """Forget the chords that were completed by settlements that were accepted."""
        done = [chord for end in batch if end.owed and end.tag not in stale for chord in end.owed]
        store = self._app.chord_store if done else None
        if store is None:
            return
        try:
            for chord_id in done:
                store.close_chord(chord_id)
        except OperationalError as exc:
            logger.warning("%d completed chords could not be tidied up; they expire: %s", len(done), exc)

    def _settle(self, store: ChordStore, batch: Sequence[Settlement]) -> list[Settlement]:
        owing = [(at, end.owed) for at, end in enumerate(batch) if type(end.owed) is Owed]
        begun = [opening for _, owed in owing for opening in owed.openings]
        if begun:
            store.open_chords(begun)
        waiting = [(at, member) for at, owed in owing for member in owed.members]
        gained: dict[int, _Gained] = {}
        while waiting:
            complete = store.arrive([member.part for _, member in waiting])
            if failpoints.on:
                failpoints.hit("chord.arrived")
            closers = [pair for pair, closes in zip(waiting, complete, strict=True) if closes]
            waiting = []
            for at, member in closers:
                gain = gained.setdefault(at, _Gained())
                gain.chords.append(member.part.chord_id)
                waiting += [(at, other) for other in self._complete(store, member, gain)]
        settled = list(batch)
        for at, _ in owing:
            settled[at] = _with(batch[at], gained.get(at))
        return settled

    def _complete(self, store: ChordStore, member: Member, gain: _Gained) -> Sequence[Member]:
        """What the chord of `member`, which is complete, sets off; who arrives at another chord by that."""
        found = store.load_chord(member.part.chord_id)
        if found is None:  # its body was sent, only the acknowledgement was lost
            return ()
        done = Completion(self._app, member, found)
        try:
            messages = self._app.producer.outgoing(done.sendings)
        except Exception as exc:  # the body cannot be written: it fails like any other
            done = done.instead(ChordError(f"Callback error: {exc!r}"))
            messages = self._app.producer.outgoing(done.sendings)
        if done.failure is not None:
            logger.error("Chord %s failed: %s", member.part.chord_id, done.failure)
        begun = openings(self._app, done.sendings)
        if begun:
            store.open_chords(begun)
        gain.followups += messages
        gain.results += done.results
        return done.members


def _with(end: Settlement, gain: _Gained | None) -> Settlement:
    if gain is None:
        return end._replace(owed=None)
    return end._replace(
        owed=tuple(gain.chords),
        followups=[*end.followups, *gain.followups],
        results=[*end.results, *gain.results],
    )
