"""The benchmark's tasks on procrastinate."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import procrastinate

from bench import pages, site

app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=site.BROKER))


@app.task
async def noop():
    pages.hit()
    return 1


@app.task
async def due(at):
    pages.note(time.time() - at)
    return 1


_opened = False


def client(task):
    """The task as a program without an event loop sends it: over blocking connections."""
    global _opened
    if not _opened:
        app.open()
        _opened = True
    return task


def prepare():
    with app.open():
        app.schema_manager.apply_schema()


def send_one():
    client(noop).defer()


def send_bulk(count):
    client(noop).batch_defer(*[{}] * count)


def send_tasks(kind, count):
    send_bulk(count)


def send_due(count, at):
    client(due).configure(schedule_at=datetime.fromtimestamp(at, UTC)).batch_defer(*[{"at": at}] * count)
