"""Leases: registered, renewed, ended. All inside a transaction of the caller.

1. `register`, `beat`.
2. `end`: of one lease; what was held is settled or goes back. `lapsed`: the leases that `sweep` has to end.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from celeriac.brokers.sqlite.lines import Store, microseconds
from celeriac.transport.bulk import delete, numbers
from celeriac.transport.schema import DELIVERIES, OF_ONE_CONSUMER
from celeriac.transport.sqlite import Connection

__all__ = ["Held", "Registered", "beat", "end", "held", "held_by", "lapsed", "register"]

HELD: Final = f"""
    SELECT c.lease * {DELIVERIES} + c.first + j.key, c.first, m.id, m.queue, m.crashes,
        (SELECT name FROM queue WHERE id = m.queue), m.raw
    FROM claim c CROSS JOIN json_each(c.messages) j CROSS JOIN message m ON m.id = j.value
    WHERE c.lease = ? ORDER BY c.first, j.key"""

JOIN: Final = "UPDATE lease SET joined = joined + 1, expires = ? WHERE name = ? RETURNING id, joined"
LAPSED: Final = """
    SELECT name FROM lease WHERE expires <= ? AND id IN (
        SELECT lease FROM serving WHERE queue IN (
            SELECT id FROM queue WHERE name IN (SELECT value FROM json_each(?))
        )
    )"""


class Held(NamedTuple):
    """One delivery that a lease holds."""

    tag: int
    claim: int
    message: int
    queue: int
    crashes: int
    queue_name: str
    raw: bytes


class Registered(NamedTuple):
    """A lease as a consumer gets it: its number, and that of the consumer's first delivery."""

    lease: int
    first: int


def register(store: Store, name: str, queues: Sequence[str], ttl: float) -> Registered:
    """A new lease. One of the same name that is still there is joined."""
    expires = store.now + microseconds(ttl)
    row = store.connection.execute(JOIN, (expires, name)).fetchone()
    if row is not None:
        return Registered(row[0], row[1] * OF_ONE_CONSUMER)
    cursor = store.connection.execute("INSERT INTO lease (name, expires) VALUES (?, ?)", (name, expires))
    lease = cursor.lastrowid or 0
    store.connection.executemany(
        "INSERT OR IGNORE INTO serving (queue, lease) VALUES (?, ?)",
        [(store.queue_id(queue), lease) for queue in queues],
    )
    return Registered(lease, 0)


def beat(store: Store, names: Collection[str], ttl: float) -> Sequence[str]:
    """Renew the leases for `ttl` seconds; the names of those that are gone."""
    wanted = json.dumps(list(names))
    rows = store.connection.execute(
        "UPDATE lease SET expires = ? WHERE name IN (SELECT value FROM json_each(?)) RETURNING name",
        (store.now + microseconds(ttl), wanted),
    ).fetchall()
    alive = {name for (name,) in rows}
    return [name for name in names if name not in alive]


def held(connection: Connection, lease: int) -> Sequence[Held]:
    """What the lease number `lease` holds, in the order in which it was taken."""
    return [Held(*row) for row in connection.execute(HELD, (lease,))]


def held_by(connection: Connection, name: str) -> Sequence[Held]:
    """What the lease called `name` holds; nothing if there is no such lease."""
    row = connection.execute("SELECT id FROM lease WHERE name = ?", (name,)).fetchone()
    return held(connection, row[0]) if row else []


def end(
    store: Store,
    name: str,
    *,
    crashed: Collection[tuple[str, int]] = (),
    done: Collection[tuple[str, int]] = (),
    suspect_all: bool = False,
) -> int:
    """End the lease called `name`; how many messages went back.

    Deliveries in `done` are settled; those in `crashed`, or all with `suspect_all`, count one crash more.
    """
    row = store.connection.execute("SELECT id FROM lease WHERE name = ?", (name,)).fetchone()
    if row is None:
        return 0
    holding = held(store.connection, row[0])
    finished = {tag for _, tag in done}
    guilty = {each.tag for each in holding} if suspect_all else {tag for _, tag in crashed}
    delete(store.connection, "message", "id", [each.message for each in holding if each.tag in finished])
    returned = [each for each in holding if each.tag not in finished]
    _count_crashes(store, [each.message for each in returned if each.tag in guilty])
    store.end_trials([each.message for each in holding])
    _delete_lease(store, row[0])  # before anybody is roused, so that it is not this consumer
    store.put_back([each.message for each in returned], [each.queue for each in returned])
    return len(returned)


def lapsed(connection: Connection, queues: Sequence[str], now: int) -> Sequence[str]:
    """Names of the leases that serve one of `queues` and were not renewed in time."""
    return [name for (name,) in connection.execute(LAPSED, (now, json.dumps(list(queues))))]


def _count_crashes(store: Store, messages: Sequence[int]) -> None:
    store.connection.execute(
        "UPDATE message SET crashes = crashes + 1 WHERE id IN (SELECT value FROM json_each(?))",
        (numbers(messages),),
    )


def _delete_lease(store: Store, lease: int) -> None:
    store.connection.execute("DELETE FROM claim WHERE lease = ?", (lease,))
    store.connection.execute("DELETE FROM idle WHERE lease = ?", (lease,))
    store.connection.execute("DELETE FROM serving WHERE lease = ?", (lease,))
    store.connection.execute("DELETE FROM lease WHERE id = ?", (lease,))
