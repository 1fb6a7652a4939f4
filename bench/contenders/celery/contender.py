"""Celery 5.7 on Redis, set up for throughput as its guide to optimising recommends."""

from __future__ import annotations

from pathlib import Path

from bench.contender import REDIS_MEASURES, Contender, Shape

APP = "bench.contenders.celery.app"


def worker(python: Path, shape: Shape) -> list[str]:
    pool, concurrency = ("prefork", shape.processes)
    if shape.lane == "threads":
        pool, concurrency = ("threads", shape.slots)
    return [
        *(str(python), "-m", "celery", "-A", f"{APP}:app", "worker", "-P", pool, "-c", str(concurrency)),
        *("--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "warning"),
    ]


CONTENDERS = [
    Contender(
        name="celery",
        requirements=("celery[redis]==5.7.0", "hiredis==3.5.0", "redis==8.1.0"),
        distributions=("celery", "kombu", "redis"),
        app=APP,
        store="redis",
        measures=REDIS_MEASURES,
        settings="prefork, prefetch 64, no gossip/mingle/heartbeat/rate limits; early acknowledgement",
        worker=worker,
    )
]
