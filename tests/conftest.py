"""Fixtures that several rooms share. Keep it short: what one room needs stands in its own modules."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.servers import RedisServer


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A private Redis for the whole run; `server.flush()` empties it."""
    server = RedisServer()
    yield server
    server.stop()
