"""RabbitMQ holds a delivery by the connection: what keeps that alive, and what follows when it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.conftest import provided
from tests.faults import rabbit
from tests.faults.harness import Journal, Node, check, environment, until
from tests.faults.malformed_amqp import put
from tests.faults.residue import drained, residue
from tests.faults.stores import Store
from tests.faults.stream import Stream
from tests.servers import RabbitServer, RedisServer

from celeriac import Celeriac
from celeriac.brokers.amqp import names
from celeriac.utils.identity import delivery_tag
from celeriac.wire.amqp import AGAIN, CRASHES
from celeriac.wire.message import Message

Start = Callable[..., Node]
BOTH = pytest.mark.parametrize("store", ["rabbitmq", "rabbitmq-quorum"], indirect=True)
CLASSIC = pytest.mark.parametrize("store", ["rabbitmq"], indirect=True)


def send(client: Celeriac, name: str, keys: list[str], *args: object) -> None:
    for key in keys:
        client.send_task(name, (key, *args), task_id=key)


@pytest.fixture
def impatient(rabbit_server: RabbitServer) -> Iterator[None]:
    """Channels made now are closed when a delivery is not acknowledged within 3 s."""
    ask = "[application:get_env(rabbit, Name) || Name <- [consumer_timeout, channel_tick_interval]]"
    assert "undefined" not in rabbit_server.eval(ask)
    rabbit_server.eval(
        "application:set_env(rabbit, consumer_timeout, 3000), "
        "application:set_env(rabbit, channel_tick_interval, 500)"
    )
    yield
    rabbit_server.eval(
        "application:set_env(rabbit, consumer_timeout, 1800000), "
        "application:set_env(rabbit, channel_tick_interval, 60000)"
    )


@BOTH
@pytest.mark.usefixtures("impatient")
def test_tasks_longer_than_the_consumer_timeout_run_once(
    client: Celeriac, store: Store, node: Start, journal: Journal
) -> None:
    """F4: the server closes the channel of whoever holds a delivery for too long, and delivers it again."""
    nodes = [node("-c", "2", name=name) for name in ("a", "b")]
    pids = [one.pid for one in nodes]
    keys = [f"k{i}" for i in range(4)]
    send(client, "record", keys, 10.0)
    until(lambda: journal.ended() == 4, 40, "all have ended")
    until(lambda: drained(client), 20, "and are acknowledged")
    assert journal.count("start") == dict.fromkeys(keys, 1)
    assert all(client.AsyncResult(key).get(timeout=30) == key for key in keys)
    send(client, "record", ["after"], 0.0)
    assert client.AsyncResult("after").get(timeout=30) == "after"
    assert [one.pid for one in nodes] == pids
    assert [one.stop() for one in nodes] == [0, 0]
    assert residue(store) == []


@CLASSIC
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_body_that_holds_the_interpreter_keeps_its_connection(
    client: Celeriac, store: Store, node: Start, journal: Journal, pool: str
) -> None:
    """F8: for much longer than the heartbeat nothing of the process runs but C code."""
    other = node("-c", "1", name="other")
    holder = node("-c", "1", "-P", pool, name="holder")
    until(lambda: "ready" in holder.log or holder.children(), 20)
    other.stop()
    client.send_task("hold", ("h", 20.0), task_id="h")
    until(lambda: journal.count("start")["h"] == 1, 20)
    other.start()
    assert client.AsyncResult("h").get(timeout=40) == "h"
    until(lambda: drained(client), 10)
    assert journal.count("start")["h"] == 1
    assert "Broker lost" not in holder.log
    assert [holder.stop(), other.stop()] == [0, 0]
    assert residue(store) == []


@BOTH
def test_a_stopped_worker_s_task_runs_elsewhere_within_ten_seconds(
    client: Celeriac, store: Store, node: Start, journal: Journal
) -> None:
    """F7: its connection falls silent, and nobody answers for it. When it goes on it stores nothing."""
    nodes = [node("-c", "1", name=name) for name in ("a", "b")]
    client.send_task("record", ("z", 2.0), task_id="z")
    first = until(lambda: [e for e in journal.events() if e.key == "z"], 20)[0]
    zombie = next(one for one in nodes if first.pid in {p.pid for p in one.children()})
    zombie.pause()
    paused = time.monotonic()
    until(lambda: journal.count("start")["z"] == 2, 10, "it runs elsewhere")
    print(f"running elsewhere after {time.monotonic() - paused:.1f} s")
    result = client.AsyncResult("z")
    assert result.get(timeout=30) == "z"
    done = result.date_done
    zombie.resume()
    until(lambda: "LEASE_LOST" in zombie.log, 4, "the zombie notices")
    until(lambda: first.pid not in {p.pid for p in zombie.children()}, 2, "its child is gone")
    until(lambda: drained(client), 10)
    assert result.date_done == done
    assert journal.count("start")["z"] == 2
    assert [one.stop() for one in nodes] == [0, 0]
    assert residue(store) == []


@CLASSIC
def test_cut_connections_run_nothing_twice(
    client: Celeriac, store: Store, node: Start, journal: Journal, rabbit_server: RabbitServer
) -> None:
    """The server closes all connections, again and again: bodies go on, what was not started runs later."""
    nodes = [node("-c", "2", name=name) for name in ("a", "b")]
    keys = [f"k{i}" for i in range(60)]
    send(client, "record", keys, 0.4)
    until(lambda: journal.ended() > 2, 20)
    for _ in range(4):
        rabbit_server.close_all_connections()
        count = journal.ended()
        until(lambda: journal.ended() > count + 4, 10, "it works again")  # noqa: B023
    until(lambda: journal.ended() >= 60 and drained(client), 40, "all have run")
    assert check(keys, journal).lost == set()
    assert journal.count("start") == dict.fromkeys(keys, 1)
    assert [one.stop() for one in nodes] == [0, 0]
    assert residue(store) == []


@CLASSIC
def test_a_process_that_dies_while_it_moves_a_suspect_leaves_one_that_runs(
    client: Celeriac, store: Store, node: Start, journal: Journal, tmp_path: Path
) -> None:
    """Its copy is stored and the delivery is not settled: that comes back once more."""
    (tmp_path / "fired").mkdir()
    extra = {"FAILPOINT": "moved:1:kill", "FAILPOINT_FOLDER": str(tmp_path / "fired")}
    worker = node("-c", "2", extra=extra)
    client.send_task("record", ("k", 1.0), task_id="k")
    first = until(lambda: [event for event in journal.events() if event.key == "k"], 20)[0]
    next(child for child in worker.children() if child.pid == first.pid).kill()
    until(lambda: (tmp_path / "fired" / "moved.1").exists(), 10, "the next one dies as well")
    assert client.AsyncResult("k").get(timeout=30) == "k"
    until(lambda: drained(client), 20, "nothing waits")
    assert journal.count("start")["k"] == 2
    assert worker.stop() == 0
    assert residue(store) == []


@CLASSIC
def test_of_two_copies_of_a_suspect_in_doubt_one_runs(
    client: Celeriac, store: Store, node: Start, journal: Journal
) -> None:
    """Nobody knows either. Two that are marked are read by two processes at once; or one is not, and waits
    behind the one that is."""
    worker = node("-c", "2")
    send(client, "record", ["first"], 0.0)
    assert client.AsyncResult("first").get(timeout=20) == "first"
    assert worker.stop() == 0  # the queues are there
    marks = {AGAIN: 1, CRASHES: 1}
    keys, others = [f"k{i}" for i in range(4)], [f"o{i}" for i in range(3)]
    copy_of = {
        key: Message(
            b'[["%s", 0.0], {}, {}]' % key.encode(),
            "application/json",
            "utf-8",
            {"lang": "py", "task": "record", "id": key, "retries": 0, **marks},
            {"delivery_mode": 2, "message_id": delivery_tag()},
        )
        for key in (*keys, *others)
    }
    for key in (*keys, *keys):
        put(store.broker, names.suspects_queue("faults"), copy_of[key])
    for key in others:
        copy = copy_of[key]
        put(store.broker, names.suspects_queue("faults"), copy)
        headers = {name: value for name, value in copy.headers.items() if name != AGAIN}
        put(store.broker, names.suspects_queue("faults"), copy._replace(headers=headers))
    keys += others
    worker.start()
    until(lambda: journal.ended() == 1 + len(keys) and drained(client), 30, "they have run")
    assert journal.count("start") == dict.fromkeys(["first", *keys], 1)
    assert worker.stop() == 0
    assert residue(store) == []


@pytest.fixture
def server() -> Iterator[RabbitServer]:
    """A RabbitMQ of its own that may be killed."""
    server = provided(RabbitServer)
    yield server
    server.stop()


@pytest.mark.timeout(200)
@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
def test_rabbitmq_is_killed_under_load(
    server: RabbitServer, redis_server: RedisServer, journal: Journal, tmp_path: Path, queue_type: str
) -> None:
    """F13: SIGKILL and restart. Nothing that was confirmed is lost; work goes on within ten seconds."""
    rabbit.introduce(server.url, server)
    redis_server.flush()
    conf = {"task_default_queue_type": queue_type}
    store = Store("rabbitmq", server.url, redis_server.url, conf)
    env = environment(server.url, redis_server.url, journal.path, conf)
    app = Celeriac("stream", broker=server.url, set_as_current=False)
    app.conf.update(task_default_queue="faults", **conf)
    stream = Stream(app, tmp_path / "produced")
    with Node(env, "-c", "2", log=tmp_path / "n1.log") as worker:
        pid = worker.pid
        stream.start()
        until(lambda: journal.ended() > 50, 30)
        time.sleep(12.0)  # RabbitMQ 3.10 writes down the newest quorum queue only some seconds later
        pauses = []
        for _ in range(3):
            server.kill()
            server.start()
            up = time.monotonic()
            count = journal.ended()
            until(lambda: journal.ended() > count + 20, 10, "it works again")  # noqa: B023
            pauses.append(time.monotonic() - up)
        stream.stop()
        until(lambda: not check(stream.returned, journal).lost, 30, "all have run")
        print("seconds to work again:", [round(pause, 1) for pause in pauses])
        assert worker.pid == pid
        # A copy of a publish in doubt waits for some seconds for the first one.
        until(lambda: not rabbit.left(server.url), 60, "nothing is left to run")
        assert worker.stop() == 0
        assert residue(store) == []
        assert not check(stream.returned, journal, stream.unknown).unexpected
    app.close()
