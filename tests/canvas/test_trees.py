"""Random canvases on real workers end as the evaluator says. The long run: `python -m tests.canvas`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.canvas.evaluate import evaluate
from tests.canvas.generate import DEADLY, FAULTS, faulty, sample, trees
from tests.canvas.run import Stage, differences
from tests.canvas.tree import Tree, show
from tests.faults.conftest import LENT
from tests.faults.ground import Ground
from tests.faults.stores import KINDS

#: One number for each store, so that together they see more trees.
STORES = {"sqlite": 1, "redis": 2, "rabbitmq": 3, "postgres": 4}


@pytest.fixture(params=STORES)
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    kind = request.param
    servers = [request.getfixturevalue(LENT[server]) for server in KINDS[kind].servers]
    with ExitStack() as stack:
        yield Stage(Ground(kind, tmp_path, stack, servers=servers, seed=STORES[kind]))


def test_random_trees(stage: Stage) -> None:
    """Calls that succeed, fail, are retried or replaced; then each fault once or twice."""
    seed = stage.ground.seed
    _agree(stage, sample(trees(most=30), 24, seed))
    faults = {fault: sample(faulty(fault, 12), 2, seed) for fault in FAULTS}
    _agree(stage, [tree for fault in FAULTS if fault not in DEADLY for tree in faults[fault]])
    _agree(stage, [tree for fault in DEADLY for tree in faults[fault]], again=True)


def _agree(stage: Stage, chosen: list[Tree], again: bool = False) -> None:
    played = zip(chosen, stage.play(chosen, 60), strict=True)
    found = [(tree, differences(evaluate(tree), seen, again=again)) for tree, seen in played]
    wrong = [(show(tree), lines) for tree, lines in found if lines]
    assert not wrong, "\n".join(f"{text}\n    " + "\n    ".join(found) for text, found in wrong)
