"""`redis://` keeps the contracts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from tests.servers import RedisServer

from celeriac.backends.redis import RedisBackend
from celeriac.brokers.redis import RedisBroker
from celeriac.conformance import BrokerContract, ChordContract, ResultBackendContract
from celeriac.conformance.machine import Clock, Stores, broker_machine


class Stage:
    """The server of the run, for what pytest cannot hand a fixture to."""

    server: ClassVar[RedisServer]


@pytest.fixture(scope="module", autouse=True)
def _stage(redis_server: RedisServer) -> None:
    Stage.server = redis_server


class TestRedisBroker(BrokerContract):
    broker_class = RedisBroker
    backend_class = RedisBackend

    @pytest.fixture
    def url(self) -> str:
        Stage.server.flush()
        return Stage.server.url

    def plant(self, url: str, queue: str, raw: bytes) -> None:
        Stage.server.send("LPUSH", queue, raw)


class TestRedisBrokerWithPrefix(TestRedisBroker):
    """The same under a prefix, another separator and other steps, results in another database."""

    OPTIONS: ClassVar[Mapping[str, Any]] = {
        "global_keyprefix": "pfx:",
        "sep": ":",
        "priority_steps": [0, 3, 5, 6, 9],
    }

    @staticmethod
    def backend_class(url: str, options: Mapping[str, Any]) -> RedisBackend:
        return RedisBackend(url[:-1] + "5", {"global_keyprefix": "results-"})

    @pytest.fixture
    def options(self) -> Mapping[str, Any]:
        return self.OPTIONS

    def plant(self, url: str, queue: str, raw: bytes) -> None:
        Stage.server.send("LPUSH", f"pfx:{queue}", raw)


class TestRedisBackend(ResultBackendContract):
    backend_class = RedisBackend

    @pytest.fixture
    def url(self) -> str:
        Stage.server.flush()
        return Stage.server.url


class TestRedisChords(ChordContract):
    backend_class = RedisBackend

    @pytest.fixture
    def url(self) -> str:
        Stage.server.flush()
        return Stage.server.url


def open_store(clock: Clock) -> Stores:
    Stage.server.flush()
    url = Stage.server.url
    one, two, backend = RedisBroker(url, {}), RedisBroker(url, {}), RedisBackend(url, {})

    def close() -> None:
        for each in (one, two, backend):
            each.close()

    return Stores(one, two, backend, close)


TestRedisHistories = broker_machine(open_store, movable_clock=False, examples=50)
