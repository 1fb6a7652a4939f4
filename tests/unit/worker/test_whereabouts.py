"""What a node says of deliveries whose connection is gone: from ledgers of the living, and from its
memory."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from celeriac.brokers.base import (
    COPIED,
    CRASHED,
    DONE,
    INNOCENT,
    MOVED,
    QUARANTINE,
    RUNNING,
    Fate,
    Place,
    Word,
)
from celeriac.worker import whereabouts
from celeriac.worker.ledger import CLAIMS, TRAIL_SIZE, Ledger
from celeriac.worker.roster import Roster
from celeriac.worker.trail import CONCLUDED, DROPPED, TOOK, LedgerTrail, claims, last_steps
from celeriac.worker.whereabouts import Whereabouts, fates

Make = Callable[[str], Ledger]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Ledger] = []

    def ledger(name: str, slots: int = 2) -> Ledger:
        page = Ledger(tmp_path / f"{name}.ledger", slots, create=True)
        page.sign(name, ["q"])
        made.append(page)
        return page

    yield ledger
    for page in made:
        page.close()


def run(
    page: Ledger, slot: int, tag: int, id_: str = "x", *, limit: float = 0.0, early: bool = False
) -> None:
    page.start(slot, "q", tag, 1.0, 0.0, 1.0 + limit, id_.encode(), b"task", early)


# -- the trail


def test_the_last_step_of_each_tag_is_found(make: Make) -> None:
    page = make("a")
    trail = LedgerTrail(page)
    trail.took([1, 2, 3, (1 << 62) - 1])
    trail.concluded([2])
    trail.dropped([3])
    assert last_steps(page) == {1: TOOK, (1 << 62) - 1: TOOK, 2: CONCLUDED, 3: DROPPED}


def test_what_was_being_copied_when_its_process_died_is_neither_here_nor_there(make: Make) -> None:
    page = make("a")
    trail = LedgerTrail(page)
    trail.took([1, 2, 3])
    trail.copying([1, 2, 3])
    trail.concluded([2])
    trail.took([3])
    assert fates(page, alive=True) == {1: RUNNING, 2: DONE, 3: RUNNING}
    assert fates(page) == {1: COPIED, 2: DONE, 3: INNOCENT}


def test_what_had_come_back_and_was_being_copied_is_told_apart(make: Make) -> None:
    page = make("a")
    trail = LedgerTrail(page)
    trail.claim([1, 2, 3])
    trail.copying([1, 2, 3])
    trail.dropped([3])  # it was not published
    trail.concluded([2])
    trail.disclaim([2])
    assert fates(page, alive=True) == {1: RUNNING, 2: DONE, 3: INNOCENT}
    assert fates(page) == {1: MOVED, 2: DONE, 3: INNOCENT}


def test_claims_are_told_beside_what_is_known(make: Make) -> None:
    one, other = make("one"), make("other")
    trail = LedgerTrail(one)
    trail.claim([1, 2])
    LedgerTrail(other).claim([1])
    trail.dropped([2])
    node = Whereabouts(lambda: [(one, os.getpid()), (other, os.getpid())])
    answers = node.answer([("q", 1), ("q", 2), ("q", 3)])
    assert set(answers) == {("q", 1), ("q", 2)}
    assert (answers["q", 1].fate, sorted(answers["q", 1].claims)) == ("", ["one", "other"])
    assert (answers["q", 2].fate, answers["q", 2].claims) == (INNOCENT, ("one",))
    trail.disclaim([1, 2])
    assert node.answer([("q", 1)]) == {("q", 1): Word("", 0.0, ("other",))}


def test_claims_find_room_again(make: Make) -> None:
    page = make("a")
    trail = LedgerTrail(page)
    everything = set(range(CLAIMS + 5))
    trail.claim(everything)
    assert len(claims(page, everything)) == CLAIMS
    trail.disclaim(everything)
    assert not claims(page, everything)
    trail.claim([7])
    trail.claim([7])
    assert claims(page, everything) == [7]


def test_the_trail_forgets_the_oldest_steps(make: Make) -> None:
    page = make("a")
    trail = LedgerTrail(page)
    trail.took(range(TRAIL_SIZE + 10))
    steps = last_steps(page)
    assert list(steps) == list(range(10, TRAIL_SIZE + 10))


def test_another_process_reads_the_trail(make: Make) -> None:
    page = make("a")
    LedgerTrail(page).took([7])
    other = Ledger(page.path)
    assert last_steps(other) == {7: TOOK}
    other.close()


# -- fates


def test_a_dead_child(make: Make) -> None:
    page = make("a")
    trail = LedgerTrail(page)
    trail.took([1, 2, 3, 4])
    run(page, 0, 1)
    page.done(0, "q", 1)  # owes nothing, not acknowledged yet
    run(page, 0, 2)
    trail.concluded([3])
    assert fates(page) == {1: DONE, 2: CRASHED, 3: DONE, 4: INNOCENT}
    assert fates(page, innocent=True)[2] == INNOCENT
    assert fates(page, suspicious=True) == {1: DONE, 2: CRASHED, 3: DONE, 4: CRASHED}


def test_what_its_node_ended_is_told_with_the_reason(make: Make) -> None:
    page = make("a")
    run(page, 0, 1, "late", limit=2.5)
    run(page, 1, 2, "revoked")
    verdicts = {"late": "time limit", "revoked": "terminated"}
    assert fates(page, verdicts=verdicts) == {1: "ended:time limit:2.5", 2: "ended:terminated"}


def test_what_was_acknowledged_early_never_runs_again(make: Make) -> None:
    page = make("a")
    run(page, 0, 1, early=True)
    assert fates(page) == {1: DONE}


def test_a_living_child_may_still_start_what_it_holds(make: Make) -> None:
    page = make("a")
    trail = LedgerTrail(page)
    trail.took([1, 2, 3, 4])
    run(page, 0, 1)
    trail.concluded([2])
    trail.dropped([3])
    assert fates(page, alive=True) == {1: RUNNING, 2: DONE, 3: INNOCENT, 4: RUNNING}


# -- answers


def ask(node: Whereabouts, *tags: int) -> dict[int, Fate]:
    places: list[Place] = [("q", tag) for tag in tags]
    return {place[1]: word.fate for place, word in node.answer(places).items()}


def test_the_living_and_the_dead_are_asked_and_strangers_are_not_known(make: Make) -> None:
    living, dead = make("living"), make("dead")
    run(living, 0, 1)
    run(dead, 0, 2)
    node = Whereabouts(lambda: [(living, os.getpid())])
    node.bury(dead)
    node.close(dead, remove=True)
    assert ask(node, 1, 2, 3) == {1: RUNNING, 2: CRASHED}


def test_what_is_told_to_be_done_is_done(make: Make) -> None:
    living = make("living")
    LedgerTrail(living).took([1, 2])
    node = Whereabouts(lambda: [(living, os.getpid())])
    node.learn([("q", 3)])
    assert ask(node, 1, 3) == {1: RUNNING, 3: DONE}


def test_words_have_an_age_and_are_forgotten(make: Make) -> None:
    now = [100.0]
    node = Whereabouts(tuple, clock=lambda: now[0])
    node.learn([("q", 1)])
    now[0] += 7.0
    assert node.answer([("q", 1)]) == {("q", 1): Word(DONE, 7.0)}
    now[0] += whereabouts.MEMORY
    assert node.answer([("q", 1)]) == {}


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whereabouts, "MOST", 10)
    node = Whereabouts(tuple)
    node.learn([("q", tag) for tag in range(100)])
    assert ask(node, *range(100)) == dict.fromkeys(range(90, 100), DONE)


def test_the_later_end_counts(make: Make) -> None:
    first, second = make("first"), make("second")
    run(first, 0, 1)
    LedgerTrail(second).took([1])
    now = [1.0]
    node = Whereabouts(tuple, clock=lambda: now[0])
    node.bury(first)
    now[0] += 1
    node.bury(second)
    assert ask(node, 1) == {1: INNOCENT}
    now[0] = 601.5  # only the first is forgotten
    assert ask(node, 1) == {1: INNOCENT}


@pytest.mark.parametrize("done_first", [True, False])
def test_what_one_child_has_done_is_done_whoever_dropped_it(make: Make, done_first: bool) -> None:
    """A cut connection: one child drops what it had in stock, the other one gets it and runs it."""
    dropper, doer = make("dropper"), make("doer")
    LedgerTrail(dropper).took([1, 2])
    LedgerTrail(dropper).dropped([1, 2])
    LedgerTrail(doer).took([1])
    LedgerTrail(doer).concluded([1])
    living = [(dropper, os.getpid()), (doer, os.getpid())]
    node = Whereabouts(lambda: living if done_first else living[::-1])
    assert ask(node, 1, 2) == {1: DONE, 2: INNOCENT}
    node.learn([("q", 2)])
    assert ask(node, 2) == {2: DONE}
    node.bury(dropper)
    assert ask(node, 2) == {2: DONE}


def test_a_crash_is_younger_than_what_a_living_child_dropped(make: Make) -> None:
    living, dead = make("living"), make("dead")
    LedgerTrail(living).dropped([1])
    run(dead, 0, 1)
    node = Whereabouts(lambda: [(living, os.getpid())])
    node.bury(dead)
    other = Whereabouts(lambda: [(living, os.getpid())])
    words = [node.answer([("q", 1)])["q", 1], other.answer([("q", 1)])["q", 1]]
    assert min(words, key=lambda word: word.age).fate == CRASHED


def test_a_child_that_has_just_died_is_waited_for(make: Make) -> None:
    """Nobody says that it runs when only the burial is missing."""
    page = make("a")
    run(page, 0, 1, "late", limit=1.0)
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, not reaped
    node = Whereabouts(lambda: [(page, process.pid)])
    burial = threading.Timer(0.05, lambda: node.bury(page, verdicts={"late": "time limit"}))
    burial.start()
    assert ask(node, 1) == {1: "ended:time limit:1.0"}
    burial.join()
    process.wait()


def test_ledgers_of_killed_workers_are_looked_for_when_a_question_cannot_be_answered(make: Make) -> None:
    orphan = make("orphan")
    LedgerTrail(orphan).took([5])

    def adopt() -> None:
        node.bury(orphan)

    node = Whereabouts(tuple, adopt)
    assert ask(node, 5) == {5: INNOCENT}


def test_a_child_killed_on_purpose_stays_innocent_for_whoever_finds_its_ledger(make: Make) -> None:
    page = make("a")
    run(page, 0, 1)
    page.absolve()
    found = Ledger(page.path)
    node = Whereabouts(tuple)
    node.bury(found)
    node.close(found, remove=False)
    assert ask(node, 1) == {1: INNOCENT}


# -- one suspect at a time


def test_one_child_of_a_node_runs_a_suspect(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    roster = Roster()
    one, two = LedgerTrail(make("a"), roster), LedgerTrail(make("b"), roster)
    assert one.alone()
    assert not two.alone()
    one.free()
    assert two.alone()
    monkeypatch.setattr("celeriac.worker.roster.QUARANTINE", 0.0)
    assert one.alone()  # long ones do not keep the others for ever
    assert QUARANTINE > 0


def test_an_old_turn_is_not_given_back_twice(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    page = make("a")
    roster = Roster()
    trail = LedgerTrail(page, roster)
    assert trail.alone()
    roster._turn[0] += 1.0  # somebody else's by now
    trail.free()
    assert not trail.alone()
