"""The contract of publishing: `Outgoing`, `Broker.publish`, `Broker.declare`, delays and priorities."""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Callable

import pytest

from celeriac.brokers.base import Broker, Outgoing, Queue
from celeriac.conformance.kit import StoreKit, ack, ids, message, out, until
from celeriac.exceptions import ImproperlyConfigured, QueueNotFound
from celeriac.wire.message import Message

__all__ = ["PublishContract"]


class PublishContract(StoreKit):
    """What publishing promises."""

    def test_publish_returns_when_every_message_is_stored(
        self, broker: Broker, connect: Callable[[], Broker]
    ) -> None:
        broker.publish([out("a"), out("b"), out("c")])
        assert connect().depth("celery") == 3

    def test_a_message_arrives_as_it_was_sent(self, broker: Broker) -> None:
        sent = message("a", argsrepr="(2, 3)", retries=3, eta=None, stamps={"x": ["y"]})
        broker.publish([Outgoing(sent, queue="celery")])
        _, consumer = self.consumer(broker)
        (delivery,) = consumer.exchange((), 1).deliveries
        assert delivery.queue == "celery"
        assert delivery.crashes == 0
        assert isinstance(delivery.message, Message)
        came = delivery.message.properties
        added = {name: value for name, value in came.items() if name not in sent.properties}
        assert not added.keys() - {"timestamp"}  # a transport may say when it was published
        assert delivery.message._replace(properties={name: came[name] for name in sent.properties}) == sent

    def test_messages_of_one_queue_come_in_the_order_of_publishing(self, broker: Broker) -> None:
        sent = [f"id-{n}" for n in range(30)]
        broker.publish([out(name) for name in sent[:20]])
        for name in sent[20:]:
            broker.publish([out(name)])
        _, consumer = self.consumer(broker)
        assert ids(self.drain(consumer, limit=7)) == sent

    def test_publishing_nothing_is_allowed(self, broker: Broker) -> None:
        broker.publish([])
        assert broker.depth("celery") == 0

    def test_publishing_twice_stores_two(self, broker: Broker) -> None:
        broker.publish([out("a")])
        broker.publish([out("a")])
        assert broker.depth("celery") == 2

    def test_all_of_a_batch_or_none_of_it(self, broker: Broker) -> None:
        unroutable = Outgoing(message("b"), exchange="nowhere", routing_key="at.all")
        with pytest.raises(QueueNotFound):
            broker.publish([out("a"), unroutable, out("c")])
        assert broker.depth("celery") == 0

    def test_a_broker_is_safe_to_use_from_any_thread(self, broker: Broker) -> None:
        def publish(thread: int) -> None:
            for n in range(20):
                broker.publish([out(f"{thread}-{n}")], timeout=20)

        threads = [threading.Thread(target=publish, args=(n,)) for n in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        _, consumer = self.consumer(broker)
        got = ids(self.drain(consumer))
        assert sorted(got) == sorted(f"{t}-{n}" for t in range(5) for n in range(20))
        for t in range(5):
            assert [name for name in got if name.startswith(f"{t}-")] == [f"{t}-{n}" for n in range(20)]

    def test_a_broker_is_usable_again_in_a_forked_child(self, broker: Broker) -> None:
        if not broker.capabilities.processes:
            return  # no other process can reach this store, a forked one included
        broker.publish([out("parent-1")])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # fork beside the threads of the test runner
            pid = os.fork()
        if pid == 0:
            status = 1
            try:
                broker.publish([out("child")], timeout=10)
                status = 0
            finally:
                os._exit(status)
        _, status = os.waitpid(pid, 0)
        assert status == 0
        broker.publish([out("parent-2")])
        _, consumer = self.consumer(broker)
        assert ids(self.drain(consumer)) == ["parent-1", "child", "parent-2"]

    def test_a_large_message_arrives(self, broker: Broker) -> None:
        sent = message("a")._replace(body=b"x" * 3_000_000)
        broker.publish([Outgoing(sent, queue="celery")])
        _, consumer = self.consumer(broker)
        while not (taken := consumer.exchange((), 1).deliveries):
            consumer.wait(1.0)  # where messages are pushed this one takes a moment
        assert taken[0].message.body == sent.body  # type: ignore[union-attr]

    # -- routing ---------------------------------------------------------------------------------------------

    def test_an_exchange_is_resolved_through_the_declared_bindings(self, broker: Broker) -> None:
        broker.declare([Queue("video", "media", "media.video"), Queue("image", "media", "media.image")])
        broker.publish([Outgoing(message("a"), exchange="media", routing_key="media.image")])
        assert (broker.depth("video"), broker.depth("image")) == (0, 1)

    def test_bindings_are_known_to_every_broker_of_the_store(self, connect: Callable[[], Broker]) -> None:
        connect().declare([Queue("video", "media", "v")])
        connect().publish([Outgoing(message("a"), exchange="media", routing_key="v")])
        assert connect().depth("video") == 1

    def test_declare_is_idempotent(self, broker: Broker, connect: Callable[[], Broker]) -> None:
        for each in (broker, broker, connect()):
            each.declare([Queue("video", "media", "v")])
        broker.publish([Outgoing(message("a"), exchange="media", routing_key="v")])
        assert broker.depth("video") == 1

    def test_a_topic_exchange_matches_words(self, broker: Broker) -> None:
        broker.declare([Queue("one", "t", "log.*", "topic"), Queue("many", "t", "log.#", "topic")])
        broker.publish([Outgoing(message("a"), exchange="t", routing_key="log.disk")])
        broker.publish([Outgoing(message("b"), exchange="t", routing_key="log.disk.full")])
        assert (broker.depth("one"), broker.depth("many")) == (1, 2)

    def test_a_fanout_exchange_reaches_every_bound_queue_or_is_refused(self, broker: Broker) -> None:
        bound = [Queue("one", "all", exchange_type="fanout"), Queue("two", "all", exchange_type="fanout")]
        if not broker.capabilities.fanout:
            with pytest.raises(ImproperlyConfigured, match="fanout"):
                broker.declare(bound)
            return
        broker.declare(bound)
        broker.publish([Outgoing(message("a"), exchange="all")])
        assert (broker.depth("one"), broker.depth("two")) == (1, 1)

    def test_an_unknown_exchange_type_is_refused(self, broker: Broker) -> None:
        with pytest.raises(ImproperlyConfigured, match="x-strange"):
            broker.declare([Queue("one", "odd", "k", "x-strange")])

    # -- priority --------------------------------------------------------------------------------------------

    def test_the_most_urgent_priority_goes_first_or_priorities_are_refused(self, broker: Broker) -> None:
        broker.declare([Queue("celery", max_priority=10)])
        batch = [out(f"p{p}-{n}", priority=p) for n in range(2) for p in (9, 0, 6, 3)]
        if not broker.capabilities.priority:
            with pytest.raises(ImproperlyConfigured, match="priorit"):
                broker.publish(batch)
            return
        broker.publish(batch)
        _, consumer = self.consumer(broker)
        urgent = sorted((0, 3, 6, 9), key=lambda p: abs(p - broker.capabilities.most_urgent))
        expected = [f"p{p}-{n}" for p in urgent for n in range(2)]
        if broker.capabilities.browse:
            assert ids(broker.browse("celery", 10)) == expected
        assert ids(self.drain(consumer, limit=3)) == expected

    # -- delay -----------------------------------------------------------------------------------------------

    def test_a_countdown_is_kept_by_the_broker_or_refused(self, broker: Broker) -> None:
        if not broker.capabilities.delay:
            with pytest.raises(ImproperlyConfigured, match=r"delay|eta|countdown"):
                broker.publish([out("a", countdown=60)])
            return
        broker.publish([out("first", "other", countdown=600)])  # which may have to set something up
        begun = time.time()
        broker.publish([out("a", countdown=0.6)])
        _, consumer = self.consumer(broker)
        received, depth = consumer.exchange((), 10), broker.depth("celery")
        if time.time() - begun < 0.59:  # else it may have been due by then
            assert not received.deliveries
            assert depth == 0
            if broker.capabilities.census:
                assert received.next_due is not None
                assert 0.0 < received.next_due < 1.0
        if not received.deliveries:
            until(lambda: consumer.exchange((), 10).deliveries)
        assert time.time() - begun >= 0.595

    def test_due_is_epoch_seconds(self, broker: Broker) -> None:
        now = time.time()
        broker.publish([out("late", due=now + 3600), out("past", due=now - 3600), out("zero", countdown=-1)])
        _, consumer = self.consumer(broker)
        received = consumer.exchange((), 10)
        assert sorted(ids(received.deliveries)) == ["past", "zero"]
        if broker.capabilities.census:
            assert received.next_due == pytest.approx(3600, abs=5)

    @staticmethod
    def has_come(broker: Broker, count: int) -> bool:
        """Whether due messages can be taken: where they travel through queues that takes a moment; where they
        are counted, a consumer fetches them by itself."""
        return broker.capabilities.census or broker.depth("celery") == count

    def soon(self, broker: Broker) -> float:
        """Epoch seconds by which messages that are published next are still to come."""
        broker.publish([out("first", "other", countdown=600)])  # which may have to set something up
        return time.time() + max(0.5, 10 * self.grain)

    def test_messages_that_are_due_come_in_the_order_of_their_times(self, broker: Broker) -> None:
        due, grain = self.soon(broker), self.grain
        broker.publish([out("c", due=due + 2 * grain), out("a", due=due), out("b", due=due + grain)])
        until(lambda: time.time() > due + 5 * grain and self.has_come(broker, 3))
        _, consumer = self.consumer(broker)
        assert ids(self.drain(consumer)) == ["a", "b", "c"]

    def test_next_due_is_none_when_nothing_is_delayed(self, broker: Broker) -> None:
        broker.publish([out("a"), out("elsewhere", queue="other", countdown=9)])
        _, consumer = self.consumer(broker)
        received = consumer.exchange((), 10)
        assert received.next_due is None
        assert consumer.exchange(ack(*received.deliveries), 10).next_due is None

    def test_a_delayed_message_keeps_its_priority(self, broker: Broker) -> None:
        if not (broker.capabilities.delay and broker.capabilities.priority):
            return  # each is refused by its own test
        broker.declare([Queue("celery", max_priority=10)])
        due, high = self.soon(broker), broker.capabilities.most_urgent
        broker.publish(
            [out("low", due=due, priority=9 - high), out("high", due=due + self.grain, priority=high)]
        )
        until(lambda: time.time() > due + 5 * self.grain and self.has_come(broker, 2))
        _, consumer = self.consumer(broker)
        assert ids(self.drain(consumer)) == ["high", "low"]
