"""The benchmark's tasks on Celery."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime

from celery import Celery, chain, chord, group

from bench import pages, site

app = Celery("bench", broker=site.BROKER, backend=site.BACKEND if site.RESULTS else None)
app.conf.update(
    task_ignore_result=not site.RESULTS,
    worker_prefetch_multiplier=64,
    worker_disable_rate_limits=True,
    broker_connection_retry_on_startup=True,
)
if os.environ.get("BENCH_QUEUE_TYPE") == "quorum":
    app.conf.update(task_default_queue_type="quorum", broker_transport_options={"confirm_publish": True})


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
    group(noop.s() for _ in range(count)).apply_async()


def send_tasks(kind, count):
    task = {"noop": noop, "io": io}[kind]
    with app.producer_or_acquire() as producer:
        for _ in range(count):
            task.apply_async(producer=producer)


def send_due(count, at):
    eta = datetime.fromtimestamp(at, UTC)
    with app.producer_or_acquire() as producer:
        for _ in range(count):
            due.apply_async((at,), eta=eta, producer=producer)


def round_trip():
    noop.delay().get(timeout=10)


def send_group(count):
    return group(noop.s() for _ in range(count)).apply_async()


def wait_for_group(results):
    results.get(timeout=240)


def run_chord(count):
    """By default, `get` looks at every member again with each message that arrives: 10,000 x 20,000 looks."""
    result = chord([noop.s() for _ in range(count)], total.s()).apply_async()
    assert result.get(timeout=290, follow_parents=False) == count


def run_chain(count):
    chain([step.s() for _ in range(count)]).apply_async().get(timeout=240, follow_parents=False)
