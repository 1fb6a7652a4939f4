"""The contract of receiving: `Consumer.exchange`, `Settlement`, `Received`, `Consumer.wait` and `wake`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from celeriac.backends.base import ResultBackend
from celeriac.brokers.base import ACK, DEAD, REQUEUE, Broker, Consumer, Queue, Settlement, StoredResult
from celeriac.conformance.kit import StoreKit, ack, ids, out, until
from celeriac.exceptions import ImproperlyConfigured
from celeriac.wire.message import Unreadable

__all__ = ["ReceiveContract"]


class Waiter:
    """A thread that calls `wait` once; `returned` is set when it is back."""

    def __init__(self, consumer: Consumer, timeout: float) -> None:
        self.returned = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(consumer, timeout))
        self._thread.start()

    def _run(self, consumer: Consumer, timeout: float) -> None:
        consumer.wait(timeout)
        self.returned.set()

    def expect_return(self, within: float = 15.0) -> None:
        assert self.returned.wait(within), f"wait() had not returned after {within} s"
        self._thread.join()


class ReceiveContract(StoreKit):
    """What taking and settling promise."""

    # -- exchange: taking ------------------------------------------------------------------------------------

    def test_exchange_takes_up_to_limit_messages(self, broker: Broker) -> None:
        broker.publish([out(f"{n}") for n in range(5)])
        _, consumer = self.consumer(broker)
        assert ids(consumer.exchange((), 3).deliveries) == ["0", "1", "2"]
        assert ids(consumer.exchange((), 3).deliveries) == ["3", "4"]

    def test_a_limit_of_zero_takes_nothing(self, broker: Broker) -> None:
        broker.publish([out("a")])
        _, consumer = self.consumer(broker)
        assert not consumer.exchange((), 0).deliveries
        assert broker.depth("celery") == 1

    def test_exchange_never_blocks_for_messages_to_arrive(self, broker: Broker) -> None:
        _, consumer = self.consumer(broker)
        begun = time.monotonic()
        received = consumer.exchange((), 10)
        assert time.monotonic() - begun < 5
        assert not received.deliveries
        assert not received.lost

    def test_no_message_is_taken_twice(self, connect: Callable[[], Broker]) -> None:
        one, two = connect(), connect()
        one.publish([out(f"{n}") for n in range(100)])
        _, first = self.consumer(one)
        _, second = self.consumer(two)
        taken: list[str] = []
        for _ in range(10):
            taken += ids(first.exchange((), 7).deliveries) + ids(second.exchange((), 7).deliveries)
        assert sorted(taken) == sorted(f"{n}" for n in range(100))

    def test_tags_are_unique_for_ever(self, broker: Broker) -> None:
        seen: set[int] = set()
        _, consumer = self.consumer(broker)
        for n in range(20):
            broker.publish([out(f"{n}")])
            (delivery,) = consumer.exchange((), 1).deliveries
            assert delivery.tag not in seen
            seen.add(delivery.tag)
            consumer.exchange(ack(delivery), 0)

    def test_now_is_the_clock_of_the_broker(self, broker: Broker) -> None:
        _, consumer = self.consumer(broker)
        assert consumer.exchange((), 1).now == pytest.approx(time.time(), abs=2)

    def test_queues_are_rotated_for_fairness(self, broker: Broker) -> None:
        for queue in ("a", "b", "c"):
            broker.publish([out(f"{queue}{n}", queue) for n in range(20)])
        _, consumer = self.consumer(broker, "a", "b", "c")
        taken = [ids(consumer.exchange((), 5).deliveries) for _ in range(6)]
        assert {name[0] for batch in taken for name in batch} == {"a", "b", "c"}

    def test_only_the_queues_of_the_consumer_are_served(self, broker: Broker) -> None:
        broker.publish([out("a", "one"), out("b", "two"), out("c", "three")])
        _, consumer = self.consumer(broker, "one", "three")
        assert sorted(ids(self.drain(consumer))) == ["a", "c"]

    def test_bytes_that_are_no_message_come_as_unreadable_and_can_be_buried(
        self, url: str, broker: Broker
    ) -> None:
        self.plant(url, "celery", b"\x00 not a message {")
        _, consumer = self.consumer(broker)
        (delivery,) = consumer.exchange((), 5).deliveries
        assert isinstance(delivery.message, Unreadable)
        assert delivery.message.raw == b"\x00 not a message {"
        consumer.exchange([Settlement("celery", delivery.tag, DEAD, "not a message")], 0)
        (letter,) = broker.dead("celery")
        assert letter.reason == "not a message"
        assert isinstance(letter.message, Unreadable)
        assert letter.message.raw == b"\x00 not a message {"

    # -- exchange: settling ----------------------------------------------------------------------------------

    def test_ack_means_gone(self, broker: Broker) -> None:
        broker.publish([out("a")])
        consumer_id, consumer = self.consumer(broker)
        received = consumer.exchange((), 1)
        assert broker.stats(["celery"])[0].in_flight == (1 if broker.capabilities.census else 0)
        received = consumer.exchange(ack(*received.deliveries, verdict=ACK), 10)
        assert not received.stale
        assert not received.deliveries
        assert broker.stats(["celery"])[0].in_flight == 0
        assert broker.release(consumer_id, ["celery"]) == 0
        assert broker.depth("celery") == 0

    def test_requeue_is_back_and_not_counted_as_a_crash(self, broker: Broker) -> None:
        """To the front, under a lease; elsewhere it is a new copy, behind the others."""
        broker.publish([out("a"), out("b"), out("c")])
        _, consumer = self.consumer(broker)
        first, second = consumer.exchange((), 2).deliveries
        consumer.exchange(ack(first, second, verdict=REQUEUE), 0)
        assert broker.depth("celery") == 3
        again = consumer.exchange((), 10).deliveries
        if broker.capabilities.leases:
            assert sorted(ids(again)[:2]) == ["a", "b"]
            assert ids(again)[2] == "c"
        assert sorted(ids(again)) == ["a", "b", "c"]
        assert [delivery.crashes for delivery in again] == [0, 0, 0]

    def test_requeue_keeps_the_priority(self, broker: Broker) -> None:
        if not broker.capabilities.priority:
            return  # refused at publish, by its own test
        broker.declare([Queue("celery", max_priority=10)])
        high = broker.capabilities.most_urgent
        broker.publish([out("low", priority=9 - high)])
        _, consumer = self.consumer(broker)
        (low,) = consumer.exchange((), 1).deliveries
        broker.publish([out("high", priority=high)])
        consumer.exchange(ack(low, verdict=REQUEUE), 0)
        assert ids(self.drain(consumer)) == ["high", "low"]

    def test_dead_is_to_the_dead_letter_queue_with_the_reason(self, broker: Broker) -> None:
        broker.publish([out("a")])
        _, consumer = self.consumer(broker)
        (delivery,) = consumer.exchange((), 1).deliveries
        received = consumer.exchange(ack(delivery, verdict=DEAD, reason="it was bad: ü"), 10)
        assert not received.deliveries
        (letter,) = broker.dead("celery")
        assert (letter.queue, letter.reason, letter.crashes) == ("celery", "it was bad: ü", 0)
        assert ids([letter.message]) == ["a"]
        assert letter.at == pytest.approx(received.now, abs=2)

    def test_settle_and_take_are_one_trip(self, broker: Broker) -> None:
        broker.publish([out("a"), out("b")])
        _, consumer = self.consumer(broker)
        received = consumer.exchange((), 1)
        received = consumer.exchange(ack(*received.deliveries), 1)
        assert ids(received.deliveries) == ["b"]

    def test_followups_are_published_with_the_settlement(self, broker: Broker) -> None:
        broker.publish([out("a")])
        _, consumer = self.consumer(broker)
        received = consumer.exchange((), 1)
        followups = [out("next"), out("elsewhere", "other"), out("later", countdown=600)]
        received = consumer.exchange(ack(*received.deliveries, followups=followups), 10)
        assert ids(received.deliveries) == ["next"]
        assert broker.depth("other") == 1
        if broker.capabilities.census:
            assert broker.stats(["celery"])[0].delayed == 1
            assert received.next_due == pytest.approx(600, abs=5)

    def test_a_followup_that_no_queue_takes_is_a_dead_letter(self, broker: Broker) -> None:
        broker.publish([out("a")])
        _, consumer = self.consumer(broker)
        received = consumer.exchange((), 1)
        lost = out("lost")._replace(queue="", exchange="nowhere", routing_key="key")
        received = consumer.exchange(ack(*received.deliveries, followups=[lost]), 1)
        assert not received.stale
        (letter,) = broker.dead("key")
        assert ids([letter.message]) == ["lost"]
        assert "nowhere" in letter.reason

    def test_settlements_are_idempotent(self, broker: Broker) -> None:
        broker.publish([out("a"), out("b"), out("c")])
        _, consumer = self.consumer(broker)
        a, b, c = consumer.exchange((), 3).deliveries
        settlements = [
            *ack(a, followups=[out("follow-up", "other")]),
            *ack(b, verdict=REQUEUE, followups=[out("follow-up", "other")]),
            *ack(c, verdict=DEAD, reason="bad", followups=[out("follow-up", "other")]),
        ]
        for _ in range(3):
            assert not consumer.exchange(settlements, 0).deliveries
        assert broker.depth("celery") == 1
        assert broker.depth("other") == 3
        assert len(broker.dead("celery")) == 1

    def test_an_old_settlement_does_not_reach_a_new_delivery_of_the_same_message(
        self, broker: Broker
    ) -> None:
        broker.publish([out("a")])
        _, consumer = self.consumer(broker)
        (first,) = consumer.exchange((), 1).deliveries
        (second,) = consumer.exchange(ack(first, verdict=REQUEUE), 1).deliveries
        received = consumer.exchange(ack(first, followups=[out("x", "other")]), 0)
        assert list(received.stale) == [first.tag]
        assert broker.depth("other") == 0
        if broker.capabilities.census:
            assert broker.stats(["celery"])[0].in_flight == 1
        assert not consumer.exchange(ack(second), 0).stale

    def test_a_settlement_is_accepted_only_while_its_consumer_holds_the_tag(self, broker: Broker) -> None:
        broker.publish([out("a")])
        _, consumer = self.consumer(broker)
        _, thief = self.consumer(broker)
        (delivery,) = consumer.exchange((), 1).deliveries
        for verdict in (ACK, REQUEUE, DEAD):
            received = thief.exchange(ack(delivery, verdict=verdict, followups=[out("x", "other")]), 0)
            assert list(received.stale) == [delivery.tag]
        assert broker.depth("celery") == broker.depth("other") == 0
        assert not broker.dead("celery")
        assert not consumer.exchange(ack(delivery), 0).stale

    def test_one_refused_settlement_does_not_hinder_the_others(self, broker: Broker) -> None:
        broker.publish([out("a"), out("b")])
        _, consumer = self.consumer(broker)
        a, b = consumer.exchange((), 2).deliveries
        unknown = a._replace(tag=a.tag + 10_000_000)
        received = consumer.exchange(ack(a, unknown, b), 0)
        assert list(received.stale) == [unknown.tag]
        assert broker.stats(["celery"])[0][1:4:2] == (0, 0)

    # -- results that ride on settlements --------------------------------------------------------------------

    def test_results_ride_on_settlements_where_the_broker_carries_them(
        self, broker: Broker, backend: ResultBackend
    ) -> None:
        target = backend.target()
        if target is None or not broker.carries(target):
            return
        broker.publish([out("a"), out("b")])
        _, consumer = self.consumer(broker, results=target)
        a, b = consumer.exchange((), 2).deliveries
        watch = backend.watch(["a", "b"])
        assert not backend.load(["a", "b"])
        consumer.exchange(ack(a, results=[StoredResult("a", b'{"a": 1}', 60)]), 0)
        assert watch.wait(5) == {"a": b'{"a": 1}'}
        consumer.exchange(ack(b, verdict=DEAD, results=[StoredResult("b", b'{"b": 1}')]), 0)
        assert watch.wait(5) == {"b": b'{"b": 1}'}
        watch.close()
        assert backend.load(["a", "b"]) == {"a": b'{"a": 1}', "b": b'{"b": 1}'}

    def test_a_refused_settlement_stores_no_result(self, broker: Broker, backend: ResultBackend) -> None:
        target = backend.target()
        if target is None or not broker.carries(target):
            return
        broker.publish([out("a")])
        consumer_id, consumer = self.consumer(broker, results=target)
        (delivery,) = consumer.exchange((), 1).deliveries
        broker.release(consumer_id, ["celery"])
        received = consumer.exchange(ack(delivery, results=[StoredResult("a", b"{}")]), 0)
        assert received.lost
        assert not backend.load(["a"])

    def test_results_without_a_target_are_refused(self, broker: Broker) -> None:
        broker.publish([out("a")])
        _, consumer = self.consumer(broker)
        received = consumer.exchange((), 1)
        with pytest.raises(ImproperlyConfigured, match="carries"):
            consumer.exchange(ack(*received.deliveries, results=[StoredResult("a", b"{}")]), 0)

    # -- wait and wake ---------------------------------------------------------------------------------------

    def test_wait_returns_when_another_broker_publishes(self, connect: Callable[[], Broker]) -> None:
        publisher = connect()
        _, consumer = self.consumer(connect())
        for n in range(5):
            assert not consumer.exchange((), 1).deliveries
            waiter = Waiter(consumer, 20)
            publisher.publish([out(f"{n}")])
            waiter.expect_return()
            assert ids(self.drain(consumer)) == [f"{n}"]

    def test_wait_returns_at_once_when_messages_came_since_the_last_exchange(self, broker: Broker) -> None:
        _, consumer = self.consumer(broker)
        assert not consumer.exchange((), 1).deliveries
        broker.publish([out("a")])
        Waiter(consumer, 20).expect_return()

    def test_wait_returns_at_a_due_time(self, broker: Broker) -> None:
        _, consumer = self.consumer(broker)
        broker.publish([out("a", countdown=0.2)])
        deadline = time.monotonic() + 15
        while not (received := consumer.exchange((), 1)).deliveries:
            assert time.monotonic() < deadline
            consumer.wait(20)
        assert ids(received.deliveries) == ["a"]

    def test_wait_hears_of_a_delayed_message_that_was_published_meanwhile(self, broker: Broker) -> None:
        _, consumer = self.consumer(broker)
        assert not consumer.exchange((), 1).deliveries
        waiter = Waiter(consumer, 20)
        broker.publish([out("a", countdown=0.2)])
        waiter.expect_return()

    def test_wait_hears_of_messages_after_an_exchange_that_brought_less_than_asked(
        self, broker: Broker
    ) -> None:
        broker.publish([out("a")])
        _, consumer = self.consumer(broker)
        assert len(consumer.exchange((), 5).deliveries) == 1
        waiter = Waiter(consumer, 20)
        broker.publish([out("b")])
        waiter.expect_return()
        assert ids(consumer.exchange((), 5).deliveries) == ["b"]

    @pytest.mark.parametrize("limit", [0, 1])
    def test_wait_is_not_disturbed_by_messages_that_nobody_asked_for(
        self, broker: Broker, limit: int
    ) -> None:
        """A worker whose inbox is full waits for its lane: what it has no room for must not make it spin."""
        broker.publish([out(f"{n}") for n in range(9)])
        _, consumer = self.consumer(broker)
        returns = 0
        deadline = time.monotonic() + 0.5
        while time.monotonic() < deadline:
            assert len(consumer.exchange((), limit).deliveries) == limit
            broker.publish([out("more")])
            consumer.wait(0.1)
            returns += 1
        assert returns < 20

    def test_wait_returns_when_a_dead_consumer_is_released(self, connect: Callable[[], Broker]) -> None:
        broker = connect()
        if not broker.capabilities.leases:
            return  # see `ConnectionContract`
        broker.publish([out("a")])
        dead_id, dead = self.consumer(broker)
        assert dead.exchange((), 1).deliveries
        _, consumer = self.consumer(connect())
        assert not consumer.exchange((), 1).deliveries
        waiter = Waiter(consumer, 20)
        broker.release(dead_id, ["celery"])
        waiter.expect_return()
        assert ids(self.drain(consumer)) == ["a"]

    def test_every_idle_consumer_is_woken_when_there_is_work_for_all(
        self, connect: Callable[[], Broker]
    ) -> None:
        consumers = [self.consumer(connect())[1] for _ in range(3)]
        for consumer in consumers:
            assert not consumer.exchange((), 1).deliveries
        waiters = [Waiter(consumer, 20) for consumer in consumers]
        connect().publish([out(f"{n}") for n in range(50)])
        for waiter in waiters:
            waiter.expect_return()

    def test_wait_returns_after_its_timeout(self, broker: Broker) -> None:
        _, consumer = self.consumer(broker)
        assert not consumer.exchange((), 1).deliveries
        begun = time.monotonic()
        consumer.wait(0.1)
        assert time.monotonic() - begun < 5

    def test_wake_ends_a_wait(self, broker: Broker) -> None:
        _, consumer = self.consumer(broker)
        assert not consumer.exchange((), 1).deliveries
        waiter = Waiter(consumer, 20)
        consumer.wake()
        waiter.expect_return()

    def test_wake_before_the_wait_makes_it_return_at_once(self, broker: Broker) -> None:
        _, consumer = self.consumer(broker)
        assert not consumer.exchange((), 1).deliveries
        consumer.wake()
        Waiter(consumer, 20).expect_return()

    def test_wait_does_not_spin_while_there_is_nothing(self, broker: Broker) -> None:
        _, consumer = self.consumer(broker)
        returns = 0
        deadline = time.monotonic() + 0.5
        while time.monotonic() < deadline:
            assert not consumer.exchange((), 1).deliveries
            consumer.wait(0.1)
            returns += 1
        assert returns < 50

    def test_a_busy_exchange_right_after_wake_is_unharmed(self, broker: Broker) -> None:
        _, consumer = self.consumer(broker)
        for n in range(20):
            consumer.wake()
            broker.publish([out(f"{n}")])
        until(lambda: broker.depth("celery") == 20)
        assert len(self.drain(consumer)) == 20
