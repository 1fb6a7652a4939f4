"""`brokers.split`: published there, taken from here."""

from __future__ import annotations

import uuid

import pytest

from celeriac import Celeriac
from celeriac.brokers.base import Broker, ConsumerSpec, Settlement
from celeriac.brokers.memory import MemoryBroker
from celeriac.brokers.split import SplitBroker
from celeriac.conformance.kit import ids, out
from celeriac.exceptions import OperationalError


@pytest.fixture
def read() -> MemoryBroker:
    return MemoryBroker(f"memory://{uuid.uuid4()}", {})


@pytest.fixture
def write() -> MemoryBroker:
    return MemoryBroker(f"memory://{uuid.uuid4()}", {})


@pytest.fixture
def split(read: MemoryBroker, write: MemoryBroker) -> SplitBroker:
    return SplitBroker(read, write)


def test_publishes_go_there_and_deliveries_come_from_here(
    split: SplitBroker, read: Broker, write: Broker
) -> None:
    split.publish([out("a")])
    assert (split.depth("celery"), write.depth("celery")) == (0, 1)
    read.publish([out("b")])
    assert ids(split.consumer(ConsumerSpec("c1", ["celery"])).exchange((), 5).deliveries) == ["b"]
    assert not split.capabilities.atomic_settle


def test_followups_are_published_once_though_the_settlement_is_repeated(
    split: SplitBroker, read: Broker, write: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    read.publish([out("b")])
    inner = read.consumer(ConsumerSpec("c2", ["celery"]))
    monkeypatch.setattr(read, "consumer", lambda spec: inner)
    consumer = split.consumer(ConsumerSpec("c2", ["celery"]))
    (b,) = consumer.exchange((), 5).deliveries
    end = Settlement(b.queue, b.tag, followups=[out("next")])
    works = inner.exchange

    def fails(*args: object) -> None:
        raise OperationalError("the read broker is away")

    monkeypatch.setattr(inner, "exchange", fails)
    with pytest.raises(OperationalError):
        consumer.exchange([end], 0)
    monkeypatch.setattr(inner, "exchange", works)
    assert consumer.exchange([end], 5).deliveries == []
    assert ids(write.browse("celery", 10)) == ["next"]
    assert split.stats(["celery"])[0].in_flight == 0


def test_the_settings_make_it() -> None:
    app = Celeriac("x", set_as_current=False)
    app.conf.update(broker_read_url="memory://r", broker_write_url="memory://w")
    assert isinstance(app.broker, SplitBroker)
    app.broker.publish([out("a")])
    assert app.broker.depth("celery") == 0
    app.conf.broker_read_url = "memory://w"
    assert not isinstance(app.broker, SplitBroker)
