"""`postgresql://` keeps the contract of result stores; so it does where nothing can be heard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from tests.conftest import provided
from tests.servers import PgBouncer

from celeriac.conformance import ChordContract, ResultBackendContract

pytest.importorskip("psycopg")

from celeriac.backends.postgres import PostgresBackend


@pytest.fixture(scope="module")
def bouncer(postgres_server: Any) -> Iterator[PgBouncer]:
    bouncer = provided(lambda: PgBouncer(postgres_server))
    yield bouncer
    bouncer.stop()


class TestPostgresBackend(ResultBackendContract):
    backend_class = PostgresBackend

    @pytest.fixture
    def url(self, postgres_server: Any) -> str:
        return str(postgres_server.database())


class TestWithoutListening(TestPostgresBackend):
    @pytest.fixture
    def options(self) -> Mapping[str, Any]:
        return {"listen": "off"}


class TestBehindPgBouncer(ResultBackendContract):
    """In transaction mode, where `LISTEN` is lost."""

    backend_class = PostgresBackend

    @pytest.fixture
    def url(self, postgres_server: Any, bouncer: PgBouncer) -> str:
        return bouncer.to(postgres_server.database())


@pytest.fixture(scope="module")
def database(postgres_server: Any) -> str:
    return str(postgres_server.database())


class TestPostgresChords(ChordContract):
    backend_class = PostgresBackend

    @pytest.fixture
    def url(self, postgres_server: Any, database: str) -> str:
        postgres_server.sql("DROP SCHEMA IF EXISTS celeriac CASCADE", database.rpartition("/")[2])
        return database
