"""dramatiq on Redis and RabbitMQ: two processes of 50 threads, its best setting in earlier measurements."""

from __future__ import annotations

from pathlib import Path

from bench.contender import RABBITMQ_MEASURES, REDIS_MEASURES, Contender, Shape

APP = "bench.contenders.dramatiq.app"
REQUIREMENTS = ("dramatiq[redis,rabbitmq]==2.2.1", "hiredis==3.5.0", "redis==8.1.0", "pika==1.4.4")


def worker(python: Path, shape: Shape) -> list[str]:
    processes, threads = (shape.processes, 50) if shape.lane == "processes" else (2, shape.slots // 2)
    return [
        *(str(python), "-m", "dramatiq", f"{APP}:broker", "--skip-logging"),
        *("--processes", str(processes), "--threads", str(threads)),
    ]


CONTENDERS = [
    Contender(
        name="dramatiq",
        requirements=REQUIREMENTS,
        distributions=("dramatiq", "redis"),
        app=APP,
        store="redis",
        measures=REDIS_MEASURES,
        settings="50 threads a process, default middleware",
        worker=worker,
    ),
    Contender(
        name="dramatiq-rabbitmq",
        requirements=REQUIREMENTS,
        distributions=("dramatiq", "pika"),
        app=APP,
        store="rabbitmq",
        measures=RABBITMQ_MEASURES,
        settings="50 threads a process, default middleware; publishes unconfirmed (its default)",
        worker=worker,
    ),
]
