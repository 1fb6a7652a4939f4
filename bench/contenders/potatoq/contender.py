"""potatoq on Redis and on SQLite: worker processes, not recycled."""

from __future__ import annotations

from pathlib import Path

from bench.contender import REDIS_MEASURES, SQLITE_MEASURES, Contender, Shape

APP = "bench.contenders.potatoq.app"
REQUIREMENTS = ("potatoq[redis]==26.1a8", "hiredis==3.5.0", "redis==8.1.0")


def worker(python: Path, shape: Shape) -> list[str]:
    lane = ["-c", str(shape.processes)] if shape.lane == "processes" else ["-c", "1", "-t", str(shape.slots)]
    return [str(python), "-m", "potatoq", "-A", f"{APP}:app", "worker", *lane, "-l", "warning"]


CONTENDERS = [
    Contender(
        name="potatoq",
        requirements=REQUIREMENTS,
        distributions=("potatoq", "redis"),
        app=APP,
        store="redis",
        measures=REDIS_MEASURES,
        settings="prefork, recycling of processes off; late acknowledgement",
        worker=worker,
    ),
    Contender(
        name="potatoq-sqlite",
        requirements=REQUIREMENTS,
        distributions=("potatoq",),
        app=APP,
        store="sqlite",
        measures=SQLITE_MEASURES,
        settings="prefork, recycling of processes off",
        worker=worker,
    ),
]
