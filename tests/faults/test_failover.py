"""F20: another one takes the broker's place, under load: Sentinel, demotion, a moved slot, lists of URLs.

What must hold: nothing that was acknowledged is lost (where the store itself loses nothing), the worker's
process never exits, it consumes again within seconds, and its ready file tells the truth meanwhile.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import provided
from tests.faults.harness import PATIENCE, Journal, Node, check, environment, until
from tests.faults.network import Network
from tests.faults.stream import Stream
from tests.servers import PostgresServer, RabbitServer, RedisCluster, RedisSentinels, RedisServer

from celeriac import Celeriac
from celeriac.transport.redis.pool import slot_of

Client = Callable[..., Celeriac]


SERVERS: dict[str, Any] = {"redis": RedisServer, "amqp": RabbitServer, "postgresql": PostgresServer}


def place_on(server: Any) -> str:
    """A URL of one's own on a server."""
    if isinstance(server, RabbitServer):
        return server.vhost()
    return server.database() if isinstance(server, PostgresServer) else str(server.url)


@pytest.fixture
def client() -> Iterator[Client]:
    apps: list[Celeriac] = []

    def make(url: str, **conf: Any) -> Celeriac:
        app = Celeriac("client", broker=url, set_as_current=False)
        app.conf.update(task_default_queue="faults", **conf)
        apps.append(app)
        return app

    yield make
    for app in apps:
        app.close()


def worker(
    tmp_path: Path, journal: Journal, url: str, *arguments: str, name: str = "n1", **conf: Any
) -> Node:
    ready = tmp_path / "ready"
    env = environment(url, None, journal.path, conf)
    return Node(
        env, "-c", "2", "--ready-file", str(ready), *arguments, name=name, log=tmp_path / f"{name}.log"
    )


def resumed(journal: Journal, timeout: float) -> float:
    """Seconds until twenty more have run."""
    begun, count = time.monotonic(), journal.ended()
    until(lambda: journal.ended() > count + 20, timeout, "it works again")
    return time.monotonic() - begun


def finish(node: Node, pid: int, stream: Stream, journal: Journal) -> None:
    """All have run; the worker is the same process and ends well."""
    stream.stop()
    until(lambda: not check(stream.returned, journal).lost, 20, "all have run")
    assert not check([*stream.returned, *stream.unknown], journal).unexpected
    assert node.pid == pid
    assert node.process is not None
    assert node.process.poll() is None
    assert node.stop() == 0


# -- Sentinel -----------------------------------------------------------------------------------------------


def offset(server: RedisServer) -> int:
    """How far it is in the stream of its master's writes (of its own, if it is the master)."""
    found = re.search(rb"master_repl_offset:(\d+)", server.send("INFO", "replication"))
    assert found is not None
    return int(found[1])


def promoted(sentinels: RedisSentinels, stream: Stream) -> set[str]:
    """The two change places. Return what may be lost by that: between the promotion of the one and the
    demotion of the other, Redis takes writes that it throws away when the other becomes a replica."""
    before = sentinels.master
    other = next(server for server in sentinels.servers if server is not before)
    first, written = len(stream.returned), offset(before)
    until(lambda: offset(other) >= written, 20, "the replica has all that had been published")
    sentinels.promote()
    until(lambda: b"role:slave" in before.send("INFO", "replication"), 20, "the old master is a replica")
    until(lambda: b"master_link_status:up" in before.send("INFO", "replication"), 20, "it replicates")
    last = len(stream.returned)
    until(lambda: len(stream.returned) > last, 60, "what was on its way has returned")
    return set(stream.returned[first : last + 1])


