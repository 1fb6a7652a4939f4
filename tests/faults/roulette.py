"""Failpoints at random: which, when, with what effect, in which pool, on how many workers.

`python -m tests.faults.roulette --rounds 100 --seed 7`: each round is one worker or two, the load of
`load.py`, and 4 to 12 failpoints that fire once each. Exits with 1 when a round ends badly; its folder is
kept and named, and ``--only ROUND`` plays it again.
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
from typing import NamedTuple

from tests.faults.conftest import Store
from tests.faults.harness import Journal, Node, environment, until
from tests.faults.load import CHILD, SUPERVISOR, Load
from tests.faults.residue import residue
from tests.servers import RedisServer

from celeriac import Celeriac

POINTS = [*(point for point, _ in CHILD), *SUPERVISOR]
COUNTS = (1, 1, 2, 3, 5, 8, 13, 20)
ACTIONS = ("kill", "kill", "kill", "drop", "raise")


class Round(NamedTuple):
    """What one round is made of; the same for the same seed and number."""

    store: str
    pool: str
    slots: int
    workers: int
    ttl: float
    entries: tuple[str, ...]

    @staticmethod
    def of(seed: int, number: int) -> Round:
        chance = random.Random(f"{seed}/{number}")
        entries = (
            f"{chance.choice(POINTS)}:{chance.choice(COUNTS)}:{chance.choice(ACTIONS)}"
            for _ in range(chance.randint(4, 12))
        )
        return Round(
            chance.choice(("sqlite", "redis")),
            chance.choice(("prefork", "prefork", "threads", "asyncio")),
            chance.randint(1, 3),
            chance.randint(1, 2),
            chance.choice((2.0, 3.0, 6.0)),
            tuple(entries),
        )


def play(round_: Round, server: RedisServer, folder: Path) -> Load:
    """Play one round; raises when it ends badly."""
    url = server.url if round_.store == "redis" else f"sqlite:///{folder / 'celeriac.db'}"
    store = Store(round_.store, url, url)
    server.flush()
    journal = Journal(folder / "journal")
    with ExitStack() as stack:
        client = Celeriac("roulette", broker=url, backend=url, set_as_current=False)
        client.conf.update(task_default_queue="faults", broker_publish_timeout=30.0)
        stack.callback(client.close)
        load = Load(client, journal, store, folder / "fired")
        conf = {"task_delivery_limit": 50, "worker_lease_ttl": round_.ttl}
        env = environment(url, url, journal.path, conf) | load.environ(*round_.entries)
        shape = ("-c", str(round_.slots), "-P", round_.pool)
        nodes = [
            stack.enter_context(Node(env, *shape, name=f"n{i}", log=folder / f"n{i}.log"))
            for i in range(round_.workers)
        ]

        def is_over() -> bool:
            for node in nodes:
                if node.process is not None and node.process.poll() is not None:
                    node.start()
            return load.ended()

        until(is_over, 60, "all have run")
        for node in nodes:
            _stop(node)
        # Where the release of a dead child itself failed, its lease lapses by itself.
        until(lambda: not client.broker.sweep(["faults"]) and not residue(store), round_.ttl + 5)
        load.check(None, None)
    return load


def _stop(node: Node) -> None:
    """Failpoints may still fire while it stops: then it is started again, to tidy up."""
    for _ in range(len(POINTS)):
        if node.stop() == 0:
            return
        node.start()
        until(lambda: node.children() or (node.process and node.process.poll() is not None), 20)
    raise RuntimeError("the worker does not end with status 0")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.roulette", description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    parser.add_argument("--only", type=int, help="play this round alone")
    options = parser.parse_args()
    numbers = range(options.rounds) if options.only is None else [options.only]
    server = RedisServer()
    bad, fired, began = 0, 0, time.monotonic()
    try:
        for number in numbers:
            round_ = Round.of(options.seed, number)
            folder = Path(tempfile.mkdtemp(prefix="celeriac-roulette-"))
            try:
                fired += len(play(round_, server, folder).fired())
            except Exception as exc:  # whatever it was: told, counted, and the next round is played
                bad += 1
                print(f"round {number} of seed {options.seed}: {exc!r}\n  {round_}\n  {folder}", flush=True)
            else:
                shutil.rmtree(folder)
    finally:
        server.stop()
    seconds = time.monotonic() - began
    played = f"{len(numbers)} rounds in {seconds:.0f} s"
    print(f"seed {options.seed}: {played}, {fired} failpoints fired, {bad} rounds ended badly")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
