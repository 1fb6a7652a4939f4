#!/usr/bin/env python3
"""Print docs/reference/stores.md, made from what the result stores declare of themselves.

Nothing is connected: capabilities are known from the URL. A new result store, scheme or capability has to be
named here, or this fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from celeriac.backends.base import BackendCapabilities, ResultBackend
from celeriac.backends.chords import KeyValueChords
from celeriac.plugins import BACKENDS, BROKERS, backend_from_url, broker_from_url

HEAD = """# Result stores

<!-- Written by `make reference` from what the classes declare. -->

What each can do; which one to take and how to set it: [Results](../howto/results.md) and
[More result stores](../howto/stores.md), [Files, buckets, memcached](../howto/files-and-caches.md). Stores of
other packages, and those written for Celery: [Plugins](../howto/plugins.md).
"""

FOOT = """
- **Told at once**: the store wakes who waits. The others are looked at, at once and then ever more slowly
  (`get(interval=…)`).
- **Results expire**: *by themselves*: after `result_expires` nobody sees them, and the store deletes them.
  *Workers delete them*: nobody sees them after `result_expires`, and every hour they are deleted.
  *`backend_cleanup`*: beat sends that task every night, and workers look every hour.
- **Chords** are counted as a set of task ids everywhere. *One step*: by one command of the store. *A log*: by
  entries that the store adds when they are not there yet. *By looking*: a task asks again and again whether
  all members have ended.
- **Shares the acknowledgement's step with**: result, follow-ups and acknowledgement of a task are one step
  when its messages are in the same place. Not with compression, encryption or a second store: then, and with
  every other broker, the result is stored first and the message acknowledged after that.
- **Tested against**: an *emulator* speaks the protocol and is not the product: what passes there is not
  proven on it.
