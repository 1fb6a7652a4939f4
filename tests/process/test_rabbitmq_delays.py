"""Delayed messages on RabbitMQ: killed servers, deleted wait queues, Celery's own delayed messages."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from tests.servers import RabbitServer

from celeriac.brokers.amqp import celery_delays, delays
from celeriac.brokers.amqp.broker import AmqpBroker
from celeriac.brokers.base import Consumer, ConsumerSpec, Delivery, Outgoing, Queue, Settlement
from celeriac.transport.amqp.link import Link
from celeriac.transport.amqp.url import parse
from celeriac.utils.identity import uuid
from celeriac.wire.message import Message


@pytest.fixture(scope="module")
def server() -> Iterator[RabbitServer]:
    """One of our own: these tests kill it.

    What is due while it starts finds queues that are not there yet, and is sent on again after so many
    milliseconds; by default after three minutes.
    """
    own = RabbitServer(advanced={"dead_letter_worker_publisher_confirm_timeout": 5_000})
    yield own
    own.stop()


@pytest.fixture
def url(server: RabbitServer) -> Iterator[str]:
    made = server.vhost()
    yield made
    server.drop_vhost(made)


@pytest.fixture
def broker(url: str) -> Iterator[AmqpBroker]:
    described = (Queue("kept", arguments=(("x-queue-type", "quorum"),)),)
    made = AmqpBroker(url, {"declarations": lambda name: described if name == "kept" else ()})
    yield made
    made.close()


def call(number: int) -> Message:
    headers = {"task": "t", "id": f"{number}"}
    return Message(b"[[], {}, {}]", "application/json", "utf-8", headers, {"delivery_mode": 2})


def collect(consumer: Consumer, wanted: set[str], within: float) -> dict[str, float]:
    """When each message arrived, by id, once all that are wanted have."""
    arrived: dict[str, float] = {}
    settled: list[Settlement] = []
    deadline = time.monotonic() + within
    while not wanted <= arrived.keys() and time.monotonic() < deadline:
        got: list[Delivery] = list(consumer.exchange(settled, 100).deliveries)
        settled = [Settlement(one.queue, one.tag) for one in got]
        for one in got:
            assert isinstance(one.message, Message)
            arrived.setdefault(one.message.headers["id"], time.time())
        if not got:
            consumer.wait(1.0)
    consumer.exchange(settled, 0)
    return arrived


def test_a_killed_server_keeps_what_is_delayed(server: RabbitServer, broker: AmqpBroker) -> None:
    """Right after the first delayed message, when its queues are as new as can be; and in mid-journey."""
    due = time.time() + 4.0
    for queue, first in (("plain", 0), ("kept", 100)):
        batch = [Outgoing(call(first + n), queue=queue, due=due + n / 100) for n in range(100)]
        broker.publish(batch, timeout=60)
    server.kill()
    server.start()
    consumer = broker.consumer(ConsumerSpec(uuid(), ["plain", "kept"]))
    arrived = collect(consumer, {f"{n}" for n in range(200)}, 60)
    assert sorted(arrived, key=int) == [f"{n}" for n in range(200)]
    assert all(at >= due + int(name) % 100 / 100 for name, at in arrived.items())
    consumer.close()


def test_wait_queues_that_were_deleted_are_declared_again(broker: AmqpBroker, url: str) -> None:
    broker.publish([Outgoing(call(0), queue="plain", countdown=0.1)])
    link = Link.dial(parse(url, {}), deadline=time.monotonic() + 30)
    channel = link.channel()
    for wait in delays.waits(0):
        channel.queue_delete(wait.queue)
    link.close()
    broker.publish([Outgoing(call(1), queue="plain", countdown=0.1)])
    consumer = broker.consumer(ConsumerSpec(uuid(), ["plain"]))
    assert "1" in collect(consumer, {"1"}, 60)
    consumer.close()


def test_what_celery_delays_for_a_topic_exchange_arrives(broker: AmqpBroker, url: str) -> None:
    """Its producers know only Celery's levels, which whoever consumes such a queue declares."""
    kind = (("x-queue-type", "quorum"),)
    described = Queue("media", "media", "video", exchange_type="topic", arguments=kind)
    broker.declare([described])
    link = Link.dial(parse(url, {}), deadline=time.monotonic() + 30)
    channel = link.channel()
    channel.confirm_select()
    sent = time.time()
    levels = "0." * 27 + "1"
    channel.publish("celery_delayed_0", f"{levels}.video", call(7), mandatory=True)
    channel.await_confirms(time.monotonic() + 30)
    assert not channel.returned
    assert levels.count(".") + 1 == celery_delays.LEVELS
    consumer = broker.consumer(ConsumerSpec(uuid(), ["media"]))
    assert collect(consumer, {"7"}, 60)["7"] >= sent + 1.0
    consumer.close()
    link.close()
