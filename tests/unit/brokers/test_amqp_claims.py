"""Two consumers that have a copy each of the same message in doubt: whatever happens between which of their
steps, one runs it, and no claim holds it for long. The real ledgers and answers; the test carries questions.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from celeriac.brokers.amqp.suspects import SURE, Doubtful, Doubts
from celeriac.brokers.base import CLAIM_TTL, Place, Word
from celeriac.wire.message import Unreadable
from celeriac.worker.ledger import Ledger
from celeriac.worker.trail import LedgerTrail
from celeriac.worker.whereabouts import Whereabouts

Q: Place = ("q", 7)
#: Seconds of the test's clock in which a copy that is free is decided on.
SOON = 3.0


class Carrier:
    """The way of questions to all nodes and of their answers, as slow as the test wants."""

    def __init__(self, nodes: Sequence[Whereabouts]) -> None:
        self.number = 0
        self.deaf = False
        self.is_cut_off = False
        self._nodes = nodes
        self._asked: list[tuple[int, Sequence[Place], Whereabouts]] = []
        self._said: list[tuple[int, list[tuple[int, Place, Word]]]] = []
        self._heard: list[tuple[int, Place, Word]] = []
        self._answered: set[int] = set()

    def answer(self) -> bool:
        """A node looks, and answers; False: there is nothing to answer."""
        if self._asked:
            number, places, node = self._asked.pop(0)
            words = [(number, place, word) for place, word in node.answer(places).items()]
            self._said.append((number, words))
        return bool(self._said)

    def arrive(self) -> None:
        """An answer comes in."""
        if self._said:
            number, words = self._said.pop(0)
            self._heard += words
            self._answered.add(number)

    def ask(self, places: Sequence[Place]) -> bool:
        if self.is_cut_off:
            return False
        self.number += 1
        self._asked += [(self.number, list(places), node) for node in self._nodes]
        return True

    def poll(self) -> list[tuple[int, Place, Word]]:
        heard, self._heard = self._heard, []
        return heard

    def silent(self, number: int) -> str:
        return "" if number in self._answered else "unheard"

    def all_homes(self, number: int) -> bool:
        return number in self._answered

    def give_up(self, number: int) -> None:
        """Nobody is silent here."""


class One:
    """A consumer with a copy of `Q` in doubt."""

    def __init__(self, name: str, ledger: Ledger, nodes: Sequence[Whereabouts]) -> None:
        self.trail = LedgerTrail(ledger)
        self.carrier = Carrier(nodes)
        self.doubts = Doubts(self.carrier, self.trail, name)  # type: ignore[arg-type]
        self.doubts.add(Doubtful(1, *Q, Unreadable("", b""), {}, 0, True))
        self.became = ""

    def decide(self) -> str:
        """What becomes of the copy; it runs at once."""
        for doubt, what, _ in self.doubts.decide():
            if what == "run":
                self.trail.took([doubt.tag])
            self.doubts.settle([doubt])
            self.became = what
        return self.became

    def hear(self) -> None:
        while self.carrier.answer():
            self.carrier.arrive()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


Make = Callable[[], tuple[One, One]]


@pytest.fixture(params=["one node", "two nodes"])
def make(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Make]:
    made: list[Ledger] = []

    def two() -> tuple[One, One]:
        pages = [Ledger(tmp_path / f"{len(made) + at}.ledger", 1, create=True) for at in (0, 1)]
        for page, name in zip(pages, "ab", strict=True):
            page.sign(name, ["q"], store="s")
        made.extend(pages)
        shares = [pages, []] if request.param == "one node" else [pages[:1], pages[1:]]
        nodes = [
            Whereabouts(lambda share=share: [(page, 1) for page in share], home=tmp_path, store="s")  # type: ignore[misc]
            for share in shares
        ]
        first, second = (One(name, page, nodes) for name, page in zip("ab", pages, strict=True))
        return first, second

    yield two
    for page in made:
        page.close(remove=True)


def both_decided(pair: tuple[One, One], clock: Clock, seconds: float) -> bool:
    """Let everybody hear and decide until both have, or `seconds` have passed; what runs ends at once."""
    until = clock.now + seconds
    while clock.now < until and not all(one.became for one in pair):
        for one in pair:
            if not one.became and one.decide() == "run":
                one.trail.concluded([Q[1]])
            one.hear()
        clock.now += 0.01
    return all(one.became for one in pair)


def test_two_that_are_answered_at_the_same_moment_do_not_both_run(make: Make, clock: Clock) -> None:
    a, b = pair = make()
    assert a.decide() == b.decide() == ""  # both have asked
    a.hear()
    b.hear()
    clock.now += 0.1
    assert [one.decide() for one in pair].count("run") < 2
    assert both_decided(pair, clock, SOON)
    assert sorted(one.became for one in pair) == ["drop", "run"]


def test_one_that_asks_while_the_other_has_its_answer_already_stands_back(make: Make, clock: Clock) -> None:
    for late in (0, 1):
        pair = make()
        first, second = pair[1 - late], pair[late]
        first.decide()
        first.hear()  # before the other one claims anything
        second.decide()
        second.hear()
        clock.now += 0.1
        assert second.decide() == ""
        assert first.decide() == "run"
        first.trail.concluded([Q[1]])
        assert both_decided(pair, clock, SOON)
        assert second.became == "drop"
        first.trail.dropped([Q[1]])
        clock.now += 1.0
        for one in pair:  # the next pair begins anew
            one.doubts.clear()
            one.trail._steps[0] = 0


@pytest.mark.parametrize("seed", range(20))
def test_whatever_comes_first_one_runs(make: Make, clock: Clock, seed: int) -> None:
    chance = random.Random(seed)
    pair = make()
    running: list[One] = []
    for _ in range(chance.randrange(10, 120)):
        one = chance.choice(pair)
        what = chance.randrange(5)
        if what < 2 and not one.became and one.decide() == "run":
            running.append(one)
        elif what == 2:
            one.carrier.answer()
        elif what == 3:
            one.carrier.arrive()
        else:
            clock.now += chance.choice((0.01, 0.05, 0.2))
        assert len(running) < 2
    for one in running:
        one.trail.concluded([Q[1]])
    assert both_decided(pair, clock, 2 * SOON)
    assert [one.became for one in pair].count("run") == 1
    assert all(one.became in ("run", "drop", "park") for one in pair)


def test_a_dead_process_claims_nothing(make: Make, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = make()
    a.decide()
    monkeypatch.setattr("celeriac.worker.whereabouts.lives", lambda pid: False)
    assert b.decide() == ""
    b.hear()
    clock.now += 0.1
    assert b.decide() == "run"


def test_a_stopped_process_holds_nothing_for_ever_and_asks_again_when_it_goes_on(
    make: Make, clock: Clock
) -> None:
    a, b = make()
    a.decide()
    a.hear()
    until = clock.now + CLAIM_TTL + 2 * SOON
    while not b.became and clock.now < until:
        b.decide()
        b.hear()
        clock.now += 0.05
    assert b.became == "run"
    assert clock.now > 1000.0 + CLAIM_TTL > 1000.0 + SURE
    assert a.decide() == ""  # its answer is too old
    a.hear()
    assert a.decide() == ""
    b.trail.concluded([Q[1]])
    assert both_decided((a, b), clock, SOON)
    assert a.became == "drop"


def test_what_is_given_up_is_free_at_once(make: Make, clock: Clock) -> None:
    a, b = make()
    a.decide()
    a.doubts.clear()  # its connection is lost
    b.decide()
    b.hear()
    clock.now += 0.1
    assert b.decide() == "run"


def test_of_two_copies_at_one_consumer_the_second_is_asked_about_again(make: Make, clock: Clock) -> None:
    a, _ = make()
    a.doubts.add(Doubtful(2, *Q, Unreadable("", b""), {}, 0, True))
    a.decide()
    a.hear()
    clock.now += 0.1
    decided = list(a.doubts.decide())
    assert [what for _, what, _ in decided] == ["run"]
    a.trail.took([Q[1]])
    a.doubts.settle([decided[0][0]])
    assert len(a.doubts) == 1
    a.trail.concluded([Q[1]])
    a.doubts.decide()
    assert both_decided((a, a), clock, SOON)
    assert a.became == "drop"


def test_who_can_ask_nobody_claims_nothing(make: Make, clock: Clock) -> None:
    a, b = make()
    a.carrier.is_cut_off = True
    a.decide()
    b.decide()
    b.hear()
    clock.now += 0.1
    assert b.decide() == "run"
    b.trail.concluded([Q[1]])
    a.carrier.is_cut_off = False
    assert both_decided((a, b), clock, SOON)
    assert a.became == "drop"
