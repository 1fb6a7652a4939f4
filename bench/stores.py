"""Where a trial's messages and results are kept: something fresh for each trial, the same for all.

1. `opened()`: a store of the asked kind, gone when the block is left.
2. RabbitMQ and PostgreSQL, which take seconds to start, are started once for a run, with a virtual host or a
   database of its own for each trial.

Not here: Redis's settings (`server.py`); how those two are started (`tests.servers`).
"""

from __future__ import annotations

import atexit
import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from bench import machine, server
from bench.contender import Store
from bench.server import RedisServer

#: Durable, as by default: a commit is on the disk before it returns. No forced checkpoints while measuring.
POSTGRES_SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
}
IN_WORDS = {
    "redis": server.IN_WORDS,
    "sqlite": "a fresh file per trial",
    "rabbitmq": "one node for the run, a fresh virtual host per trial; results in Redis, set up as above",
    "postgresql": "one server for the run, a fresh database per trial; fsync and synchronous_commit on, "
    "shared_buffers 256MB, max_wal_size 4GB",
}


class Opened(NamedTuple):
    """A store in use. `results` is where results go; `pids` are the processes of the broker."""

    broker: str
    results: str
    pids: Callable[[], list[int]]


@contextmanager
def opened(store: Store, folder: Path) -> Iterator[Opened]:
    """A fresh store of that kind; a file, if it needs one, is in `folder`."""
    with ExitStack() as stack:
        if store == "sqlite":
            path = str(folder / "store.db")
            yield Opened(path, path, list)
        elif store == "redis":
            redis = stack.enter_context(RedisServer(folder / "redis"))
            yield Opened(redis.url, redis.url, lambda: [redis.pid])
        elif store == "rabbitmq":
            redis = stack.enter_context(RedisServer(folder / "redis"))
            rabbit = _rabbit()
            vhost = rabbit.vhost()
            stack.callback(rabbit.drop_vhost, vhost)
            yield Opened(vhost, redis.url, lambda: [*machine.tree(rabbit.process.pid), redis.pid])
        else:
            postgres = _postgres()
            database = postgres.database()
            stack.callback(postgres.drop_database, database)
            yield Opened(database, database, lambda: machine.tree(postgres.process.pid))


def version(store: Store) -> str:
    """The server's version as it says it."""
    if store == "redis":
        return server.version()
    if store == "rabbitmq":
        return "RabbitMQ " + _rabbit().eval("rabbit_misc:version()").strip('"')
    if store == "postgresql":
        return "PostgreSQL " + _postgres().sql("SHOW server_version")
    import sqlite3

    return f"SQLite {sqlite3.sqlite_version}"


@functools.cache
def _rabbit() -> Any:
    from tests.servers import RabbitServer

    rabbit = RabbitServer()
    atexit.register(rabbit.stop)
    return rabbit


@functools.cache
def _postgres() -> Any:
    from tests.servers import PostgresServer

    postgres = PostgresServer(POSTGRES_SETTINGS)
    atexit.register(postgres.stop)
    return postgres
