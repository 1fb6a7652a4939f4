"""The rows of the fault matrix, short. The long form: `python -m tests.faults F17 --store redis`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.faults.conftest import LENT
from tests.faults.ground import Ground
from tests.faults.rows.stores import may_mount
from tests.faults.rows.table import ROWS
from tests.faults.stores import KINDS

CASES = [(name, kind) for name, row in ROWS.items() for kind in row.tested]


@pytest.fixture
def ground(kind: str, name: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ground]:
    servers = None
    if not ROWS[name].own:
        servers = [request.getfixturevalue(LENT[server]) for server in KINDS[kind].servers]
    with ExitStack() as stack:
        yield Ground(kind, tmp_path, stack, servers=servers, seed=1)


@pytest.mark.timeout(300)  # one of them makes an environment for Celery
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_row(name: str, ground: Ground) -> None:
    if name == "F22" and not may_mount():
        pytest.skip("no file system can be mounted here")
    row = ROWS[name]
    print(row.play(ground, **row.short))
