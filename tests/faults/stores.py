"""The stores under test: one line each in `KINDS`.

1. `Store`: URLs of a broker and its result store.
2. `KINDS`: by name, the servers that a store needs, and how a new, empty one is made of them.

Where results have no place in the broker they are in Redis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.faults import rabbit
from tests.servers import PostgresServer, RabbitServer, RedisCluster, RedisServer

__all__ = ["KINDS", "Kind", "Store"]


class Store(NamedTuple):
    """URLs of one broker and its result store. `conf`: settings of everybody who uses it."""

    name: str
    broker: str
    backend: str
    conf: Mapping[str, Any] = {}

    @property
    def path(self) -> Path:
        """The file of an embedded store."""
        return Path(self.broker.removeprefix("sqlite:///"))


class Kind(NamedTuple):
    """`make` is called with a folder of the test's own and a running server of each of `servers`."""

    make: Callable[..., Store]
    servers: tuple[type[Any], ...] = ()


def _sqlite(folder: Path) -> Store:
    (folder / "store").mkdir()
    url = f"sqlite:///{folder / 'store' / 'celeriac.db'}"
    return Store("sqlite", url, url)


def _redis(folder: Path, server: RedisServer) -> Store:
    server.flush()
    return Store("redis", server.url, server.url)


def _cluster(folder: Path, cluster: RedisCluster) -> Store:
    cluster.flush()
    return Store("redis-cluster", cluster.url, cluster.url)


def _postgres(folder: Path, server: PostgresServer) -> Store:
    url = server.database()
    return Store("postgres", url, url)


def _rabbitmq(folder: Path, server: RabbitServer, results: RedisServer) -> Store:
    results.flush()
    url = server.vhost()
    rabbit.introduce(url, server)
    return Store("rabbitmq", url, results.url)


def _quorum(folder: Path, server: RabbitServer, results: RedisServer) -> Store:
    store = _rabbitmq(folder, server, results)
    return store._replace(name="rabbitmq-quorum", conf={"broker_transport_options": {"queue_type": "quorum"}})


KINDS: Mapping[str, Kind] = {
    "sqlite": Kind(_sqlite),
    "redis": Kind(_redis, (RedisServer,)),
    "redis-cluster": Kind(_cluster, (RedisCluster,)),
    "postgres": Kind(_postgres, (PostgresServer,)),
    "rabbitmq": Kind(_rabbitmq, (RabbitServer, RedisServer)),
    "rabbitmq-quorum": Kind(_quorum, (RabbitServer, RedisServer)),
}
