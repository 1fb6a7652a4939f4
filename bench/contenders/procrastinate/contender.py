"""procrastinate on PostgreSQL: two processes, coroutines."""

from __future__ import annotations

from pathlib import Path

from bench.contender import POSTGRES_MEASURES, Contender, Shape, several

APP = "bench.contenders.procrastinate.app"


def worker(python: Path, shape: Shape) -> list[str]:
    run = f"'{python}' -m procrastinate -a {APP}.app worker --concurrency 50 --delete-jobs always"
    return several(run, shape.processes)


CONTENDERS = [
    Contender(
        name="procrastinate",
        requirements=("procrastinate==3.10.0", "psycopg[binary,pool]==3.3.9"),
        distributions=("procrastinate", "psycopg"),
        app=APP,
        store="postgresql",
        measures=POSTGRES_MEASURES,
        settings="psycopg (binary), coroutines, 50 at once a process, finished jobs deleted",
        worker=worker,
        prepared=True,
    )
]
