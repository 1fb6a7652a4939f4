"""Celery's two tables in any database that SQLAlchemy speaks to. The only module that imports SQLAlchemy.

1. `Tables`: batches of rows written, read and deleted, in Celery's tables and in one of ours (for chords);
   made anew in every process.
2. Errors: what may pass is tried again a few times, and then raised as `OperationalError`; what one row alone
   is guilty of is raised as `RowRefused`.

Tables that exist are used as they are: columns that older versions of Celery did not make are left out, and
nothing is ever altered.

Not here: what a row means (`rows.py`), what can be said of a database (`options.py`).
"""

from __future__ import annotations

import importlib.util
import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc as errors
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.pool import NullPool

from celeriac.backends.database.options import DRIVERS, PATIENCE, Options
from celeriac.backends.database.rows import TaskRow
from celeriac.exceptions import ImproperlyConfigured, OperationalError
from celeriac.utils.batches import batches

__all__ = ["RowRefused", "Tables", "make_engine"]

logger = logging.getLogger("celeriac.backend")

R = TypeVar("R")

#: Tries of one operation, and the seconds between the first two.
TRIES: Final = 4
PAUSE: Final = 0.05
#: Ids in one statement (Oracle allows 1000), rows in one deletion.
CHUNK: Final = 500


class RowRefused(Exception):
    """The database refuses a batch for what is in it, and would again."""


def make_engine(options: Options) -> sa.engine.Engine:
    """An engine that has connected to nothing yet.

    Raises:
        ImproperlyConfigured: the URL or an option is wrong, or the driver is not installed.
    """
    given = dict(options.engine)
    if options.short_lived:
        given = {key: value for key, value in given.items() if not key.startswith("pool")}
        given["poolclass"] = NullPool
    try:
        url = _with_driver(sa.engine.make_url(options.url))
        driver = url.get_dialect().driver
        patience = PATIENCE.get(driver, {})
        given["connect_args"] = {**patience, **given.get("connect_args", {})}
        return sa.create_engine(url, **given)
    except ModuleNotFoundError as exc:
        raise ImproperlyConfigured(
            f"The database {_masked(options.url)} needs the driver {exc.name!r}, which is not installed. "
            f"Run: pip install {exc.name}"
        ) from exc
    except (errors.ArgumentError, errors.NoSuchModuleError, TypeError, ValueError) as exc:
        raise ImproperlyConfigured(
            f"The result backend db+{_masked(options.url)} is not understood: {exc}. The URL is "
            "SQLAlchemy's, after 'db+'; `database_engine_options` are arguments of its create_engine()."
        ) from exc


def _with_driver(url: Any) -> Any:
    for module, name in DRIVERS.get(url.drivername, ()):
        if importlib.util.find_spec(module) is not None:
            return url.set(drivername=name)
    return url


def _masked(url: str) -> str:
    try:
        return sa.engine.make_url(url).render_as_string(hide_password=True)
    except errors.ArgumentError:
        return "…"


# -- tables -----------------------------------------------------------------------------------------------


def _task_columns(schema: str | None) -> list[sa.Column[Any]]:
    return [
        _number("task_id_sequence", schema),
        sa.Column("task_id", sa.String(155), unique=True),
        sa.Column("status", sa.String(50)),
        sa.Column("result", _blob()),
        sa.Column("date_done", sa.DateTime, index=True),
        sa.Column("traceback", _large(sa.Text(), mysql.LONGTEXT())),
        sa.Column("children", _blob()),
        sa.Column("name", sa.String(155)),
        sa.Column("args", _blob()),
        sa.Column("kwargs", _blob()),
        sa.Column("worker", sa.String(155)),
        sa.Column("retries", sa.Integer),
        sa.Column("queue", sa.String(155)),
        sa.Column("stamps", _blob()),
    ]


