"""Long runs of the fault tests.

`python -m tests.faults --store redis --kills 100 --seed 7`: the storm: whole workers are killed under load.
`python -m tests.faults all --kills 500 --minutes 30`: the storm on every transport, and on Celery; one table.
`python -m tests.faults F17 --store redis`: a row of the matrix (`rows/table.py`); `--store` left out: on all
transports on which it can be played; `--short`: in the size of the test suite.

Exits with 1 when anything was lost, came from nowhere, was dead-lettered, ran twice without a kill, has no
result or is left in the store. Such a run is not repeated; its folder is kept, and named.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.faults.control import celery_storm
from tests.faults.ground import Ground
from tests.faults.residue import residue
from tests.faults.rows.table import ROWS
from tests.faults.stores import KINDS
from tests.faults.storm import Findings, Storm, percentile
from tests.faults.stream import Produced
from tests.servers import RedisServer

#: The transports of `all`, in the order of the table.
ALL = ("sqlite", "redis", "redis-cluster", "rabbitmq", "rabbitmq-quorum", "postgres")
#: Seconds that a storm takes beyond its kills: servers, the last tasks, the checks.
AROUND = 25.0


def main() -> int:
    options = _options()
    print(f"seed {options.seed}", flush=True)
    if options.what == "all":
        return _all(options)
    if options.what == "storm":
        findings, left = _storm(options.store or "redis", options)
        print(findings.text())
        print(f"{'left in the store':20}{', '.join(left) or 'nothing':>12}")
        return 1 if findings.bad or left else 0
    kinds = [options.store] if options.store else [kind for kind in ROWS[options.what].kinds if kind in KINDS]
    return max(_row(options.what, kind, options) for kind in kinds)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", nargs="?", choices=["storm", "all", *ROWS], default="storm")
    parser.add_argument("--store", choices=list(KINDS))
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    parser.add_argument("--short", action="store_true", help="of a row: as large as in the test suite")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--every", type=float, default=0.25, help="seconds between kills")
    parser.add_argument("--minutes", type=float, default=30.0, help="of `all`, at most")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--slots", type=int, default=2, help="concurrency of each worker")
    parser.add_argument("--pool", choices=["prefork", "threads", "asyncio"], default="prefork")
    parser.add_argument(
        "--apart", action="store_true", help="workers cannot see that another one died: only its lease tells"
    )
    return parser.parse_args()


# -- the storm ----------------------------------------------------------------------------------------------


def _storm(
    kind: str, options: argparse.Namespace, seconds: float = float("inf")
) -> tuple[Findings, list[str]]:
    folder = Path(tempfile.mkdtemp(prefix=f"celeriac-faults-{kind}-"))
    with ExitStack() as stack:
        ground = Ground(kind, folder, stack, seed=options.seed)
        produced = Produced(folder / "produced")
        stack.callback(produced.close)
        # Hundreds of kills from outside hit one task three times now and then; poison has its own row (F6).
        conf = {"task_delivery_limit": 20}
        arguments = ("-c", str(options.slots), "-P", options.pool)
        nodes = [
            ground.node(*arguments, conf=conf, extra=_machine(folder, at, options))
            for at in range(options.workers)
        ]
        storm = Storm(
            ground.client,
            nodes,
            ground.journal,
            seed=options.seed,
            stranded=ground.handed_out,
            produced=produced,
            machines=folder if options.apart else None,
        )
        findings = storm.run(options.kills, options.every, seconds)
        for node in nodes:
            node.stop()
        left = residue(ground.store)
    if findings.bad or left:
        print(f"This must not be ({kind}). Journals and logs: {folder}", file=sys.stderr, flush=True)
    else:
        shutil.rmtree(folder)
    return findings, left


def _machine(folder: Path, at: int, options: argparse.Namespace) -> dict[str, str]:
    """The environment of a worker that shares nothing with the others, where that is asked for."""
    return {"CELERIAC_RUN_DIR": str(folder / f"machine-n{at}")} if options.apart else {}


COLUMNS = (
    *(
        "kills",
        "published",
        "lost",
        "unexpected",
        "ran twice",
        "no kill",
        "stale",
        "no result",
        "dead",
        "left",
    ),
    *("p50", "p99", "max"),
)


def _all(options: argparse.Namespace) -> int:
    """One after the other, each with its share of the time that is left."""
    ends = time.monotonic() + options.minutes * 60
    bad = 0
    print(f"{'':16}" + "".join(f"{name:>11}" for name in COLUMNS), flush=True)
    for at, kind in enumerate(ALL):
        share = (ends - time.monotonic()) / (len(ALL) + 1 - at)
        findings, left = _storm(kind, options, max(10.0, share - AROUND))
        bad += bool(findings.bad or left)
        print(_line(kind, findings, len(left)), flush=True)
    server = RedisServer()
    try:
        with tempfile.TemporaryDirectory() as folder:
            seconds = max(10.0, ends - time.monotonic() - AROUND)
            kills = max(10, options.kills // 10)
            celery = celery_storm(
                server, Path(folder), kills=kills, every=2.0, seed=options.seed, seconds=seconds
            )
    finally:
        server.stop()
    print(_line("Celery 5.7 redis", celery, celery.stranded))
    print(
        "ran twice: by a kill and without; left: what is still in the store, for Celery what stays handed out"
    )
    print("recovery (p50, p99, max): seconds from a kill until what ran in the killed worker ran again")
    if not celery.lost and not celery.stranded:
        print("The negative control found nothing: the harness proves nothing.", file=sys.stderr)
        bad += 1
    return 1 if bad else 0


def _line(kind: str, findings: Findings, left: int) -> str:
    counts = (
        findings.kills,
        findings.published,
        findings.lost,
        findings.unexpected,
        findings.duplicated,
        findings.unexcused,
        findings.stale,
        findings.unfinished,
        findings.dead,
        left,
    )
    times = (percentile(findings.recoveries, share) for share in (0.5, 0.99, 1.0))
    return (
        f"{kind:16}"
        + "".join(f"{count:>11,}" for count in counts)
        + "".join(f"{seconds:>9.2f} s" for seconds in times)
    )


# -- rows ---------------------------------------------------------------------------------------------------


def _row(name: str, kind: str, options: argparse.Namespace) -> int:
    row = ROWS[name]
    folder = Path(tempfile.mkdtemp(prefix=f"celeriac-{name}-{kind}-"))
    began = time.monotonic()
    try:
        with ExitStack() as stack:
            ground = Ground(kind, folder, stack, seed=options.seed)
            figures = row.play(ground, **(row.short if options.short else row.long))
    except (AssertionError, TimeoutError) as exc:
        print(f"{name} {kind}: FAILED: {exc}\n  {folder}", flush=True)
        return 1
    print(f"{name} {kind}: {figures} ({time.monotonic() - began:.0f} s)", flush=True)
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
