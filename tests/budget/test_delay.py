"""What one `delay()` costs in calls. The numbers may only fall."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.budget.tracing import called
from tests.servers import RedisServer

from celeriac import Celeriac

#: Python-level calls of one `delay()`, and the files they are in.
CALLS = {"memory": 27, "redis": 17}
FILES = {"memory": 13, "redis": 10}


@pytest.mark.parametrize("kind", ["memory", "redis"])
def test_delay(kind: str, redis_server: RedisServer) -> None:
    redis_server.flush()
    url = "memory://budget" if kind == "memory" else redis_server.url
    app = Celeriac("budget", broker=url, backend="disabled://", set_as_current=False)

    @app.task
    def add(x: int, y: int) -> int:
        return x + y

    add.delay(1, 2)  # the first call works out what the others share
    entered = [Path(code.co_filename) for code in called(lambda: add.delay(1, 2))]
    assert len(entered) <= CALLS[kind], [path.name for path in entered]
    assert len(set(entered)) <= FILES[kind], sorted({path.name for path in entered})
    app.close()
