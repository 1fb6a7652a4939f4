"""The courier's arithmetic: how much it asks for, and what it gives back."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from celeriac import Celeriac
from celeriac.brokers.base import ACK, REQUEUE, ConsumerSpec, Delivery, Outgoing, Received, Settlement
from celeriac.brokers.memory import MemoryBroker
from celeriac.exceptions import OperationalError
from celeriac.wire.message import Message
from celeriac.worker.child import make_processor, make_storing
from celeriac.worker.courier import LONG, MOST, Courier
from celeriac.worker.lanes import Lane
from celeriac.worker.ledger import Ledger
from celeriac.worker.options import WorkerOptions

from .conftest import until

names = itertools.count()


class Shelf(Lane):
    """A lane that runs nothing: deliveries stay where they are put."""

    running = 0
    busy = 0.0

    def put(self, deliveries: Sequence[Delivery]) -> None:
        self.inbox.extend(deliveries)

    def backlog(self) -> int:
        return len(self.inbox) + self.running

    def busy_for(self, now: float) -> float:
        return self.busy if self.running >= self.slots else 0.0

    def run(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        self.stopping = True


class Scene:
    """A courier whose thread does not run, its lane, and a broker in memory."""

    def __init__(self, slots: int = 1, ledger: Ledger | None = None) -> None:
        url = f"memory://courier-{next(names)}"
        self.app = Celeriac("courier", broker=url, backend=url, set_as_current=False)
        self.broker = self.app.broker
        processor = make_processor(self.app, "n@test", WorkerOptions(), self.broker)
        self.lane = Shelf(processor, slots, ledger)
        self.consumer = self.broker.consumer(ConsumerSpec("c", ("q",), 60.0, self.app.backend.target()))
        self.lost = threading.Event()
        self.courier = Courier(self.consumer, make_storing(self.app), self.lane, ledger, self.lost.set)

    def publish(self, count: int) -> None:
        message = Message(b"[]", "application/json", "utf-8", {}, {})
        self.broker.publish([Outgoing(message, "q")] * count)


@pytest.mark.parametrize(
    ("slots", "pace", "running", "waiting", "wanted"),
    [
        (1, 0.005, 0, 0, 4),  # 20 ms' worth
        (1, 0.005, 1, 1, 2),
        (1, 0.005, 1, 2, 0),  # more than half is here
        (1, 1.0, 0, 0, 1),
        (1, 1.0, 1, 0, 0),
        (1, 1e-9, 0, 0, MOST),
        (4, 1.0, 0, 0, 4),
        (4, 1.0, 3, 0, 1),  # a free slot is filled, however full the others are
        (4, 1.0, 4, 0, 0),
        (4, 0.005, 4, 4, 8),
        (4, 0.005, 4, 5, 0),
        (1000, 1.0, 999, 0, 1),
        (1000, 1e-9, 0, 0, 1000),
    ],
)
def test_want(slots: int, pace: float, running: int, waiting: int, wanted: int) -> None:
    scene = Scene(slots)
    scene.lane.pace, scene.lane.running = pace, running
    scene.lane.inbox.extend([Delivery("q", n, Message(b"", "", "", {}, {})) for n in range(waiting)])
    assert scene.courier._want(0.0) == wanted


@pytest.mark.parametrize("slots", [1, 4])
def test_nothing_is_fetched_or_kept_behind_long_bodies(slots: int) -> None:
    scene = Scene(slots)
    scene.publish(3)
    deliveries = scene.consumer.exchange((), 3).deliveries
    scene.lane.put(deliveries)
    scene.lane.running, scene.lane.busy, scene.lane.pace = slots, LONG / 2, 1e-6
    pending: list[Settlement] = []
    scene.courier._give_back(pending, 0.0)
    assert pending == []
    assert scene.courier._want(0.0) > 0
    scene.lane.busy = LONG * 1.1
    scene.courier._give_back(pending, 0.0)
    assert scene.courier._want(0.0) == 0
    # The last comes first, so that each goes to the front of those behind it.
    assert [(end.tag, end.verdict) for end in pending] == [(d.tag, REQUEUE) for d in deliveries[::-1]]
    assert scene.lane.waiting() == 0
    if slots > 1:
        scene.lane.running -= 1
        assert scene.courier._want(0.0) > 0


def test_all_goes_back_when_nothing_more_is_fetched() -> None:
    scene = Scene()
    scene.publish(2)
    scene.lane.put(scene.consumer.exchange((), 2).deliveries)
    scene.courier.pause()
    pending: list[Settlement] = []
    scene.courier._give_back(pending, 0.0)
    assert len(pending) == 2


def test_it_ends_with_everything_settled_or_given_back() -> None:
    scene = Scene()
    scene.lane.pace = 0.001
    scene.publish(10)
    scene.courier.start()
    until(lambda: scene.lane.waiting() == 10)
    first = scene.lane.inbox.popleft()
    scene.courier.post(Settlement(first.queue, first.tag), now=False)
    scene.courier.finish(10)
    assert not scene.courier.is_alive()
    assert scene.broker.depth("q") == 9
    assert scene.broker.stats(["q"])[0].consumers == 0
    assert not scene.lost.is_set()


def test_early_acknowledgement() -> None:
    scene = Scene()
    scene.publish(1)
    scene.courier.start()
    until(lambda: scene.lane.waiting() == 1)
    delivery = scene.lane.inbox.popleft()
    assert scene.courier.settle_now(Settlement(delivery.queue, delivery.tag))
    assert scene.broker.stats(["q"])[0].in_flight == 0
    assert not scene.courier.settle_now(Settlement(delivery.queue, delivery.tag))  # no longer ours
    out = Outgoing(Message(b"[]", "application/json", "utf-8", {}, {}), "other")
    scene.courier.post(Settlement("q", delivery.tag, followups=(out,)), now=True, held=False)
    until(lambda: scene.broker.depth("other") == 1)
    scene.courier.finish(10)
    assert not scene.courier.settle_now(Settlement(delivery.queue, delivery.tag))  # and never blocks


def test_a_lost_lease_is_told_once() -> None:
    scene = Scene()
    scene.publish(1)
    scene.courier.start()
    until(lambda: scene.lane.waiting() == 1)
    scene.broker.release("c", ["q"])
    delivery = scene.lane.inbox.popleft()
    assert not scene.courier.settle_now(Settlement(delivery.queue, delivery.tag))
    assert scene.lost.wait(10)
    scene.courier.join(10)
    assert scene.courier.failure is None


class Unreachable:
    """The consumer of a broker that is down: `fails` exchanges, or all."""

    def __init__(self, scene: Scene, fails: int | None) -> None:
        self.inner, self.left = scene.consumer, fails

    def exchange(self, settlements: Sequence[Settlement], limit: int) -> Received:
        if self.left is None or self.left > 0:
            self.left = None if self.left is None else self.left - 1
            raise OperationalError("down")
        return self.inner.exchange(settlements, limit)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def test_finished_work_outlives_an_outage() -> None:
    scene = Scene()
    scene.publish(1)
    (delivery,) = scene.consumer.exchange((), 1).deliveries
    scene.courier.consumer = Unreachable(scene, 3)
    scene.courier.post(Settlement(delivery.queue, delivery.tag, ACK), now=True)
    scene.courier.start()
    until(lambda: scene.broker.stats(["q"])[0].in_flight == 0)
    scene.courier.finish(10)
    assert scene.broker.depth("q") == 0


def test_limits_are_watched_during_an_outage_and_the_end_does_not_wait_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene()
    ticks: list[float] = []
    monkeypatch.setattr(scene.lane, "tick", lambda now: ticks.append(now))
    monkeypatch.setattr("celeriac.worker.courier.FAREWELL", 0.2)
    scene.courier.consumer = Unreachable(scene, None)
    scene.courier.start()
    until(lambda: len(ticks) > 3)
    scene.courier.finish(10)
    assert not scene.courier.is_alive()


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(tmp_path / "a.ledger", create=True)
    made.sign("c", ["q"])
    yield made
    made.close()


def test_only_what_was_posted_is_called_settled(page: Ledger) -> None:
    """The lane marks the ledger first and posts then: a trip between the two must not strike off the mark."""
    scene = Scene(ledger=page)
    scene.publish(2)
    first, second = scene.consumer.exchange((), 2).deliveries
    page.done(0, "q", first.tag)
    scene.courier.post(Settlement("q", first.tag), now=False)
    page.done(0, "q", second.tag)  # not posted yet
    pending: list[Settlement] = []
    scene.courier._collect(pending)
    assert scene.courier._trip(pending, 0) is not None
    assert page.unsettled() == [("q", second.tag)]
    scene.courier.post(Settlement("q", second.tag), now=False)
    scene.courier._collect(pending)
    assert scene.courier._trip(pending, 0) is not None
    assert page.unsettled() == []


def test_it_fails_when_a_task_has_closed_its_descriptors(
    page: Ledger, caplog: pytest.LogCaptureFixture
) -> None:

    scene = Scene(ledger=page)
    copy = os.dup(page.fd)
    os.close(page.fd)
    scene.courier.start()
    assert scene.lost.wait(10)
    scene.courier.join(10)
    assert "file descriptors" in str(scene.courier.failure)
    os.dup2(copy, page.fd)
    os.close(copy)


def test_the_broker_in_memory_is_the_real_one() -> None:
    assert isinstance(Scene().broker, MemoryBroker)