@pytest.mark.timeout(180)
def test_sentinel_promotes_the_replica_under_load(journal: Journal, tmp_path: Path, client: Client) -> None:
    """Two ordered fail-overs, then the master is killed. What was written while both were masters may be lost
    by Redis itself (asynchronous replication), nothing else."""
    sentinels = provided(RedisSentinels)
    options: Mapping[str, Any] = {"broker_transport_options": sentinels.options}
    try:
        app = client(sentinels.url, **options)
        stream = Stream(app, tmp_path / "produced", pause=0.005)
        with worker(tmp_path, journal, sentinels.url, **options) as node:
            pid = node.pid
            until((tmp_path / "ready").exists, 20)
            stream.start()
            resumed(journal, 20)
            doubtful: set[str] = set()
            for _ in range(2):
                doubtful |= promoted(sentinels, stream)
                resumed(journal, 15)
                time.sleep(1.5)  # the sentinels refuse another fail-over of the same master too soon
            before = sentinels.master
            other = next(server for server in sentinels.servers if server is not before)
            stream.stop()
            until(
                lambda: check(stream.returned, journal).lost <= doubtful, 20, "all before the kill have run"
            )
            until(lambda: offset(other) >= offset(before), 20, "the replica knows it")
            second = Stream(app, tmp_path / "produced2", pause=0.005, name="s")
            before.kill()
            second.start()
            sentinels.await_master(other)
            resumed(journal, 15)
            second.stop()
            until(lambda: not check(second.returned, journal).lost, 20, "all have run")
            assert node.pid == pid
            assert node.stop() == 0
        assert second.slowest < 6.5 * PATIENCE
    finally:
        sentinels.stop()


# -- demotion -----------------------------------------------------------------------------------------------


def test_a_master_is_demoted_and_promoted_again(journal: Journal, tmp_path: Path, client: Client) -> None:
    """REPLICAOF on the only server: READONLY errors for a while; the worker waits, and then goes on."""
    server, other = RedisServer(), RedisServer()
    try:
        app = client(server.url, broker_publish_timeout=20)
        stream = Stream(app, tmp_path / "produced")
        with worker(tmp_path, journal, server.url) as node:
            pid = node.pid
            stream.start()
            resumed(journal, 20)
            for _ in range(2):
                # A replica of a server that it cannot reach keeps its data and refuses writes.
                other.kill()
                assert server.send("REPLICAOF", "127.0.0.1", str(other.port)) == b"+OK\r\n"
                until(lambda: "READONLY" in node.log, 20)
                time.sleep(2.0)  # longer than some retries
                assert server.send("REPLICAOF", "NO", "ONE") == b"+OK\r\n"
                resumed(journal, 5)
                other.start()
            finish(node, pid, stream, journal)
            assert not check(stream.returned, journal).duplicated
    finally:
        server.stop()
        other.stop()


# -- lists --------------------------------------------------------------------------------------------------


def test_a_list_of_brokers_first_second_and_first_again(
    journal: Journal, tmp_path: Path, client: Client
) -> None:
    """Two independent servers: the first is killed, the second serves; when the first is back, so are we."""
    first, second = RedisServer(), RedisServer()
    urls = [first.url, second.url]
    try:
        app = client(urls)  # type: ignore[arg-type]
        stream = Stream(app, tmp_path / "produced", pause=0.01)
        with worker(tmp_path, journal, ";".join(urls)) as node:
            pid = node.pid
            stream.start()
            resumed(journal, 20)
            assert b"connected_clients:1\r" in second.send("INFO", "clients")  # ours of this moment
            first.kill()
            resumed(journal, 15)
            assert re.search(rf"Connected to the Redis server at 127.0.0.1:{second.port}", node.log)
            first.start()
            # Publishes go to the first again, within some seconds, and are consumed there.
            assert first.send("CONFIG", "RESETSTAT") == b"+OK\r\n"
            until(lambda: calls(first) > 100, 20, "the first is used again")
            back = len(stream.returned)
            until(lambda: len(stream.returned) > back + 50, 10)
            stream.stop()
            until(lambda: not check(stream.returned[back:], journal).lost, 20, "the latest have run")
            assert node.pid == pid
            second.kill()
            assert app.send_task("record", ("last",), task_id="last")
            until(lambda: journal.count("end")["last"], 20)
            assert node.stop() == 0
    finally:
        first.stop()
        second.stop()


def calls(server: RedisServer) -> int:
    """Script calls since the last RESETSTAT."""
    found = re.search(rb"cmdstat_evalsha:calls=(\d+)", server.send("INFO", "commandstats"))
    return int(found[1]) if found else 0


def test_a_replica_that_stands_first_is_skipped(
    journal: Journal, tmp_path: Path, client: Client, redis_server: RedisServer
) -> None:
    redis_server.flush()
    replica = RedisServer("--replicaof", f"127.0.0.1 {redis_server.port}")
    try:
        urls = f"{replica.url};{redis_server.url}"
        with worker(tmp_path, journal, urls) as node:
            client(urls).send_task("record", ("k",), task_id="k")
            until(lambda: journal.count("end")["k"], 20)
            assert node.stop() == 0
    finally:
        replica.stop()


