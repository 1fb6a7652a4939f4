"""`valkey://` keeps the contracts, on a real Valkey."""

from __future__ import annotations

from typing import ClassVar

import pytest
from tests.servers import ValkeyServer

from celeriac.backends.redis import RedisBackend
from celeriac.brokers.redis import RedisBroker
from celeriac.conformance import BrokerContract, ResultBackendContract


class Stage:
    """The server of the run, for what pytest cannot hand a fixture to."""

    server: ClassVar[ValkeyServer]


@pytest.fixture(scope="module", autouse=True)
def _stage(valkey_server: ValkeyServer) -> None:
    Stage.server = valkey_server


@pytest.fixture
def url() -> str:
    Stage.server.flush()
    return Stage.server.url.replace("redis://", "valkey://")


class TestValkeyBroker(BrokerContract):
    broker_class = RedisBroker
    backend_class = RedisBackend

    @pytest.fixture
    def url(self, url: str) -> str:
        return url

    def plant(self, url: str, queue: str, raw: bytes) -> None:
        Stage.server.send("LPUSH", queue, raw)


class TestValkeyBackend(ResultBackendContract):
    backend_class = RedisBackend

    @pytest.fixture
    def url(self, url: str) -> str:
        return url


def test_the_banner_names_the_server() -> None:
    assert "Valkey" in RedisBroker(Stage.server.url, {}).describe()
