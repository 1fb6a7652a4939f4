"""`rpc://` keeps the contract of result stores, but for what needs a shared one."""

from __future__ import annotations

import pytest
from tests.servers import RabbitServer

from celeriac.backends.rpc import RpcBackend
from celeriac.conformance import ResultBackendContract


class TestRpcBackend(ResultBackendContract):
    backend_class = RpcBackend

    @pytest.fixture
    def url(self, rabbit_server: RabbitServer) -> str:
        return rabbit_server.url.replace("amqp://", "rpc://")
