"""Where a PostgreSQL store is: a URL and its options, checked.

1. `Server`: hosts, database, the place of our tables in it, time limits.
2. `Server.sql`: the names of our tables and functions put into a statement.

What libpq understands is left to libpq (several hosts, `target_session_attrs`, `sslmode`, `service`, …).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlencode

from celeriac.exceptions import ImproperlyConfigured

__all__ = ["Server"]

#: Seconds for one trip when the caller names no deadline.
TIMEOUT: Final = 8.0
#: Seconds for one attempt to connect to one host.
CONNECT_TIMEOUT: Final = 5.0
#: Schema in which our tables are.
SCHEMA: Final = "celeriac"

#: libpq's own settings with which a dead peer is noticed; the URL may say otherwise.
_KEEPALIVE: Final = {
    "keepalives": "1",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "2",
    "tcp_user_timeout": "8000",  # milliseconds
}
_OURS: Final = ("schema", "table_prefix", "auto_migrate", "listen", "timeout")
_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,39}")
_LIST: Final = re.compile(r";(?=\s*[\w+]+://)")
_PREFIX: Final = re.compile(r"([a-z_][a-z0-9_]{0,19})?")


class Server(NamedTuple):
    """A database and how it is to be used. Hashable: equal servers share a pool.

    Attributes:
        conninfo: for libpq; holds the password.
        location: what tells this store from others; the same for equal hosts, database, schema and prefix.
        schema, prefix: where our tables are: ``schema.prefix<table>``.
        timeout: seconds for one trip when the caller names no deadline.
        auto_migrate: make and upgrade the tables on first use.
        listen: ``auto``: by LISTEN where it works; ``off``: by looking.
    """

    conninfo: str
    location: tuple[str, ...]
    schema: str = SCHEMA
    prefix: str = ""
    timeout: float = TIMEOUT
    connect_timeout: float = CONNECT_TIMEOUT
    auto_migrate: bool = True
    listen: str = "auto"

    def sql(self, text: str) -> str:
        """Put the place of our tables in for ``{s}``, and what channels begin with for ``{c}``.

        Example:
            >>> Server.parse("postgresql://db/shop", {"table_prefix": "q_"}).sql("SELECT 1 FROM {s}message")
            'SELECT 1 FROM "celeriac".q_message'
        """
        return text.replace("{s}", f'"{self.schema}".{self.prefix}').replace("{c}", self.channel(""))

    def channel(self, name: str) -> str:
        """The channel `name` of this store for LISTEN and NOTIFY, at most 63 bytes long."""
        return f"{self.schema[:20]}.{self.prefix[:12]}{name}"

    @property
    def where(self) -> str:
        """Host and database for people; no password."""
        return f"{self.location[1]}/{self.location[2]}"

    @classmethod
    def parse(cls, url: str, options: Mapping[str, Any]) -> Server:
        """Read ``postgresql://user:password@host:5432,host2/database?sslmode=require``.

        Args:
            url: as libpq takes it; the schemes ``postgres`` and ``postgresql+psycopg`` mean the same. Our own
                options may stand in the query. Several URLs joined by ``;`` are one with several hosts. Of
                several hosts the first that takes writes is used, unless `target_session_attrs` says else.
            options: `schema` (``celeriac``), `table_prefix`, `auto_migrate` (True), `listen` (``auto`` or
                ``off``), `timeout` and `connect_timeout` (seconds).

        Raises:
            ImproperlyConfigured: an option has no such value.
        """
        place, query = _one(url)
        asked = dict(parse_qsl(query, keep_blank_values=True))
        given = {key: asked.pop(key) for key in _OURS if key in asked}
        given = {**{key: options[key] for key in _OURS if key in options}, **given}
        connect_timeout = (
            asked.pop("connect_timeout", None)
            or options.get("connect_timeout")
            or options.get("socket_connect_timeout")  # what the setting `broker_connection_timeout` becomes
        )
        authority, _, database = place.partition("/")
        user, _, hosts = authority.rpartition("@")
        hosts = hosts or asked.get("host", "") or asked.get("service", "")
        if "," in hosts:  # a standby takes no writes, so it is none of those to fail over to
            asked.setdefault("target_session_attrs", "read-write")
        libpq = {**_KEEPALIVE, "application_name": "celeriac", **asked}
        schema = _matching(_NAME, "schema", given.get("schema", SCHEMA))
        prefix = _matching(_PREFIX, "table_prefix", given.get("table_prefix", ""))
        database = unquote(database) or asked.get("dbname", "") or unquote(user.partition(":")[0])
        return cls(
            f"postgresql://{place}?{urlencode(libpq, quote_via=quote)}",
            ("postgresql", unquote(hosts) or "local", database, schema, prefix),
            schema,
            prefix,
            _seconds("timeout", given.get("timeout", TIMEOUT)),
            _seconds("connect_timeout", connect_timeout or CONNECT_TIMEOUT),
            _yes_or_no("auto_migrate", given.get("auto_migrate", True)),
            _listen(given.get("listen", "auto")),
        )


def _one(url: str) -> tuple[str, str]:
    """What follows the scheme, before and behind the question mark; of a list, with all of its hosts."""
    found: dict[tuple[str, ...], list[str]] = {}
    for part in _LIST.split(url):
        place, _, query = part.strip().partition("://")[2].partition("?")
        authority, slash, database = place.partition("/")
        user, at, host = authority.rpartition("@")
        found.setdefault((f"{user}{at}", f"{slash}{database}", query), []).append(host)
    if len(found) > 1:
        raise ImproperlyConfigured(
            "The PostgreSQL URLs of a list must differ in host and port only: they are to be one database "
            "and its standbys."
        )
    [((user, database, query), hosts)] = found.items()
    return f"{user}{','.join(hosts)}{database}", query


def _matching(pattern: re.Pattern[str], key: str, value: object) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ImproperlyConfigured(
            f"{key}={value!r} cannot be used: write small letters, digits and underscores, at most 40 (20 "
            "for a prefix), not beginning with a digit."
        )
    return value


def _seconds(key: str, value: object) -> float:
    try:
        seconds = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        seconds = -1.0
    if not 0 < seconds < 1e6:
        raise ImproperlyConfigured(f"{key}={value!r} is no number of seconds above 0.")
    return seconds


def _yes_or_no(key: str, value: object) -> bool:
    words = {
        "1": True,
        "true": True,
        "yes": True,
        "on": True,
        "0": False,
        "false": False,
        "no": False,
        "off": False,
    }
    found = words.get(str(value).lower())
    if found is None:
        raise ImproperlyConfigured(f"{key}={value!r} is neither true nor false.")
    return found


def _listen(value: object) -> str:
    word = {"true": "auto", "1": "auto", "false": "off", "0": "off"}.get(
        str(value).lower(), str(value).lower()
    )
    if word not in ("auto", "off"):
        raise ImproperlyConfigured(f"listen={value!r} is unknown. Use auto (LISTEN where it works) or off.")
    return word
