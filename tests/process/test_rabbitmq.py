"""Workers on RabbitMQ: everything runs once, whatever the server and its connections do meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from tests.faults.conftest import Store
from tests.faults.harness import Journal, Node, until
from tests.servers import RabbitServer, RedisServer

from celeriac import Celeriac
from celeriac.exceptions import OperationalError

Start = Callable[..., Node]


@pytest.fixture(scope="module")
def server(rabbit_server: RabbitServer) -> Iterator[RabbitServer]:
    """One of our own: these tests kill it and change its settings."""
    own = RabbitServer()
    yield own
    own.stop()


@pytest.fixture(params=["classic", "quorum"])
def queue_type(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def store(server: RabbitServer, redis_server: RedisServer) -> Iterator[Store]:
    redis_server.flush()
    url = server.vhost()
    yield Store("rabbitmq", url, redis_server.url)
    server.drop_vhost(url)


@pytest.fixture
def client(client: Celeriac, queue_type: str) -> Celeriac:
    client.conf.update(task_default_queue_type=queue_type, broker_publish_timeout=30)
    return client


@pytest.fixture
def work(node: Start, queue_type: str) -> Start:
    def start(*arguments: str, **options: object) -> Node:
        conf = {"task_default_queue_type": queue_type}
        return node("-c", "2", *arguments, conf=conf, **options)  # type: ignore[arg-type]

    return start


def send(client: Celeriac, first: int, count: int, seconds: float = 0.0) -> list[str]:
    keys = [f"{n}" for n in range(first, first + count)]
    for key in keys:
        client.send_task("record", (key, seconds))
    return keys


def all_ended(journal: Journal, keys: list[str], within: float) -> None:
    try:
        until(lambda: journal.ends() >= len(keys) and set(keys) <= set(journal.count("end")), within)
    except TimeoutError:
        missing = set(keys) - set(journal.count("end"))
        pytest.fail(f"{len(missing)} of {len(keys)} have not ended in {within} s: {sorted(missing)[:20]}")


def test_twenty_thousand_tasks_run_once_each(client: Celeriac, work: Start, journal: Journal) -> None:
    work()
    keys = send(client, 0, 20_000)
    all_ended(journal, keys, 100)
    assert set(journal.count("end").values()) == {1}
    until(lambda: client.broker.depth("faults") == 0, 10)


def test_a_restart_of_the_server_loses_nothing(
    server: RabbitServer, client: Celeriac, work: Start, journal: Journal
) -> None:
    worker = work()
    # RabbitMQ 3.10 never opens a quorum queue again that was declared in the half second before it was killed
    all_ended(journal, send(client, 0, 1), 30)
    time.sleep(3.0)
    keys = send(client, 1, 300, 0.01)
    until(lambda: journal.ends() > 20, 30)
    server.kill()
    server.start()
    keys += send(client, 1000, 20)
    all_ended(journal, keys, 60)
    assert worker.process is not None
    assert worker.process.poll() is None


def test_a_storm_of_disconnections_loses_nothing(
    server: RabbitServer, client: Celeriac, work: Start, journal: Journal
) -> None:
    work()
    keys = send(client, 0, 400, 0.01)
    for _ in range(8):
        reached = journal.ends()
        server.close_all_connections()
        until(lambda reached=reached: journal.ends() > reached, 20)  # type: ignore[misc]
    all_ended(journal, keys, 60)
    assert set(journal.count("end").values()) == {1}


def test_a_task_longer_than_the_consumer_timeout_runs_once(
    server: RabbitServer, client: Celeriac, work: Start, journal: Journal
) -> None:
    server.eval("application:set_env(rabbit, channel_tick_interval, 500)")
    server.eval("application:set_env(rabbit, consumer_timeout, 2000)")
    try:
        work()
        keys = send(client, 0, 1, 9.0) + send(client, 1, 20, 0.05)
        all_ended(journal, keys, 60)
        until(lambda: client.broker.depth("faults") == 0, 15)
        time.sleep(6)  # longer than a copy is parked: it must be dropped, not run
        assert set(journal.count("start").values()) == {1}
    finally:
        server.eval("application:set_env(rabbit, consumer_timeout, 1800000)")
        server.eval("application:set_env(rabbit, channel_tick_interval, 60000)")


def test_a_queue_that_is_deleted_is_declared_again(
    server: RabbitServer, store: Store, client: Celeriac, work: Start, journal: Journal, queue_type: str
) -> None:
    work()
    all_ended(journal, send(client, 0, 5), 30)
    vhost = store.broker.rpartition("/")[2]
    server.eval(
        f'{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"{vhost}">>, queue, <<"faults">>)), '
        'rabbit_amqqueue:delete(Q, false, false, <<"test">>)'
    )
    # The consumers of a quorum queue are not told: they look after their channels when nothing comes for 9 s.
    all_ended(journal, [f"{n}" for n in range(5)] + send(client, 10, 5), 60)


def test_an_alarm_stops_publishers_with_an_error_and_workers_not_at_all(
    server: RabbitServer, client: Celeriac, work: Start, journal: Journal
) -> None:
    keys = send(client, 0, 200, 0.01)
    client.conf.update(broker_publish_timeout=1.0)
    with server.memory_alarm():
        until(lambda: blocked(client), 20)
        work()
        all_ended(journal, keys, 60)
    client.conf.update(broker_publish_timeout=20.0)
    all_ended(journal, keys + send(client, 500, 5), 60)


def blocked(client: Celeriac) -> bool:
    begun = time.monotonic()
    try:
        client.send_task("record", ("refused", 0.0))
    except OperationalError:
        assert time.monotonic() - begun < 15
        return True
    return False