def _group_columns(schema: str | None) -> list[sa.Column[Any]]:
    return [
        _number("taskset_id_sequence", schema),
        sa.Column("taskset_id", sa.String(155), unique=True),
        sa.Column("result", _blob()),
        sa.Column("date_done", sa.DateTime, index=True),
    ]


def _note_columns(schema: str | None) -> list[sa.Column[Any]]:
    return [
        _number("celeriac_note_id_sequence", schema),
        sa.Column("name", sa.String(255), unique=True),
        sa.Column("value", _blob()),
        sa.Column("expires", sa.Float(53), index=True),
    ]


class _Wanted(NamedTuple):
    """A table as we would make it."""

    name: str
    schema: str | None
    columns: Callable[[str | None], list[sa.Column[Any]]]


def _number(sequence: str, schema: str | None) -> sa.Column[Any]:
    """Wider than Celery's, where that is a choice: a busy table has had its 2³¹ rows within weeks."""
    kind = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    return sa.Column("id", kind, sa.Sequence(sequence, schema=schema), primary_key=True, autoincrement=True)


def _blob() -> Any:
    return _large(sa.LargeBinary(), mysql.LONGBLOB())


def _large(kind: Any, in_mysql: Any) -> Any:
    """In MySQL, where the plain types end at 64 KB, the large one."""
    return kind.with_variant(in_mysql, "mysql").with_variant(in_mysql, "mariadb")


def _as_it_is(wanted: _Wanted, connection: sa.engine.Connection) -> Any:
    """The table as it stands in the database, where it is created if need be."""
    name, schema, columns = wanted.name, wanted.schema, wanted.columns(wanted.schema)
    inspector = sa.inspect(connection)
    if not inspector.has_table(name, schema=schema):
        utf8: dict[str, Any] = {"mysql_charset": "utf8mb4", "mariadb_charset": "utf8mb4"}
        table: Any = sa.Table(name, sa.MetaData(), *columns, schema=schema, sqlite_autoincrement=True, **utf8)
        table.metadata.create_all(connection)
        return table
    found = {column["name"]: column for column in inspector.get_columns(name, schema=schema)}
    number: Mapping[str, Any] = found.get("id", {})
    if number.get("default") or number.get("identity") or number.get("autoincrement") is True:
        # It numbers its rows by itself; the sequence belongs to nobody, or to another table.
        columns[0] = sa.Column("id", sa.BigInteger, primary_key=True)
    return sa.Table(
        name, sa.MetaData(), *(column for column in columns if column.name in found), schema=schema
    )


# -- the store --------------------------------------------------------------------------------------------


