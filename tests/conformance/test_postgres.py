"""`postgresql://` keeps the contracts, straight and through a pooler in transaction mode."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import pytest
from tests.servers import PgBouncer, PostgresServer

from celeriac.backends.postgres import PostgresBackend
from celeriac.brokers.postgres import PostgresBroker
from celeriac.brokers.postgres.routes import utf8
from celeriac.conformance import BrokerContract
from celeriac.conformance.machine import Clock, Stores, broker_machine
from celeriac.transport.postgres.pool import pool
from celeriac.transport.postgres.values import NULL, bytea, byteas, int8, name_key


class Stage:
    """The server of the run, for what pytest cannot hand a fixture to."""

    server: ClassVar[PostgresServer]


@pytest.fixture(scope="module", autouse=True)
def _stage(postgres_server: PostgresServer) -> None:
    Stage.server = postgres_server


@pytest.fixture(scope="module")
def straight(postgres_server: PostgresServer) -> str:
    return postgres_server.database()


@pytest.fixture(scope="module")
def pooled(postgres_server: PostgresServer) -> Iterator[str]:
    bouncer = PgBouncer(postgres_server)
    yield bouncer.to(postgres_server.database())
    bouncer.stop()


def emptied(url: str) -> str:
    """`url`, of a database that is ours alone, with no tables in it."""
    Stage.server.sql("DROP SCHEMA IF EXISTS celeriac CASCADE", url.rpartition("/")[2])
    return url


class TestPostgresBroker(BrokerContract):
    broker_class = PostgresBroker
    backend_class = PostgresBackend

    @pytest.fixture
    def url(self, straight: str) -> str:
        return emptied(straight)

    def plant(self, url: str, queue: str, raw: bytes) -> None:
        tables = pool(url, self.OPTIONS)
        sql = tables.server.sql("SELECT {s}publish($1, $2, $3, $4, $5, $6)").encode()
        name = (bytea(name_key(queue)), bytea(utf8(queue)))
        tables.query(sql, (NULL, int8(0), *name, int8(0), byteas([raw])))

    OPTIONS: ClassVar[Mapping[str, Any]] = {}

    @pytest.fixture
    def options(self) -> Mapping[str, Any]:
        return self.OPTIONS


class TestPostgresBrokerThroughPgBouncer(TestPostgresBroker):
    """No session outlives a transaction; other names for the tables."""

    OPTIONS = {"schema": "celeriac", "table_prefix": "q_"}

    @pytest.fixture
    def url(self, pooled: str) -> str:
        return emptied(pooled)


def open_store(clock: Clock) -> Stores:
    url = emptied(Stage.server.url)
    one, two = PostgresBroker(url, {}), PostgresBroker(url, {"timeout": 9})
    backend = PostgresBackend(url, {})

    def close() -> None:
        for each in (one, two, backend):
            each.close()

    return Stores(one, two, backend, close)


TestPostgresHistories = broker_machine(open_store, movable_clock=False, examples=40)
