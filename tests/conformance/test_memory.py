"""`memory://` keeps the contracts."""

from __future__ import annotations

import uuid

import pytest

from celeriac.backends.memory import MemoryBackend
from celeriac.brokers.memory import MemoryBroker
from celeriac.brokers.memory.store import Waiting
from celeriac.conformance import BrokerContract, ChordContract, ResultBackendContract
from celeriac.conformance.machine import Clock, Stores, broker_machine


class TestMemoryBroker(BrokerContract):
    broker_class = MemoryBroker
    backend_class = MemoryBackend

    @pytest.fixture
    def url(self) -> str:
        return f"memory://{uuid.uuid4().hex}"

    def plant(self, url: str, queue: str, raw: bytes) -> None:
        MemoryBroker(url, {}).store.lines[queue].append(Waiting(raw, 0, 0, 0.0))


class TestMemoryBackend(ResultBackendContract):
    backend_class = MemoryBackend

    @pytest.fixture
    def url(self) -> str:
        return f"memory://{uuid.uuid4().hex}"


class TestMemoryChords(ChordContract):
    backend_class = MemoryBackend

    @pytest.fixture
    def url(self) -> str:
        return f"memory://{uuid.uuid4().hex}"


def open_store(clock: Clock) -> Stores:
    url = f"memory://{uuid.uuid4().hex}"
    options = {"clock": clock}
    one, two = MemoryBroker(url, options), MemoryBroker(url, options)
    return Stores(one, two, MemoryBackend(url, options), close=lambda: None)


TestMemoryHistories = broker_machine(open_store, examples=200)
