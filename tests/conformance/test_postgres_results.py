"""`postgresql://` keeps the contract of result stores; so it does where nothing can be heard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from celeriac.conformance import ResultBackendContract

pytest.importorskip("psycopg")

from celeriac.backends.postgres import PostgresBackend


class TestPostgresBackend(ResultBackendContract):
    backend_class = PostgresBackend

    @pytest.fixture
    def url(self, postgres_server: Any) -> str:
        return str(postgres_server.database())


class TestWithoutListening(TestPostgresBackend):
    @pytest.fixture
    def options(self) -> Mapping[str, Any]:
        return {"listen": "off"}
