"""A producer that may be killed at any moment: what it attempts and what has returned stands in its journal.

`python -m tests.faults.producer NAME COUNT`: publishes COUNT times a single call and a group of `GROUP`,
under task ids that begin with NAME. Lines, each synced to the disk before the next step: ``attempt``, then
``returned`` or ``raised``, the first id, and how many (1 or `GROUP`).

The environment is that of `proj.py`; FAULTS_PRODUCED names the journal.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.faults.lines import whole, written

from celeriac.exceptions import OperationalError

GROUP = 50


class Step(NamedTuple):
    """One publish: `outcome` is attempt, returned or raised; `ids` are the tasks it stands for."""

    outcome: str
    ids: tuple[str, ...]


def ids_of(first: str, count: int) -> tuple[str, ...]:
    """The ids of one publish: ``x`` alone, or ``x.0`` … of a group."""
    return (first,) if count == 1 else tuple(f"{first}.{i}" for i in range(count))


def steps(path: Path) -> list[Step]:
    """What the journal says; a line that a kill cut short says nothing."""
    return [Step(outcome, ids_of(first, int(count))) for outcome, first, count in whole(path.read_text())]


def main() -> None:
    from tests.faults.proj import record

    from celeriac import group

    name, count = sys.argv[1], int(sys.argv[2])
    journal = os.open(os.environ["FAULTS_PRODUCED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(outcome: str, first: str, size: int) -> None:
        os.write(journal, written(outcome, first, size))
        os.fsync(journal)

    def publish(first: str, size: int, send: Callable[[], object]) -> None:
        note("attempt", first, size)
        try:
            send()
        except OperationalError:
            note("raised", first, size)
        else:
            note("returned", first, size)

    for i in range(count):
        one, many = f"{name}-{i}", f"{name}-g{i}"
        publish(one, 1, lambda: record.apply_async((one,), task_id=one, ignore_result=True))  # noqa: B023
        members = [record.s(key).set(task_id=key, ignore_result=True) for key in ids_of(many, GROUP)]
        publish(many, GROUP, lambda: group(members).apply_async())  # noqa: B023


if __name__ == "__main__":
    main()
