"""The benchmark's tasks on ours."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import UTC, datetime

from bench import pages, probe, site
from celeriac import Celeriac, chain, chord, group, uuid
from celeriac.brokers.base import ConsumerSpec, Settlement

SLICE = 500


def address(place):
    return place if "://" in place else f"sqlite:///{place}"


app = Celeriac("bench", broker=address(site.BROKER), backend=address(site.BACKEND) if site.RESULTS else None)
app.conf.update(task_ignore_result=not site.RESULTS)
if os.environ.get("BENCH_QUEUE_TYPE"):
    app.conf.task_default_queue_type = os.environ["BENCH_QUEUE_TYPE"]
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
def total(values):
    return sum(values)


@app.task
def step(*before):
    pages.note(time.time())
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
    task.apply_many([()] * count, timeout=60)


def send_due(count, at):
    send_spread(count, at, 0)


def send_spread(count, begin, span):
    """In slices of 500, which are due together."""
    for sent in range(0, count, SLICE):
        at = begin + span * sent / count
        due.apply_many([(at,)] * min(SLICE, count - sent), eta=datetime.fromtimestamp(at, UTC), timeout=60)


CLONE = """
WITH one AS (
    SELECT queue, priority, raw FROM celeriac.message ORDER BY id DESC LIMIT 1
), stored AS (
    INSERT INTO celeriac.message (since, queue, priority, raw)
    SELECT clock_timestamp(), queue, priority, raw FROM one, generate_series(1, %s)
    RETURNING id, queue, priority, since
)
INSERT INTO celeriac.line (queue, rank, since, id) SELECT queue, priority, since, id FROM stored
"""
_consumer = None
_held = []


def prepare():
    """Have the tables made, so that this is not measured."""
    app.broker.depth("celery")


def fill(count):
    """More than a slice: copies of one message, by the database itself."""
    if count <= SLICE:
        noop.apply_many([()] * count)
        return
    import psycopg

    noop.delay()
    with psycopg.connect(site.BROKER, autocommit=True) as connection:
        connection.execute(CLONE, (count,))
        connection.execute("VACUUM (ANALYZE)")


def claim(count):
    global _consumer, _held
    if _consumer is None:
        _consumer = app.broker.consumer(ConsumerSpec(uuid(), ["celery"], ttl=600))
    deliveries = _consumer.exchange([Settlement(one.queue, one.tag) for one in _held], count).deliveries
    assert len(deliveries) == count, f"{len(deliveries)} instead of {count}"
    _held = deliveries


def round_trip():
    noop.delay().get(timeout=10)


def send_group(count):
    return group(noop.s() for _ in range(count)).apply_async()


def wait_for_group(results):
    results.get(timeout=240)


def run_chord(count):
    result = chord([noop.s() for _ in range(count)], total.s()).apply_async()
    assert result.get(timeout=240, follow_parents=False) == count


def run_chain(count):
    chain([step.s() for _ in range(count)]).apply_async().get(timeout=240, follow_parents=False)
