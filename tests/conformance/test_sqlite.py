"""`sqlite://` keeps the contracts."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from celeriac.backends.sqlite import SqliteBackend
from celeriac.brokers.sqlite import SqliteBroker
from celeriac.brokers.sqlite.lines import Row, Store
from celeriac.conformance import BrokerContract, ChordContract, ResultBackendContract
from celeriac.conformance.machine import Clock, Stores, broker_machine
from celeriac.transport.sqlite import database


class TestSqliteBroker(BrokerContract):
    broker_class = SqliteBroker
    backend_class = SqliteBackend

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/tasks.db"

    def plant(self, url: str, queue: str, raw: bytes) -> None:
        store_of = database(url, {})
        with store_of.write() as connection:
            store = Store(store_of, connection)
            store.enqueue([Row(store.queue_id(queue), 0, 0, store.now, raw)])


class TestSqliteBackend(ResultBackendContract):
    backend_class = SqliteBackend

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/tasks.db"


class TestSqliteChords(ChordContract):
    backend_class = SqliteBackend

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/tasks.db"


def open_store(clock: Clock) -> Stores:
    folder = tempfile.mkdtemp(prefix="celeriac-")
    url = f"sqlite:///{folder}/tasks.db"
    one, two = SqliteBroker(url, {"clock": clock}), SqliteBroker(url, {"clock": clock, "timeout": 9})
    backend = SqliteBackend(url, {"clock": clock})

    def close() -> None:
        for each in (one, two, backend):
            each.close()
        shutil.rmtree(folder)

    return Stores(one, two, backend, close)


TestSqliteHistories = broker_machine(open_store, examples=40)
