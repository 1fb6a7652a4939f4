"""What one `delay()` costs in calls. The numbers may only fall."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from tests.servers import RedisServer

from celeriac import Celeriac

#: Python-level calls of one `delay()`, and the files they are in.
CALLS = {"memory": 27, "redis": 17}
FILES = {"memory": 13, "redis": 10}


def traced(call: Callable[[], Any]) -> list[Path]:
    """The files of all Python functions that `call` enters."""
    entered: list[Path] = []

    def trace(frame: FrameType, event: str, arg: Any) -> None:
        if event == "call":
            entered.append(Path(frame.f_code.co_filename))

    sys.setprofile(trace)
    try:
        call()
    finally:
        sys.setprofile(None)
    return entered[1:]  # without the lambda itself


@pytest.mark.parametrize("kind", ["memory", "redis"])
def test_delay(kind: str, redis_server: RedisServer) -> None:
    redis_server.flush()
    url = "memory://budget" if kind == "memory" else redis_server.url
    app = Celeriac("budget", broker=url, backend="disabled://", set_as_current=False)

    @app.task
    def add(x: int, y: int) -> int:
        return x + y

    add.delay(1, 2)  # the first call works out what the others share
    entered = traced(lambda: add.delay(1, 2))
    assert len(entered) <= CALLS[kind], [path.name for path in entered]
    assert len(set(entered)) <= FILES[kind], sorted({path.name for path in entered})
    app.close()
