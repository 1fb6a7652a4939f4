"""Results over `rpc://`: Celery's client reads ours, ours reads Celery's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.compat.conftest import Place
from tests.faults.harness import ROOT, Node
from tests.servers import RabbitServer

from celeriac import Celeriac, group
from celeriac.backends.base import StoredResult
from celeriac.backends.rpc import RpcBackend
from celeriac.exceptions import ImproperlyConfigured
from celeriac.transport.amqp.channel import Channel
from celeriac.transport.amqp.link import Link
from celeriac.transport.amqp.url import parse
from celeriac.transport.amqp.values import Arrival
from celeriac.wire.message import Message
from celeriac.wire.protocol import write
from celeriac.wire.results import decode_result, encode_result, rebuild_exception

Peer = Callable[..., Any]


@pytest.fixture
def place(rabbit_server: RabbitServer) -> Iterator[Place]:
    url = rabbit_server.vhost()
    yield Place("rpc", url, "rpc://", {}, None, None)
    rabbit_server.drop_vhost(url)


@pytest.fixture
def channel(place: Place) -> Iterator[Channel]:
    link = Link.dial(parse(place.broker), deadline=time.monotonic() + 30)
    yield link.channel()
    link.close(farewell=1)


@pytest.fixture
def backend(place: Place) -> Iterator[RpcBackend]:
    backend = RpcBackend("rpc://", {"broker_write_url": place.broker})
    yield backend
    backend.close()


def awaited(channel: Channel, queue: str, timeout: float = 60.0) -> Arrival:
    deadline = time.monotonic() + timeout
    while (arrival := channel.get(queue)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    channel.ack(arrival.delivery_tag)
    return arrival


# -- their worker, our client -------------------------------------------------------------------------------


def test_their_result_comes_to_our_reply_queue(theirs: Node, backend: RpcBackend, channel: Channel) -> None:
    calls = {"add": (2, 3), "fail": ("no way",)}
    watch = backend.watch()
    address = backend.listen()
    watch.add(calls)
    channel.queue_declare("faults")
    for name, args in calls.items():
        channel.publish("", "faults", write(name=name, id=name, args=args, reply_to=address))
    channel.link.flush()
    found: dict[str, bytes] = {}
    while found.keys() != calls.keys():
        news = watch.wait(40)
        assert news, found
        found.update(news)
    watch.close()
    value, failure = decode_result(found["add"]), decode_result(found["fail"])
    assert (value.status, value.result, value.task_id) == ("SUCCESS", 5, "add")
    error = rebuild_exception(failure.result)
    assert (failure.status, type(error), error.args) == ("FAILURE", ValueError, ("no way",))
    assert backend.load(["add"]) == {"add": found["add"]}  # for whoever asks later


# -- their client, our result -------------------------------------------------------------------------------


def start_peer(celery_python: str, env: dict[str, str], scenario: str) -> subprocess.Popen[str]:
    command = [celery_python, str(ROOT / "tests" / "compat" / "peer.py"), scenario]
    return subprocess.Popen(command, env={**env, "PYTHONPATH": ""}, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("scenario", ["plain", "error"])
def test_our_result_comes_to_their_reply_queue(
    celery_python: str, env: dict[str, str], backend: RpcBackend, channel: Channel, scenario: str
) -> None:
    channel.queue_declare("faults")
    with start_peer(celery_python, env, scenario) as peer:
        message = awaited(channel, "faults").message
        assert isinstance(message, Message)
        reply_to, task_id = message.properties["reply_to"], message.headers["id"]
        end: tuple[str, Any, str | None] = ("SUCCESS", 5, None)
        if scenario == "error":
            end = ("FAILURE", ValueError("no way"), "the task fail raised")
        document = encode_result(task_id, end[0], end[1], traceback=end[2])
        backend.store([StoredResult(task_id, document, 60, reply_to)])
        assert peer.stdout is not None
        seen = json.loads(peer.stdout.read())
        assert peer.wait(60) == 0
    assert seen == (5 if scenario == "plain" else ["ValueError", "no way", "FAILURE", True])


def test_our_result_looks_as_theirs(theirs: Node, backend: RpcBackend, channel: Channel) -> None:
    """What Celery's worker writes to a reply queue, and what we write, differ in the date alone."""
    channel.queue_declare("faults")
    channel.queue_declare("replies")
    channel.publish("", "faults", write(name="add", id="a-1", args=(2, 3), reply_to="replies"))
    channel.link.flush()
    their = awaited(channel, "replies").message
    backend.store([StoredResult("a-1", encode_result("a-1", "SUCCESS", 5), 60, "replies")])
    our = awaited(channel, "replies").message
    assert isinstance(our, Message)
    assert isinstance(their, Message)
    assert our[1:] == their[1:]
    documents = [{**json.loads(message.body), "date_done": None} for message in (our, their)]
    assert list(documents[0]) == list(documents[1])
    assert documents[0] == documents[1]


