"""Ours on every broker, with every promise kept: nothing is switched off."""

from __future__ import annotations

from pathlib import Path

from bench.contender import (
    POSTGRES_MEASURES,
    RABBITMQ_MEASURES,
    REDIS_MEASURES,
    SQLITE_MEASURES,
    Contender,
    Shape,
)

APP = "bench.contenders.celeriac.app"
ROOT = Path(__file__).resolve().parents[3]
REQUIREMENTS = (
    *("-e", f"{ROOT}[redis,rabbitmq,postgres]"),
    *("hiredis==3.5.0", "redis==8.1.0", "msgspec==0.22.0", "psycopg[binary]==3.3.9"),
)
ON_RABBITMQ = RABBITMQ_MEASURES | {"rabbitmq-drain-off-1", "rabbitmq-trip-rpc", "rabbitmq-delayed"}
ON_POSTGRES = POSTGRES_MEASURES | {
    *("postgres-drain-on", "postgres-trip", "postgres-delayed", "postgres-backlog"),
}
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
        measures=REDIS_MEASURES | {"io-asyncio", "sleep", "delayed", "waiting", "chord", "chain"},
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
    Contender(
        name="celeriac-rabbitmq",
        requirements=REQUIREMENTS,
        distributions=("celeriac",),
        app=APP,
        store="rabbitmq",
        measures=ON_RABBITMQ,
        settings="classic durable queue; defaults: confirmed and mandatory publishes, late acknowledgement",
        worker=worker,
    ),
    Contender(
        name="celeriac-rabbitmq-quorum",
        requirements=REQUIREMENTS,
        distributions=("celeriac",),
        app=APP,
        store="rabbitmq",
        measures=ON_RABBITMQ,
        settings="quorum queue; defaults: confirmed and mandatory publishes, late acknowledgement",
        worker=worker,
        variables=(("BENCH_QUEUE_TYPE", "quorum"),),
    ),
    Contender(
        name="celeriac-postgres",
        requirements=REQUIREMENTS,
        distributions=("celeriac", "psycopg"),
        app=APP,
        store="postgresql",
        measures=ON_POSTGRES,
        settings="defaults: leases, fencing, late acknowledgement; results in the settling transaction",
        worker=worker,
        prepared=True,
    ),
]
