"""Stores under test, each private and new for every test, and clients and workers for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.faults.harness import Journal, Node, environment
from tests.faults.stores import KINDS, Store
from tests.servers import PostgresServer, RabbitServer, RedisCluster, RedisServer

from celeriac import Celeriac

pytest.register_assert_rewrite("tests.faults.load", "tests.faults.rows")


#: The fixtures that lend servers.
LENT = {
    RedisServer: "redis_server",
    RedisCluster: "redis_cluster",
    RabbitServer: "rabbit_server",
    PostgresServer: "postgres_server",
}


@pytest.fixture(params=["sqlite", "redis", "rabbitmq", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    kind = KINDS[request.param]
    return kind.make(tmp_path, *(request.getfixturevalue(LENT[server]) for server in kind.servers))


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


@pytest.fixture
def client(store: Store) -> Iterator[Celeriac]:
    app = Celeriac("client", broker=store.broker, backend=store.backend, set_as_current=False)
    app.conf.update(task_default_queue="faults", broker_publish_timeout=30.0, **store.conf)
    yield app
    app.close()


def nodes(start: Callable[..., Node]) -> Iterator[Callable[..., Node]]:
    """What the fixture `node` yields: `start`; at the end whatever is left of what it started is killed."""
    started: list[Node] = []

    def remembered(*arguments: Any, **options: Any) -> Node:
        started.append(start(*arguments, **options))
        return started[-1]

    yield remembered
    for found in started:
        if found.process is not None and found.process.poll() is None:
            found.kill()


@pytest.fixture
def node(store: Store, journal: Journal, tmp_path: Path) -> Iterator[Callable[..., Node]]:
    """Starts workers, with `extra` in their environment; kills what is left of them at the end."""

    def start(
        *arguments: str,
        name: str = "n1",
        conf: dict[str, Any] | None = None,
        extra: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> Node:
        env = environment(store.broker, store.backend, journal.path, {**store.conf, **(conf or {})})
        return Node({**env, **(extra or {})}, *arguments, name=name, log=tmp_path / f"{name}.log", **kwargs)

    yield from nodes(start)
