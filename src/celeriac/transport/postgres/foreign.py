"""A connection of the caller's: psycopg 3 or 2, SQLAlchemy's `Connection` or `Session`, Django's.

1. `runner`: what runs a statement in its transaction.
2. `literal`: a parameter as text, which every driver takes.

Nothing is imported for it: connections are known by their shape.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from celeriac.exceptions import ImproperlyConfigured
from celeriac.transport.postgres.values import Param, texts_of

__all__ = ["literal", "runner"]

Run = Callable[[str, Sequence[str]], None]


def runner(connection: Any) -> Run:
    """What runs a statement with ``%s`` parameters inside the transaction of `connection`.

    Args:
        connection: a psycopg 3 or 2 connection, an SQLAlchemy `Connection` or `Session` (on either driver), a
            Django connection, or the alias of one.

    Raises:
        ImproperlyConfigured: it is none of these, or not one to PostgreSQL.
    """
    if isinstance(connection, str):
        connection = _of_django(connection)
    home = type(connection).__module__
    if home.startswith("sqlalchemy."):
        return _by_sqlalchemy(connection)
    vendor = getattr(connection, "vendor", None)
    if vendor is not None and vendor != "postgresql":
        raise ImproperlyConfigured(
            f"{_FOR} one to PostgreSQL, but this Django connection is one to {vendor}."
        )
    if _is_async(connection):
        raise ImproperlyConfigured(
            f"{_FOR} a synchronous connection, not {type(connection).__name__}. Use a synchronous one; with "
            "SQLAlchemy's asyncio: await session.run_sync(lambda s: task.apply_async(connection=s))."
        )
    if vendor is None and home.partition(".")[0] not in ("psycopg", "psycopg2", "psycopg_pool"):
        raise ImproperlyConfigured(
            f"{_FOR} a psycopg, SQLAlchemy or Django connection to the database of the broker, not "
            f"{type(connection).__module__}.{type(connection).__qualname__}."
        )

    def run(sql: str, words: Sequence[str]) -> None:
        cursor = connection.cursor()
        try:
            cursor.execute(sql, list(words))
        finally:
            cursor.close()

    return run


_FOR = "apply_async(connection=…) takes"


def _of_django(alias: str) -> Any:
    django = sys.modules.get("django.db")
    if django is None:
        raise ImproperlyConfigured(f"{_FOR} an alias ({alias!r}) only in a Django project.")
    return django.connections[alias]


def _is_async(connection: Any) -> bool:
    name = type(connection).__name__
    return name.startswith("Async") or "async" in type(connection).__module__


def _by_sqlalchemy(connection: Any) -> Run:
    if _is_async(connection):
        raise ImproperlyConfigured(
            f"{_FOR} a synchronous session: await session.run_sync(lambda s: task.apply_async(connection=s))."
        )
    # A Session gives the connection of its transaction; `exec_driver_sql` makes it note that there is one.
    inner = connection.connection() if callable(getattr(connection, "connection", None)) else connection
    dialect = inner.dialect
    if dialect.name != "postgresql" or dialect.driver not in ("psycopg", "psycopg2"):
        raise ImproperlyConfigured(
            f"{_FOR} SQLAlchemy on postgresql+psycopg or postgresql+psycopg2, not on "
            f"{dialect.name}+{dialect.driver}."
        )

    def run(sql: str, words: Sequence[str]) -> None:
        inner.exec_driver_sql(sql, tuple(words))

    return run


def literal(param: Param) -> str:
    """The text of an array parameter.

    Example:
        >>> from celeriac.transport.postgres.values import byteas, int8s
        >>> literal(int8s([1, 2])), literal(byteas([b"ab"]))
        ('{1,2}', '{"\\\\\\\\x6162"}')
    """
    if param.format == 0:
        return (param.value or b"").decode()
    return texts_of(param)
