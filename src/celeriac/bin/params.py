"""Types of the command line's values: text in, Python values out, and a clear refusal.

1. Log levels, JSON arrays and objects, dates, comma separated lists.
2. Node names, concurrency, pools, autoscale bounds.

The names are Celery's, so that plugins which use them as click types find them.
"""

from __future__ import annotations

import json
import logging
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import click

__all__ = [
    "COMMA_SEPARATED_LIST",
    "CONCURRENCY",
    "ISO8601",
    "ISO8601_OR_FLOAT",
    "JSON_ARRAY",
    "JSON_OBJECT",
    "LOG_LEVEL",
    "WORKERS_POOL",
    "CommaSeparatedList",
    "Concurrency",
    "ISO8601DateTime",
    "ISO8601DateTimeOrFloat",
    "JsonArray",
    "JsonObject",
    "LogLevel",
    "WorkersPool",
]

if TYPE_CHECKING:
    AnyType = click.ParamType[Any]  # generic for type checkers, not in every release of click
    AnyChoice = click.Choice[str]
else:
    AnyType, AnyChoice = click.ParamType, click.Choice

LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "FATAL")


class LogLevel(AnyChoice):
    """A level's name in any case; the value is its number."""

    name = "level"

    def __init__(self) -> None:
        super().__init__(LEVELS, case_sensitive=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, int):
            return value
        if isinstance(value, str) and value.isdigit():
            return int(value)
        level = logging.getLevelNamesMapping().get(str(value).upper())
        if level is None:
            self.fail(f"there is no log level {value!r}; choose one of {', '.join(LEVELS)}", param, ctx)
        return level


class CommaSeparatedList(AnyType):
    """``a,b,c`` as a list of names; blanks around them do not count."""

    name = "comma separated list"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        return [name for name in map(str.strip, value.split(",")) if name]


class JsonArray(AnyType):
    """A JSON array, e.g. ``[1, 2]``."""

    name = "json array"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = _json(self, value, param, ctx)
        if not isinstance(found, list):
            self.fail(f"{value!r} is not a JSON array. Write it like this: '[1, \"two\"]'", param, ctx)
        return found


class JsonObject(AnyType):
    """A JSON object, e.g. ``{"x": 1}``."""

    name = "json object"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = _json(self, value, param, ctx)
        if not isinstance(found, dict):
            self.fail(f"{value!r} is not a JSON object. Write it like this: '{{\"x\": 1}}'", param, ctx)
        return found


def _json(kind: AnyType, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as exc:
        kind.fail(f"{value!r} is not valid JSON: {exc}", param, ctx)


class ISO8601DateTime(AnyType):
    """A date and time such as ``2026-03-01T09:30:00+00:00``."""

    name = "iso-8601"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not a date like 2026-03-01T09:30:00+00:00", param, ctx)


class ISO8601DateTimeOrFloat(ISO8601DateTime):
    """A date as above, or a number of seconds from now."""

    name = "iso-8601 or float"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return float(value)
        except (TypeError, ValueError):
            return super().convert(value, param, ctx)


class Concurrency(AnyType):
    """A whole number of at least 1, or ``auto``: the CPUs that this process may use (None)."""

    name = "number|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "auto":
            return value
        try:
            number = int(value)
        except (TypeError, ValueError):
            self.fail(f"{value!r} is neither a whole number nor 'auto'", param, ctx)
        if number < 1:
            self.fail("a worker needs at least 1", param, ctx)
        return number


class WorkersPool(AnyType):
    """The name of a pool; those of Celery that are not built here are refused with what to use instead."""

    name = "pool"
    choices: Final = ("prefork", "processes", "solo", "threads", "asyncio")
    refused: Final = {
        "eventlet": "-P asyncio for `async def` tasks, or -P threads",
        "gevent": "-P asyncio for `async def` tasks, or -P threads",
        "custom": "-P prefork, threads, asyncio or solo",
    }

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value in self.choices:
            return value
        if value in self.refused:
            self.fail(f"the pool {value!r} is not part of Celeriac; use {self.refused[value]}", param, ctx)
        return self.fail(f"there is no pool {value!r}; choose one of {', '.join(self.choices)}", param, ctx)

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return f"[{'|'.join(self.choices)}]"


COMMA_SEPARATED_LIST: Final = CommaSeparatedList()
CONCURRENCY: Final = Concurrency()
ISO8601: Final = ISO8601DateTime()
ISO8601_OR_FLOAT: Final = ISO8601DateTimeOrFloat()
JSON_ARRAY: Final = JsonArray()
JSON_OBJECT: Final = JsonObject()
LOG_LEVEL: Final = LogLevel()
WORKERS_POOL: Final = WorkersPool()
