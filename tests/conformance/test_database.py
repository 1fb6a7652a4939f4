"""`db+…` keeps the contract of result stores, on every database at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from celeriac.conformance import ChordContract, ResultBackendContract

pytest.importorskip("sqlalchemy")

from celeriac.backends.database import DatabaseBackend


class TestOnSqlite(ResultBackendContract):
    backend_class = DatabaseBackend

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"db+sqlite:///{tmp_path}/results.db"


class TestOnPostgres(ResultBackendContract):
    backend_class = DatabaseBackend

    @pytest.fixture
    def url(self, postgres_server: Any) -> str:
        return f"db+{postgres_server.database()}"


class TestOnMariaDB(ResultBackendContract):
    backend_class = DatabaseBackend

    @pytest.fixture
    def url(self, mariadb_server: Any) -> str:
        return f"db+{mariadb_server.database()}"


class TestChordsOnSqlite(ChordContract):
    backend_class = DatabaseBackend

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"db+sqlite:///{tmp_path}/results.db"


class TestChordsOnMariaDB(ChordContract):
    backend_class = DatabaseBackend

    @pytest.fixture
    def url(self, mariadb_server: Any) -> str:
        return f"db+{mariadb_server.database()}"
