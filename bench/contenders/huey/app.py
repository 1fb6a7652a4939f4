"""The benchmark's tasks on huey."""

from __future__ import annotations

import os
import time
from datetime import datetime

from huey import RedisHuey, SqliteHuey

from bench import pages, site

FSYNC = False if os.environ.get("BENCH_HUEY_FSYNC") == "off" else None

if site.BROKER.startswith("redis:"):
    huey = RedisHuey("bench", url=site.BROKER, results=site.RESULTS, notify_result=site.WAITED)
else:
    huey = SqliteHuey("bench", filename=site.BROKER, results=site.RESULTS, fsync=FSYNC)


@huey.task()
def noop():
    pages.hit()
    return 1


@huey.task()
def io():
    time.sleep(0.001)
    pages.hit()
    return 1


@huey.task()
def due(at):
    pages.note(time.time() - at)
    return 1


def send_one():
    noop()


def send_bulk(count):
    noop.map(() for _ in range(count))


def send_tasks(kind, count):
    task = {"noop": noop, "io": io}[kind]
    for _ in range(count):
        task()


def send_due(count, at):
    eta = datetime.fromtimestamp(at)
    for _ in range(count):
        due.schedule((at,), eta=eta)


def round_trip():
    noop().get(blocking=True, timeout=10)
