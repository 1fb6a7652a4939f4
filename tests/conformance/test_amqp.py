"""`amqp://` keeps the contracts, on classic and on quorum queues."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import pytest
from tests.servers import RabbitServer

from celeriac.backends.memory import MemoryBackend
from celeriac.brokers.amqp import AmqpBroker
from celeriac.brokers.amqp.consumer import AmqpConsumer
from celeriac.brokers.base import Broker, ConsumerSpec, Received, Settlement
from celeriac.conformance import BrokerContract
from celeriac.conformance.kit import ids, out
from celeriac.transport.amqp.channel import Channel
from celeriac.transport.amqp.link import Link
from celeriac.transport.amqp.url import parse
from celeriac.transport.amqp.values import Disconnected
from celeriac.wire.message import Message


class Stage:
    """The server of the run, for what pytest cannot hand a fixture to."""

    server: ClassVar[RabbitServer]
    other: ClassVar[Channel | None] = None
    _lock: ClassVar[threading.Lock] = threading.Lock()

    @classmethod
    def turn(cls) -> None:
        """Return when the server, however busy, has served another client."""
        with cls._lock:
            if cls.other is None or cls.other.link.closed:
                link = Link.dial(parse(cls.server.url), deadline=time.monotonic() + 30, heartbeat=0)
                cls.other = link.channel()
            try:
                cls.other.queue_declare("turns", exclusive=True)
            except Disconnected:  # by a test that cuts all connections
                cls.other.link.close()


@pytest.fixture(scope="module", autouse=True)
def _stage(rabbit_server: RabbitServer) -> Iterator[None]:
    Stage.server = rabbit_server
    yield
    if Stage.other is not None:
        Stage.other.link.close()
        Stage.other = None


class PatientConsumer:
    """RabbitMQ sends messages when it gets round to it. The contracts ask whether they come, not how fast, so
    this one asks for a little while, and for twenty turns of the server, which are longer when it is busy."""

    def __init__(self, consumer: AmqpConsumer) -> None:
        self._consumer = consumer
        self.wait, self.wake = consumer.wait, consumer.wake
        self.close, self.lifeline = consumer.close, consumer.lifeline

    def exchange(self, settlements: Sequence[Settlement], limit: int) -> Received:
        received = self._consumer.exchange(settlements, limit)
        taken = list(received.deliveries)
        deadline, turns = time.monotonic() + 0.25, 0
        while len(taken) < limit and (turns < 20 or time.monotonic() < deadline):
            time.sleep(0.01)
            Stage.turn()
            turns += 1
            taken += self._consumer.exchange((), limit - len(taken)).deliveries
        return received._replace(deliveries=taken)


class PatientBroker(AmqpBroker):
    def consumer(self, spec: ConsumerSpec) -> Any:
        return PatientConsumer(super().consumer(spec))


class TestAmqpBroker(BrokerContract):
    broker_class = PatientBroker
    backend_class = MemoryBackend
    grain = 0.08

    @pytest.fixture
    def url(self) -> Any:
        url = Stage.server.vhost()
        yield url
        Stage.server.drop_vhost(url)

    def plant(self, url: str, queue: str, raw: bytes) -> None:
        deadline = time.monotonic() + 10
        link = Link.dial(parse(url), deadline=deadline)
        channel = link.channel()
        channel.queue_declare(queue, arguments=self.arguments)
        channel.confirm_select()
        channel.publish("", queue, Message(raw, "", "", {}, {}))
        channel.await_confirms(deadline)
        link.close()

    def cut(self, url: str) -> None:
        Stage.server.close_all_connections()

    arguments: ClassVar[Mapping[str, Any]] = {}


class TestAmqpBrokerQuorum(TestAmqpBroker):
    """The same on quorum queues, which have no priorities before RabbitMQ 4."""

    arguments: ClassVar[Mapping[str, Any]] = {"x-queue-type": "quorum"}

    @pytest.fixture
    def options(self) -> Mapping[str, Any]:
        return {"queue_type": "quorum"}

    def test_the_most_urgent_priority_goes_first_or_priorities_are_refused(self, broker: Broker) -> None:
        broker.publish([out(f"p{p}", priority=p) for p in (9, 0, 6, 3)])
        _, consumer = self.consumer(broker)
        assert ids(self.drain(consumer)) == ["p9", "p0", "p6", "p3"]

    def test_a_delayed_message_keeps_its_priority(self, broker: Broker) -> None:
        broker.publish([out("a", countdown=0.1, priority=9)])
        _, consumer = self.consumer(broker)
        deadline = time.monotonic() + 30
        while not (taken := consumer.exchange((), 1).deliveries):
            assert time.monotonic() < deadline
        assert isinstance(taken[0].message, Message)
        assert taken[0].message.properties["priority"] == 9

    def test_requeue_keeps_the_priority(self, broker: Broker) -> None:
        broker.publish([out("a", priority=9)])
        _, consumer = self.consumer(broker)
        (first,) = consumer.exchange((), 1).deliveries
        consumer.exchange([Settlement(first.queue, first.tag, "requeue")], 0)
        (again,) = consumer.exchange((), 1).deliveries
        assert isinstance(again.message, Message)
        assert again.message.properties["priority"] == 9
