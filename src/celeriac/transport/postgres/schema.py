"""Versions of the tables, and how a database gets from one to the next.

1. `MIGRATIONS`: for each version, the files of `sql/` that lead to it from the one before.
2. `prepare`: what a new link of a process does once: looks, and makes or upgrades the tables where that is
   wanted. A store that is newer than this program is refused.
3. `status`, `migrate`, `script`: the same for the command line.

A migration is one transaction under a lock, so it does not matter how many processes come first.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple

from celeriac.exceptions import ImproperlyConfigured
from celeriac.transport.postgres.sql import read
from celeriac.transport.postgres.url import Server
from celeriac.transport.postgres.values import integer, text

if TYPE_CHECKING:
    from celeriac.transport.postgres.link import Link

__all__ = ["VERSION", "Status", "migrate", "prepare", "script", "status"]

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    ("tables", "results", "enqueue", "exchange", "leases"),
    ("chords",),
)
VERSION: Final = len(MIGRATIONS)
OLDEST_SERVER: Final = 130000

#: "Clrc", and what the number is for: the lock under which tables are made.
_LOCK: Final = 0x436C7263_00000001
_LOOK: Final = b"SELECT to_regclass($1) IS NOT NULL, to_regnamespace($2) IS NOT NULL"
_MADE_BY_ANOTHER: Final = ("23505", "42P06", "42P07")  # came second
_NOT_ALLOWED: Final = "42501"
_PATIENCE: Final = 60.0


class Status(NamedTuple):
    """`version`: of the tables that are there, 0 when there are none. `wanted`: this program's."""

    version: int
    wanted: int
    where: str
    has_schema: bool


def status(link: Link, server: Server, deadline: float) -> Status:
    """Which version of the tables is there."""
    names = (text(server.sql("{s}migration")), text(f'"{server.schema}"'))
    ((has_table, has_schema),) = link.query(_LOOK, names, deadline=deadline)
    version = 0
    if integer(has_table):
        sql = server.sql("SELECT coalesce(max(version), 0) FROM {s}migration")
        ((found,),) = link.query(sql.encode(), deadline=deadline)
        version = integer(found)
    return Status(version, VERSION, f"{server.where}, {server.sql('{s}*')}", bool(integer(has_schema)))


def prepare(link: Link, server: Server, deadline: float) -> None:
    """Make sure that the tables are there.

    Raises:
        ImproperlyConfigured: they are newer than this program, or older and `auto_migrate` is off, or we may
            not make them.
    """
    if link.version < OLDEST_SERVER:
        raise ImproperlyConfigured(
            f"PostgreSQL at {server.where} is version {link.version // 10000}; 13 or newer is needed."
        )
    found = status(link, server, deadline)
    if found.version == VERSION:
        return
    if found.version < VERSION and not server.auto_migrate:
        raise ImproperlyConfigured(
            f"The tables at {found.where} have version {found.version}; this program needs {VERSION}, and "
            "auto_migrate is off. Run: celeriac db migrate (or let `celeriac db sql` print what to apply)."
        )
    migrate(link, server, max(deadline, time.monotonic() + _PATIENCE))


def migrate(link: Link, server: Server, deadline: float) -> Status:
    """Bring the tables to this program's version; what they are then. Nothing happens where they are."""
    from celeriac.transport.postgres.link import Refused

    while True:
        found = status(link, server, deadline)
        if found.version > VERSION:
            raise ImproperlyConfigured(
                f"The tables at {found.where} have version {found.version}, made by a newer Celeriac; this "
                f"one knows {VERSION}. Upgrade celeriac on this machine before it uses this database."
            )
        if found.version == VERSION:
            return found
        sql = script(server, found.version, make_schema=not found.has_schema)
        try:
            link.script(sql.encode(), deadline=deadline)
        except Refused as exc:
            if exc.code == _NOT_ALLOWED:
                raise ImproperlyConfigured(
                    f"{exc} The tables cannot be made by this user. Let the owner of the database run "
                    "`celeriac db migrate`, or apply what `celeriac db sql` prints, and grant this user "
                    f'usage of the schema "{server.schema}" and all on its tables.'
                ) from exc
            if exc.code not in _MADE_BY_ANOTHER:
                raise


def script(server: Server, version: int = 0, *, make_schema: bool = True) -> str:
    """The SQL that leads from `version` to this program's; a single transaction."""
    parts = [f"SELECT pg_advisory_xact_lock({_LOCK});"]
    if make_schema:
        parts.append(f'CREATE SCHEMA "{server.schema}";')
    if version == 0:
        parts.append(
            "CREATE TABLE {s}migration (version int PRIMARY KEY, at timestamptz NOT NULL DEFAULT now());"
        )
    for at in range(version, VERSION):
        # first, so that whoever comes second ends here
        parts.append(f"INSERT INTO {{s}}migration (version) VALUES ({at + 1});")
        parts += [read(name) for name in MIGRATIONS[at]]
    return server.sql("\n".join(parts))
