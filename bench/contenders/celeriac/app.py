"""The benchmark's tasks on ours."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

from bench import pages, probe, site
from celeriac import Celeriac, group

STORE = site.BROKER if site.BROKER.startswith("redis:") else f"sqlite:///{site.BROKER}"

app = Celeriac("bench", broker=STORE, backend=STORE if site.RESULTS else None)
app.conf.update(task_ignore_result=not site.RESULTS)
probe.arm()


if probe.ARMED:

    @app.task
    def noop():
        pages.hit()
        probe.count()
        return 1

else:

    @app.task
    def noop():
        pages.hit()
        return 1


@app.task
def io():
    time.sleep(0.001)
    pages.hit()
    return 1


@app.task
async def aio():
    await asyncio.sleep(0.001)
    pages.hit()
    return 1


@app.task
async def nap():
    pages.begin()
    await asyncio.sleep(1)
    pages.hit()
    return 1


@app.task
def due(at):
    pages.note(time.time() - at)
    return 1


def send_one():
    noop.delay()


def send_bulk(count):
    noop.apply_many([()] * count)


def send_tasks(kind, count):
    task = {"noop": noop, "io": io, "aio": aio, "nap": nap}[kind]
    group(task.s() for _ in range(count)).apply_async()


def send_due(count, at):
    eta = datetime.fromtimestamp(at, UTC)
    for _ in range(count):
        due.apply_async((at,), eta=eta)


def round_trip():
    noop.delay().get(timeout=10)
