"""Looking and tidying: counts, browsing, purging, dead letters, revokes. Inside a transaction of the caller.

1. `known_queues`, `stats`, `depth`, `browse`: read only.
2. `purge`, `revive`, `drop`, `revoke`: short transactions, however much there is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from celeriac.brokers.base import DeadLetter, Queue, QueueStats
from celeriac.brokers.sqlite.lines import Row, Store, microseconds
from celeriac.transport.sqlite import Connection
from celeriac.wire import virtual
from celeriac.wire.message import Message, Unreadable

__all__ = [
    "browse",
    "dead",
    "declare",
    "depth",
    "drop",
    "known_queues",
    "purge",
    "revive",
    "revoke",
    "revoked",
    "stats",
]

#: Messages that one transaction of a purge deletes.
PURGE_AT_ONCE: Final = 10_000

KNOWN: Final = """
    SELECT queue FROM binding UNION
    SELECT name FROM queue WHERE id IN (SELECT queue FROM message UNION SELECT queue FROM dead)
    ORDER BY 1"""
COUNTS: Final = """
    SELECT
        (SELECT count(*) FROM ready WHERE queue = :queue),
        (SELECT count(*) FROM delayed WHERE queue = :queue),
        (SELECT count(*) FROM delayed WHERE queue = :queue AND due <= :now),
        (SELECT count(*) FROM claim c CROSS JOIN json_each(c.messages) j
            CROSS JOIN message m ON m.id = j.value WHERE m.queue = :queue),
        (SELECT count(*) FROM dead WHERE queue = :queue),
        (SELECT count(*) FROM serving JOIN lease ON id = lease WHERE queue = :queue AND expires > :now),
        (SELECT since FROM ready WHERE queue = :queue ORDER BY rank, since, id LIMIT 1)"""
BROWSE: Final = """
    SELECT m.raw FROM ready r CROSS JOIN message m ON m.id = r.id
    WHERE r.queue = ? ORDER BY r.rank, r.since, r.id LIMIT ? OFFSET ?"""
PURGE: Final = """
    DELETE FROM message WHERE id IN (
        SELECT id FROM ready WHERE queue = :queue UNION ALL SELECT id FROM delayed WHERE queue = :queue
        LIMIT :limit
    ) RETURNING id"""


def declare(store: Store, queues: Sequence[Queue]) -> None:
    store.connection.executemany(
        "INSERT OR REPLACE INTO binding (queue, exchange, routing_key, exchange_type, max_priority)"
        " VALUES (?, ?, ?, ?, ?)",
        [queue[:5] for queue in queues],  # the rest is for servers that are told what a queue is
    )


def known_queues(connection: Connection) -> Sequence[str]:
    return [name for (name,) in connection.execute(KNOWN)]


def _number(connection: Connection, queue: str) -> int:
    """The number of `queue`; 0, which no queue has, when it is not known."""
    row = connection.execute("SELECT id FROM queue WHERE name = ?", (queue,)).fetchone()
    return row[0] if row else 0


def stats(connection: Connection, queue: str, now: int) -> QueueStats:
    """A delayed message counts as ready from the moment it is due, whether or not it has been moved."""
    arguments = {"queue": _number(connection, queue), "now": now}
    ready, delayed, due, in_flight, dead, consumers, since = connection.execute(COUNTS, arguments).fetchone()
    return QueueStats(
        queue,
        depth=ready + due,
        oldest_age=None if since is None else max(0, now - since) / 1_000_000,
        in_flight=in_flight,
        delayed=delayed - due,
        dead=dead,
        consumers=consumers,
    )


def depth(connection: Connection, queue: str, now: int) -> int:
    number = _number(connection, queue)
    (count,) = connection.execute(
        "SELECT (SELECT count(*) FROM ready WHERE queue = :queue)"
        " + (SELECT count(*) FROM delayed WHERE queue = :queue AND due <= :now)",
        {"queue": number, "now": now},
    ).fetchone()
    return int(count)


def browse(connection: Connection, queue: str, limit: int, offset: int) -> Sequence[Message | Unreadable]:
    rows = connection.execute(BROWSE, (_number(connection, queue), limit, offset)).fetchall()
    return [virtual.decode(raw) for (raw,) in rows]


def purge(store: Store, queue: str) -> int:
    """Delete up to PURGE_AT_ONCE ready and delayed messages; how many it were. Repeat until it says 0."""
    number = _number(store.connection, queue)
    rows = store.connection.execute(PURGE, {"queue": number, "limit": PURGE_AT_ONCE}).fetchall()
    gone = json.dumps([message for (message,) in rows])
    for table in ("ready", "delayed"):
        store.connection.execute(
            f"DELETE FROM {table} WHERE queue = ? AND id IN (SELECT value FROM json_each(?))", (number, gone)
        )
    return len(rows)


# -- dead letters ------------------------------------------------------------------------------------------


def dead(connection: Connection, queue: str, limit: int, offset: int) -> Sequence[DeadLetter]:
    rows = connection.execute(
        "SELECT id, reason, at, raw, crashes FROM dead WHERE queue = ? ORDER BY id LIMIT ? OFFSET ?",
        (_number(connection, queue), limit, offset),
    ).fetchall()
    return [
        DeadLetter(str(name), queue, reason, at / 1_000_000, virtual.decode(raw), crashes)
        for name, reason, at, raw, crashes in rows
    ]


def revive(store: Store, queue: str, ids: Sequence[str]) -> int:
    number = _number(store.connection, queue)
    rows = store.connection.execute(
        "DELETE FROM dead WHERE queue = ? AND id IN (SELECT value FROM json_each(?))"
        " RETURNING id, priority, raw",
        (number, _numbers(ids)),
    ).fetchall()
    store.enqueue([Row(number, priority, 0, store.now, raw) for _, priority, raw in sorted(rows)])
    return len(rows)


def drop(store: Store, queue: str, ids: Sequence[str]) -> int:
    return store.connection.execute(
        "DELETE FROM dead WHERE queue = ? AND id IN (SELECT value FROM json_each(?))",
        (_number(store.connection, queue), _numbers(ids)),
    ).rowcount


def _numbers(ids: Sequence[str]) -> str:
    """Names of dead letters as numbers; what is none names nothing."""
    return json.dumps([int(each) for each in ids if each.isascii() and each.isdigit() and len(each) < 19])


# -- revokes -----------------------------------------------------------------------------------------------


def revoke(store: Store, ids: Sequence[str], ttl: float) -> None:
    until = store.now + microseconds(ttl)
    store.connection.execute("DELETE FROM revoked WHERE until <= ?", (store.now,))
    store.connection.executemany(
        "INSERT OR REPLACE INTO revoked VALUES (?, ?)", [(each, until) for each in ids]
    )


def revoked(connection: Connection, now: int) -> Sequence[str]:
    return [name for (name,) in connection.execute("SELECT task_id FROM revoked WHERE until > ?", (now,))]
