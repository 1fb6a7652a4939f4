"""The benchmark's tasks on dramatiq."""

from __future__ import annotations

import time

import dramatiq
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from bench import pages, site

if site.BROKER.startswith("amqp:"):
    from dramatiq.brokers.rabbitmq import RabbitmqBroker

    broker = RabbitmqBroker(url=site.BROKER)
else:
    from dramatiq.brokers.redis import RedisBroker

    broker = RedisBroker(url=site.BROKER)
if site.RESULTS:
    broker.add_middleware(Results(backend=RedisBackend(url=site.BACKEND), store_results=True))
dramatiq.set_broker(broker)


@dramatiq.actor
def noop():
    pages.hit()
    return 1


@dramatiq.actor
def io():
    time.sleep(0.001)
    pages.hit()
    return 1


@dramatiq.actor
def due(at):
    pages.note(time.time() - at)
    return 1


def send_one():
    noop.send()


def send_bulk(count):
    dramatiq.group([noop.message() for _ in range(count)]).run()


def send_tasks(kind, count):
    actor = {"noop": noop, "io": io}[kind]
    for _ in range(count):
        actor.send()


def send_due(count, at):
    for _ in range(count):
        due.send_with_options(args=(at,), delay=round(1000 * (at - time.time())))


def round_trip():
    noop.send().get_result(block=True, timeout=10_000)
