"""pgqueuer on PostgreSQL: two processes, batches of 100, as its guide to performance tuning recommends."""

from __future__ import annotations

from pathlib import Path

from bench.contender import POSTGRES_MEASURES, Contender, Shape, several

APP = "bench.contenders.pgqueuer.app"


def worker(python: Path, shape: Shape) -> list[str]:
    return several(f"'{python}' -m {APP}", shape.processes)


CONTENDERS = [
    Contender(
        name="pgqueuer",
        requirements=("pgqueuer[asyncpg]==1.6.0", "asyncpg==0.32.0"),
        distributions=("pgqueuer", "asyncpg"),
        app=APP,
        store="postgresql",
        measures=POSTGRES_MEASURES,
        settings="asyncpg, uvloop, batch size 100, its autovacuum settings, durable; results are not kept",
        worker=worker,
        prepared=True,
    )
]
