"""Values of the command line."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click
import pytest

from celeriac.bin import params


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (params.LOG_LEVEL, "info", 20),
        (params.LOG_LEVEL, "CRITICAL", 50),
        (params.LOG_LEVEL, "FATAL", 50),
        (params.LOG_LEVEL, "15", 15),
        (params.LOG_LEVEL, 10, 10),
        (params.COMMA_SEPARATED_LIST, "a, b,,c", ["a", "b", "c"]),
        (params.JSON_ARRAY, '[1, "two"]', [1, "two"]),
        (params.JSON_OBJECT, '{"x": 1}', {"x": 1}),
        (params.ISO8601, "2026-03-01T09:30:00+00:00", datetime(2026, 3, 1, 9, 30, tzinfo=UTC)),
        (params.ISO8601_OR_FLOAT, "2.5", 2.5),
        (params.ISO8601_OR_FLOAT, "2026-03-01T09:30:00", datetime(2026, 3, 1, 9, 30)),
        (params.CONCURRENCY, "4", 4),
        (params.CONCURRENCY, "auto", "auto"),
        (params.WORKERS_POOL, "asyncio", "asyncio"),
    ],
)
def test_text_becomes_a_value(kind: Any, text: Any, value: Any) -> None:
    assert kind.convert(text, None, None) == value


@pytest.mark.parametrize(
    ("kind", "text", "advice"),
    [
        (params.LOG_LEVEL, "loud", "WARNING"),
        (params.JSON_ARRAY, "{}", "not a JSON array"),
        (params.JSON_ARRAY, "[1", "not valid JSON"),
        (params.JSON_OBJECT, "[]", "not a JSON object"),
        (params.ISO8601, "tomorrow", "2026-03-01T09:30:00"),
        (params.CONCURRENCY, "0", "at least 1"),
        (params.CONCURRENCY, "many", "'auto'"),
        (params.WORKERS_POOL, "gevent", "-P asyncio"),
        (params.WORKERS_POOL, "fibers", "prefork"),
    ],
)
def test_a_wrong_value_is_refused_with_advice(kind: Any, text: str, advice: str) -> None:
    with pytest.raises(click.BadParameter) as caught:
        kind.convert(text, None, None)
    assert advice in caught.value.message
