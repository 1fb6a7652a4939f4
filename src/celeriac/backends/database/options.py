"""What the URL and the settings say of an SQL database, and what is added when they do not.

1. `Options`: how to reach the tables.
2. `DRIVERS`: taken when the URL names none; `PATIENCE`: their arguments, so that a lost server is noticed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

__all__ = ["DRIVERS", "PATIENCE", "Options"]

_LIBPQ: Final = {
    "connect_timeout": 5, "keepalives": 1, "keepalives_idle": 4, "keepalives_interval": 2,
    "keepalives_count": 2, "tcp_user_timeout": 8000,
}  # fmt: skip
#: Seconds after which a server that does not answer counts as lost, where its driver can tell.
PATIENCE: Final[Mapping[str, Mapping[str, Any]]] = {
    "psycopg": _LIBPQ,
    "psycopg2": _LIBPQ,
    "pymysql": {"connect_timeout": 5, "read_timeout": 10, "write_timeout": 10},
    "mysqldb": {"connect_timeout": 5, "read_timeout": 10, "write_timeout": 10},
    "pysqlite": {"timeout": 10},
}  # fmt: skip

#: Dialect → (module, the URL's name for it): drivers to take when the URL names none.
DRIVERS: Final[Mapping[str, Sequence[tuple[str, str]]]] = {
    "postgresql": (("psycopg2", "postgresql+psycopg2"), ("psycopg", "postgresql+psycopg")),
    "mysql": (("MySQLdb", "mysql+mysqldb"), ("pymysql", "mysql+pymysql")),
    "mariadb": (("MySQLdb", "mariadb+mysqldb"), ("pymysql", "mariadb+pymysql")),
    "oracle": (("oracledb", "oracle+oracledb"), ("cx_Oracle", "oracle+cx_oracle")),
}


class Options(NamedTuple):
    """How to reach the tables.

    Attributes:
        url: SQLAlchemy's URL; without a driver the one that is installed is taken.
        engine: keyword arguments of `create_engine`.
        callback: called with the new engine of each process.
        short_lived: open a connection for each operation, and close it.
        names, schemas: of the tables, by ``task`` and ``group``.
    """

    url: str
    engine: Mapping[str, Any] = {}
    callback: Callable[[Any], Any] | None = None
    short_lived: bool = False
    names: Mapping[str, str] = {}
    schemas: Mapping[str, str] = {}
