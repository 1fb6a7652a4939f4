"""What this node knows of deliveries whose connection is gone, where the broker has no leases (decision
0011).

1. `fates`: what one ledger proves, of a living child or a dead one.
2. `Whereabouts`: answers other nodes' questions from the ledgers of living children and from a memory of the
   buried ones, and of what was told to be done. The memory is bounded, in time and in size, and outlives us
   (`home.py`). What we do not know ourselves we look for in all of our home, and who claims it.

Not here: asking, and carrying questions and answers (the broker's consumer); processes (`supervisor.py`).
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path

from celeriac.brokers.base import (
    COPIED,
    CRASHED,
    DONE,
    ENDED,
    INNOCENT,
    MOVED,
    RUNNING,
    UNSURE,
    Fate,
    Place,
    Word,
)
from celeriac.worker.home import Memory, neighbours
from celeriac.worker.ledger import Ledger, Running
from celeriac.worker.trail import CONCLUDED, COPYING, TOOK, claims, last_steps

__all__ = ["Whereabouts", "fates", "lives"]

#: Seconds for which the dead are remembered.
MEMORY = 600.0
#: Deliveries that are remembered at most.
MOST = 100_000
#: Settled deliveries that are kept of a dead child: their acknowledgements may not have arrived.
SETTLED = 1000
#: Seconds that an answer waits for the burial of a child that has just died.
BURIAL = 0.3


def fates(
    ledger: Ledger,
    *,
    alive: bool = False,
    innocent: bool = False,
    verdicts: Mapping[str, str] | None = None,
    suspicious: bool = False,
) -> dict[int, Fate]:
    """Tag → fate, of all that the ledger tells of.

    Args:
        alive: its process lives: what it holds, it may still start.
        innocent, verdicts, suspicious: how it died, as in `heart.Death`.
    """
    found: dict[int, Fate] = {}
    steps = last_steps(ledger)
    held = RUNNING if alive else (CRASHED if suspicious and not innocent else INNOCENT)
    settled = [tag for tag, step in steps.items() if step == CONCLUDED]
    found.update(dict.fromkeys(settled if alive else settled[-SETTLED:], DONE))
    moving = () if alive else claims(ledger, steps, alive=False)
    for tag, step in steps.items():
        if step == COPYING:
            found[tag] = RUNNING if alive else MOVED if tag in moving else COPIED
        elif step != CONCLUDED:
            found[tag] = held if step == TOOK else INNOCENT
    found.update((tag, DONE) for _, tag in ledger.unsettled())
    for run in ledger.running():
        found[run.tag] = RUNNING if alive else _end(run, innocent, verdicts or {})
    return found


def _end(run: Running, innocent: bool, verdicts: Mapping[str, str]) -> Fate:
    if run.early:  # it was acknowledged before it ran: nobody runs it again
        return DONE
    why = verdicts.get(run.id)
    if why == "time limit":
        return f"{ENDED}{why}:{round(run.hard - run.started, 3)}"
    if why is not None:
        return f"{ENDED}{why}"
    return INNOCENT if innocent else CRASHED


class Whereabouts:
    """One node's memory. Used by the supervisor, its heart and a thread of the broker's.

    Args:
        living: ledgers and pids of the children now.
        adopt: looks for ledgers of killed workers of this machine, and buries them here.
        home: where all workers of this machine keep their ledgers; None: we speak for ourselves alone.
        store: names the broker's store.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        living: Callable[[], Sequence[tuple[Ledger, int]]],
        adopt: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        *,
        home: Path | None = None,
        store: str = "",
    ) -> None:
        self._living = living
        self._adopt = adopt
        self._home = home
        self._store = store
        self._memory = None if home is None else Memory(home, store, self._lasting)
        self._clock = clock
        self._known: dict[int, tuple[Fate, float]] = {}
        self._order: deque[tuple[float, int]] = deque()
        self._changed = threading.Condition()
        self._buried: set[int] = set()

    # -- the supervisor's side ----------------------------------------------------------------------------

    def bury(
        self,
        ledger: Ledger,
        *,
        innocent: bool = False,
        verdicts: Mapping[str, str] | None = None,
        suspicious: bool = False,
    ) -> int:
        """Remember what a dead child's ledger proves, which is not looked at again after this; return how
        many deliveries were taken from it that are not done."""
        found = fates(ledger, innocent=innocent or ledger.innocent, verdicts=verdicts, suspicious=suspicious)
        with self._changed:
            self._remember(found, self._clock())
            self._buried.add(id(ledger))
            self._changed.notify_all()
        return sum(fate != DONE for fate in found.values())

    def adopt_memories(self) -> None:
        """Take over what dead supervisors of this home knew."""
        if self._memory is None:
            return
        with self._changed:
            found, now = self._memory.adopt(), self._clock()
            fresh = {tag: word for tag, word in found.items() if tag not in self._known}
            for tag, word in fresh.items():
                self._known[tag] = (word.fate, now - word.age)
                self._order.append((now - word.age, tag))

    def end(self, *, remove: bool) -> None:
        """Nobody asks us any more. `remove`: nor what we knew."""
        if self._memory is not None:
            with self._changed:
                self._memory.close(remove=remove)

    def close(self, ledger: Ledger, *, remove: bool) -> None:
        """Close a buried ledger, while no answer reads it."""
        with self._changed:
            ledger.close(remove=remove)
            self._buried.discard(id(ledger))

    # -- the broker's side --------------------------------------------------------------------------------

    def learn(self, places: Sequence[Place]) -> None:
        """A consumer tells that these are done, although their acknowledgements were lost."""
        with self._changed:
            self._remember(dict.fromkeys((tag for _, tag in places), DONE), self._clock())

    def answer(self, places: Sequence[Place]) -> Mapping[Place, Word]:
        """What is known of each, and who of this home claims it; nothing of the others: nobody of this home
        has had them."""
        claimed = self._claims(places)  # first: whoever gives up a claim to run it has written that down
        found = self._words(places)
        for place, names in claimed.items():
            found[place] = found.get(place, Word(""))._replace(claims=names)
        return found

    def _claims(self, places: Sequence[Place]) -> dict[Place, tuple[str, ...]]:
        """Place → consumers of this home that live and are about to decide on it."""
        asked = {tag for _, tag in places}
        found: dict[int, tuple[str, ...]] = {}

        def look(ledger: Ledger) -> None:
            wanted = claims(ledger, asked)
            name = ledger.consumer if wanted else None
            if name and lives(ledger.owner.get("pid", 0)):
                found.update({tag: (*found.get(tag, ()), name) for tag in wanted})

        with self._changed:
            mine = {ledger.path for ledger, _ in self._living()}
            for ledger, _ in self._living():
                if id(ledger) not in self._buried and ledger.fd >= 0:
                    look(ledger)
        if self._home is not None:
            for ledger in neighbours(self._home, mine, self._store):
                look(ledger)
        return {place: found[place[1]] for place in places if place[1] in found}

    def _words(self, places: Sequence[Place]) -> dict[Place, Word]:
        found = self._answer(places)
        if len(found) < len(places):
            self._adopt()  # their worker may have been killed just now
            found = self._answer(places)
        if len(found) < len(places) and self._home is not None:
            found |= self._answer_of_neighbours({place for place in places if place not in found})
            # Our heart may have buried one meanwhile: a ledger is gone only when it is remembered.
            found |= self._answer([place for place in places if place not in found])
        return found

    def _answer_of_neighbours(self, places: Set[Place]) -> dict[Place, Word]:
        """What other workers of this home have written down: nobody has to wait until they answer."""
        asked = {tag for _, tag in places}
        assert self._home is not None
        assert self._memory is not None
        said: dict[int, Word] = {}
        mine = {ledger.path for ledger, _ in self._living()}
        for ledger in neighbours(self._home, mine, self._store):
            is_at_work = _is_at_work(ledger.owner.get("pid", 0))
            for tag, fate in fates(ledger, alive=True).items():
                if tag not in asked:
                    continue
                if fate == RUNNING and not is_at_work:
                    fate = UNSURE  # its worker is about to find out how it died, or is stopped as well
                word = Word(fate, MEMORY if fate == INNOCENT else 0.0)
                said[tag] = max(said.get(tag, word), word, key=_weight)
        with self._changed:  # after the ledgers: one that is gone was remembered before
            remembered = self._memory.of_others(asked)
        for tag, word in remembered.items():
            said[tag] = max(word, said.get(tag, word), key=_weight)
        return {place: said[place[1]] for place in places if place[1] in said}

    def _answer(self, places: Sequence[Place]) -> dict[Place, Word]:
        asked = {tag for _, tag in places}
        with self._changed:
            said, dying = self._say(asked)
            if dying:  # how it died decides what is said
                self._changed.wait_for(lambda: self._buried >= dying, BURIAL)
                said, _ = self._say(asked)
        return {place: said[place[1]] for place in places if place[1] in said}

    def _say(self, asked: set[int]) -> tuple[dict[int, Word], set[int]]:
        """Tag → word, and the ledgers of children that have died and are not buried yet."""
        now = self._clock()
        self._forget(now)
        said: dict[int, Word] = {}
        dying: set[int] = set()
        for ledger, pid in self._living():
            if id(ledger) in self._buried or ledger.fd < 0:
                continue
            words = {tag: fate for tag, fate in fates(ledger, alive=True).items() if tag in asked}
            if RUNNING in words.values() and not lives(pid):
                dying.add(id(ledger))
            for tag, fate in words.items():
                # One child dropped it, another one had it later: what was dropped proves nothing of the time.
                word = Word(fate, MEMORY if fate == INNOCENT else 0.0)
                said[tag] = max(said.get(tag, word), word, key=_weight)
        for tag in asked & self._known.keys():
            fate, since = self._known[tag]
            word = Word(fate, max(0.0, now - since))
            said[tag] = max(word, said.get(tag, word), key=_weight)
        return said, dying

    def _remember(self, found: Mapping[int, Fate], now: float) -> None:
        for tag, fate in found.items():
            if fate == INNOCENT and self._known.get(tag, (INNOCENT, 0.0))[0] == DONE:
                continue  # the dead one had dropped it; another process has had it since
            self._known[tag] = (fate, now)
            self._order.append((now, tag))
        self._forget(now)
        if self._memory is not None:  # that something is innocent needs no witness
            self._memory.note({tag: fate for tag, fate in found.items() if fate != INNOCENT})

    def _lasting(self) -> Mapping[int, tuple[Fate, float]]:
        now = self._clock()
        known = self._known.items()
        return {tag: (fate, now - since) for tag, (fate, since) in known if fate != INNOCENT}

    def _forget(self, now: float) -> None:
        order = self._order
        while order and (order[0][0] < now - MEMORY or len(order) > MOST):
            since, tag = order.popleft()
            if self._known.get(tag, ("", 0.0))[1] == since:
                del self._known[tag]


def _weight(word: Word) -> int:
    """Which of the words of one node counts: a copy's name is never used again after the end of it."""
    fate = ENDED if word.fate.startswith(ENDED) else word.fate
    return (INNOCENT, CRASHED, COPIED, MOVED, ENDED, DONE, UNSURE, RUNNING).index(fate)


def lives(pid: int) -> bool:
    """False when the process is gone, or dead and not reaped yet."""
    state = _state(pid)
    if state:
        return state not in "ZX"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _is_at_work(pid: int) -> bool:
    """Whether a process lives and is not stopped."""
    return lives(pid) and _state(pid) not in ("T", "t")


def _state(pid: int) -> str:
    """The letter that the system has for the process's state; empty: it is gone, or there is no such file
    system here."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0].decode()
    except (FileNotFoundError, ProcessLookupError):  # the latter: it went while it was read
        return ""
