"""`rpc://` when servers and connections go."""

from __future__ import annotations

import time

import pytest
from tests.servers import RabbitServer

from celeriac.backends.base import StoredResult
from celeriac.backends.rpc import RpcBackend
from celeriac.exceptions import OperationalError
from celeriac.transport.amqp.channel import Channel
from celeriac.transport.amqp.link import Link
from celeriac.transport.amqp.url import parse
from celeriac.wire.message import Message


def a_channel(url: str) -> Channel:
    return Link.dial(parse(url), deadline=time.monotonic() + 30).channel()


def test_a_restarted_server_interrupts_nobody_for_long() -> None:
    server = RabbitServer()
    options = {"broker_write_url": server.url, "result_persistent": True}
    caller, worker = RpcBackend("rpc://", options), RpcBackend("rpc://", options)
    try:
        address = caller.listen()
        watch = caller.watch(["before", "after"])
        worker.store([StoredResult("before", b"1", 60, address)])
        assert watch.wait(30) == {"before": b"1"}
        watch.discard(["before"])  # it may come twice: the server dies before it knows that it has arrived
        server.kill()
        with pytest.raises(OperationalError):
            worker.store([StoredResult("after", b"2", 60, address)])
        server.start()
        worker.store([StoredResult("after", b"2", 60, address)])
        assert watch.wait(40) == {"after": b"2"}
        watch.close()
    finally:
        caller.close()
        worker.close()
        server.stop()


def test_a_persistent_result_waits_in_a_server_that_dies() -> None:
    server = RabbitServer()
    options = {"broker_write_url": server.url, "result_persistent": True, "result_expires": 300}
    worker = RpcBackend("rpc://", options)
    try:
        channel = a_channel(server.url)
        channel.queue_declare("somebody", arguments={"x-expires": 300_000})  # as a caller's, who is away
        worker.store([StoredResult("a", b"1", 60, "somebody")])
        channel.link.close()
        server.kill()
        server.start()
        channel = a_channel(server.url)
        arrival = channel.get("somebody")
        channel.link.close(farewell=1)
        assert arrival is not None
        assert isinstance(arrival.message, Message)
        assert (arrival.message.body, arrival.message.properties["delivery_mode"]) == (b"1", 2)
    finally:
        worker.close()
        server.stop()


def test_asking_again_and_again_moves_no_messages(rabbit_server: RabbitServer) -> None:
    backend = RpcBackend("rpc://", {"broker_write_url": rabbit_server.url})
    sender = RpcBackend("rpc://", {"broker_write_url": rabbit_server.url})
    channel = a_channel(rabbit_server.url)
    try:
        address = backend.listen()
        watch = backend.watch(["a", "b"])
        sender.store([StoredResult(name, b"1", 60, address) for name in ("a", "b", "c")])
        found: dict[str, bytes] = {}
        while len(found) < 2:
            found.update(watch.wait(30))
        for _ in range(100):
            assert backend.load(["a", "b", "d"]) == {"a": b"1", "b": b"1"}
        watch.close()
        backend.close()  # whatever had not been acknowledged would be in the queue again
        again = backend.listen()
        assert channel.queue_declare(again, passive=True).messages == 0
        assert backend.load(["c"]) == {"c": b"1"}
    finally:
        channel.link.close()
        backend.close()
        sender.close()
