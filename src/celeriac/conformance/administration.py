"""The contract of what is not traffic: queues, stats, browse, purge, dead letters, revokes, close."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from celeriac.backends.base import ResultBackend
from celeriac.brokers.base import DEAD, Broker, Queue, ResultTarget
from celeriac.conformance.kit import StoreKit, ack, ids, out, until
from celeriac.exceptions import ImproperlyConfigured

__all__ = ["AdministrationContract"]


class AdministrationContract(StoreKit):
    """What looking and tidying promise."""

    def bury(self, broker: Broker, *names: str) -> None:
        broker.publish([out(name) for name in names])
        _, consumer = self.consumer(broker)
        for delivery in consumer.exchange((), len(names)).deliveries:
            consumer.exchange(ack(delivery, verdict=DEAD, reason=f"because of {ids([delivery])[0]}"), 0)
        consumer.close()

    # -- queues, depth, stats --------------------------------------------------------------------------------

    def test_queues_names_all_the_broker_knows_of(
        self, broker: Broker, connect: Callable[[], Broker]
    ) -> None:
        if not broker.capabilities.census:
            broker.declare([Queue("bound", "x", "bound")])
            assert "bound" in broker.queues()
            return
        assert list(broker.queues()) == []
        broker.declare([Queue("bound", "x", "bound")])
        broker.publish([out("a", "held"), out("b", "waiting"), out("c", "delayed", countdown=600)])
        self.bury(broker, "d")
        _, consumer = self.consumer(broker, "held")
        assert len(consumer.exchange((), 1).deliveries) == 1
        assert set(connect().queues()) >= {"bound", "waiting", "delayed", "held", "celery"}

    def test_depth_counts_what_is_ready(self, broker: Broker) -> None:
        broker.publish([out("a"), out("b"), out("low", priority=9), out("later", countdown=600)])
        assert broker.depth("celery") == 3
        _, consumer = self.consumer(broker)
        assert len(consumer.exchange((), 1).deliveries) == 1
        assert broker.depth("celery") == 2
        assert broker.depth("unknown") == 0

    def test_stats_tell_every_stage(self, broker: Broker) -> None:
        self.bury(broker, "d")
        broker.publish([out("a"), out("b"), out("c"), out("later", countdown=600)])
        _, consumer = self.consumer(broker)
        until(lambda: consumer.exchange((), 1).deliveries, what="one is handed out")
        if not broker.capabilities.census:  # counts of what is replicated may lag
            until(lambda: broker.depth("celery") == 2, what="two wait")
            until(lambda: broker.stats(["celery"])[0].dead == 1, what="the dead letter is counted")
        (stats, empty) = broker.stats(["celery", "unknown"])
        if broker.capabilities.census:
            assert stats._replace(oldest_age=None) == ("celery", 2, None, 1, 1, 1, 1)
        else:
            assert (stats.depth, stats.dead, stats.consumers) == (2, 1, 1)
        assert stats.oldest_age is None or 0 <= stats.oldest_age < 60
        assert empty == ("unknown", 0, None, 0, 0, 0, 0)

    # -- browse ----------------------------------------------------------------------------------------------

    def test_browse_shows_ready_messages_in_order_without_taking_them_or_is_refused(
        self, broker: Broker
    ) -> None:
        if not broker.capabilities.browse:
            with pytest.raises(ImproperlyConfigured):
                broker.browse("celery", 1)
            return
        broker.publish([out(f"{n}") for n in range(5)] + [out("later", countdown=600)])
        assert ids(broker.browse("celery", 100)) == ["0", "1", "2", "3", "4"]
        assert ids(broker.browse("celery", 2, 1)) == ["1", "2"]
        assert ids(broker.browse("celery", 2, 9)) == []
        assert broker.depth("celery") == 5

    # -- purge -----------------------------------------------------------------------------------------------

    def test_purge_drops_ready_and_delayed_and_nothing_else(self, broker: Broker) -> None:
        broker.publish([out("held")])
        _, consumer = self.consumer(broker)
        (held,) = consumer.exchange((), 1).deliveries
        broker.publish([out("a"), out("b", priority=9), out("later", countdown=600), out("c", "other")])
        self.bury(broker, *[])
        assert broker.purge("celery") == (3 if broker.capabilities.census else 2)
        assert broker.purge("celery") == 0
        assert broker.depth("other") == 1
        assert broker.stats(["celery"])[0].delayed == 0
        assert not consumer.exchange(ack(held), 0).stale

    def test_purge_drops_suspects(self, broker: Broker) -> None:
        if not broker.capabilities.leases:
            return  # see `ConnectionContract`
        broker.publish([out("a")])
        consumer_id, consumer = self.consumer(broker)
        (delivery,) = consumer.exchange((), 1).deliveries
        broker.release(consumer_id, ["celery"], crashed=[("celery", delivery.tag)])
        assert broker.purge("celery") == 1
        assert broker.depth("celery") == 0

    # -- dead letters ----------------------------------------------------------------------------------------

    def test_dead_letters_are_listed_oldest_first(
        self, broker: Broker, connect: Callable[[], Broker]
    ) -> None:
        self.bury(broker, "a", "b", "c")
        letters = connect().dead("celery")
        assert ids(letter.message for letter in letters) == ["a", "b", "c"]
        assert letters[0].reason == "because of a"
        assert len({letter.id for letter in letters}) == 3
        assert list(broker.dead("celery", 1, 1)) == [letters[1]]
        assert not broker.dead("other")

    def test_revive_moves_back_with_no_crashes_and_twice_is_once(self, broker: Broker) -> None:
        broker.publish([out("a")])
        consumer_id, consumer = self.consumer(broker)
        (delivery,) = consumer.exchange((), 1).deliveries
        if broker.capabilities.leases:
            broker.release(consumer_id, ["celery"], crashed=[("celery", delivery.tag)])
            _, consumer = self.consumer(broker)
            (delivery,) = consumer.exchange((), 1).deliveries
        consumer.exchange(ack(delivery, verdict=DEAD, reason="enough"), 0)
        (letter,) = broker.dead("celery")
        assert letter.crashes == (1 if broker.capabilities.leases else 0)
        assert broker.revive("celery", [letter.id, "unknown"]) == 1
        assert broker.revive("celery", [letter.id]) == 0
        assert not broker.dead("celery")
        (again,) = consumer.exchange((), 10).deliveries
        assert ids([again]) == ["a"]
        assert again.crashes == 0

    def test_revive_wakes_a_waiting_consumer(self, broker: Broker) -> None:
        self.bury(broker, "a")
        _, consumer = self.consumer(broker)
        assert not consumer.exchange((), 1).deliveries
        broker.revive("celery", [broker.dead("celery")[0].id])
        consumer.wait(20)
        until(lambda: consumer.exchange((), 1).deliveries)

    def test_drop_deletes_dead_letters(self, broker: Broker) -> None:
        self.bury(broker, "a", "b")
        first, second = broker.dead("celery")
        assert broker.drop("celery", [first.id, "unknown"]) == 1
        assert broker.drop("celery", [first.id]) == 0
        assert [letter.id for letter in broker.dead("celery")] == [second.id]
        assert broker.depth("celery") == 0

    # -- revokes ---------------------------------------------------------------------------------------------

    def test_revoked_ids_are_on_record_without_any_worker(self, connect: Callable[[], Broker]) -> None:
        broker = connect()
        assert list(broker.revoked()) == []
        broker.revoke(["a", "b"], ttl=600)
        broker.revoke(["b", "c"], ttl=600)
        assert sorted(connect().revoked()) == ["a", "b", "c"]

    def test_the_record_of_a_revoke_lives_ttl_seconds(self, broker: Broker) -> None:
        broker.revoke(["short"], ttl=0.05)
        broker.revoke(["long"], ttl=600)
        until(lambda: list(broker.revoked()) == ["long"])

    # -- the rest --------------------------------------------------------------------------------------------

    def test_carries_is_true_for_the_same_store_only(self, broker: Broker, backend: ResultBackend) -> None:
        assert not broker.carries(ResultTarget(("somewhere", "else")))
        target = backend.target()
        if broker.capabilities.atomic_settle:
            assert target is not None
            assert broker.carries(target)

    def test_warnings_are_sentences(self, broker: Broker) -> None:
        assert all(isinstance(each, str) and each.endswith(".") for each in broker.warnings())

    def test_describe_fits_in_one_line(self, broker: Broker) -> None:
        assert broker.describe()
        assert "\n" not in broker.describe()

    def test_a_closed_broker_can_be_used_again(self, broker: Broker) -> None:
        broker.publish([out("a")])
        broker.close()
        broker.close()
        broker.publish([out("b")])
        assert broker.depth("celery") == 2

    @pytest.mark.parametrize("name", ["a b", "ünicode", "with:colon{brace}", "dot.ted", "semi;colon'quote"])
    def test_any_queue_name_will_do(self, broker: Broker, name: str) -> None:
        broker.publish([out("a", name)])
        _, consumer = self.consumer(broker, name)
        assert ids(self.drain(consumer)) == ["a"]
