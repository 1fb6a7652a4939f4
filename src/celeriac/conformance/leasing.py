"""The contract of leases: registration, beats, close, release, sweep, fencing, crash counts, quarantine."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from celeriac.brokers.base import DEAD, QUARANTINE, REQUEUE, Broker, Consumer, ConsumerSpec, Delivery
from celeriac.conformance.kit import StoreKit, ack, ids, out, until

__all__ = ["LeaseContract"]


class LeaseContract(StoreKit):
    """What leases promise. `ConnectionContract` has what takes their place where there are none."""

    @pytest.fixture(autouse=True)
    def _only_with_leases(self, request: pytest.FixtureRequest) -> None:
        of_leases = request.function.__qualname__.startswith("LeaseContract.")
        if of_leases and not request.getfixturevalue("connect")().capabilities.leases:
            pytest.skip("this broker has no leases: see ConnectionContract")

    def crash(self, broker: Broker, times: int = 1, queue: str = "celery") -> Delivery:
        """Take the next message of `queue` and let its process die while running it, `times` over."""
        for _ in range(times):
            consumer_id, consumer = self.consumer(broker, queue)
            (delivery,) = self.take_one(consumer)
            broker.release(consumer_id, [queue], crashed=[(queue, delivery.tag)])
        return delivery

    def take_one(self, consumer: Consumer) -> list[Delivery]:
        """One delivery; a suspect may have to wait for another's quarantine to end."""
        taken: list[Delivery] = []

        def take() -> bool:
            taken.extend(consumer.exchange((), 1).deliveries)
            return bool(taken)

        until(take, what="a delivery")
        return taken

    # -- the lease -------------------------------------------------------------------------------------------

    def test_consumer_registers_the_lease(self, broker: Broker) -> None:
        assert broker.stats(["celery"])[0].consumers == 0
        consumer_id, _ = self.consumer(broker)
        assert broker.stats(["celery"])[0].consumers == 1
        assert broker.beat({consumer_id: ["celery"]}, ttl=60) == []

    def test_beat_returns_the_ids_whose_lease_is_gone(self, broker: Broker) -> None:
        alive, _ = self.consumer(broker)
        gone, _ = self.consumer(broker)
        broker.release(gone, ["celery"])
        assert list(broker.beat({alive: ["celery"], gone: ["celery"]}, ttl=60)) == [gone]
        assert list(broker.beat({"never-seen": ["celery"]}, ttl=60)) == ["never-seen"]

    def test_beat_keeps_a_lease_alive(self, connect: Callable[[], Broker]) -> None:
        broker = connect()
        broker.publish([out("a")])
        consumer_id, consumer = self.consumer(broker, ttl=1.0)
        (delivery,) = consumer.exchange((), 1).deliveries
        lapses = time.monotonic() + 1.0
        assert connect().beat({consumer_id: ["celery"]}, ttl=60) == []
        while time.monotonic() < lapses + 0.2:
            assert broker.sweep(["celery"]) == 0
            consumer.wait(0.05)
        assert not consumer.exchange(ack(delivery), 0).stale

    def test_a_lease_without_beats_lapses(self, connect: Callable[[], Broker]) -> None:
        broker = connect()
        broker.publish([out("a")])
        _, consumer = self.consumer(broker, ttl=0.05)
        assert ids(consumer.exchange((), 1).deliveries) == ["a"]
        until(lambda: connect().sweep(["celery"]) == 1, what="the sweep of the lapsed lease")
        assert broker.depth("celery") == 1

    def test_held_shows_what_a_consumer_holds_and_changes_nothing(
        self, connect: Callable[[], Broker]
    ) -> None:
        broker = connect()
        broker.publish([out("a"), out("b"), out("c")])
        consumer_id, consumer = self.consumer(broker)
        taken = consumer.exchange((), 2).deliveries
        for _ in range(2):
            held = connect().held(consumer_id, ["celery"])
            assert sorted((d.queue, d.tag, d.crashes) for d in held) == [(d.queue, d.tag, 0) for d in taken]
            assert sorted(ids(held)) == ["a", "b"]
        consumer.exchange(ack(taken[0]), 0)
        assert ids(connect().held(consumer_id, ["celery"])) == ["b"]
        assert list(connect().held("never-seen", ["celery"])) == []

    def test_a_lease_that_is_alive_is_joined(self, connect: Callable[[], Broker]) -> None:
        broker = connect()
        broker.publish([out("a"), out("b"), out("c")])
        consumer_id, consumer = self.consumer(broker)
        a, b = consumer.exchange((), 2).deliveries
        deputy = connect().consumer(ConsumerSpec(consumer_id, ("celery",), 60.0, None))
        assert not deputy.exchange(ack(a), 0).stale  # in the place of a process that died
        assert connect().release(consumer_id, ["celery"], crashed=[("celery", b.tag)]) == 1
        assert broker.depth("celery") == 2
        _, another = self.consumer(broker)
        assert [d.crashes for d in another.exchange((), 10).deliveries] == [1]

    def test_close_gives_everything_held_back_not_counted_as_crashes(self, broker: Broker) -> None:
        broker.publish([out("a"), out("b"), out("c")])
        consumer_id, consumer = self.consumer(broker)
        assert ids(consumer.exchange((), 2).deliveries) == ["a", "b"]
        consumer.close()
        assert list(broker.beat({consumer_id: ["celery"]}, ttl=60)) == [consumer_id]
        _, another = self.consumer(broker)
        deliveries = another.exchange((), 10).deliveries
        assert ids(deliveries) == ["a", "b", "c"]
        assert [delivery.crashes for delivery in deliveries] == [0, 0, 0]

    def test_close_twice_does_no_harm(self, broker: Broker) -> None:
        _, consumer = self.consumer(broker)
        consumer.close()
        consumer.close()

    def test_a_crash_after_the_exchange_loses_nothing(self, connect: Callable[[], Broker]) -> None:
        dying = connect()
        dying.publish([out("a"), out("b")])
        consumer_id, consumer = self.consumer(dying)
        assert len(consumer.exchange((), 2).deliveries) == 2
        dying.close()  # the process is gone, the lease is not
        broker = connect()
        assert broker.stats(["celery"])[0].in_flight == 2
        assert broker.release(consumer_id, ["celery"]) == 2
        _, another = self.consumer(broker)
        assert ids(self.drain(another)) == ["a", "b"]

    # -- release ---------------------------------------------------------------------------------------------

    def test_release_settles_done_counts_crashed_and_returns_the_others(self, broker: Broker) -> None:
        broker.publish([out("done"), out("crashed"), out("other-1"), out("other-2"), out("tail")])
        consumer_id, consumer = self.consumer(broker)
        done, crashed, *_ = consumer.exchange((), 4).deliveries
        returned = broker.release(
            consumer_id, ["celery"], done=[("celery", done.tag)], crashed=[("celery", crashed.tag)]
        )
        assert returned == 3
        assert broker.depth("celery") == 4
        _, another = self.consumer(broker)
        counts = {ids([each])[0]: each.crashes for each in self.drain(another)}
        assert counts == {"crashed": 1, "other-1": 0, "other-2": 0, "tail": 0}

    def test_release_returns_to_the_front_in_order(self, broker: Broker) -> None:
        broker.publish([out("a"), out("b"), out("c")])
        consumer_id, consumer = self.consumer(broker)
        consumer.exchange((), 2)
        broker.release(consumer_id, ["celery"])
        _, another = self.consumer(broker)
        assert ids(self.drain(another)) == ["a", "b", "c"]

    def test_release_twice_or_of_a_stranger_returns_nothing(self, broker: Broker) -> None:
        broker.publish([out("a")])
        consumer_id, consumer = self.consumer(broker)
        (delivery,) = consumer.exchange((), 1).deliveries
        guilty = [("celery", delivery.tag)]
        assert broker.release(consumer_id, ["celery"], crashed=guilty) == 1
        assert broker.release(consumer_id, ["celery"], crashed=guilty) == 0
        assert broker.release("never-seen", ["celery"]) == 0
        _, another = self.consumer(broker)
        assert [delivery.crashes for delivery in self.take_one(another)] == [1]

    def test_release_ignores_tags_that_are_not_held(self, broker: Broker) -> None:
        broker.publish([out("a"), out("b")])
        mine, consumer = self.consumer(broker)
        _, other = self.consumer(broker)
        consumer.exchange((), 1)
        (theirs,) = other.exchange((), 1).deliveries
        names = [("celery", theirs.tag)]
        assert broker.release(mine, ["celery"], done=names, crashed=names) == 1
        assert not other.exchange(ack(theirs), 0).stale

    def test_release_covers_all_queues_of_the_consumer(self, broker: Broker) -> None:
        broker.publish([out("a", "one"), out("b", "two")])
        consumer_id, consumer = self.consumer(broker, "one", "two")
        taken = [*consumer.exchange((), 1).deliveries, *consumer.exchange((), 1).deliveries]
        assert sorted(ids(taken)) == ["a", "b"]
        assert broker.release(consumer_id, ["one", "two"]) == 2
        assert (broker.depth("one"), broker.depth("two")) == (1, 1)

    # -- fencing ---------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("how", ["release", "sweep", "close"])
    def test_after_its_lease_is_gone_a_consumer_is_told_so_and_nothing_it_says_has_an_effect(
        self, broker: Broker, how: str
    ) -> None:
        broker.publish([out("a"), out("b"), out("more")])
        consumer_id, consumer = self.consumer(broker)
        a, b = consumer.exchange((), 2).deliveries
        if how == "release":
            broker.release(consumer_id, ["celery"])
        elif how == "sweep":
            assert self.lapse(broker, consumer_id) == 2
        else:
            broker.release(consumer_id, ["celery"])
        followups = [out("follow-up", "other")]
        received = consumer.exchange(
            [*ack(a, followups=followups), *ack(b, verdict=DEAD, followups=followups)], 10
        )
        assert received.lost
        assert not received.deliveries
        assert broker.depth("other") == 0
        assert broker.depth("celery") == 3
        assert not broker.dead("celery")

    def test_a_stale_settlement_does_not_disturb_the_next_holder(self, broker: Broker) -> None:
        broker.publish([out("a")])
        old_id, old = self.consumer(broker)
        (first,) = old.exchange((), 1).deliveries
        broker.release(old_id, ["celery"])
        _, new = self.consumer(broker)
        (second,) = new.exchange((), 1).deliveries
        assert old.exchange(ack(first), 0).lost
        assert not new.exchange(ack(second, followups=[out("x", "other")]), 0).stale
        assert broker.depth("other") == 1

    # -- sweep -----------------------------------------------------------------------------------------------

    def test_sweep_makes_everything_held_suspect(self, broker: Broker) -> None:
        broker.publish([out("a"), out("b")])
        consumer_id, consumer = self.consumer(broker)
        assert len(consumer.exchange((), 2).deliveries) == 2
        assert self.lapse(broker, consumer_id) == 2
        assert broker.depth("celery") == 2
        _, another = self.consumer(broker)
        assert {ids([each])[0]: each.crashes for each in self.drain(another)} == {"a": 1, "b": 1}

    def test_sweep_counts_one_more_for_a_suspect_that_was_alone(self, broker: Broker) -> None:
        broker.publish([out("a")])
        self.crash(broker, times=2)
        consumer_id, consumer = self.consumer(broker)
        (delivery,) = self.take_one(consumer)
        assert delivery.crashes == 2
        assert self.lapse(broker, consumer_id) == 1
        _, another = self.consumer(broker)
        assert [delivery.crashes for delivery in self.take_one(another)] == [3]

    def test_sweep_leaves_the_living_alone_and_is_safe_at_any_time(
        self, connect: Callable[[], Broker]
    ) -> None:
        broker = connect()
        broker.publish([out("a"), out("b")])
        dead, one = self.consumer(broker)
        _, two = self.consumer(broker)
        assert len(one.exchange((), 1).deliveries) == 1
        (kept,) = two.exchange((), 1).deliveries
        assert self.lapse(broker, dead) == 1
        for _ in range(3):
            assert connect().sweep(["celery", "unknown"]) == 0
        assert not two.exchange(ack(kept), 0).stale

    # -- crashes and quarantine ------------------------------------------------------------------------------

    def test_the_broker_counts_crashes_and_leaves_the_limit_to_the_receiver(self, broker: Broker) -> None:
        broker.publish([out("a")])
        delivery = self.crash(broker, times=6)
        assert delivery.crashes == 5
        _, consumer = self.consumer(broker)
        assert [each.crashes for each in self.take_one(consumer)] == [6]

    def test_requeue_and_dead_keep_the_count(self, broker: Broker) -> None:
        broker.publish([out("a")])
        self.crash(broker)
        _, consumer = self.consumer(broker)
        (delivery,) = self.take_one(consumer)
        consumer.exchange(ack(delivery, verdict=REQUEUE), 0)
        (delivery,) = self.take_one(consumer)
        assert delivery.crashes == 1
        consumer.exchange(ack(delivery, verdict=DEAD, reason="enough"), 0)
        assert [letter.crashes for letter in broker.dead("celery")] == [1]

    def test_a_suspect_is_delivered_alone(self, broker: Broker) -> None:
        broker.publish([out("poison")])
        self.crash(broker)
        broker.publish([out(f"{n}") for n in range(5)])
        assert broker.depth("celery") == 6
        _, consumer = self.consumer(broker)
        batches = [consumer.exchange((), 10).deliveries for _ in range(2)]
        assert sorted(len(batch) for batch in batches) == [1, 5]
        alone = next(batch for batch in batches if len(batch) == 1)
        assert ids(alone) == ["poison"]

    def test_the_next_suspect_waits_until_this_one_is_settled(self, broker: Broker) -> None:
        broker.publish([out("a"), out("b")])
        consumer_id, consumer = self.consumer(broker)
        taken = consumer.exchange((), 2).deliveries
        broker.release(consumer_id, ["celery"], crashed=[(each.queue, each.tag) for each in taken])
        _, one = self.consumer(broker)
        _, two = self.consumer(broker)
        begun = time.monotonic()
        (first,) = self.take_one(one)
        waiting = two.exchange((), 10)
        if time.monotonic() - begun >= QUARANTINE:
            return  # all of this took too long to tell anything
        assert not waiting.deliveries
        (second,) = one.exchange(ack(first), 10).deliveries
        assert {first.crashes, second.crashes} == {1}

    def test_the_next_suspect_waits_no_longer_than_the_quarantine(self, broker: Broker) -> None:
        broker.publish([out("a"), out("b")])
        consumer_id, consumer = self.consumer(broker)
        taken = consumer.exchange((), 2).deliveries
        broker.release(consumer_id, ["celery"], crashed=[(each.queue, each.tag) for each in taken])
        _, one = self.consumer(broker)
        _, two = self.consumer(broker)
        begun = time.monotonic()
        self.take_one(one)
        deadline = begun + 30
        while not (deliveries := two.exchange((), 10).deliveries):
            assert time.monotonic() < deadline
            two.wait(5)
        assert len(deliveries) == 1
        assert QUARANTINE * 0.8 < time.monotonic() - begun < 15

    def test_ordinary_messages_pass_a_waiting_suspect(self, broker: Broker) -> None:
        broker.publish([out("a"), out("b")])
        consumer_id, consumer = self.consumer(broker)
        taken = consumer.exchange((), 2).deliveries
        broker.release(consumer_id, ["celery"], crashed=[(each.queue, each.tag) for each in taken])
        _, another = self.consumer(broker)
        self.take_one(another)
        broker.publish([out("ordinary")])
        assert "ordinary" in ids([*another.exchange((), 10).deliveries, *another.exchange((), 10).deliveries])

    def test_a_followup_of_a_suspect_is_no_suspect(self, broker: Broker) -> None:
        broker.publish([out("a")])
        self.crash(broker)
        _, consumer = self.consumer(broker)
        (delivery,) = self.take_one(consumer)
        (again,) = consumer.exchange(ack(delivery, followups=[out("a")]), 10).deliveries
        assert again.crashes == 0
