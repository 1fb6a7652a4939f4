"""Which queues a message goes to: bindings in a table, read anew when they are a second old."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from celeriac.brokers.base import Outgoing, Queue
from celeriac.brokers.routing import Bindings
from celeriac.transport.postgres.pool import Pool
from celeriac.transport.postgres.values import bytea, byteas, name_key

__all__ = ["Routes"]

#: Seconds for which the bindings of an exchange are taken from memory.
FRESH: Final = 1.0

DECLARE: Final = """
    INSERT INTO {s}binding (digest, queue, exchange, document)
    SELECT u.digest, {s}queue_number(u.key, u.name), u.exchange, u.document
    FROM unnest($1, $2, $3, $4, $5) AS u(digest, key, name, exchange, document)
    ON CONFLICT (digest) DO UPDATE SET document = excluded.document"""
NAME: Final = "SELECT {s}queue_number(u.key, u.name) FROM unnest($1, $2) AS u(key, name)"
READ: Final = "SELECT document FROM {s}binding WHERE exchange = $1"


class Routes:
    """The bindings as this broker knows them. Thread-safe."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._declare, self._name, self._read = (
            pool.server.sql(each).encode() for each in (DECLARE, NAME, READ)
        )
        self._known: dict[str, tuple[float, Bindings]] = {}

    def declare(self, queues: Sequence[Queue]) -> None:
        Bindings().declare(queues)  # refuses what it does not know
        if not queues:
            return
        rows: dict[bytes, tuple[bytes, bytes, bytes, bytes]] = {}
        for queue in queues:
            fields = [queue.name, queue.exchange, queue.routing_key, queue.exchange_type]
            digest = sha256(json.dumps(fields).encode()).digest()
            document = json.dumps([*fields, queue.max_priority]).encode()
            rows[digest] = (name_key(queue.name), utf8(queue.name), name_key(queue.exchange), document)
        columns = zip(*rows.values(), strict=True)
        self._pool.query(self._declare, (byteas(list(rows)), *(byteas(column) for column in columns)))
        self._known.clear()

    def introduce(self, names: Sequence[str], timeout: float | None = None) -> None:
        """Make sure that queues of these names have a number."""
        self._pool.query(
            self._name,
            (byteas([name_key(name) for name in names]), byteas([utf8(name) for name in names])),
            timeout=timeout,
        )

    def route(self, out: Outgoing, timeout: float | None = None) -> Sequence[str]:
        """Names of the queues that `out` goes to; empty when there is none."""
        if out.queue:
            return (out.queue,)
        if not out.exchange:
            return (out.routing_key,) if out.routing_key else ()
        read_at, bindings = self._known.get(out.exchange, (float("-inf"), Bindings()))
        found = bindings.route(out)
        if not found or time.monotonic() - read_at > FRESH:
            bindings = self._load(out.exchange, timeout)
            self._known[out.exchange] = (time.monotonic(), bindings)
            found = bindings.route(out)
        return found

    def _load(self, exchange: str, timeout: float | None) -> Bindings:
        bindings = Bindings()
        rows = self._pool.query(self._read, (bytea(name_key(exchange)),), timeout=timeout)
        bindings.declare([Queue(*json.loads(document or b"")) for (document,) in rows])
        return bindings


def utf8(name: str) -> bytes:
    """A name as it is stored; any text will do."""
    return name.encode("utf-8", "surrogatepass")