# -- what belongs to one process alone ----------------------------------------------------------------------


def test_results_wait_while_the_connection_is_lost(rabbit_server: RabbitServer, backend: RpcBackend) -> None:
    address = backend.listen()
    watch = backend.watch(["a-1"])
    rabbit_server.close_all_connections()
    sender = RpcBackend("rpc://", {"broker_write_url": backend.server.url.replace("**", "guest")})
    sender.store([StoredResult("a-1", b"{}", 60, address)])
    assert watch.wait(30) == {"a-1": b"{}"}
    watch.close()
    sender.close()


def test_a_kept_connection_that_died_is_replaced(rabbit_server: RabbitServer, backend: RpcBackend) -> None:
    sender = RpcBackend("rpc://", {"broker_write_url": backend.server.url.replace("**", "guest")})
    watch = backend.watch()
    address = backend.listen()
    watch.add(["1", "2"])
    sender.store([StoredResult("1", b"{}", 60, address)])
    assert watch.wait(30) == {"1": b"{}"}
    rabbit_server.close_all_connections()
    sender.store([StoredResult("2", b"{}", 60, address)])
    assert watch.wait(30) == {"2": b"{}"}
    watch.close()
    sender.close()


def test_a_forked_child_has_a_queue_of_its_own(place: Place) -> None:
    code = """
import os, sys
from celeriac import Celeriac, group
from celeriac.backends.base import StoredResult
from celeriac.backends.rpc import RpcBackend
backend = RpcBackend("rpc://", {"broker_write_url": sys.argv[1]})
mine = backend.listen()
watch = backend.watch(["a"])
if (pid := os.fork()) == 0:
    assert backend.address != mine
    assert backend.load(["a"]) == {}
    backend.store([StoredResult("a", b"1", 60, mine)])
    own = backend.listen()
    watch = backend.watch(["b"])
    sender = RpcBackend("rpc://", {"broker_write_url": sys.argv[1]})
    sender.store([StoredResult("b", b"2", 60, own)])
    assert watch.wait(30) == {"b": b"2"}
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
assert watch.wait(30) == {"a": b"1"}
backend.close()
"""
    done = subprocess.run(
        [sys.executable, "-c", code, place.broker], env={**os.environ}, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_closing_deletes_the_reply_queue(backend: RpcBackend, channel: Channel) -> None:
    address = backend.listen()
    assert channel.queue_declare(address, passive=True).consumers == 1
    backend.close()
    assert channel.queue_delete(address) == 0
    again = backend.listen()
    assert again != address
    assert channel.queue_declare(again, passive=True).consumers == 1


def test_another_brokers_url_is_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match="redis://"):
        RpcBackend("rpc://", {"broker_write_url": "redis://localhost"})


# -- whole fleets -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scenario", "expected"),
    [
        ("plain", 5),
        ("retry", 2),
        ("chain", 112),
        ("members", [1, 2, 3, 4, 5]),
        ("error", ["ValueError", "no way", "FAILURE", True]),
    ],
)
def test_their_client_and_our_worker(peer: Peer, ours: Node, scenario: str, expected: Any) -> None:
    assert peer(scenario) == expected


def everything_comes_back(client: Celeriac) -> None:
    add = client.signature("add", (1, 1))
    assert client.send_task("add", (2, 3)).get(timeout=20) == 5
    assert (add | client.signature("add", (10,)) | client.signature("add", (100,)))().get(timeout=20) == 112
    members = group(client.signature("add", (number, 1)) for number in range(20))()
    assert members.get(timeout=20) == list(range(1, 21))
    assert client.send_task("flaky", ("rpc",), {"until": 2, "countdown": 0}).get(timeout=20) == 2
    failed = client.send_task("fail", ("no way",))
    with pytest.raises(ValueError, match="no way"):
        failed.get(timeout=20)
    assert (failed.state, failed.failed()) == ("FAILURE", True)
    # asked for late, by another object of the same process
    again = client.AsyncResult(failed.id)
    assert again.state == "FAILURE"


def test_our_client_and_their_worker(client: Celeriac, theirs: Node) -> None:
    everything_comes_back(client)


def test_our_client_and_our_worker(client: Celeriac, ours: Node) -> None:
    everything_comes_back(client)
    in_threads: list[Any] = []

    def ask(number: int) -> None:
        in_threads.append(client.send_task("add", (number, 0)).get(timeout=20))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(in_threads) == list(range(8))


def test_a_stranger_is_told_that_no_result_can_come(client: Celeriac) -> None:
    with pytest.raises(ImproperlyConfigured, match="made none"):
        client.AsyncResult("somebody-elses").get(timeout=1)
    with pytest.raises(NotImplementedError, match="groups"):
        client.GroupResult("g", []).save()
