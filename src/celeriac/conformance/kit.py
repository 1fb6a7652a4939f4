"""What the contracts share.

1. `StoreKit`: the fixtures an implementation binds, and the hooks it may override.
2. Small makers and readers of values: `message`, `out`, `ids`.
3. `until`: waits for a condition of another process or thread, with a deadline.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import pytest

from celeriac.backends.base import ResultBackend
from celeriac.brokers.base import Broker, Consumer, ConsumerSpec, Delivery, Outgoing, Settlement
from celeriac.wire.message import Message, Unreadable

__all__ = ["StoreKit", "ack", "ids", "message", "out", "until"]

_consumers = itertools.count(1)


def message(task_id: str, **headers: Any) -> Message:
    """A small task message, as a producer of protocol 2 writes it."""
    return Message(
        body=b'[[2, 3], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]',
        content_type="application/json",
        content_encoding="utf-8",
        headers={"lang": "py", "task": "proj.add", "id": task_id, **headers},
        properties={
            "correlation_id": task_id,
            "reply_to": "",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "celery"},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": f"tag-{task_id}",
        },
    )


def out(task_id: str, queue: str = "celery", **options: Any) -> Outgoing:
    """`Outgoing` of a small message to `queue`."""
    return Outgoing(message(task_id), queue=queue, **options)


def ids(found: Iterable[Delivery | Message | Unreadable]) -> list[str]:
    """Task ids, in order; an unreadable message shows as its reason."""
    messages = (item.message if isinstance(item, Delivery) else item for item in found)
    return [item.reason if isinstance(item, Unreadable) else item.headers["id"] for item in messages]


def ack(*deliveries: Delivery, **options: Any) -> list[Settlement]:
    """Settlements that acknowledge `deliveries`."""
    return [Settlement(delivery.queue, delivery.tag, **options) for delivery in deliveries]


def until(condition: Callable[[], object], *, timeout: float = 30.0, what: str = "the condition") -> None:
    """Return when `condition()` is true; fail after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not come true within {timeout} s")
        time.sleep(0.002)


class StoreKit:
    """Fixtures and hooks. An implementation sets the two classes and overrides `url` and `plant`."""

    broker_class: ClassVar[Callable[[str, Mapping[str, Any]], Broker]]
    backend_class: ClassVar[Callable[[str, Mapping[str, Any]], ResultBackend]]

    #: Seconds of the shortest lease that the store can tell from none.
    blink: ClassVar[float] = 0.02
    #: Seconds of the shortest difference between two due times that the store can tell.
    grain: ClassVar[float] = 0.01
    #: Documents that one test stores, and members of the chords for which many race: less where all is slow.
    many: ClassVar[int] = 3000
    crowds: ClassVar[Sequence[int]] = (3, 8, 24)

    @pytest.fixture
    def url(self) -> str:
        """A store of this test alone. Two brokers made from it are two processes' views of one store."""
        raise NotImplementedError("override the `url` fixture: return the URL of a fresh, empty store")

    @pytest.fixture
    def options(self) -> Mapping[str, Any]:
        """Transport options for brokers and backends."""
        return {}

    def plant(self, url: str, queue: str, raw: bytes) -> None:
        """Put `raw` on `queue` as a foreign producer could."""
        raise NotImplementedError("override `plant`: write raw bytes to the queue, past the broker")

    def cut(self, url: str) -> None:
        """Close all connections to the store from its side. Needed where there are no leases."""
        raise NotImplementedError("override `cut`: close every client's connection")

    @pytest.fixture
    def connect(self, url: str, options: Mapping[str, Any]) -> Iterator[Callable[[], Broker]]:
        """Make another broker on the same store; all are closed at the end."""
        brokers: list[Broker] = []

        def connect() -> Broker:
            brokers.append(type(self).broker_class(url, options))
            return brokers[-1]

        yield connect
        for broker in brokers:
            broker.close()

    @pytest.fixture
    def broker(self, connect: Callable[[], Broker]) -> Broker:
        return connect()

    @pytest.fixture
    def connect_backend(self, url: str, options: Mapping[str, Any]) -> Iterator[Callable[[], ResultBackend]]:
        """Make another backend on the same store; all are closed at the end."""
        backends: list[ResultBackend] = []

        def connect() -> ResultBackend:
            backends.append(type(self).backend_class(url, options))
            return backends[-1]

        yield connect
        for backend in backends:
            backend.close()

    @pytest.fixture
    def backend(self, connect_backend: Callable[[], ResultBackend]) -> ResultBackend:
        return connect_backend()

    def consumer(self, broker: Broker, *queues: str, **options: Any) -> tuple[str, Consumer]:
        """A consumer of `queues` (default: celery) with a lease that will not lapse by itself, and its id."""
        spec = ConsumerSpec(
            f"consumer-{next(_consumers)}", queues or ("celery",), **{"ttl": 600.0, **options}
        )
        return spec.id, broker.consumer(spec)

    def lapse(self, broker: Broker, consumer: str, queues: Sequence[str] = ("celery",)) -> int:
        """Let the lease of `consumer` lapse, sweep, and return what `sweep` says."""
        before = broker.stats(queues)[0].consumers
        assert broker.beat({consumer: queues}, ttl=self.blink) == []
        until(lambda: broker.stats(queues)[0].consumers < before, what="the lapse of the lease")
        return broker.sweep(queues)

    def drain(self, consumer: Consumer, *, limit: int = 100) -> list[Delivery]:
        """Take and acknowledge until nothing comes; return all deliveries in order."""
        taken: list[Delivery] = []
        received = consumer.exchange((), limit)
        while received.deliveries:
            taken += received.deliveries
            received = consumer.exchange(ack(*received.deliveries), limit)
        return taken
