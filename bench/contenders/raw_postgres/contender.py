"""The raw loop on PostgreSQL: what Python and this server can do with nothing around it. A bound only.

One transaction per batch, in one trip: what the last one held is deleted (and its results inserted), the next
hundred are marked as held (SKIP LOCKED). No lease, no fence, no ledger, no limits.
"""

from __future__ import annotations

from pathlib import Path

from bench.contender import Contender, Shape

APP = "bench.contenders.raw_postgres.app"


def worker(python: Path, shape: Shape) -> list[str]:
    return [str(python), "-m", APP, str(shape.processes)]


CONTENDERS = [
    Contender(
        name="raw-postgres",
        requirements=("psycopg[binary]==3.3.9", "msgspec==0.22.0"),
        distributions=("psycopg", "msgspec"),
        app=APP,
        store="postgresql",
        measures=frozenset(
            {
                *("postgres-enqueue", "postgres-bulk", "postgres-drain-off", "postgres-drain-on"),
                "postgres-backlog",
            }
        ),
        settings="psycopg 3 (binary), pipelines; SKIP LOCKED batches of 100, unnest inserts of 100; msgspec",
        worker=worker,
        prepared=True,
    )
]
