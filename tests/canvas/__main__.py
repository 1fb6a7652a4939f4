"""Random canvases on real workers, against the evaluator: a long run.

`python -m tests.canvas --store redis --trees 500 --seed 7`: prints the seed, what differed, made smaller.
`--celery`: the same trees on Celery 5.7 and Redis; what differs there is listed by kind.
`--fault reject`: each tree has such a call; `--kills`: workers and their processes are killed meanwhile.

Exits with 1 when anything differs (with `--celery`: never).
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.canvas.evaluate import evaluate
from tests.canvas.generate import DEADLY, FAULTS, faulty, sample, trees
from tests.canvas.run import Killer, Seen, Stage, differences, minimised
from tests.canvas.theirs import CeleryStage
from tests.canvas.tree import Tree, leaves, show
from tests.faults.ground import Ground
from tests.faults.stores import KINDS

#: Trees that are under way at the same time; fewer where each kills processes several times: a machine starts
#: two or three in a second.
BATCH, DEADLY_BATCH = 40, 10


def main() -> int:
    options = _options()
    print(f"seed {options.seed}", flush=True)
    strategy = faulty(options.fault) if options.fault else trees()
    chosen = sample(strategy, options.trees, options.seed)
    if options.celery:
        return _celery(chosen, options)
    folder = Path(tempfile.mkdtemp(prefix=f"celeriac-canvas-{options.store}-"))
    began, wrong = time.monotonic(), 0
    with ExitStack() as stack:
        ground = Ground(options.store, folder, stack, seed=options.seed)
        kills = bool(options.kills) or options.fault in DEADLY
        stage = Stage(
            ground,
            workers=1 + bool(options.kills),
            conf={"task_delivery_limit": 20} if options.kills else None,
        )
        pause = 0.05 if options.kills else 0.0  # so that something runs when it is killed
        killer = Killer(stage.nodes, ground.chance, options.kills)
        size = DEADLY_BATCH if options.fault in DEADLY else BATCH
        for at in range(0, len(chosen), size):
            batch = chosen[at : at + size]
            for tree, seen in zip(
                batch, stage.play(batch, options.patience, pause=pause, during=killer), strict=True
            ):
                if differences(evaluate(tree), seen, again=kills):
                    wrong += 1
                    if wrong <= options.shown and not kills:
                        _tell(stage, tree, seen)
                    elif wrong <= options.shown:
                        print(show(tree), *differences(evaluate(tree), seen, again=True), sep="\n    ")
    calls = sum(map(leaves, chosen))
    print(
        f"{options.store}: {len(chosen)} trees, {calls:,} calls, {wrong} differ, "
        f"{killer.kills} kills ({time.monotonic() - began:.0f} s, seed {options.seed})"
    )
    if wrong:
        print(f"Journal and logs: {folder}", file=sys.stderr)
    else:
        shutil.rmtree(folder)
    return 1 if wrong else 0


def _tell(stage: Stage, tree: Tree, seen: Seen) -> None:
    def differs(candidates: Sequence[Tree]) -> list[bool]:
        played = stage.play(candidates, 6)
        return [bool(differences(evaluate(one), seen)) for one, seen in zip(candidates, played, strict=True)]

    small = minimised(tree, differs)
    again = stage.play([small], 6)[0]
    print(show(small), *differences(evaluate(small), again), sep="\n    ", flush=True)
    if small != tree:
        print(f"    made smaller from {show(tree)}", *differences(evaluate(tree), seen), sep="\n        ")


def _celery(chosen: list[Tree], options: argparse.Namespace) -> int:
    """The same on Celery: how many differ in what, and the smallest trees of each kind that do."""
    kinds: Mapping[str, list[str]] = defaultdict(list)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="celeriac-canvas-celery-")))
        stage = CeleryStage(folder, stack)
        for at in range(0, len(chosen), BATCH):
            batch = chosen[at : at + BATCH]
            for tree, seen in zip(batch, stage.play(batch), strict=True):
                found = differences(evaluate(tree), seen, nodes=False)
                kinds[_kind(found)].append("\n    ".join([show(tree), *found]))
    for kind, texts in kinds.items():
        if kind != "same":
            print(f"-- {kind}", *sorted(texts, key=len)[: options.shown], sep="\n")
    counts = ", ".join(f"{len(texts)} {kind}" for kind, texts in kinds.items())
    print(f"celery: {len(chosen)} trees: {counts} (seed {options.seed})")
    return 0


def _kind(found: list[str]) -> str:
    if not found:
        return "same"
    text = " ".join(found)
    return "open for ever" if "PENDING" in text else "refused" if "Error: " in text else "another answer"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.canvas",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--store", choices=list(KINDS), default="redis")
    parser.add_argument("--trees", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    parser.add_argument("--fault", choices=FAULTS)
    parser.add_argument("--kills", type=int, default=0, help="of workers and of their processes, at most")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds until all must have ended")
    parser.add_argument("--celery", action="store_true", help="on Celery and Redis, in place of ours")
    parser.add_argument("--shown", type=int, default=6, help="how many of those that differ")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
