"""What the embedded broker does beyond the contract."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from celeriac.backends.sqlite import SqliteBackend
from celeriac.brokers.base import QUARANTINE, REQUEUE, ConsumerSpec, Outgoing, Settlement, StoredResult
from celeriac.brokers.sqlite import SqliteBroker, SqliteConsumer, consumer
from celeriac.brokers.sqlite.lines import DUE_AT_ONCE
from celeriac.conformance.kit import ack, ids, message, out
from celeriac.exceptions import ImproperlyConfigured
from celeriac.transport import bells


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/tasks.db"


@pytest.fixture
def broker(url: str, clock: Clock) -> Iterator[SqliteBroker]:
    broker = SqliteBroker(url, {"clock": clock})
    yield broker
    broker.close()


def lease(broker: SqliteBroker, name: str = "c", *queues: str, **options: Any) -> SqliteConsumer:
    return broker.consumer(ConsumerSpec(name, queues or ("celery",), **{"ttl": 600.0, **options}))


def held(broker: SqliteBroker) -> int:
    return broker.stats(["celery"])[0].in_flight


# -- taking ----------------------------------------------------------------------------------------------


def test_a_claim_holds_so_many_and_the_rest_comes_at_once(broker: SqliteBroker) -> None:
    broker.publish([out(f"{n}") for n in range(consumer.LARGEST_CLAIM + 7)])
    one = lease(broker)
    first = one.exchange((), 2 * consumer.LARGEST_CLAIM)
    assert len(first.deliveries) == consumer.LARGEST_CLAIM
    assert first.next_due == 0
    second = one.exchange(ack(*first.deliveries), 2 * consumer.LARGEST_CLAIM)
    assert ids([*first.deliveries, *second.deliveries]) == [f"{n}" for n in range(consumer.LARGEST_CLAIM + 7)]
    assert len({each.tag for each in [*first.deliveries, *second.deliveries]}) == consumer.LARGEST_CLAIM + 7


def test_large_messages_come_in_small_batches(broker: SqliteBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer, "TAKE_BYTES", 100_000)
    body = b"x" * 30_000
    broker.publish([Outgoing(message(f"{n}")._replace(body=body), queue="celery") for n in range(12)])
    one = lease(broker)
    found, sizes = [], []
    while len(found) < 12:
        received = one.exchange((), 100)
        found += ids(received.deliveries)
        sizes.append(len(received.deliveries))
    assert found == [f"{n}" for n in range(12)]
    assert max(sizes[1:]) <= 2


def test_the_fair_share_leaves_something_to_the_others(broker: SqliteBroker) -> None:
    one, two = lease(broker, "one"), lease(broker, "two")
    broker.publish([out(f"{n}") for n in range(10)])
    first = one.exchange((), 100)
    assert len(first.deliveries) == 5
    assert first.next_due is not None  # there is more: look again soon
    assert len(two.exchange((), 100).deliveries) == 3


def test_a_flood_of_due_messages_is_moved_in_parts(broker: SqliteBroker, clock: Clock) -> None:
    total = DUE_AT_ONCE + 500
    for first in range(0, total, 500):
        broker.publish([out(f"{n}", due=clock.now + 10 + n / 1e6) for n in range(first, first + 500)])
    one = lease(broker)
    assert not one.exchange((), 1).deliveries
    clock.now += 20
    found: list[str] = []
    received = one.exchange((), 900)
    assert received.next_due == 0
    while received.deliveries:
        found += ids(received.deliveries)
        received = one.exchange(ack(*received.deliveries), 900)
    assert found == [f"{n}" for n in range(total)]


# -- tags and claims -------------------------------------------------------------------------------------


def test_a_batch_may_be_settled_in_any_pieces(broker: SqliteBroker) -> None:
    broker.publish([out(f"{n}") for n in range(6)])
    one = lease(broker)
    a, b, c, d, e, f = one.exchange((), 6).deliveries
    one.exchange(ack(c), 0)
    one.exchange([*ack(a, verdict=REQUEUE), *ack(f)], 0)
    assert held(broker) == 3
    assert broker.release("c", ["celery"], crashed=[("celery", e.tag)], done=[("celery", b.tag)]) == 2
    two = lease(broker, "two")
    counts = {ids([each])[0]: each.crashes for _ in range(2) for each in two.exchange((), 9).deliveries}
    assert counts == {"0": 0, "3": 0, "4": 1}
    assert d.tag != e.tag


def test_one_tag_twice_in_a_batch_counts_once(broker: SqliteBroker) -> None:
    broker.publish([out("a")])
    one = lease(broker)
    (a,) = one.exchange((), 1).deliveries
    received = one.exchange([*ack(a, followups=[out("1", "x")]), *ack(a, followups=[out("2", "x")])], 0)
    assert list(received.stale) == [a.tag]
    assert ids(broker.browse("x", 9)) == ["1"]


def test_a_settlement_that_names_another_queue_is_refused(broker: SqliteBroker) -> None:
    broker.publish([out("a")])
    one = lease(broker)
    (a,) = one.exchange((), 1).deliveries
    assert list(one.exchange([Settlement("other", a.tag)], 0).stale) == [a.tag]
    assert held(broker) == 1


def test_a_deputy_does_not_number_its_deliveries_like_those_of_the_dead(broker: SqliteBroker) -> None:
    broker.publish([out(f"{n}") for n in range(6)])
    tags = [each.tag for each in lease(broker).exchange((), 2).deliveries]
    for _ in range(2):
        tags += [each.tag for each in lease(broker).exchange((), 2).deliveries]
    assert len(set(tags)) == 6
    assert sorted(tags) == sorted(each.tag for each in broker.held("c", ["celery"]))


def test_a_consumer_needs_a_queue(broker: SqliteBroker) -> None:
    with pytest.raises(ImproperlyConfigured, match="queue"):
        broker.consumer(ConsumerSpec("c", ()))


# -- an exchange that fails ------------------------------------------------------------------------------


class Interrupted(BaseException):
    pass


def test_what_a_failed_exchange_took_comes_again(
    broker: SqliteBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was committed, and the caller never saw it."""
    broker.publish([out("a"), out("b"), out("c")])
    one = lease(broker)
    (a,) = one.exchange((), 1).deliveries

    def fail(*_: object) -> None:
        raise Interrupted

    monkeypatch.setattr(one, "_hold", fail)
    with pytest.raises(Interrupted):
        one.exchange(ack(a, followups=[out("once", "other")]), 1)
    monkeypatch.undo()
    received = one.exchange(ack(a, followups=[out("once", "other")]), 5)
    assert ids(received.deliveries) == ["b", "c"]
    assert broker.depth("other") == 1
    assert held(broker) == 2
    assert not one.exchange(ack(*received.deliveries), 5).stale
    assert held(broker) == 0


