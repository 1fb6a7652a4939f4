"""Long runs of the storm: `python -m tests.faults --store redis --kills 100 --seed 7`.

Exits with 1 when anything was lost, came from nowhere, was dead-lettered, ran twice without a kill, or is
left in the store. The folder of such a run is kept, and named.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.faults.harness import Journal, Node, environment
from tests.faults.residue import handed_out, residue
from tests.faults.stores import KINDS, Store
from tests.faults.storm import Findings, Storm

from celeriac import Celeriac


def main() -> int:
    options = _options()
    folder = Path(tempfile.mkdtemp(prefix="celeriac-faults-"))
    with ExitStack() as stack:
        store = _store(options.store, folder, stack)
        findings, left = _run(store, folder, options)
    apart = ", each as on a machine of its own" if options.apart else ""
    shape = f"{options.workers} workers of {options.slots} ({options.pool}){apart}"
    print(f"{options.store}, {shape}, tasks of 0-20 ms, seed {options.seed}\n{findings.text()}")
    print(f"{'left in the store':20}{', '.join(left) or 'nothing':>12}")
    if findings.lost or findings.unexpected or findings.unexcused or findings.dead or left:
        print(f"This must not be. Journal and logs: {folder}", file=sys.stderr)
        return 1
    shutil.rmtree(folder)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--store", choices=list(KINDS), default="redis")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--every", type=float, default=1.0, help="seconds between kills")
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--slots", type=int, default=4, help="concurrency of each worker")
    parser.add_argument("--pool", choices=["prefork", "threads", "asyncio"], default="prefork")
    parser.add_argument(
        "--apart", action="store_true", help="workers cannot see that another one died: only its lease tells"
    )
    return parser.parse_args()


def _store(name: str, folder: Path, stack: ExitStack) -> Store:
    kind = KINDS[name]
    servers = []
    for make in kind.servers:
        servers.append(make())
        stack.callback(servers[-1].stop)
    return kind.make(folder, *servers)


def _run(store: Store, folder: Path, options: argparse.Namespace) -> tuple[Findings, list[str]]:
    journal = Journal(folder / "journal")
    with ExitStack() as stack:
        client = Celeriac("storm", broker=store.broker, set_as_current=False)
        client.conf.update(task_default_queue="faults", broker_publish_timeout=30.0, **store.conf)
        stack.callback(client.close)
        nodes = [
            stack.enter_context(
                Node(
                    environment(store.broker, None, journal.path, store.conf),
                    "-c",
                    str(options.slots),
                    "-P",
                    options.pool,
                    name=f"n{i}",
                    log=folder / f"n{i}.log",
                )
            )
            for i in range(options.workers)
        ]
        storm = Storm(
            client,
            nodes,
            journal,
            seed=options.seed,
            stranded=lambda: handed_out(client),
            machines=folder if options.apart else None,
        )
        findings = storm.run(options.kills, options.every)
        for node in nodes:
            node.stop()
        return findings, residue(store)


if __name__ == "__main__":
    sys.exit(main())
