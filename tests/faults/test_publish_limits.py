"""`delay()` returns or raises `OperationalError` within its limit, whatever the broker does."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from tests.conftest import provided
from tests.faults.network import Network
from tests.servers import PostgresServer, RabbitServer, RedisServer, free_port

from celeriac import Celeriac
from celeriac.exceptions import OperationalError
from celeriac.plugins import BROKERS

LIMIT = 1.2
#: Seconds by which a call may be late on a busy machine.
SLACK = 4.0
SERVERS = {"redis": RedisServer, "amqp": RabbitServer, "postgresql": PostgresServer}
PROTOCOLS = {"redis": "redis", "amqp": "amqp", "postgresql": "postgresql"}
KINDS = [kind for kind in SERVERS if kind in BROKERS]


def url_of(server: RedisServer | RabbitServer | PostgresServer) -> str:
    if isinstance(server, RabbitServer):
        return server.vhost()
    return server.database() if isinstance(server, PostgresServer) else server.url


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def server(kind: str) -> Iterator[RedisServer | RabbitServer | PostgresServer]:
    """One of our own: it is frozen."""
    with provided(SERVERS[kind]) as server:
        yield server


@contextmanager
def client(url: str, warm: bool = True, **conf: object) -> Iterator[Celeriac]:
    app = Celeriac("client", broker=url, set_as_current=False)
    app.conf.update(broker_publish_timeout=LIMIT, **conf)
    app.task(name="many")(print)
    # The client library is loaded here, not inside the limit: that waits for our own disk and processor, not
    # for the broker (psycopg: 0.3 s alone, more than a second on a busy machine). Nothing is connected by it.
    _ = app.broker
    if warm:
        app.send_task("t", ("before",))
    try:
        yield app
    finally:
        app.close()


def refusal(app: Celeriac, limit: float = LIMIT, **options: object) -> float:
    """Seconds until a publish was refused."""
    begun = time.monotonic()
    with pytest.raises(OperationalError):
        app.send_task("t", ("x",), **options)
    lasted = time.monotonic() - begun
    assert lasted < limit + SLACK
    return lasted


def fails_in_time(app: Celeriac) -> None:
    """By the setting, by the option, and without retries; one call and a batch."""
    refusal(app)
    refusal(app, 0.3, timeout=0.3)
    refusal(app, 1.0, retry=False)
    begun = time.monotonic()
    with pytest.raises(OperationalError):
        app.tasks["many"].apply_many([("x",)] * 50)
    assert time.monotonic() - begun < LIMIT + SLACK


def goes_on(app: Celeriac) -> None:
    app.send_task("t", ("after",))


def test_nobody_listens(kind: str, server: RedisServer) -> None:
    url = url_of(server).replace(f":{server.port}", f":{free_port()}")
    with client(url, warm=False) as app:
        fails_in_time(app)


@pytest.mark.parametrize("warm", [True, False], ids=["connected", "new"])
def test_frozen(server: RedisServer, warm: bool) -> None:
    with client(url_of(server), warm) as app:
        server.freeze()
        try:
            fails_in_time(app)
        finally:
            server.thaw()
        goes_on(app)


@pytest.mark.parametrize("side", ["both", "down"])
def test_blackholed(kind: str, server: RedisServer, side: str) -> None:
    with Network(server.port, PROTOCOLS[kind]) as network, client(network.url(url_of(server))) as app:
        network.blackhole(up=side == "both")
        fails_in_time(app)
        network.heal()
        goes_on(app)


def test_one_that_accepts_and_says_nothing(kind: str, server: RedisServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = url_of(server).replace(f":{server.port}", f":{silent.getsockname()[1]}")
        with client(url, warm=False) as app:
            fails_in_time(app)


def test_one_that_speaks_another_language(kind: str, server: RedisServer) -> None:
    with ExitStack() as stack:
        other = stack.enter_context(RedisServer() if kind != "redis" else provided(PostgresServer))
        url = url_of(server).replace(f":{server.port}", f":{other.port}")
        with client(url, warm=False) as app:
            refusal(app)


# -- what only some can be ----------------------------------------------------------------------------------


@contextmanager
def redis_full(server: RedisServer) -> Iterator[None]:
    used = int(
        next(
            line for line in server.send("INFO", "memory").split(b"\r\n") if line.startswith(b"used_memory:")
        )[12:]
    )
    server.send("CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", str(used // 2))
    try:
        yield
    finally:
        server.send("CONFIG", "SET", "maxmemory", "0")


@contextmanager
def redis_demoted(server: RedisServer) -> Iterator[None]:
    server.send("REPLICAOF", "127.0.0.1", "1")
    try:
        yield
    finally:
        server.send("REPLICAOF", "NO", "ONE")


@contextmanager
def postgres_read_only(server: PostgresServer) -> Iterator[None]:
    server.alter_system("SET default_transaction_read_only = on")
    try:
        yield
    finally:
        server.alter_system("RESET default_transaction_read_only")


CONDITIONS: dict[str, list[Callable[..., object]]] = {
    "redis": [redis_full, redis_demoted],
    "amqp": [RabbitServer.memory_alarm],
    "postgresql": [postgres_read_only],
}


def test_full_or_read_only(kind: str, server: RedisServer) -> None:
    """The server answers, but takes no writes."""
    for condition in CONDITIONS[kind]:
        with client(url_of(server)) as app:
            with condition(server):  # type: ignore[attr-defined]
                fails_in_time(app)
            goes_on(app)


def test_a_time_of_ones_own_wins_over_retry_false(server: RedisServer) -> None:
    with client(url_of(server), warm=False) as app:
        server.freeze()
        try:
            assert refusal(app, 1.5, retry=False, timeout=1.5) > 1.3
        finally:
            server.thaw()
