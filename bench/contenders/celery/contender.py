"""Celery 5.7 on Redis and RabbitMQ, set up for throughput as its guide to optimising recommends."""

from __future__ import annotations

from pathlib import Path

from bench.contender import RABBITMQ_MEASURES, REDIS_MEASURES, Contender, Shape

APP = "bench.contenders.celery.app"
REQUIREMENTS = ("celery[redis]==5.7.0", "hiredis==3.5.0", "redis==8.1.0")
LEAN = "prefork, prefetch 64, no gossip/mingle/heartbeat/rate limits; early acknowledgement"


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
        requirements=REQUIREMENTS,
        distributions=("celery", "kombu", "redis"),
        app=APP,
        store="redis",
        measures=REDIS_MEASURES | {"waiting", "chord", "chain"},
        settings=LEAN,
        worker=worker,
    ),
    Contender(
        name="celery-rabbitmq",
        requirements=REQUIREMENTS,
        distributions=("celery", "kombu", "amqp"),
        app=APP,
        store="rabbitmq",
        measures=RABBITMQ_MEASURES | {"rabbitmq-trip-rpc"},
        settings=f"classic durable queue, publishes unconfirmed (its default); {LEAN}",
        worker=worker,
    ),
    Contender(
        name="celery-rabbitmq-quorum",
        requirements=REQUIREMENTS,
        distributions=("celery", "kombu", "amqp"),
        app=APP,
        store="rabbitmq",
        measures=RABBITMQ_MEASURES - {"rabbitmq-due"},  # one by one, confirmed, it cannot send them in time
        settings=f"quorum queue, confirmed publishes, native delayed delivery; {LEAN}",
        worker=worker,
        variables=(("BENCH_QUEUE_TYPE", "quorum"),),
    ),
]