class Tables:
    """One process's way to the tables. Nothing is connected before the first operation."""

    def __init__(self, options: Options) -> None:
        self._engine = make_engine(options)
        names, schemas = options.names, options.schemas
        self._wanted = {
            "task": _Wanted(names.get("task", "celery_taskmeta"), schemas.get("task"), _task_columns),
            "group": _Wanted(names.get("group", "celery_tasksetmeta"), schemas.get("group"), _group_columns),
            "note": _Wanted(names.get("note", "celeriac_note"), schemas.get("note"), _note_columns),
        }
        self._found: dict[str, Any] = {}
        self._largest = 0
        if options.callback is not None:
            options.callback(self._engine)

    # -- tasks ---------------------------------------------------------------------------------------------

    def old_layout(self) -> bool:
        """True when Celery up to 5.6 made the table: `result` holds pickles."""
        table = self._found.get("task")
        if table is None:
            table = self._run(lambda connection: self._table("task", connection))
        return "children" not in table.c

    def put(self, rows: Sequence[TaskRow]) -> None:
        """Write all of `rows`, no two of one id, or none.

        Raises:
            RowRefused: one of them cannot be written.
            OperationalError: the database cannot.
        """

        def write(connection: sa.engine.Connection) -> None:
            table = self._table("task", connection)
            if self._largest:
                for row in rows:
                    size = len(row.result or b"") + len(row.args or b"") + len(row.kwargs or b"")
                    if size > self._largest:
                        raise RowRefused(f"{size} bytes are more than one statement may have")
            names = [name for name in TaskRow._fields if name in table.c]
            # In one order everywhere: two batches that meet wait for each other, and not in a circle.
            values = [
                {name: getattr(row, name) for name in names}
                for row in sorted(rows, key=lambda row: row.task_id)
            ]
            self._upsert(connection, table, "task_id", values)

        self._run(write)

    def get(self, ids: Sequence[str]) -> Sequence[TaskRow]:
        """The rows of `ids` that are there."""

        def read(connection: sa.engine.Connection) -> list[TaskRow]:
            table = self._table("task", connection)
            names = [name for name in TaskRow._fields if name in table.c]
            found: list[TaskRow] = []
            for some in batches(ids, CHUNK):
                query = sa.select(*(table.c[name] for name in names)).where(table.c.task_id.in_(some))
                found.extend(
                    TaskRow(**dict(zip(names, row, strict=True))) for row in connection.execute(query)
                )
            return found

        return self._run(read)

    def delete(self, ids: Sequence[str]) -> None:
        def delete(connection: sa.engine.Connection) -> None:
            table = self._table("task", connection)
            for some in batches(ids, CHUNK):
                connection.execute(table.delete().where(table.c.task_id.in_(some)))

        self._run(delete)

    # -- groups --------------------------------------------------------------------------------------------

    def put_group(self, group_id: str, column: bytes, now: datetime) -> None:
        values = {"taskset_id": group_id, "result": column, "date_done": now}
        self._run(lambda c: self._upsert(c, self._table("group", c), "taskset_id", [values]))

    def get_group(self, group_id: str) -> bytes | None:
        def read(connection: sa.engine.Connection) -> bytes | None:
            table = self._table("group", connection)
            found: bytes | None = connection.execute(
                sa.select(table.c.result).where(table.c.taskset_id == group_id)
            ).scalar()
            return found

        return self._run(read)

    def delete_group(self, group_id: str) -> None:
        def delete(connection: sa.engine.Connection) -> None:
            table = self._table("group", connection)
            connection.execute(table.delete().where(table.c.taskset_id == group_id))

        self._run(delete)

    # -- notes: what chords are counted by (`backends/chords.py`) ------------------------------------------

    def get_many(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        """Notes that are there and have not expired."""

        def read(connection: sa.engine.Connection) -> dict[str, bytes]:
            table = self._table("note", connection)
            found: dict[str, bytes] = {}
            for some in batches(keys, CHUNK):
                lives = sa.or_(table.c.expires.is_(None), table.c.expires > time.time())
                query = sa.select(table.c.name, table.c.value).where(table.c.name.in_(some), lives)
                found.update((name, bytes(value)) for name, value in connection.execute(query))
            return found

        return self._run(read)

    def put_note(self, key: str, value: bytes, ttl: float | None) -> None:
        values = {"name": key, "value": value, "expires": None if ttl is None else time.time() + ttl}
        self._run(lambda c: self._upsert(c, self._table("note", c), "name", [values]))

    def add(self, key: str, value: bytes, ttl: float | None) -> bool:
        """Write a note if there is none; True when this call wrote it."""
        values = {"name": key, "value": value, "expires": None if ttl is None else time.time() + ttl}

        def write(connection: sa.engine.Connection) -> bool:
            table = self._table("note", connection)
            expired = sa.and_(table.c.name == key, table.c.expires <= time.time())
            connection.execute(table.delete().where(expired))
            try:
                with connection.begin_nested():
                    connection.execute(table.insert().values(values))
            except errors.IntegrityError:
                return False
            return True

        return self._run(write)

    def delete_notes(self, keys: Sequence[str]) -> None:
        def delete(connection: sa.engine.Connection) -> None:
            table = self._table("note", connection)
            for some in batches(keys, CHUNK):
                connection.execute(table.delete().where(table.c.name.in_(some)))

        self._run(delete)

    def expire_notes(self) -> int:
        """Delete notes that have expired; how many. None are looked for where none were written."""

        def delete(connection: sa.engine.Connection) -> int:
            table = self._table("note", connection)
            return int(connection.execute(table.delete().where(table.c.expires <= time.time())).rowcount)

        return self._run(delete) if "note" in self._found else 0

    # -- both ----------------------------------------------------------------------------------------------

    def expire(self, before: datetime) -> int:
        """Delete what was done before `before`, in short transactions; return how many."""
        return sum(self._expire(kind, before) for kind in ("task", "group"))

    def _expire(self, kind: str, before: datetime) -> int:
        total = 0

        def some(connection: sa.engine.Connection) -> int:
            table = self._table(kind, connection)
            old = sa.select(table.c.id).where(table.c.date_done < before).limit(CHUNK)
            numbers = [number for (number,) in connection.execute(old)]
            if numbers:
                connection.execute(table.delete().where(table.c.id.in_(numbers)))
            return len(numbers)

        while True:
            count = self._run(some)
            total += count
            if count < CHUNK:
                return total

    def describe(self) -> str:
        """Database and place, without the password."""
        return self._engine.url.render_as_string(hide_password=True)

    def close(self) -> None:
        """Drop the connections; the next operation opens new ones."""
        self._engine.dispose()

    # -- how -----------------------------------------------------------------------------------------------

    def _table(self, kind: str, connection: sa.engine.Connection) -> Any:
        found = self._found.get(kind)
        if found is None:
            if self._engine.dialect.name in ("mysql", "mariadb"):
                packet = connection.execute(sa.text("SELECT @@max_allowed_packet")).scalar()
                self._largest = (
                    int(packet or 0) // 2 - 65536
                )  # written as text, bytes may take twice the room
            found = self._found[kind] = _as_it_is(self._wanted[kind], connection)
        return found

    def _upsert(
        self, connection: sa.engine.Connection, table: Any, key: str, values: Sequence[dict[str, Any]]
    ) -> None:
        if not values:
            return
        others = [name for name in values[0] if name != key]
        dialect = self._engine.dialect.name
        insert: Any
        if dialect in ("postgresql", "sqlite"):
            insert = (postgresql if dialect == "postgresql" else sqlite).insert(table)
            insert = insert.on_conflict_do_update(
                index_elements=[key], set_={name: insert.excluded[name] for name in others}
            )
            connection.execute(insert, values)
        elif dialect in ("mysql", "mariadb"):
            insert = mysql.insert(table)
            insert = insert.on_duplicate_key_update({name: insert.inserted[name] for name in others})
            connection.execute(insert, values)
        else:
            for each in values:
                update = table.update().where(table.c[key] == each[key])
                if not connection.execute(update.values({name: each[name] for name in others})).rowcount:
                    connection.execute(table.insert().values(each))

    def _run(self, work: Callable[[sa.engine.Connection], R]) -> R:
        """Do `work` in a transaction; again when what kept it from being done may have passed."""
        pause = PAUSE
        for left in reversed(range(TRIES)):
            try:
                with self._engine.begin() as connection:
                    return work(connection)
            except errors.DataError as exc:
                raise RowRefused(_said(exc)) from exc
            except errors.SQLAlchemyError as exc:
                if isinstance(exc, errors.StatementError) and not isinstance(exc, errors.DBAPIError):
                    raise RowRefused(_said(exc)) from exc  # a value that the driver cannot write
                # A table that is gone, or was made by another process a moment ago: look again.
                self._found.clear()
                if not left:
                    raise OperationalError(
                        f"The result store {self.describe()} does not do its work: {_said(exc)}"
                    ) from exc
                logger.debug("Trying again: %s", exc)
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause *= 3
        raise AssertionError("not reached")


def _said(exc: Exception) -> str:
    """What the driver said, in one line, without the statement and its values."""
    text = str(getattr(exc, "orig", None) or exc)
    return " ".join(text.split())[:500]
