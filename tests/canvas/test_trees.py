"""Random canvases on real workers end as the evaluator says. The long run: `python -m tests.canvas`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.canvas.evaluate import evaluate
from tests.canvas.generate import FAULTS, faulty, sample, trees
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
    _agree(stage, [tree for fault in FAULTS for tree in sample(faulty(fault, 12), 2, seed)])


def _agree(stage: Stage, chosen: list[Tree]) -> None:
    played = zip(chosen, stage.play(chosen, 60), strict=True)
    wrong = [
        (show(tree), found)
        for tree, seen in played
        if (found := differences(evaluate(tree), seen, again=True))
    ]
    assert not wrong, "\n".join(f"{text}\n    " + "\n    ".join(found) for text, found in wrong)
