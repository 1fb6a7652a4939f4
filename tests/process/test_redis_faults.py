"""Redis when the network or the server misbehaves: nothing is lost, nothing is stored twice, nobody hangs."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import pytest
from tests.proxy import Proxy
from tests.servers import RedisServer

from celeriac.backends.base import StoredResult
from celeriac.backends.redis import RedisBackend
from celeriac.brokers.alike import Alike, Draft
from celeriac.brokers.base import ConsumerSpec, Outgoing
from celeriac.brokers.redis import RedisBroker, bulk
from celeriac.brokers.redis.consumer import RedisConsumer
from celeriac.conformance.kit import ack, ids, message, out, until
from celeriac.exceptions import EncodeError, OperationalError
from celeriac.wire.pattern import Pattern
from celeriac.wire.protocol import write

PLACE: Final = ("celery", "", "", 0, None, None)
_names = itertools.count(1)
Connect = Callable[..., RedisBroker]


@pytest.fixture
def server(redis_server: RedisServer) -> RedisServer:
    redis_server.flush()
    return redis_server


@pytest.fixture
def proxy(server: RedisServer) -> Iterator[Proxy]:
    with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def connect() -> Iterator[Connect]:
    made: list[RedisBroker] = []

    def connect(url: str, **options: object) -> RedisBroker:
        made.append(RedisBroker(url, options))
        return made[-1]

    yield connect
    for broker in made:
        broker.close()


def consumer_of(broker: RedisBroker, *queues: str, ttl: float = 60.0) -> RedisConsumer:
    return broker.consumer(ConsumerSpec(f"c{next(_names)}", queues or ("celery",), ttl=ttl))


# -- a lost reply ----------------------------------------------------------------------------------------


def test_a_publish_whose_reply_was_lost_is_stored_once(
    proxy: Proxy, server: RedisServer, connect: Connect
) -> None:
    broker, looker = connect(proxy.url), connect(server.url)
    broker.publish([out("first")])
    for n in range(20):
        proxy.drop_reply(b"EVALSHA")
        broker.publish([out(f"{n}")])
        assert proxy.dropped.is_set()
        assert looker.depth("celery") == n + 2


def test_a_batch_whose_reply_was_lost_is_stored_once_in_every_queue(
    proxy: Proxy, server: RedisServer, connect: Connect
) -> None:
    broker, looker = connect(proxy.url), connect(server.url)
    proxy.drop_reply(b"EVALSHA")
    broker.publish(
        [*(out(f"{n}", "many") for n in range(2500)), out("x", "other"), out("y", "other", countdown=60)]
    )
    assert proxy.dropped.is_set()
    assert (looker.depth("many"), looker.depth("other")) == (2500, 1)
    assert looker.stats(["other"])[0].delayed == 1


def test_a_late_publish_of_a_dead_connection_is_not_stored_again(
    proxy: Proxy, server: RedisServer, connect: Connect
) -> None:
    broker, looker = connect(proxy.url), connect(server.url)
    broker.publish([out("first")])
    proxy.hold(b"EVALSHA")
    broker.publish([out("second")])
    assert proxy.held.is_set()
    proxy.let_go()
    assert looker.depth("celery") == 2


def alike(count: int, end: Callable[[], object] = object) -> Alike:
    """Calls of one task; `end()` is called while the last is written."""
    made = partial(write, name="t", routing_key="celery")

    class Last(Pattern):
        def envelope(self, *call: Any) -> bytes:
            end()
            return super().envelope(*call)

    pattern = Pattern(made)
    drafts = [Draft(pattern, f"{n}", (n,), None, n) for n in range(count - 1)]
    return Alike([*drafts, Draft(Last(made), f"{count - 1}", (), None, None)], PLACE)


@pytest.mark.parametrize(
    ("count", "word"),
    [(20, b"EVALSHA"), *((bulk.LONG, word) for word in (b"WATCH", b"SET", b"LPUSH", b"EXEC"))],
)
def test_calls_that_are_alike_are_stored_once_when_a_reply_was_lost(
    proxy: Proxy, server: RedisServer, connect: Connect, count: int, word: bytes
) -> None:
    broker, looker = connect(proxy.url), connect(server.url)
    broker.publish([out("first")])
    proxy.drop_reply(word)
    broker.publish(alike(count))
    assert proxy.dropped.is_set()
    assert ids(looker.browse("celery", 10_000)) == ["first", *(f"{n}" for n in range(count))]


@pytest.mark.parametrize(("count", "word"), [(20, b"EVALSHA"), (bulk.LONG, b"EXEC")])
def test_calls_that_are_alike_are_not_stored_again_by_a_late_try(
    proxy: Proxy, server: RedisServer, connect: Connect, count: int, word: bytes
) -> None:
    broker, looker = connect(proxy.url), connect(server.url)
    broker.publish([out("first")])
    proxy.hold(word)
    broker.publish(alike(count))
    assert proxy.held.is_set()
    proxy.let_go()
    assert looker.depth("celery") == 1 + count


def test_of_two_tries_that_meet_one_is_stored(server: RedisServer, connect: Connect) -> None:
    """The late try of a connection that was given up ends while the second writes."""
    broker = connect(server.url)
    count = bulk.LONG
    deadline = time.monotonic() + 20
    links = [broker._pool.open(b"", deadline) for _ in range(2)]
    late = partial(bulk.store, alike(count), b"a-producer", b"celery", 7, links[0], deadline)
    bulk.store(alike(count, late), b"a-producer", b"celery", 7, links[1], deadline)
    assert broker.depth("celery") == count
    bulk.store(alike(count), b"a-producer", b"celery", 8, links[1], deadline)
    assert broker.depth("celery") == 2 * count
    for link in links:
        link.close()


@pytest.mark.parametrize("count", [bulk.LONG - 1, 10 * bulk.LONG])
def test_nothing_is_stored_when_one_cannot_be_written(
    server: RedisServer, connect: Connect, count: int
) -> None:
    broker = connect(server.url)

    def fails() -> None:
        raise EncodeError("an argument that nobody can write")

    with pytest.raises(EncodeError):
        broker.publish(alike(count, fails))
    assert broker.depth("celery") == 0
    broker.publish(alike(count))
    assert broker.depth("celery") == count


def test_a_queue_that_is_no_list_refuses_a_long_batch(server: RedisServer, connect: Connect) -> None:
    broker = connect(server.url)
    server.send("SET", "celery", b"text")
    with pytest.raises(OperationalError, match="WRONGTYPE"):
        broker.publish(alike(bulk.LONG))


def test_an_exchange_whose_reply_was_lost_hands_out_what_it_took(
    proxy: Proxy, server: RedisServer, connect: Connect
) -> None:
    broker = connect(proxy.url)
    broker.publish([out(f"{n}") for n in range(6)])
    consumer = consumer_of(broker)
    first = consumer.exchange((), 2).deliveries
    proxy.drop_reply(b"EVALSHA")
    received = consumer.exchange(ack(*first, followups=[out("f", "other")]), 2)
    assert proxy.dropped.is_set()
    assert not received.stale
    assert not received.lost
    assert ids(received.deliveries) == ["4", "5", "2", "3"]  # the repetition's, then what was in the air
    assert broker.depth("other") == 2
    consumer.exchange(ack(*received.deliveries), 0)
    assert broker.stats(["celery"])[0][1:] == (0, None, 0, 0, 0, 1)


def test_a_late_exchange_of_a_dead_connection_strands_nothing(
    proxy: Proxy, server: RedisServer, connect: Connect
) -> None:
    broker = connect(proxy.url)
    broker.publish([out(f"{n}") for n in range(4)])
    consumer = consumer_of(broker)
    consumer.exchange((), 0)
    proxy.hold(b"EVALSHA")
    taken = consumer.exchange((), 2).deliveries
    assert proxy.held.is_set()
    assert ids(taken) == ["0", "1"]
    proxy.let_go()  # now the server takes two more for us, and nobody hears of it
    found = list(consumer.exchange(ack(*taken), 0).deliveries)
    until(lambda: found or found.extend(consumer.exchange((), 0).deliveries))
    assert ids(found) == ["2", "3"]


def test_settlements_repeated_after_an_error_are_not_called_stale(
    proxy: Proxy, server: RedisServer, connect: Connect
) -> None:
    broker = connect(proxy.url, socket_timeout=0.3)
    broker.publish([out("a"), out("b")])
    consumer = consumer_of(broker)
    a, b = consumer.exchange((), 2).deliveries
    settlements = [*ack(a), *ack(b, followups=[out("f", "other")])]
    proxy.blackhole()
    with pytest.raises(OperationalError):
        consumer.exchange(settlements, 1)
    proxy.heal()
    received = consumer.exchange(settlements, 1)
    assert not received.stale
    looker = connect(server.url)
    until(lambda: looker.stats(["celery"])[0].in_flight == 0)
    assert looker.depth("other") == 1


# -- servers that forget, die, stall ---------------------------------------------------------------------


def test_scripts_are_loaded_anew_after_script_flush(server: RedisServer, connect: Connect) -> None:
    broker = connect(server.url)
    consumer = consumer_of(broker)
    for n in range(3):
        server.send("SCRIPT", "FLUSH")
        broker.publish([out(f"{n}")])
        server.send("SCRIPT", "FLUSH")
        broker.publish([out(f"{n}-later", countdown=60), out(f"{n}-x", "other")])
        server.send("SCRIPT", "FLUSH")
        assert ids(consumer.exchange((), 5).deliveries) == [f"{n}"]
        server.send("SCRIPT", "FLUSH")
        consumer.wait(0.01)


def test_flushall_is_told_as_a_lost_lease_and_ends_a_wait(server: RedisServer, connect: Connect) -> None:
    consumer = consumer_of(connect(server.url))
    assert not consumer.exchange((), 1).deliveries
    ended = threading.Event()
    thread = threading.Thread(target=lambda: (consumer.wait(20), ended.set()))
    thread.start()
    until(lambda: b"tracking_total_keys:0" not in server.send("INFO", "stats"))
    server.flush()
    assert ended.wait(15)
    thread.join()
    assert consumer.exchange((), 1).lost


def test_a_killed_server_is_found_again_with_everything(connect: Connect) -> None:
    server = RedisServer("--appendfsync", "always")
    try:
        broker = connect(server.url)
        broker.publish([out("a")])
        consumer = consumer_of(broker)
        (a,) = consumer.exchange((), 5).deliveries
        broker.publish([out("b")])
        server.kill()
        with pytest.raises(OperationalError):
            broker.publish([out("never")], timeout=0.2)
        waited = time.monotonic()
        consumer.wait(20)  # no server: no use in waiting
        assert time.monotonic() - waited < 5
        starter = threading.Thread(target=server.start)
        starter.start()
        broker.publish([out("c")], timeout=20)
        received = consumer.exchange(ack(a), 5)
        starter.join()
        assert not received.stale
        assert ids(received.deliveries) == ["b", "c"]
    finally:
        server.stop()


@pytest.mark.parametrize("connected", [False, True])
def test_publish_raises_in_time_when_the_server_never_answers(
    proxy: Proxy, connect: Connect, connected: bool
) -> None:
    broker = connect(proxy.url)
    if connected:
        broker.publish([out("a")])
    proxy.blackhole()
    for timeout in (0.1, 0.5):
        begun = time.monotonic()
        with pytest.raises(OperationalError):
            broker.publish([out("b")], timeout=timeout)
        assert time.monotonic() - begun < timeout + 3
    proxy.heal()
    broker.publish([out("c")])


def test_a_large_publish_raises_in_time_when_the_server_stops_reading(
    server: RedisServer, connect: Connect
) -> None:
    broker = connect(server.url)
    broker.publish([out("a")])
    padding = "x" * 100_000
    batch = [Outgoing(message(f"{n}", padding=padding), queue="celery") for n in range(200)]
    server.freeze()
    try:
        begun = time.monotonic()
        with pytest.raises(OperationalError):
            broker.publish(batch, timeout=0.5)
        assert time.monotonic() - begun < 10  # the batch is encoded first
    finally:
        server.thaw()


def test_publish_says_that_nobody_listens(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    with pytest.raises(OperationalError, match="Is it running"):
        connect(f"redis://127.0.0.1:{port}/0").publish([out("a")], timeout=0.2)


def test_a_full_server_refuses_clearly_and_serves_again(connect: Connect) -> None:
    server = RedisServer("--maxmemory-policy", "noeviction")
    try:
        broker = connect(server.url)
        broker.publish([out("a")])
        consumer = consumer_of(broker)
        (a,) = consumer.exchange((), 1).deliveries
        server.send("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(OperationalError, match="Free memory"):
            broker.publish([out("b")])
        server.send("CONFIG", "SET", "maxmemory", "0")
        broker.publish([out("b")])
        assert ids(consumer.exchange(ack(a), 1).deliveries) == ["b"]
    finally:
        server.stop()


def test_replies_may_come_byte_by_byte(proxy: Proxy, connect: Connect) -> None:
    proxy.dribble = True
    broker = connect(proxy.url)
    broker.publish([out("a"), out("b")])
    consumer = consumer_of(broker)
    received = consumer.exchange((), 2)
    assert ids(received.deliveries) == ["a", "b"]
    consumer.exchange(ack(*received.deliveries), 0)
    assert broker.stats(["celery"])[0].in_flight == 0


def test_a_demoted_master_is_waited_for(server: RedisServer, connect: Connect) -> None:
    broker = connect(server.url)
    broker.publish([out("a")])
    server.send("REPLICAOF", "127.0.0.1", "1")
    begun = time.monotonic()
    with pytest.raises(OperationalError, match=r"READONLY|MASTERDOWN"):
        broker.publish([out("b")], timeout=0.3)
    assert time.monotonic() - begun < 4
    healer = threading.Timer(0.3, lambda: server.send("REPLICAOF", "NO", "ONE"))
    healer.start()
    broker.publish([out("c")], timeout=10)
    healer.join()
    assert broker.depth("celery") == 2


# -- foreign producers and old servers -------------------------------------------------------------------


@pytest.mark.parametrize("key", ["celery", "celery\x06\x163", "celery\x06\x169", "other"])
def test_a_foreign_lpush_wakes_a_waiting_consumer(server: RedisServer, connect: Connect, key: str) -> None:
    consumer = consumer_of(connect(server.url), "celery", "other")
    for _ in range(3):
        assert not consumer.exchange((), 1).deliveries
        thread = threading.Thread(target=consumer.wait, args=(4,))
        thread.start()
        until(lambda: b"tracking_total_keys:0" not in server.send("INFO", "stats"))
        pushed = time.monotonic()
        server.send("LPUSH", key, "{}")
        thread.join(10)
        assert time.monotonic() - pushed < 2
        taken = consumer.exchange((), 1).deliveries
        assert len(taken) == 1
        consumer.exchange(ack(*taken), 0)


def test_a_server_without_resp3_serves_by_looking_often(
    proxy: Proxy, server: RedisServer, connect: Connect
) -> None:
    proxy.no_resp3 = True
    broker = connect(proxy.url)
    broker.publish([out("a", countdown=0.1), out("b")])
    consumer = consumer_of(broker)
    assert ids(consumer.exchange((), 5).deliveries) == ["b"]
    deadline = time.monotonic() + 10
    while not (received := consumer.exchange((), 5)).deliveries and time.monotonic() < deadline:
        consumer.wait(5)
    assert ids(received.deliveries) == ["a"]
    timer = threading.Timer(0.1, lambda: connect(server.url).publish([out("c")]))
    timer.start()
    begun = time.monotonic()
    consumer.wait(20)
    assert time.monotonic() - begun < 10
    timer.join()
    assert ids(consumer.exchange((), 5).deliveries) == ["c"]
    assert broker.stats(["celery"])[0].in_flight == 3
    assert broker.sweep(["celery"]) == 0
    backend = RedisBackend(proxy.url, {})
    watch = backend.watch(["t"])
    backend.store([StoredResult("t", b"1", 9)])
    assert watch.wait(5) == {"t": b"1"}
    watch.add(["t2"])
    backend.store([StoredResult("t2", b"2", 9)])
    until(lambda: "t2" in watch.wait(5))
    watch.close()
    backend.close()


# -- results ---------------------------------------------------------------------------------------------


def test_a_watch_finds_what_was_stored_while_its_connection_was_lost(
    proxy: Proxy, server: RedisServer
) -> None:
    backend, writer = RedisBackend(proxy.url, {}), RedisBackend(server.url, {})
    watch = backend.watch(["a", "b"])
    writer.store([StoredResult("a", b"1", 60)])
    assert watch.wait(5) == {"a": b"1"}
    proxy.cut()
    writer.store([StoredResult("b", b"2", 60)])
    found: dict[str, bytes] = {}
    deadline = time.monotonic() + 10
    while "b" not in found and time.monotonic() < deadline:
        found.update(watch.wait(1))
    assert found["b"] == b"2"
    watch.close()
    backend.close()
    writer.close()


def test_store_is_repeated_when_its_reply_was_lost(proxy: Proxy, server: RedisServer) -> None:
    backend = RedisBackend(proxy.url, {})
    backend.store([StoredResult("a", b"1", 60)])
    proxy.drop_reply(b"SET")
    backend.store([StoredResult("a", b"2", 60)])
    assert proxy.dropped.is_set()
    assert backend.load(["a"]) == {"a": b"2"}
    backend.close()


def test_a_signal_in_the_middle_of_a_call_leaves_no_link_out_of_step(proxy: Proxy, connect: Connect) -> None:
    import signal

    class Interrupted(Exception):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupted

    broker = connect(proxy.url)
    broker.publish([out("a")])
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        proxy.blackhole()
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(Interrupted):
            broker.publish([out("b")], timeout=20)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    proxy.heal()
    assert broker.describe().startswith(("Redis", "Valkey"))
    broker.publish([out("c")])
    until(lambda: broker.depth("celery") >= 2)


# -- a queue that Celery's workers may serve -------------------------------------------------------------


def test_a_message_that_says_when_it_is_due_is_delayed_only_where_a_consumer_of_ours_is_alive(
    server: RedisServer, connect: Connect
) -> None:
    broker = connect(server.url)
    due = time.time() + 60
    speaking = [
        Outgoing(message("a", eta="2100-01-01T00:00:00+00:00"), queue="celery", due=due),
        Outgoing(message("b", eta="2100-01-01T00:00:00+00:00"), queue="celery", countdown=60),
    ]
    broker.publish([*speaking, out("mute", due=due)])
    assert (broker.depth("celery"), broker.stats(["celery"])[0].delayed) == (2, 1)
    consumer = consumer_of(broker)
    taken = consumer.exchange((), 5).deliveries
    moved = [end._replace(followups=[again]) for end, again in zip(ack(*taken), speaking, strict=True)]
    consumer.exchange([*moved], 0)
    broker.publish(speaking)
    assert (broker.depth("celery"), broker.stats(["celery"])[0].delayed) == (0, 5)
    lonely = [each._replace(queue="other") for each in speaking]
    broker.publish([out("x")])
    (x,) = consumer.exchange((), 5).deliveries
    consumer.exchange(ack(x, followups=lonely), 0)
    assert (broker.depth("other"), broker.stats(["other"])[0].delayed) == (2, 0)
