"""Messages that came back: what is to become of each, by what the nodes say.

1. `Doubtful`: a delivery that is not handed out before its fate is known.
2. `Doubts`: asks for all of them in one question, asks again, and decides (`Verdict`).
3. `verdict`: the decision itself, pure.

COPIED, MOVED: the copy is published (again), marked, so that whoever gets it asks whether it has run.
RUNNING asks again soon, and in the end the copy is parked for a while: it may run for hours. No home knows it
(`Broker.attend`): it was sent ahead to a process that had not read it, and runs. Nobody knows it who can be
reached: asked again, and longer when the connections were lost just now, since the nodes that know may still
be on their way back. A silence does not count while one is silent that spoke before, or all are although the
node of this process lives (`Doubts._weigh`). Then the process is lost together with what it wrote down, which
is a crash. A copy that is only there because a publish was in doubt waits once, so that the first copy may be
found running.

Two copies of one message (of a publish in doubt, of a delivery whose connection was cut) may be in doubt at
two consumers at the same moment. So each is claimed before it is asked about (`Trail.claim`): who does not
see the other one's claim has asked before that was made, and is seen. Who sees one stands back: the one whose
name is first keeps its claim and asks again until the others have let go of theirs; they ask again later. A
dead process claims nothing, and a claim that is not made again counts for `CLAIM_TTL`; so whoever was stopped
between asking and deciding asks again (`SURE`).

Not here: carrying questions (`inquiry.py`), carrying decisions out (`consumer.py`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from celeriac.brokers.amqp.inquiry import MOST, Inquiry
from celeriac.brokers.base import (
    COPIED,
    CRASHED,
    DONE,
    ENDED,
    INNOCENT,
    MOVED,
    RUNNING,
    UNSURE,
    Place,
    Trail,
    Word,
)
from celeriac.wire.message import Message, Unreadable

__all__ = ["Doubtful", "Doubts", "Verdict", "verdict"]

Verdict = Literal["ask", "wait", "yield", "run", "drop", "end", "park", "crash", "copy", "move"]

#: Seconds for which answers to one question are waited for.
PATIENCE: Final = 0.5
#: Questions without an answer that make a crash: the first may come while a worker is being killed, and
#: nobody can read yet what it wrote down. More would keep what a stopped worker held for over 10 s. And while
#: nodes may be on their way back.
ASKS: Final = 2
ASKS_IN_TURMOIL: Final = 6
#: Seconds for which a silence does not count while a node is silent that answered before: in quiet times,
#: and when connections were lost just now. And while nobody answers, or our own connection is lost.
AWAITED: Final = 1.0
AWAITED_IN_TURMOIL: Final = 4.0
AWAITED_UNHEARD: Final = 6.0
#: Seconds after the first answer for which a younger one may come.
COMPANY: Final = 0.05
#: Seconds for which what came back keeps back what is behind it.
FIRST: Final = 0.2
#: Seconds between questions about what is running; after the last one it is parked.
RUNNING_PAUSES: Final = (0.1, 0.4, 1.0)
#: Seconds until the next question about what others claim: of the one who is first, and of all others. They
#: double up to the second of each.
FIRST_STANDS_BACK: Final = (0.02, 0.5)
STANDS_BACK: Final = (0.1, 1.0)
#: Seconds after the last claim for which nobody else can have decided: less than `CLAIM_TTL`.
SURE: Final = 5.0
_FATES: Final = (RUNNING, DONE, INNOCENT, CRASHED, COPIED, MOVED, ENDED)


@dataclass(slots=True)
class Doubtful:
    """One delivery in doubt. `came_back`: it was delivered before; else the publish was in doubt."""

    delivery_tag: int
    queue: str
    tag: int
    message: Message | Unreadable
    marks: dict[str, Any]
    crashes: int
    came_back: bool
    is_suspect: bool = False
    patience: int = ASKS
    asks: int = 0
    number: int = 0  # of the last question
    ask_at: float = 0.0
    runs: int = 0
    words: list[Word] = field(default_factory=list)
    first_word: float = 0.0
    is_unread: bool = False  # every home has answered, and none knows it
    unsure: int = 0  # the last question that was answered with: ask again
    begun: int = 0  # the first question whose answers count
    claimed: float = 0.0
    rivals: set[str] = field(default_factory=set)  # other consumers that claim it
    stood_back: int = 0
    since: float = field(default_factory=time.monotonic)

    @property
    def place(self) -> Place:
        return self.queue, self.tag

    def ask_anew(self, at: float, number: int) -> None:
        """Forget what was said: what counts are answers to questions after `number`; ask `at`."""
        self.words.clear()
        self.rivals.clear()
        self.is_unread = False
        self.asks, self.ask_at, self.begun = 0, at, number + 1


def verdict(doubt: Doubtful, now: float) -> tuple[Verdict, str]:
    """What is to be done with `doubt` now, and with `end` the reason.

    Example:
        >>> doubt = Doubtful(1, "celery", 7, Unreadable("", b""), {}, 0, True, words=[Word(DONE)])
        >>> verdict(doubt, 0.0)
        ('drop', '')
    """
    fates = {word.fate for word in doubt.words}
    if DONE in fates:
        return "drop", ""
    if doubt.rivals and RUNNING not in fates:
        return "yield", ""
    for fate in fates:
        if fate.startswith(ENDED):
            return "end", fate.removeprefix(ENDED)
    if RUNNING in fates:
        return ("park", "") if doubt.runs >= len(RUNNING_PAUSES) else ("ask", "")
    if doubt.words:
        if now < doubt.first_word + COMPANY:
            return "wait", ""
        youngest = min(doubt.words, key=lambda word: word.age)
        if youngest.fate == COPIED:
            return "copy", ""
        if youngest.fate == MOVED:
            return "move", ""
        return ("crash", "") if youngest.fate == CRASHED and doubt.came_back else ("run", "")
    if doubt.is_unread:  # where a publish was in doubt, that is no proof: the first copy may still come
        return ("run", "") if doubt.came_back else ("crash", "")
    if now < doubt.ask_at:
        return "wait", ""
    return ("ask", "") if doubt.asks < doubt.patience else ("crash", "")


class Doubts:
    """All deliveries of one consumer that are in doubt. Used by one thread.

    Args:
        trail, name: where we claim them, and as whom.
    """

    def __init__(self, inquiry: Inquiry, trail: Trail | None, name: str = "") -> None:
        self.inquiry = inquiry
        self._trail = trail
        self._name = name
        self._has_node = trail is not None  # our supervisor answers: when nobody hears us, wait
        self._open: dict[int, Doubtful] = {}  # by delivery tag
        self._claims: set[int] = set()

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, place: Place) -> bool:
        return any(doubt.place == place for doubt in self._open.values())

    def add(self, doubt: Doubtful, ask_at: float = 0.0) -> None:
        doubt.ask_anew(ask_at, self.inquiry.number)
        self._open[doubt.delivery_tag] = doubt

    def settle(self, doubts: Iterable[Doubtful]) -> None:
        """What was decided is carried out: give up our claims."""
        self._disclaim({doubt.tag for doubt in doubts} - {doubt.tag for doubt in self._open.values()})

    def _disclaim(self, tags: Set[int]) -> None:
        if self._trail is not None and tags:
            self._trail.disclaim(tags)
            self._claims -= tags

    def are_fresh(self) -> bool:
        """Something came back a moment ago: what is to become of it will be known in another one."""
        since = time.monotonic() - FIRST
        return any(
            doubt.since > since and doubt.came_back and not doubt.runs for doubt in self._open.values()
        )

    def clear(self) -> None:
        """The deliveries are gone with their channel."""
        self._open.clear()
        self._disclaim(set(self._claims))

    def due(self) -> float | None:
        """Seconds until something is to be asked or decided; None: never."""
        if not self._open:
            return None
        now = time.monotonic()
        times = (d.first_word + COMPANY if d.words and not d.runs else d.ask_at for d in self._open.values())
        return max(0.0, min(times) - now)

    def decide(self) -> Iterable[tuple[Doubtful, Verdict, str]]:
        """Take in answers, ask what is to be asked; the deliveries whose fate is known now."""
        self._listen()
        now = time.monotonic()
        asking: list[Doubtful] = []
        decided: set[Place] = set()
        for doubt in list(self._open.values()):
            if not doubt.words and doubt.asks and doubt.unsure != doubt.number:
                doubt.is_unread = self.inquiry.all_homes(doubt.number)
            if doubt.asks >= doubt.patience and not doubt.words and now >= doubt.ask_at:
                self._weigh(doubt, now)
            what, reason = verdict(doubt, now)
            if what == "wait":
                continue
            if what == "ask":
                if RUNNING in {word.fate for word in doubt.words}:
                    doubt.ask_anew(now + RUNNING_PAUSES[doubt.runs], self.inquiry.number)
                    doubt.runs += 1
                elif now >= doubt.ask_at:
                    asking.append(doubt)
                continue
            if what == "yield":
                self._stand_back(doubt, now)
                continue
            if self._trail is not None and (now > doubt.claimed + SURE or doubt.place in decided):
                doubt.ask_anew(now, self.inquiry.number)  # what was said may be true no more
                continue
            decided.add(doubt.place)
            del self._open[doubt.delivery_tag]
            yield doubt, what, reason
        for at in range(0, len(asking), MOST):
            self._ask(asking[at : at + MOST], now)

    def _stand_back(self, doubt: Doubtful, now: float) -> None:
        """Others are about to decide on a copy as well."""
        is_first = self._name < min(doubt.rivals)
        pause, longest = FIRST_STANDS_BACK if is_first else STANDS_BACK
        at = now + min(pause * 2**doubt.stood_back, longest)
        doubt.stood_back = min(doubt.stood_back + 1, 10)
        for each in self._open.values():  # what was said to another copy here is as old
            if each.place == doubt.place:
                each.ask_anew(at, self.inquiry.number)
        if not is_first:
            self._disclaim({doubt.tag})

    def _ask(self, asking: Sequence[Doubtful], now: float) -> None:
        if self._trail is not None:  # first: who asks after this sees it
            tags = {doubt.tag for doubt in asking}
            self._trail.claim(tags)
            self._claims |= tags
            for doubt in asking:
                doubt.claimed = now
        if not self.inquiry.ask([doubt.place for doubt in asking]):
            tags = {doubt.tag for doubt in asking}
            for doubt in self._open.values():
                if doubt.tag in tags:  # nobody has heard it: it does not count
                    doubt.ask_anew(now + PATIENCE, self.inquiry.number)
            self._disclaim(tags)  # nor keeps others from it, however long it lasts
            return
        for doubt in asking:
            doubt.asks += 1
            doubt.number = self.inquiry.number
            doubt.ask_at = now + PATIENCE

    def _weigh(self, doubt: Doubtful, now: float) -> None:
        """Nobody knows it: have it asked once more if somebody may only be on the way back."""
        if not doubt.number:  # nobody can answer: there is no node at all
            return
        silence = self.inquiry.silent(doubt.number)
        if silence == "unheard" and self._has_node:
            limit = AWAITED_UNHEARD
        elif silence:
            limit = AWAITED_IN_TURMOIL if doubt.patience > ASKS else AWAITED
        else:
            return
        if now < doubt.since + limit:
            doubt.asks = doubt.patience - 1
        else:
            self.inquiry.give_up(doubt.number)

    def _listen(self) -> None:
        doubts: dict[Place, list[Doubtful]] = {}  # two copies of a publish may be here
        for number, place, word in self.inquiry.poll():
            if not doubts:
                for doubt in self._open.values():
                    doubts.setdefault(doubt.place, []).append(doubt)
            for doubt in doubts.get(place, ()):
                if number < doubt.begun:
                    continue
                doubt.rivals.update(name for name in word.claims if name != self._name)
                if word.fate == UNSURE:
                    doubt.unsure = doubt.number
                if not word.fate.startswith(_FATES):
                    continue
                if not doubt.words:
                    doubt.first_word = time.monotonic()
                doubt.words.append(word)
        if self.inquiry.deaf and not self._has_node:
            self.inquiry.deaf = False
            for doubt in self._open.values():  # there is no node at all
                if doubt.asks:
                    doubt.asks, doubt.number, doubt.ask_at = doubt.patience, 0, 0.0
