"""The contract of brokers without leases: what a lost connection held comes back, and is not run blindly.

Closing a broker stands for the death of its process: its connections are gone, and nothing was given back.
A `Node` stands for the supervisor that knows what its processes did.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pytest

from celeriac.brokers.base import (
    CRASHED,
    DEAD,
    DONE,
    ENDED,
    INNOCENT,
    REQUEUE,
    RUNNING,
    Broker,
    Consumer,
    Delivery,
    Fate,
    Place,
    Word,
)
from celeriac.conformance.kit import StoreKit, ack, ids, out, until
from celeriac.exceptions import OperationalError

__all__ = ["ConnectionContract"]


class Node:
    """Answers what it is told to answer, and remembers what it was told to be done."""

    def __init__(self, broker: Broker, home: str = "") -> None:
        self.fates: dict[int, Fate] = {}
        self.otherwise: Fate | None = None
        self.asked: list[Place] = []
        self.learned: list[Place] = []
        broker.attend(self.answer, self.learned.extend, home)

    def answer(self, places: Sequence[Place]) -> Mapping[Place, Word]:
        self.asked += places
        words = {place: self.fates.get(place[1], self.otherwise) for place in places}
        return {place: Word(fate, 1.0) for place, fate in words.items() if fate is not None}


class ConnectionContract(StoreKit):
    """What takes the place of leases."""

    @pytest.fixture(autouse=True)
    def _only_without_leases(self, request: pytest.FixtureRequest) -> None:
        of_connections = request.function.__qualname__.startswith("ConnectionContract.")
        if of_connections and request.getfixturevalue("connect")().capabilities.leases:
            pytest.skip("this broker has leases: see LeaseContract")

    @pytest.fixture
    def node(self, connect: Callable[[], Broker]) -> Node:
        """A node that answers; it is listening when the test starts."""
        broker = connect()
        return Node(broker)

    def die(self, connect: Callable[[], Broker], count: int = 1) -> Sequence[Delivery]:
        """Take `count` messages and lose the process."""
        broker = connect()
        _, consumer = self.consumer(broker)
        taken = self.take(consumer, count)
        broker.close()
        return taken

    def take(self, consumer: Consumer, count: int) -> list[Delivery]:
        """`count` deliveries, which may come one by one."""
        taken: list[Delivery] = []

        def take() -> bool:
            taken.extend(consumer.exchange((), count - len(taken)).deliveries)
            if len(taken) < count:
                consumer.wait(0.05)
            return len(taken) >= count

        until(take, timeout=30, what=f"{count} deliveries")
        return taken

    def notice(self, consumer: Consumer) -> None:
        """Go on until the consumer says that its connection is lost."""
        for _ in range(100):
            consumer.exchange((), 0)
            consumer.wait(0.05)

    # -- nothing to do -----------------------------------------------------------------------------------

    def test_what_leases_do_has_nothing_to_do(self, broker: Broker) -> None:
        broker.publish([out("a")])
        consumer_id, consumer = self.consumer(broker)
        (delivery,) = self.take(consumer, 1)
        assert not broker.beat({consumer_id: ["celery"]}, ttl=1)
        assert not broker.held(consumer_id, ["celery"])
        assert broker.sweep(["celery"]) == 0
        assert broker.release(consumer_id, ["celery"], crashed=[("celery", delivery.tag)]) == 0
        assert not consumer.exchange(ack(delivery), 0).stale

    # -- what comes back ---------------------------------------------------------------------------------

    def test_everything_that_a_dead_process_held_comes_back(self, connect: Callable[[], Broker]) -> None:
        broker = connect()
        broker.publish([out(f"{n}") for n in range(5)])
        self.die(connect, 3)
        _, consumer = self.consumer(broker)
        taken: list[str] = []
        for _ in range(5):
            deliveries = self.take(consumer, 1)
            taken += ids(deliveries)
            consumer.exchange(ack(*deliveries), 0)
        assert sorted(taken) == [f"{n}" for n in range(5)]

    def test_when_nobody_knows_it_is_a_crash_and_counted(self, connect: Callable[[], Broker]) -> None:
        connect().publish([out("poison")])
        for crashes in range(3):
            (delivery,) = self.die(connect)
            assert delivery.crashes == crashes
        _, consumer = self.consumer(connect())
        (delivery,) = self.take(consumer, 1)
        assert (ids([delivery]), delivery.crashes) == (["poison"], 3)
        assert not consumer.exchange(ack(delivery), 0).stale
        assert connect().depth("celery") == 0

    def test_a_node_that_says_so_makes_a_crash(self, connect: Callable[[], Broker], node: Node) -> None:
        connect().publish([out("a")])
        node.otherwise = CRASHED
        self.die(connect)
        _, consumer = self.consumer(connect())
        (delivery,) = self.take(consumer, 1)
        assert delivery.crashes == 1
        assert node.asked

    def test_what_no_home_knows_has_been_read_by_nobody(self, connect: Callable[[], Broker]) -> None:
        broker, other = connect(), connect()
        node, gone = Node(broker, "a"), Node(other, "b")
        gone.otherwise = RUNNING
        other.revoked()  # a heart calls it all the time, and learns of other homes by it
        other.close()  # in order: nothing of what it held can come back
        broker.revoked()
        broker.publish([out("a")])
        (taken,) = self.die(connect)
        _, consumer = self.consumer(connect())
        (delivery,) = self.take(consumer, 1)
        assert (delivery.tag, delivery.crashes) == (taken.tag, 0)
        assert node.asked

    def test_the_innocent_come_back_as_they_were(self, connect: Callable[[], Broker], node: Node) -> None:
        connect().publish([out("a"), out("b")])
        node.otherwise = INNOCENT
        taken = self.die(connect, 2)
        _, consumer = self.consumer(connect())
        again = self.take(consumer, 2)
        assert {(*each[:2], each.crashes) for each in again} == {(*each[:2], 0) for each in taken}

    def test_what_is_done_does_not_come_back(self, connect: Callable[[], Broker], node: Node) -> None:
        broker = connect()
        broker.publish([out("done"), out("other")])
        taken = self.die(connect, 2)
        node.fates = {each.tag: DONE if ids([each]) == ["done"] else INNOCENT for each in taken}
        _, consumer = self.consumer(broker)
        (other,) = self.take(consumer, 1)
        assert ids([other]) == ["other"]
        consumer.exchange(ack(other), 0)
        until(lambda: not consumer.exchange((), 5).deliveries and len(node.asked) >= 2)
        assert broker.depth("celery") == 0

    def test_what_was_killed_to_end_it_says_why(self, connect: Callable[[], Broker], node: Node) -> None:
        connect().publish([out("a")])
        node.otherwise = f"{ENDED}time limit:30.0"
        self.die(connect)
        _, consumer = self.consumer(connect())
        (delivery,) = self.take(consumer, 1)
        assert (delivery.ended, delivery.crashes) == ("time limit:30.0", 0)

    def test_what_runs_elsewhere_waits_and_is_asked_for_again(
        self, connect: Callable[[], Broker], node: Node
    ) -> None:
        broker = connect()
        broker.publish([out("running"), out("other")])
        node.otherwise = RUNNING
        taken = self.die(connect, 1)
        _, consumer = self.consumer(broker)
        (other,) = self.take(consumer, 1)
        assert ids([other]) == ["other"]
        until(lambda: not consumer.exchange((), 5).deliveries and len(node.asked) >= 5, timeout=20)
        assert {tag for _, tag in node.asked} == {taken[0].tag}
        node.otherwise = INNOCENT
        (again,) = self.take(consumer, 1)
        assert (ids([again]), again.crashes, again.tag) == (["running"], 0, taken[0].tag)

    # -- suspects ------------------------------------------------------------------------------------------

    def test_a_suspect_that_came_back_is_delivered_alone(self, connect: Callable[[], Broker]) -> None:
        broker = connect()
        broker.publish([out("poison")])
        self.die(connect)
        _, consumer = self.consumer(broker)
        until(lambda: not consumer.exchange((), 0).deliveries and broker.depth("celery") == 1, timeout=20)
        broker.publish([out(f"{n}") for n in range(5)])
        seen: list[list[str]] = []

        def all_seen() -> bool:
            received = consumer.exchange((), 10)
            seen.append(ids(received.deliveries))
            consumer.exchange(ack(*received.deliveries), 0)
            return sum(map(len, seen)) == 6

        until(all_seen, timeout=20)
        assert ["poison"] in seen

    def test_requeue_and_dead_keep_the_count_of_suspects(self, connect: Callable[[], Broker]) -> None:
        broker = connect()
        broker.publish([out("a")])
        self.die(connect)
        _, consumer = self.consumer(broker)
        (delivery,) = self.take(consumer, 1)
        consumer.exchange(ack(delivery, verdict=REQUEUE), 0)
        (delivery,) = self.take(consumer, 1)
        assert delivery.crashes == 1
        consumer.exchange(ack(delivery, verdict=DEAD, reason="enough"), 0)
        (letter,) = broker.dead("celery")
        assert letter.crashes == 1
        assert broker.revive("celery", [letter.id]) == 1
        (again,) = self.take(consumer, 1)
        assert again.crashes == 0

    def test_a_followup_of_what_came_back_is_no_suspect(self, connect: Callable[[], Broker]) -> None:
        broker = connect()
        broker.publish([out("a")])
        self.die(connect)
        _, consumer = self.consumer(broker)
        (delivery,) = self.take(consumer, 1)
        consumer.exchange(ack(delivery, followups=[out("a")]), 0)
        (again,) = self.take(consumer, 1)
        assert again.crashes == 0

    def test_purge_drops_the_suspects_of_a_queue(self, connect: Callable[[], Broker]) -> None:
        broker = connect()
        broker.publish([out("a")])
        self.die(connect)
        _, consumer = self.consumer(broker)
        (delivery,) = self.take(consumer, 1)
        consumer.exchange(ack(delivery, verdict=REQUEUE), 0)
        until(lambda: broker.depth("celery") == 1)
        assert broker.purge("celery") == 1
        assert broker.depth("celery") == 0

    # -- giving back -------------------------------------------------------------------------------------

    def test_giving_back_is_never_counted(self, connect: Callable[[], Broker]) -> None:
        broker = connect()
        broker.publish([out("a")])
        _, consumer = self.consumer(broker)
        for _ in range(30):
            (delivery,) = self.take(consumer, 1)
            assert delivery.crashes == 0
            consumer.exchange(ack(delivery, verdict=REQUEUE), 0)
        consumer.close()
        until(lambda: broker.depth("celery") == 1)

    def test_close_gives_everything_back(self, connect: Callable[[], Broker]) -> None:
        broker = connect()
        broker.publish([out(f"{n}") for n in range(50)])
        _, consumer = self.consumer(broker)
        self.take(consumer, 20)
        consumer.close()
        consumer.close()
        until(lambda: broker.depth("celery") == 50)
        _, another = self.consumer(broker)
        again = self.take(another, 50)
        assert sorted(ids(again), key=int) == [f"{n}" for n in range(50)]
        assert {each.crashes for each in again} == {0}

    def test_what_was_sent_ahead_goes_back_when_nothing_is_wanted(
        self, connect: Callable[[], Broker]
    ) -> None:
        broker = connect()
        broker.publish([out(f"{n}") for n in range(50)])
        _, consumer = self.consumer(broker)
        taken = self.take(consumer, 20)
        assert not consumer.exchange((), 0).deliveries  # the lane is busy for long
        until(lambda: broker.depth("celery") == 30)
        assert not consumer.exchange(ack(*taken), 0).stale

    # -- a lost connection -------------------------------------------------------------------------------

    def test_a_lost_connection_raises_once_and_the_consumer_goes_on(
        self, url: str, broker: Broker, node: Node
    ) -> None:
        broker.publish([out("a"), out("b")])
        _, consumer = self.consumer(broker)
        self.take(consumer, 2)
        node.otherwise = INNOCENT
        self.cut(url)
        with pytest.raises(OperationalError):
            self.notice(consumer)
        again = self.take(consumer, 2)
        assert sorted(ids(again)) == ["a", "b"]
        assert not consumer.exchange(ack(*again), 0).stale

    def test_a_settlement_after_the_connection_was_lost_is_told_to_all_nodes(
        self, url: str, broker: Broker, node: Node
    ) -> None:
        broker.publish([out("a")])
        _, consumer = self.consumer(broker)
        (delivery,) = self.take(consumer, 1)
        node.otherwise = RUNNING
        self.cut(url)
        with pytest.raises(OperationalError):
            self.notice(consumer)
        settlements = ack(delivery, followups=[out("next", "other")])
        assert not consumer.exchange(settlements, 0).stale

        def is_told() -> bool:
            consumer.wait(0.05)  # nodes may be reconnecting too: it is said more than once
            return ("celery", delivery.tag) in node.learned

        until(is_told, what="the news of its end")
        assert broker.depth("other") == 1
        node.otherwise = DONE
        until(lambda: not consumer.exchange((), 5).deliveries and broker.depth("celery") == 0, timeout=20)
