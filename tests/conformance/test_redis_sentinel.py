"""`sentinel://` keeps the contracts: the master that three sentinels name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import pytest
from tests.conftest import provided
from tests.servers import RedisSentinels

from celeriac.backends.redis import RedisBackend
from celeriac.brokers.redis import RedisBroker
from celeriac.conformance import BrokerContract, ResultBackendContract


class Stage:
    """The servers of the run, for what pytest cannot hand a fixture to."""

    sentinels: ClassVar[RedisSentinels]


@pytest.fixture(scope="module", autouse=True)
def _stage() -> Iterator[None]:
    Stage.sentinels = provided(RedisSentinels)
    yield
    Stage.sentinels.stop()


class TestRedisSentinelBroker(BrokerContract):
    broker_class = RedisBroker
    backend_class = RedisBackend

    @pytest.fixture
    def url(self) -> str:
        Stage.sentinels.flush()
        return Stage.sentinels.url

    @pytest.fixture
    def options(self) -> Mapping[str, Any]:
        return Stage.sentinels.options

    def plant(self, url: str, queue: str, raw: bytes) -> None:
        Stage.sentinels.master.send("LPUSH", queue, raw)


class TestRedisSentinelBackend(ResultBackendContract):
    backend_class = RedisBackend

    @pytest.fixture
    def url(self) -> str:
        Stage.sentinels.flush()
        return Stage.sentinels.url

    @pytest.fixture
    def options(self) -> Mapping[str, Any]:
        return Stage.sentinels.options
