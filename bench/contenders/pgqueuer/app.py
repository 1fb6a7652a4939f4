"""The benchmark's tasks on pgqueuer (`python -m …` is one worker process)."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from datetime import timedelta

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries

from bench import pages, site


async def work():
    queue = PgQueuer(AsyncpgDriver(await asyncpg.connect(site.BROKER)))

    @queue.entrypoint("noop")
    async def noop(job):
        pages.hit()

    @queue.entrypoint("due")
    async def due(job):
        pages.note(time.time() - float(job.payload))

    await queue.run(batch_size=100, max_concurrent_tasks=200)


_loop = asyncio.new_event_loop()
_queries = None


def _run(ask):
    """Let the client's loop carry out `ask(queries)`."""
    global _queries
    if _queries is None:
        _queries = Queries(AsyncpgDriver(_loop.run_until_complete(asyncpg.connect(site.BROKER))))
    return _loop.run_until_complete(ask(_queries))


def prepare():
    for words in (["install"], ["autovac"]):
        subprocess.run(
            [sys.executable, "-m", "pgqueuer", "--pg-dsn", site.BROKER, *words], check=True, stdout=2
        )


def send_one():
    _run(lambda queries: queries.enqueue("noop", None))


def send_bulk(count):
    _run(lambda queries: queries.enqueue(["noop"] * count, [None] * count, [0] * count))


def send_tasks(kind, count):
    send_bulk(count)


def send_due(count, at):
    payload = [str(at).encode()] * count
    after = [timedelta(seconds=at - time.time())] * count
    _run(lambda queries: queries.enqueue(["due"] * count, payload, [0] * count, after))


if __name__ == "__main__":
    uvloop.run(work())
