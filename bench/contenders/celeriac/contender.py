"""Ours on Redis and on the embedded SQLite store, with every promise kept: nothing is switched off."""

from __future__ import annotations

from pathlib import Path

from bench.contender import REDIS_MEASURES, SQLITE_MEASURES, Contender, Shape

APP = "bench.contenders.celeriac.app"
ROOT = Path(__file__).resolve().parents[3]
REQUIREMENTS = ("-e", f"{ROOT}[redis]", "hiredis==3.5.0", "redis==8.1.0", "msgspec==0.22.0")
POOLS = {"processes": "prefork", "threads": "threads", "asyncio": "asyncio"}


def worker(python: Path, shape: Shape) -> list[str]:
    concurrency = shape.processes if shape.lane == "processes" else shape.slots
    return [
        *(str(python), "-m", "celeriac", "-A", f"{APP}:app", "worker", "-P", POOLS[shape.lane]),
        *("-c", str(concurrency), "-l", "warning"),
    ]


CONTENDERS = [
    Contender(
        name="celeriac",
        requirements=REQUIREMENTS,
        distributions=("celeriac", "redis"),
        app=APP,
        store="redis",
        measures=REDIS_MEASURES | {"io-asyncio", "sleep"},
        settings="defaults: prefork, late acknowledgement, leases, fencing, ledger",
        worker=worker,
    ),
    Contender(
        name="celeriac-sqlite",
        requirements=REQUIREMENTS,
        distributions=("celeriac",),
        app=APP,
        store="sqlite",
        measures=SQLITE_MEASURES,
        settings="defaults",
        worker=worker,
    ),
]