def test_a_frozen_first_host_costs_a_part_of_the_time_only(client: Client) -> None:
    """A host that accepts and never answers leaves time for the next one, and is then tried last."""
    first, second = RedisServer(), RedisServer()
    try:
        first.freeze()
        app = client(f"{first.url};{second.url}")
        for limit in (8.0, 1.5):  # another try of the first: 2
            begun = time.monotonic()
            app.send_task("record", ("k",))
            assert time.monotonic() - begun < limit
        first.thaw()
    finally:
        first.stop()
        second.stop()


# -- cluster ------------------------------------------------------------------------------------------------


def test_a_slot_moves_to_another_node_under_load(journal: Journal, tmp_path: Path, client: Client) -> None:
    """The queue's slot is migrated, key by key (ASK, TRYAGAIN, MOVED), while messages flow."""
    cluster = provided(RedisCluster)
    try:
        app = client(cluster.url, broker_publish_timeout=20)
        stream = Stream(app, tmp_path / "produced")
        with worker(tmp_path, journal, cluster.url) as node:
            pid = node.pid
            stream.start()
            resumed(journal, 20)
            for _ in range(3):
                migrate(cluster, slot_of("faults"))
                resumed(journal, 5)
            finish(node, pid, stream, journal)
            assert not check(stream.returned, journal).duplicated
    finally:
        cluster.stop()


def migrate(cluster: RedisCluster, slot: int) -> None:
    """Move a slot to the next node, as `redis-cli --cluster reshard` does."""
    names = [node.send("CLUSTER", "MYID").split(b"\r\n")[1].decode() for node in cluster.nodes]
    at = next(
        i
        for i, node in enumerate(cluster.nodes)
        if not node.send("CLUSTER", "COUNTKEYSINSLOT", str(slot)).startswith(b":0")
    )
    to = (at + 1) % len(names)
    source, target = cluster.nodes[at], cluster.nodes[to]
    target.send("CLUSTER", "SETSLOT", str(slot), "IMPORTING", names[at])
    source.send("CLUSTER", "SETSLOT", str(slot), "MIGRATING", names[to])
    deadline = time.monotonic() + 30
    while keys := source.send("CLUSTER", "GETKEYSINSLOT", str(slot), "10").split(b"\r\n")[2::2]:
        assert time.monotonic() < deadline, "the slot cannot be emptied"
        source.send("MIGRATE", "127.0.0.1", str(target.port), "", "0", "5000", "KEYS", *keys)
    for node in (target, source, *cluster.nodes):
        node.send("CLUSTER", "SETSLOT", str(slot), "NODE", names[to])


# -- readiness ----------------------------------------------------------------------------------------------


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", list(SERVERS))
def test_the_ready_file_tells_whether_the_worker_is_at_work(
    kind: str, journal: Journal, tmp_path: Path, client: Client
) -> None:
    """A blackhole, and a dead server, are noticed within ten seconds, their ends within five; the log stays
    short."""
    ready = tmp_path / "ready"
    with provided(SERVERS[kind]) as server:
        url = place_on(server)
        with Network(server.port, kind) as network, worker(tmp_path, journal, network.url(url)) as node:
            pid = node.pid
            until(ready.exists, 20)
            assert ready.read_text().strip() == str(pid)
            first = ready.stat().st_mtime_ns
            until(lambda: ready.stat().st_mtime_ns > first, 5, "it is touched")
            network.blackhole()
            until(lambda: not ready.exists(), 10, "a blackhole is noticed")
            network.heal()
            until(ready.exists, 5, "and its end")
            client(url).send_task("record", ("a",), task_id="a")
            until(lambda: journal.count("end")["a"], 5)
            server.kill()
            until(lambda: not ready.exists(), 10, "a dead server is noticed")
            time.sleep(12 if kind == "redis" else 2)  # in which a line for each try would be many
            server.start()
            until(ready.exists, 5, "its return too")
            client(url).send_task("record", ("b",), task_id="b")
            until(lambda: journal.count("end")["b"], 5)
            assert "it is back" in node.log
            lines = [line for line in node.log.splitlines() if "ERROR" in line or "WARNING" in line]
            assert len(lines) < 30, "\n".join(lines)
            assert node.pid == pid
            assert node.stop() == 0
            assert not ready.exists()


# -- RabbitMQ -----------------------------------------------------------------------------------------------


