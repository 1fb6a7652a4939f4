"""`cache+memcached://` keeps the contract of result stores, on one server and on two."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.conftest import provided
from tests.servers import MemcachedServer

from celeriac.conformance import ResultBackendContract

pytest.importorskip("pymemcache")

from celeriac.backends.memcached import MemcachedBackend


@pytest.fixture(scope="module")
def other_server() -> Iterator[MemcachedServer]:
    server = provided(MemcachedServer)
    yield server
    server.stop()


class TestMemcached(ResultBackendContract):
    backend_class = MemcachedBackend

    @pytest.fixture
    def url(self, memcached_server: Any) -> str:
        memcached_server.flush()
        return str(memcached_server.url)


class TestOnTwoServers(ResultBackendContract):
    backend_class = MemcachedBackend

    @pytest.fixture
    def url(self, memcached_server: Any, other_server: MemcachedServer) -> str:
        memcached_server.flush()
        other_server.flush()
        return f"memcached://127.0.0.1:{memcached_server.port};127.0.0.1:{other_server.port}/"
