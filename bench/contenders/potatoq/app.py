"""The benchmark's tasks on potatoq."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from potatoq import Potatoq, group

from bench import pages, site

app = Potatoq("bench", broker=site.BROKER if site.BROKER.startswith("redis:") else f"sqlite:///{site.BROKER}")
app.conf.update(
    task_ignore_result=not site.RESULTS,
    result_backend="broker" if site.RESULTS else None,
    worker_max_tasks_per_child=None,
)


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
def due(at):
    pages.note(time.time() - at)
    return 1


def send_one():
    noop.delay()


def send_bulk(count):
    group(noop.s() for _ in range(count)).apply_async()


def send_tasks(kind, count):
    task = {"noop": noop, "io": io}[kind]
    for _ in range(count):
        task.delay()


def send_due(count, at):
    eta = datetime.fromtimestamp(at, UTC)
    for _ in range(count):
        due.apply_async((at,), eta=eta)


def round_trip():
    noop.delay().get(timeout=10)