@pytest.mark.timeout(180)
def test_a_list_of_rabbitmqs(journal: Journal, tmp_path: Path, client: Client) -> None:
    """Two independent servers: one is killed, the other one serves, and the other way round."""
    first, second = provided(RabbitServer), provided(RabbitServer)
    try:
        urls = [first.url, second.url]
        app = client(urls)
        stream = Stream(app, tmp_path / "produced", pause=0.01)
        with worker(tmp_path, journal, ";".join(urls)) as node:
            pid = node.pid
            until((tmp_path / "ready").exists, 20)
            stream.start()
            resumed(journal, 20)
            first.kill()
            resumed(journal, 15)
            first.start()
            second.kill()
            resumed(journal, 15)
            stream.stop()
            assert node.pid == pid
            assert node.stop() == 0
    finally:
        first.stop()
        second.stop()


# -- PostgreSQL ---------------------------------------------------------------------------------------------


def test_a_standby_is_promoted_under_load(journal: Journal, tmp_path: Path, client: Client) -> None:
    """The primary is killed; its synchronous standby, which has every commit, takes over. Nothing is lost."""
    primary = provided(PostgresServer)
    standby = provided(lambda: PostgresServer(primary=primary))
    try:
        database = primary.database("jobs")
        primary.alter_system("SET synchronous_standby_names = '*'")
        until(lambda: primary.sql("SELECT sync_state FROM pg_stat_replication") == "sync", 10)
        urls = f"{database};{database.replace(str(primary.port), str(standby.port))}"
        app = client(urls)
        stream = Stream(app, tmp_path / "produced", pause=0.005)
        with worker(tmp_path, journal, urls) as node:
            pid = node.pid
            until((tmp_path / "ready").exists, 20)
            stream.start()
            resumed(journal, 20)
            primary.kill()
            until(lambda: stream.unknown, 20, "a publish fails meanwhile")
            standby.promote()
            up = time.monotonic()
            resumed(journal, 15)
            until((tmp_path / "ready").exists, 10)
            assert time.monotonic() - up < 15 * PATIENCE
            finish(node, pid, stream, journal)
    finally:
        standby.stop()
        primary.stop()


# -- workers that are to give up ----------------------------------------------------------------------------


def test_a_worker_that_may_not_wait_ends(journal: Journal, tmp_path: Path) -> None:
    """`broker_connection_retry` (`_on_startup`) is off, or the tries are counted: status 69, and why."""
    server = RedisServer()
    impatient = {"broker_transport_options": {"socket_timeout": 0.5}}
    try:
        server.kill()
        with worker(
            tmp_path, journal, server.url, broker_connection_retry_on_startup=False, **impatient
        ) as node:
            assert node.process is not None
            assert node.process.wait(20) == 69
            assert "Cannot connect to Redis" in node.log
        server.start()
        with worker(
            tmp_path, journal, server.url, name="n2", broker_connection_retry=False, **impatient
        ) as node:
            until((tmp_path / "ready").exists, 20)
            server.kill()
            assert node.process is not None
            assert node.process.wait(20) == 69
            assert "broker_connection_retry allows no more" in node.log
        server.start()
        (tmp_path / "ready").unlink(missing_ok=True)
        with worker(
            tmp_path, journal, server.url, name="n3", broker_connection_max_retries=1, **impatient
        ) as node:
            until((tmp_path / "ready").exists, 20)
            server.kill()
            assert node.process is not None
            assert node.process.wait(20) == 69  # after 2 s
            assert "broker_connection_max_retries allows no more" in node.log
    finally:
        server.stop()


# -- two brokers as one -------------------------------------------------------------------------------------


def test_a_worker_takes_from_here_and_publishes_there(
    journal: Journal, tmp_path: Path, client: Client, redis_server: RedisServer
) -> None:
    """A task is taken from `broker_read_url`; what it sets off goes to `broker_write_url`."""
    redis_server.flush()
    here, there = redis_server.url, redis_server.url[:-1] + "1"
    with worker(tmp_path, journal, here, broker_read_url=here, broker_write_url=there) as node:
        app = client(here)
        app.send_task("record", ("first",), link=app.signature("record", ("second",), immutable=True))
        until(lambda: client(there).broker.depth("faults") == 1, 20)
        until(lambda: app.broker.stats(["faults"])[0].in_flight == 0, 5)
        assert set(journal.count("end")) == {"first"}
        assert node.stop() == 0