"""


class Store(NamedTuple):
    """A row: what it is called, a URL that leads to it, its schemes, what it runs against in the tests.

    `expires`: how, when the capability does not say it all; `ours`: Celery does not read it.
    """

    title: str
    url: str
    schemes: tuple[str, ...]
    tested: str
    expires: str = ""
    ours: bool = False


def _redis() -> tuple[str, ...]:
    return tuple(scheme for scheme, plugin in BACKENDS.items() if plugin == BACKENDS["redis"])


_DELETED = "workers delete them"
_CACHE = ("cache", "cache+", "memcache", "memcached")
_OBJECTS = ("s3", "gs", "gcs", "azureblockblob", "az", "abfs", "fsspec+")
STORES = (
    Store("embedded (SQLite)", "sqlite:///tasks.db", ("sqlite",), "SQLite", _DELETED, True),
    Store("Redis, Valkey", "redis://localhost", _redis(), "Redis, Valkey, Sentinel, Cluster"),
    Store(
        "PostgreSQL", "postgresql://localhost/tasks", ("postgresql", "postgres", "postgresql+psycopg"),
        "PostgreSQL", _DELETED, True,
    ),
    Store(
        "other SQL databases", "db+sqlite:///results.db", ("db", "db+", "database", "database+"),
        "SQLite, PostgreSQL, MariaDB",
    ),
    Store("rpc", "rpc://", ("rpc",), "RabbitMQ"),
    Store("memcached", "cache+memcached://localhost", _CACHE, "memcached"),
    Store("files", "file:///tmp/results", ("file",), "a folder", _DELETED),
    Store("Tokyo Tyrant (legacy)", "tyrant://localhost", ("tyrant",), "a stand-in", _DELETED, True),
    Store("object stores", "s3://bucket/results", _OBJECTS, "moto (an emulator of S3), memory"),
    Store("MongoDB", "mongodb://localhost", ("mongodb", "mongodb+srv"), "nx-27017 (an emulator)"),
    Store("DynamoDB", "dynamodb://@eu-west-1", ("dynamodb",), "moto (an emulator)"),
    Store(
        "Elasticsearch", "elasticsearch://localhost",
        ("elasticsearch", "elasticsearch+http", "elasticsearch+https"), "a stand-in of eight calls",
    ),
    Store("memory", "memory://", ("memory", "cache+memory"), "itself", ours=True),
    Store("disabled", "disabled://", ("disabled",), "itself", ours=True),
)  # fmt: skip


class Column(NamedTuple):
    """Its title, and what stands in it for a store."""

    title: str
    cell: Callable[[Store, Any], str]


def _schemes(store: Store, made: ResultBackend) -> str:
    return ", ".join(f"`{scheme}://`".replace("+://", "+…://") for scheme in store.schemes)


def _extra(store: Store, made: ResultBackend) -> str:
    extras = dict.fromkeys(BACKENDS[scheme].extra for scheme in store.schemes)
    return ", ".join(f"`celeriac[{extra}]`" if extra else "nothing" for extra in extras)


def _readers(store: Store, made: ResultBackend) -> str:
    if not made.capabilities.stores:
        return "nobody"
    if not made.capabilities.shared:
        return "the process that made the call"
    return "this process" if store.title == "memory" else "everybody"


def _form(store: Store, made: ResultBackend) -> str:
    if not made.capabilities.stores:
        return "-"
    if store.ours:
        return "Celery's document, in a place of our own"
    return "Celery's document" if made.capabilities.verbatim else "Celery's columns or fields"


def _told(store: Store, made: ResultBackend) -> str:
    return "yes" if made.capabilities.push else "no" if made.capabilities.stores else "-"


def _expires(store: Store, made: ResultBackend) -> str:
    if not made.capabilities.stores:
        return "-"
    return store.expires or ("by themselves" if made.capabilities.expiry else "`backend_cleanup`")


def _chords(store: Store, made: ResultBackend) -> str:
    if made.capabilities.native_chord:
        chords: object = made.chords  # type: ignore[attr-defined]
        return "a log" if isinstance(chords, KeyValueChords) else "one step"
    counted_here = made.capabilities.stores and made.capabilities.shared
    return "by looking" if counted_here else "in the broker's store"


def _compares(store: Store, made: ResultBackend) -> str:
    """Whether a late progress report can never hide a result."""
    if not made.capabilities.stores:
        return "-"
    return "never" if made.capabilities.compares or not made.capabilities.shared else "in one moment, perhaps"


def _one_step(store: Store, made: ResultBackend) -> str:
    target = made.target()
    scheme = store.url.partition("://")[0]
    if target is None or scheme not in BROKERS:
        return "none"
    return f"`{scheme}://`" if broker_from_url(store.url).carries(target) else "none"


COLUMNS = (
    Column("URLs", _schemes),
    Column("to install", _extra),
    Column("who can read a result", _readers),
    Column("form of a result", _form),
    Column("told at once", _told),
    Column("results expire", _expires),
    Column("chords", _chords),
    Column("late progress hides a result", _compares),
    Column("shares the acknowledgement's step with", _one_step),
    Column("tested against", lambda store, made: store.tested),
)
#: Each capability is shown by a column above.
SHOWN = {"push", "expiry", "native_chord", "stores", "verbatim", "shared", "compares"}


def page() -> str:
    named = [scheme for store in STORES for scheme in store.schemes]
    unlike = set(named) ^ set(BACKENDS) | set(BackendCapabilities._fields) ^ SHOWN
    assert not unlike, f"{__file__} and the result stores differ in {', '.join(sorted(unlike))}"
    assert len(named) == len(set(named))
    made = [backend_from_url(store.url) for store in STORES]
    rows = [
        [f"**{store.title}**", *(column.cell(store, one) for column in COLUMNS)]
        for store, one in zip(STORES, made, strict=True)
    ]
    return "\n".join([HEAD, *_table(["", *(column.title for column in COLUMNS)], rows), FOOT.rstrip()])


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(head)} |".replace("|  |", "| |"),
        "|---" * len(head) + "|",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


if __name__ == "__main__":
    print(page())
