"""What the workers of one machine leave for each other: the name of their home, memories, ledgers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from celeriac.brokers.base import CRASHED, DONE, INNOCENT, RUNNING, UNSURE, Fate, Place, Word
from celeriac.worker import home
from celeriac.worker.home import Memory, home_name, neighbours
from celeriac.worker.ledger import Ledger
from celeriac.worker.trail import LedgerTrail
from celeriac.worker.whereabouts import Whereabouts

#: Does what is asked in a process of its own, and dies without a farewell.
KILLED = """
import os, sys
from pathlib import Path
from celeriac.worker.home import Memory
memory = Memory(Path(sys.argv[1]), "s", dict)
memory.note({1: "done", 2: "crashed"})
os._exit(9)
"""


def nothing() -> Mapping[int, tuple[Fate, float]]:
    return {}


def places(*tags: int) -> list[Place]:
    return [("q", tag) for tag in tags]


def killed(folder: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(folder)], check=False, timeout=30)


def words(found: Mapping[int, Word]) -> dict[int, Fate]:
    return {tag: word.fate for tag, word in found.items()}


def test_a_home_keeps_its_name(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    assert home_name(tmp_path) == home_name(tmp_path) != home_name(other)
    assert [path.name for path in other.iterdir()] == ["home"]


def test_what_a_killed_supervisor_knew_is_read_and_taken_over_once(tmp_path: Path) -> None:
    killed(tmp_path)
    memory = Memory(tmp_path, "s", nothing)
    assert words(memory.of_others({2, 3})) == {2: CRASHED}
    assert words(memory.adopt()) == {1: DONE, 2: CRASHED}
    assert not memory.adopt()
    memory.close(remove=True)  # it had written it down for others
    assert not list(tmp_path.iterdir())


def test_what_a_living_one_knows_is_only_read(tmp_path: Path) -> None:
    first, second = Memory(tmp_path, "s", nothing), Memory(tmp_path, "s", nothing)
    first.note({1: DONE})
    assert not second.adopt()
    assert words(second.of_others({1})) == {1: DONE}
    first.note({1: "ended:time limit:3.0", 2: CRASHED})
    assert words(second.of_others({1, 2})) == {1: "ended:time limit:3.0", 2: CRASHED}
    assert not first.of_others({1})
    assert not Memory(tmp_path, "another store", nothing).of_others({1})
    first.close(remove=True)
    assert not second.of_others({1})


def test_a_memory_that_has_grown_large_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home, "LARGE", 40)
    memory = Memory(tmp_path, "s", lambda: {7: (DONE, 5.0)})
    for tag in range(100):
        memory.note({tag: CRASHED})
    (path,) = tmp_path.iterdir()
    assert len(path.read_bytes()) < 120
    found = Memory(tmp_path, "s", nothing).of_others({7, 99})
    assert words(found) == {7: DONE, 99: CRASHED}
    assert found[7].age > 4.9 > found[99].age


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    killed(tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-3] + b"")
    assert words(Memory(tmp_path, "s", nothing).adopt()) == {1: DONE}


def test_what_a_dead_child_had_is_known_after_two_supervisors_were_killed(tmp_path: Path) -> None:
    """The second had buried the child of the first, and was killed as well."""
    killed(tmp_path)
    third = Whereabouts(tuple, home=tmp_path, store="s")
    third.adopt_memories()
    fourth = Whereabouts(tuple, home=tmp_path, store="s")
    assert {place[1]: word.fate for place, word in fourth.answer(places(1, 2, 3)).items()} == {
        1: DONE,
        2: CRASHED,
    }


def test_what_a_neighbour_runs_is_read_in_its_ledger(tmp_path: Path) -> None:
    page = Ledger(tmp_path / "theirs.ledger", 1, create=True)
    page.sign("theirs", ["q"], store="s")
    trail = LedgerTrail(page)
    trail.took([1, 2, 3])
    trail.concluded([2])
    trail.dropped([3])
    mine = Whereabouts(tuple, home=tmp_path, store="s")
    fates = {place[1]: word.fate for place, word in mine.answer(places(1, 2, 3, 4)).items()}
    assert fates == {1: RUNNING, 2: DONE, 3: INNOCENT}
    assert not Whereabouts(tuple, home=tmp_path, store="another").answer(places(1))
    page.close()


def test_nobody_speaks_for_a_child_that_died_a_moment_ago(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Ledger(tmp_path / "theirs.ledger", 1, create=True)
    page.sign("theirs", ["q"], store="s")
    LedgerTrail(page).took([1])
    monkeypatch.setattr("celeriac.worker.whereabouts.lives", lambda pid: False)
    (word,) = Whereabouts(tuple, home=tmp_path, store="s").answer(places(1)).values()
    assert word.fate == UNSURE
    page.close()


def test_neighbours_are_closed_again(tmp_path: Path) -> None:
    page = Ledger(tmp_path / "theirs.ledger", 1, create=True)
    page.sign("theirs", ["q"], store="s")
    (seen,) = neighbours(tmp_path, (), "s")
    assert seen.fd < 0
    assert not list(neighbours(tmp_path, {page.path}, "s"))
    page.close()