def test_a_failed_exchange_that_was_not_committed_changes_nothing(
    broker: SqliteBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.publish([out("a"), out("b")])
    one = lease(broker)
    (a,) = one.exchange((), 1).deliveries

    def fail(*_: object) -> None:
        raise Interrupted

    monkeypatch.setattr(one, "_claim", fail)
    with pytest.raises(Interrupted):
        one.exchange(ack(a), 1)
    monkeypatch.undo()
    assert held(broker) == 1
    received = one.exchange(ack(a), 1)
    assert not received.stale
    assert ids(received.deliveries) == ["b"]


# -- waking ----------------------------------------------------------------------------------------------


def test_one_message_wakes_one_sleeper(url: str) -> None:
    broker = SqliteBroker(url, {})
    sleepers = [lease(broker, f"{n}") for n in range(3)]
    for each in sleepers:
        assert not each.exchange((), 1).deliveries
    broker.publish([out("a")])
    rung = [sum(len(each._bell.wait(0)) for each in sleepers)]
    broker.publish([out("b")])  # the second one: the first counts as awake
    rung += [len(each._bell.wait(0)) for each in sleepers]
    broker.publish([out("c"), out("d")])
    rung += [len(each._bell.wait(0)) for each in sleepers]
    assert rung[0] == sum(rung[1:4]) == sum(rung[4:]) == 1


def test_a_message_that_comes_back_wakes_a_sleeper(url: str) -> None:
    broker = SqliteBroker(url, {})
    broker.publish([out("a")])
    assert lease(broker, "dying").exchange((), 1).deliveries
    sleeper = lease(broker, "sleeper")
    assert not sleeper.exchange((), 1).deliveries
    broker.release("dying", ["celery"])
    assert sleeper._bell.wait(0)


def test_an_earlier_due_time_wakes_all_and_a_later_one_nobody(url: str) -> None:
    broker = SqliteBroker(url, {})
    sleepers = [lease(broker, f"{n}") for n in range(2)]
    for each in sleepers:
        each.exchange((), 1)
    broker.publish([out("a", countdown=50)])
    assert all(each._bell.wait(0) for each in sleepers)
    for each in sleepers:
        each.wait(0)
        each.exchange((), 1)
    broker.publish([out("b", countdown=500)])
    assert not any(each._bell.wait(0) for each in sleepers)
    broker.publish([out("c", countdown=5)])
    assert all(each._bell.wait(0) for each in sleepers)


def test_without_sockets_a_sleeper_looks_by_itself(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bells, "_HAVE_SOCKETS", False)
    broker, backend = SqliteBroker(url, {}), SqliteBackend(url, {})
    one = lease(broker, results=backend.target())
    watch = backend.watch(["a"])
    found: list[str] = []

    def work() -> None:
        deadline = time.monotonic() + 10
        while not found and time.monotonic() < deadline:
            received = one.exchange((), 1)
            found.extend(ids(received.deliveries))
            if received.deliveries:
                one.exchange(ack(*received.deliveries, results=[StoredResult("a", b"{}")]), 0)
            one.wait(5)

    worker = threading.Thread(target=work)
    worker.start()
    broker.publish([out("a")])
    assert watch.wait(10) == {"a": b"{}"}
    worker.join()
    assert found == ["a"]
    backend.close()


def test_a_ring_that_was_lost_is_made_up_for(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The publisher dies between its commit and the ring."""
    broker = SqliteBroker(url, {})
    one = lease(broker)
    assert not one.exchange((), 1).deliveries
    monkeypatch.setattr("celeriac.brokers.sqlite.lines.ring", lambda *_: True)
    broker.publish([out("a")])
    begun = time.monotonic()
    one.wait(30)
    assert time.monotonic() - begun < 5
    assert ids(one.exchange((), 1).deliveries) == ["a"]


# -- the operator ----------------------------------------------------------------------------------------


def test_warnings(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert SqliteBroker(url, {}).warnings() == []
    assert "power failure" in SqliteBroker(f"{url}?synchronous=OFF", {}).warnings()[0]
    monkeypatch.setattr("celeriac.brokers.sqlite.broker.network_file_system", lambda path: "nfs4")
    assert "network file system (nfs4)" in SqliteBroker(url, {}).warnings()[0]


def test_a_large_queue_is_purged(broker: SqliteBroker) -> None:
    for _ in range(6):
        broker.publish([out(f"{n}") for n in range(2000)])
    assert broker.purge("celery") == 12_000
    assert broker.queues() == []


def test_expired_results_are_pruned(url: str, clock: Clock) -> None:
    backend = SqliteBackend(url, {"clock": clock})
    backend.store([StoredResult(f"{n}", b"{}", 10 + n) for n in range(20)] + [StoredResult("ever", b"{}")])
    backend.save_group("g", b"[]", 15)
    clock.now += 20
    assert backend.expire() == 12
    assert len(backend.load([*(f"{n}" for n in range(20)), "ever"])) == 10
    assert backend.load_group("g") is None


def test_watchers_that_are_gone_are_forgotten(url: str) -> None:
    backend = SqliteBackend(url, {})
    watch = backend.watch(["a"])
    bell = backend._hub()._bell
    assert bell is not None
    bell.close()  # as if its process had been killed
    backend.store([StoredResult("a", b"{}")])
    with backend._database.read() as connection:
        assert connection.execute("SELECT count(*) FROM watcher").fetchone() == (0,)
    watch.close()


# -- what is left behind ---------------------------------------------------------------------------------


def test_nothing_is_left_in_the_tables_when_all_is_done(url: str, clock: Clock) -> None:
    broker = SqliteBroker(url, {"clock": clock})
    broker.publish([out(f"{n}") for n in range(9)] + [out("later", countdown=1)])
    clock.now += 2
    one, two = lease(broker, "one"), lease(broker, "two")
    (first, *others) = one.exchange((), 3).deliveries
    one.exchange(ack(first), 0)
    one.exchange(ack(*others, verdict=REQUEUE), 0)
    broker.release(
        "one", ["celery"], crashed=[("celery", each.tag) for each in one.exchange((), 2).deliveries]
    )
    while (received := two.exchange((), 4)).deliveries:
        two.exchange(ack(*received.deliveries), 0)
    two.close()
    with broker._database.read() as connection:
        for table in ("message", "ready", "delayed", "claim", "trial", "idle", "lease", "serving", "dead"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table


def test_the_end_of_a_lease_ends_the_trial_of_its_suspect(broker: SqliteBroker) -> None:
    """The clock stands still here: no quarantine passes by itself."""
    broker.publish([out("a"), out("b")])
    taken = lease(broker, "one").exchange((), 2).deliveries
    broker.release("one", ["celery"], crashed=[("celery", each.tag) for each in taken])
    assert ids(lease(broker, "two").exchange((), 9).deliveries) == ["a"]
    three = lease(broker, "three")
    waiting = three.exchange((), 9)
    assert not waiting.deliveries
    assert waiting.next_due == pytest.approx(QUARANTINE)
    broker.release("two", ["celery"])
    assert ids(three.exchange((), 9).deliveries) == ["a"]


def test_an_overdue_message_does_not_jump_the_line(broker: SqliteBroker, clock: Clock) -> None:
    broker.publish([out("first")])
    clock.now += 1
    broker.publish([out("overdue", due=clock.now - 3600)])
    assert ids(broker.browse("celery", 9)) == ["first", "overdue"]


def test_a_place_in_line_without_a_message_is_cleared_away(broker: SqliteBroker) -> None:
    """It cannot be; but if a damaged file was repaired, the line must go on."""
    broker.publish([out("a"), out("b"), out("c")])
    with broker._database.write() as connection:
        connection.execute("DELETE FROM message WHERE id = (SELECT min(id) FROM message)")
    assert ids(lease(broker).exchange((), 5).deliveries) == ["b", "c"]
    assert broker.depth("celery") == 0
