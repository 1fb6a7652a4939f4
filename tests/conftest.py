"""Fixtures that several rooms share. Keep it short: what one room needs stands in its own modules.

A server is started when the first test asks for it, once per run. Where it is not installed its tests are
skipped, with the reason; with ``CI=true`` they fail.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TypeVar

import hypothesis
import pytest
from tests.servers import (
    DynamoServer,
    ElasticServer,
    MariaServer,
    MemcachedServer,
    MongoServer,
    PostgresServer,
    RabbitServer,
    RedisCluster,
    RedisServer,
    Server,
    ValkeyServer,
)

from celeriac import _state

# No example has a time of its own: a busy machine may hold any of them. In CI the same examples every time;
# elsewhere new ones, and those that failed before.
hypothesis.settings.register_profile(
    "celeriac",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    derandomize=os.environ.get("CI") == "true",
)
hypothesis.settings.load_profile("celeriac")

Kind = TypeVar("Kind", bound="Server | RedisCluster")


def _lent(make: Callable[[], Kind]) -> Iterator[Kind]:
    server = provided(make)
    yield server
    server.stop()


def provided(make: Callable[[], Kind]) -> Kind:
    """What *make* gives; a skip with the reason where there is no such server."""
    try:
        return make()
    except RuntimeError as why:
        if os.environ.get("CI") == "true" or "was found" not in str(why):
            raise
        pytest.skip(str(why))


@pytest.fixture
def own_state(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No current app, no shared tasks from elsewhere; both as they were afterwards."""
    monkeypatch.setattr(_state, "_default_app", None)
    monkeypatch.setattr(_state, "_on_finalize", [])
    token = _state._current_app.set(None)
    yield
    _state._current_app.reset(token)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A private Redis for the whole run; `server.flush()` empties it."""
    yield from _lent(RedisServer)


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[ValkeyServer]:
    """A private Valkey for the whole run."""
    yield from _lent(ValkeyServer)


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[RedisCluster]:
    """A private Redis Cluster of three masters for the whole run."""
    yield from _lent(RedisCluster)


@pytest.fixture(scope="session")
def rabbit_server() -> Iterator[RabbitServer]:
    """A private RabbitMQ for the whole run; `server.vhost()` is a place of one's own in it."""
    yield from _lent(RabbitServer)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A private PostgreSQL for the whole run; `server.database()` is a place of one's own in it."""
    yield from _lent(PostgresServer)


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[MariaServer]:
    """A private MariaDB for the whole run; `server.database()` is a place of one's own in it."""
    yield from _lent(MariaServer)


@pytest.fixture(scope="session")
def mongo_server() -> Iterator[MongoServer]:
    """A private stand-in for MongoDB for the whole run; `server.database()` is a place of one's own in it."""
    yield from _lent(MongoServer)


@pytest.fixture(scope="session")
def dynamo_server() -> Iterator[DynamoServer]:
    """A private stand-in for DynamoDB for the whole run; `server.table()` is a place of one's own in it."""
    yield from _lent(DynamoServer)


@pytest.fixture(scope="session")
def elastic_server() -> Iterator[ElasticServer]:
    """A private stand-in for Elasticsearch for the whole run; `server.index()` is a place of one's own."""
    yield from _lent(ElasticServer)


@pytest.fixture(scope="session")
def memcached_server() -> Iterator[MemcachedServer]:
    """A private memcached for the whole run; `server.flush()` empties it."""
    yield from _lent(MemcachedServer)
