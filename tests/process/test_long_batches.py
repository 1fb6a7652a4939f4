"""Batches that are made part by part, and a publisher that fails half-way."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator

import pytest
from tests.faults.network import Network
from tests.servers import PostgresServer, RabbitServer

from celeriac.brokers.base import Broker, ConsumerSpec, Outgoing, Settlement
from celeriac.exceptions import EncodeError
from celeriac.plugins import broker_from_url
from celeriac.utils.bulk import Composed
from celeriac.wire.message import Message

COUNT = 2_600
FAILS_AT = 1_700
Failure = Callable[[], None]


@pytest.fixture(params=["rabbit_server", "postgres_server"])
def place(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    """A URL of our own, and the port in it."""
    server: RabbitServer | PostgresServer = request.getfixturevalue(request.param)
    url = server.vhost() if isinstance(server, RabbitServer) else server.database()
    yield url, server.port
    if isinstance(server, RabbitServer):
        server.drop_vhost(url)


def connected(url: str) -> Broker:
    return broker_from_url(url, {})


def single(id: str, name: str = "") -> Outgoing:
    properties = {"delivery_mode": 2, "delivery_tag": name or str(uuid.uuid4())}
    message = Message(b"[]", "application/json", "utf-8", {"task": "t", "id": id}, properties)
    return Outgoing(message, queue="long")


def batch(failure: Failure) -> Composed[Outgoing]:
    """Messages of one part after the other; `failure` happens while a late one is made, once."""
    pending = [failure]
    names = [str(uuid.uuid4()) for _ in range(COUNT)]

    def make(part: slice) -> list[Outgoing]:
        wanted = range(COUNT)[part]
        if wanted and wanted[-1] >= FAILS_AT and pending:
            pending.pop()()
        return [single(f"{n}", names[n]) for n in wanted]

    return Composed(COUNT, make)


def drained(broker: Broker, wanted: set[str]) -> list[str]:
    """Ids in the order of their arrival, until all that are wanted are there."""
    consumer = broker.consumer(ConsumerSpec(str(uuid.uuid4()), ["long"], 60.0))
    found: list[str] = []
    settled: list[Settlement] = []
    deadline = time.monotonic() + 60
    while not wanted <= set(found) and time.monotonic() < deadline:
        got = list(consumer.exchange(settled, 1000).deliveries)
        settled = [Settlement(one.queue, one.tag) for one in got]
        found += [one.message.headers["id"] for one in got if isinstance(one.message, Message)]
        if not got:
            consumer.wait(1.0)
    consumer.exchange(settled, 0)
    consumer.close()
    return found


def test_one_that_cannot_be_written_ends_the_batch(place: tuple[str, int]) -> None:
    """All before it in its queue, or nothing; never a part twice, and the next call is as good as any."""

    def fails() -> None:
        raise EncodeError("an argument that nobody can write")

    broker = connected(place[0])
    try:
        with pytest.raises(EncodeError):
            broker.publish(batch(fails), timeout=30)
        broker.publish([single("after")])
        found = drained(broker, {"after"})
        assert found[-1] == "after"
        assert found[:-1] == [f"{n}" for n in range(len(found) - 1)]
        assert len(found) - 1 < FAILS_AT
    finally:
        broker.close()


def test_a_connection_that_is_cut_half_way_costs_nothing(place: tuple[str, int]) -> None:
    """All are stored. A part that was on its way may be there twice, under the same names: whoever receives
    it knows (`AGAIN` on RabbitMQ)."""
    url, port = place
    with Network(port, "") as network:
        broker = connected(network.url(url))
        reader = connected(url)
        try:
            broker.publish([single("0")])
            assert drained(reader, {"0"}) == ["0"]
            broker.publish(batch(network.cut), timeout=30)
            found = drained(reader, {f"{n}" for n in range(COUNT)})
            assert sorted(set(found), key=int) == [f"{n}" for n in range(COUNT)]
            twice = len(found) - COUNT
            assert twice == 0 or not reader.capabilities.leases
        finally:
            broker.close()
            reader.close()
