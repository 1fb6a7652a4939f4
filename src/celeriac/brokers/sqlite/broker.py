"""The seam of the embedded store, and publishing.

1. `SqliteBroker`: every method is one transaction (a long purge is several).

URL: `sqlite://` (the default file, `.celeriac/celeriac.db` in the working directory), `sqlite:///relative.db`,
`sqlite:////absolute/path.db`. Options, in the URL's query or in the transport options:

- `synchronous`: `NORMAL` (default: a crash of any process loses nothing; a power failure may take back the
  last commits) or `FULL` (every commit is on the disk before it returns).
- `timeout`: seconds to wait for the write lock when the caller names no deadline (10).
- `clock`: a callable that returns epoch seconds, for tests.

Publishing needs no defence against being repeated: a transaction that failed has stored nothing, and there is
no reply that could be lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from celeriac import failpoints
from celeriac.brokers.base import (
    Capabilities,
    ConsumerSpec,
    DeadLetter,
    Delivery,
    Outgoing,
    Queue,
    QueueStats,
    ResultTarget,
    attend_to_nobody,
    require_queues,
)
from celeriac.brokers.routing import Bindings, unroutable
from celeriac.brokers.sqlite import inspection, leases
from celeriac.brokers.sqlite.consumer import SqliteConsumer
from celeriac.brokers.sqlite.lines import Row, Store
from celeriac.transport.location import network_file_system
from celeriac.transport.sqlite import database, library_version
from celeriac.wire import virtual
from celeriac.wire.message import Message, Unreadable

__all__ = ["SqliteBroker"]


class SqliteBroker:
    """Tasks in one file. Nothing is opened before the first use.

    Example:
        >>> import os, tempfile
        >>> from celeriac.brokers.base import Outgoing
        >>> from celeriac.wire.message import Message
        >>> file = os.path.join(tempfile.mkdtemp(), "tasks.db")
        >>> broker = SqliteBroker(f"sqlite:///{file}", {})
        >>> broker.publish([Outgoing(Message(b"[]", "application/json", "utf-8", {}, {}), queue="celery")])
        >>> broker.depth("celery")
        1
        >>> broker.close()
    """

    capabilities: Capabilities = Capabilities(fanout=True, wakes_one=True)

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self._database = database(url, options)

    # -- publishing ------------------------------------------------------------------------------------------

    def publish(self, batch: Sequence[Outgoing], *, timeout: float | None = None) -> None:
        if not batch:
            return
        if failpoints.on:
            failpoints.begin("publish")
        encoded = [(out, virtual.encode(out.message)) for out in batch]  # before the lock is taken
        with self._database.write(timeout) as connection:
            store = Store(self._database, connection)
            rows: list[Row] = []
            for out, raw in encoded:
                queues = store.route(out)
                if not queues:
                    raise unroutable(out)
                rows += [store.row(queue, out, raw) for queue in queues]
            store.enqueue(rows)
        store.ring()

    def declare(self, queues: Sequence[Queue]) -> None:
        Bindings().declare(queues)  # refuses what it does not know
        with self._database.write() as connection:
            inspection.declare(Store(self._database, connection), queues)

    # -- leases ----------------------------------------------------------------------------------------------

    def carries(self, target: ResultTarget) -> bool:
        return target.location == ("sqlite", self._database.path)

    def consumer(self, spec: ConsumerSpec) -> SqliteConsumer:
        require_queues(spec)
        with self._database.write() as connection:
            store = Store(self._database, connection)
            registered = leases.register(store, spec.id, spec.queues, spec.ttl)
            holding = leases.held(connection, registered.lease)  # none, unless the lease was joined
        return SqliteConsumer(self._database, spec, registered, holding)

    def held(self, consumer: str, queues: Sequence[str]) -> Sequence[Delivery]:
        with self._database.read() as connection:
            holding = leases.held_by(connection, consumer)
        return [
            Delivery(each.queue_name, each.tag, virtual.decode(each.raw), each.crashes) for each in holding
        ]

    def beat(self, consumers: Mapping[str, Sequence[str]], *, ttl: float) -> Sequence[str]:
        with self._database.write() as connection:
            return leases.beat(Store(self._database, connection), consumers, ttl)

    def release(
        self,
        consumer: str,
        queues: Sequence[str],
        *,
        crashed: Sequence[tuple[str, int]] = (),
        done: Sequence[tuple[str, int]] = (),
    ) -> int:
        with self._database.write() as connection:
            store = Store(self._database, connection)
            returned = leases.end(store, consumer, crashed=crashed, done=done)
        store.ring()
        return returned

    def sweep(self, queues: Sequence[str]) -> int:
        self._database.checkpoint()  # here, where nobody waits for a task or its result
        with self._database.read() as connection:  # most sweeps find nothing: no need for the write lock
            if not leases.lapsed(connection, queues, self._database.now()):
                return 0
        with self._database.write() as connection:
            store = Store(self._database, connection)
            names = leases.lapsed(connection, queues, store.now)
            returned = sum(leases.end(store, name, suspect_all=True) for name in names)
        store.ring()
        return returned

    # -- looking and tidying ---------------------------------------------------------------------------------

    def queues(self) -> Sequence[str]:
        with self._database.read() as connection:
            return inspection.known_queues(connection)

    def stats(self, queues: Sequence[str]) -> Sequence[QueueStats]:
        with self._database.read() as connection:
            now = self._database.now()
            return [inspection.stats(connection, queue, now) for queue in queues]

    def depth(self, queue: str) -> int:
        with self._database.read() as connection:
            return inspection.depth(connection, queue, self._database.now())

    def purge(self, queue: str) -> int:
        total = 0
        while True:
            with self._database.write() as connection:
                count = inspection.purge(Store(self._database, connection), queue)
            total += count
            if not count:
                return total

    def browse(self, queue: str, limit: int, offset: int = 0) -> Sequence[Message | Unreadable]:
        with self._database.read() as connection:
            return inspection.browse(connection, queue, limit, offset)

    attend = staticmethod(attend_to_nobody)

    def dead(self, queue: str, limit: int = 100, offset: int = 0) -> Sequence[DeadLetter]:
        with self._database.read() as connection:
            return inspection.dead(connection, queue, limit, offset)

    def revive(self, queue: str, ids: Sequence[str]) -> int:
        with self._database.write() as connection:
            store = Store(self._database, connection)
            count = inspection.revive(store, queue, ids)
        store.ring()
        return count

    def drop(self, queue: str, ids: Sequence[str]) -> int:
        with self._database.write() as connection:
            return inspection.drop(Store(self._database, connection), queue, ids)

    def revoke(self, ids: Sequence[str], *, ttl: float) -> None:
        with self._database.write() as connection:
            inspection.revoke(Store(self._database, connection), ids, ttl)

    def revoked(self) -> Sequence[str]:
        with self._database.read() as connection:
            return inspection.revoked(connection, self._database.now())

    # -- the store -------------------------------------------------------------------------------------------

    def warnings(self) -> Sequence[str]:
        found = []
        if kind := network_file_system(self._database.path):
            found.append(
                f"{self._database.path} is on a network file system ({kind}), where SQLite cannot keep "
                "processes apart: tasks can be lost. Put the file on a local disk."
            )
        if self._database.location.synchronous == "OFF":
            found.append(
                "synchronous=OFF: a power failure can destroy the task store. Use NORMAL, or FULL to lose "
                "nothing at all."
            )
        return found

    def describe(self) -> str:
        return f"SQLite {library_version()} ({self._database.path})"

    def close(self) -> None:
        self._database.close()
