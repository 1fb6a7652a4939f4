"""The negative control: the storm of `storm.py` on Celery 5.7 and Redis, which must find losses.

`python -m tests.faults.control --kills 15`

Celery runs as its documentation advises for tasks that must not be lost: `task_acks_late` and
`task_reject_on_worker_lost`, the prefork pool, everything else by default. What its killed workers held stays
in ``unacked`` until the visibility timeout, an hour by default: it is counted as stranded.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path

import redis
from bench.environments import python_with
from tests.faults.harness import ROOT, Journal, Node, environment
from tests.faults.storm import Findings, Storm
from tests.faults.stream import Produced
from tests.servers import RedisServer

from celeriac import Celeriac

CONF = {
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "task_ignore_result": True,
    "broker_connection_retry_on_startup": True,
}


def celery_python() -> str:
    """The interpreter of a virtual environment with Celery 5.7, made on first use."""
    return str(python_with("compat-celery", ("celery[redis,msgpack,yaml]==5.7.0",)))


def celery_storm(
    server: RedisServer,
    folder: Path,
    *,
    kills: int,
    every: float,
    seed: int,
    workers: int = 2,
    slots: int = 4,
    seconds: float = float("inf"),
) -> Findings:
    """The storm on Celery's workers."""
    journal = Journal(folder / "journal")
    env = environment(server.url, None, journal.path, CONF)
    env |= {"FAULTS_LIBRARY": "celery", "PYTHONPATH": str(ROOT)}
    python = celery_python()
    arguments = ("-c", str(slots), "-Q", "faults", "--without-mingle", "--without-gossip")
    with ExitStack() as stack:
        client = Celeriac("control", broker=server.url, set_as_current=False)
        client.conf.update(task_default_queue="faults", broker_publish_timeout=30.0)
        stack.callback(client.close)
        looker = stack.enter_context(redis.Redis.from_url(server.url, protocol=2))
        nodes = [
            stack.enter_context(
                Node(
                    env,
                    *arguments,
                    name=f"n{i}",
                    log=folder / f"n{i}.log",
                    python=python,
                    module="celery",
                )
            )
            for i in range(workers)
        ]
        produced = Produced(folder / "produced")
        stack.callback(produced.close)
        storm = Storm(
            client,
            nodes,
            journal,
            seed=seed,
            stranded=lambda: int(looker.hlen("unacked")),
            produced=produced,
            results=False,
        )
        return storm.run(kills, every, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.control", description=__doc__)
    parser.add_argument("--kills", type=int, default=15)
    parser.add_argument("--every", type=float, default=2.0, help="seconds between kills")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    server = RedisServer()
    try:
        with tempfile.TemporaryDirectory() as folder:
            findings = celery_storm(
                server, Path(folder), kills=options.kills, every=options.every, seed=options.seed
            )
    finally:
        server.stop()
    print(f"Celery 5.7 on Redis, 2 workers of 4, tasks of 0-20 ms, seed {options.seed}\n{findings.text()}")


if __name__ == "__main__":
    main()
