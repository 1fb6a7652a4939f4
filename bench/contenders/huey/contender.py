"""huey on Redis and on SQLite: worker processes."""

from __future__ import annotations

from pathlib import Path

from bench.contender import REDIS_MEASURES, SQLITE_MEASURES, Contender, Shape

APP = "bench.contenders.huey.app"
REQUIREMENTS = ("huey==3.5.4", "hiredis==3.5.0", "redis==8.1.0")


def worker(python: Path, shape: Shape) -> list[str]:
    kind, workers = ("process", shape.processes) if shape.lane == "processes" else ("thread", shape.slots)
    return [
        *(str(python.parent / "huey_consumer"), f"{APP}.huey", "-k", kind, "-w", str(workers)),
        *("--quiet", "--no-periodic", "--delay", "0.01"),
    ]


CONTENDERS = [
    Contender(
        name="huey",
        requirements=REQUIREMENTS,
        distributions=("huey", "redis"),
        app=APP,
        store="redis",
        measures=REDIS_MEASURES,
        settings="-k process, blocking pop, notify_result for round trips; early acknowledgement",
        worker=worker,
    ),
    Contender(
        name="huey-sqlite",
        requirements=REQUIREMENTS,
        distributions=("huey",),
        app=APP,
        store="sqlite",
        measures=SQLITE_MEASURES,
        settings="-k process, WAL, its default: every commit forced to the disk (synchronous FULL)",
        worker=worker,
    ),
    Contender(
        name="huey-sqlite-nofsync",
        requirements=REQUIREMENTS,
        distributions=("huey",),
        app=APP,
        store="sqlite",
        measures=SQLITE_MEASURES,
        settings="-k process, WAL, fsync=False (synchronous OFF): survives a killed process, as ours does",
        worker=worker,
        variables=(("BENCH_HUEY_FSYNC", "off"),),
    ),
]
