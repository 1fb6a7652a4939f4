"""Messages into their lines, and who is to be woken for them. All inside a transaction of the caller.

1. `Store`: a connection with the time of its transaction and the bells to ring once it is committed.
2. `route`, `enqueue`, `put_back`, `bury`, `wake_due`: the ways into a line, or out of all of them.
3. `take`, `take_suspect`: from the front of a line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from celeriac.brokers.base import QUARANTINE, Outgoing, Queue
from celeriac.brokers.routing import Bindings
from celeriac.exceptions import OperationalError
from celeriac.transport.bells import ring
from celeriac.transport.bulk import delete, numbers, values
from celeriac.transport.schema import SUSPECT
from celeriac.transport.sqlite import Connection, Database

__all__ = ["Row", "Store", "Taken", "View", "microseconds"]

#: Due messages that one transaction moves, so that a flood of them does not hold the write lock for long.
DUE_AT_ONCE: Final = 5000

MESSAGE: Final = "INSERT INTO message (queue, priority, crashes, since, raw, id) VALUES"
#: Time goes on, and where it does not, numbers do.
NEXT_ID: Final = "SELECT max(?, ifnull(max(id), 0) + 1) FROM message"
ONE_MESSAGE: Final = f"{MESSAGE} (?, ?, ?, ?, ?, ({NEXT_ID}))"
ONE_READY: Final = "INSERT INTO ready (queue, rank, since, id) VALUES (?, ?, ?, ?)"
ONE_DELAYED: Final = "INSERT INTO delayed (queue, due, id, priority) VALUES (?, ?, ?, ?)"
NEW_READY: Final = f"""
    INSERT INTO ready SELECT queue, max(priority, {SUSPECT + 1}), since, id FROM message
    WHERE id BETWEEN ? AND ? AND since <= ?"""
NEW_DELAYED: Final = """
    INSERT INTO delayed SELECT queue, since, id, priority FROM message
    WHERE id BETWEEN ? AND ? AND since > ?"""
#: Back into line: `since` is unchanged, so the place is the old one, at the front.
PUT_BACK: Final = f"""
    INSERT INTO ready
    SELECT queue, CASE WHEN crashes > 0 THEN {SUSPECT} ELSE max(priority, {SUSPECT + 1}) END, since, id
    FROM message WHERE id IN (SELECT value FROM json_each(?))"""
BURY: Final = """
    INSERT INTO dead (queue, priority, crashes, reason, at, raw)
    SELECT queue, priority, crashes, ?, ?, raw FROM message WHERE id = ?"""
#: The last due time that this transaction moves when there are more than DUE_AT_ONCE.
LAST_DUE: Final = (
    f"SELECT due FROM delayed WHERE queue = ? AND due <= ? ORDER BY due LIMIT 1 OFFSET {DUE_AT_ONCE}"
)
DUE: Final = f"""
    INSERT INTO ready SELECT queue, max(priority, {SUSPECT + 1}), due, id FROM delayed
    WHERE queue = ? AND due <= ?"""
#: The first messages of a line, in one row: keys and lengths as text, and all envelopes end to end.
FRONT: Final = f"""
    SELECT group_concat(r.rank || ':' || r.since || ':' || r.id || ':' || length(m.raw)),
        CAST(group_concat(CAST(m.raw AS TEXT), '') AS BLOB)
    FROM (
        SELECT rank, since, id FROM ready WHERE queue = ? AND rank > {SUSPECT}
        ORDER BY rank, since, id LIMIT ?
    ) r CROSS JOIN message m ON m.id = r.id"""
#: All there is to know before a take: does the lease live, is a suspect ready, when is the next delayed
#: message due, how many leases serve the line, how long is it (as far as that matters to who wants so many).
LOOK: Final = f"""
    SELECT EXISTS (SELECT 1 FROM serving WHERE queue = :queue AND lease = :lease),
        EXISTS (SELECT 1 FROM ready WHERE queue = :queue AND rank = {SUSPECT}),
        (SELECT due FROM delayed WHERE queue = :queue ORDER BY due LIMIT 1),
        count(*),
        (
            SELECT count(*) FROM (
                SELECT 1 FROM ready WHERE queue = :queue AND rank > {SUSPECT}
                LIMIT :limit * (SELECT count(*) FROM serving WHERE queue = :queue)
            )
        )
    FROM serving WHERE queue = :queue"""
#: Takes exactly the messages up to and including a key out of the line.
CUT: Final = f"""
    DELETE FROM ready WHERE queue = ? AND rank > {SUSPECT} AND (rank, since, id) <= (?, ?, ?)"""
FIRST_SUSPECT: Final = f"""
    SELECT r.since, r.id, m.crashes, m.raw FROM ready r JOIN message m ON m.id = r.id
    WHERE r.queue = ? AND r.rank = {SUSPECT} ORDER BY r.since, r.id LIMIT 1"""


def microseconds(seconds: float) -> int:
    return int(seconds * 1_000_000)


class Row(NamedTuple):
    """A message to store: who gets it, from when on, and its bytes."""

    queue: int
    priority: int
    crashes: int
    since: int
    raw: bytes


class Taken(NamedTuple):
    """A message out of its line; `id` of the table `message`."""

    id: int
    raw: bytes
    crashes: int = 0


class View(NamedTuple):
    """A line as a consumer finds it. `ready` stops counting at what the consumer wants, times `consumers`."""

    lease_lives: int
    suspect: int
    due: int | None
    consumers: int
    ready: int

    def share(self, limit: int) -> int:
        """The part of `limit` that leaves the other consumers theirs."""
        return min(limit, -(-self.ready // max(self.consumers, 1)))


class Store:
    """A transaction on the store: the connection, the time, and the bells to ring when it is committed."""

    def __init__(self, database: Database, connection: Connection) -> None:
        self.database = database
        self.connection = connection
        self.now = database.now()
        self.bells: list[str] = []

    def ring(self) -> None:
        """After the commit: wake those who were found asleep. One that is gone is found by the sweep."""
        for bell in self.bells:
            ring(self.database.wake_folder, bell, b"")

    # -- names -----------------------------------------------------------------------------------------------

    def queue_id(self, name: str) -> int:
        """The number of queue `name`; it gets one if it has none."""
        known = self.database.queue_ids.get(name)
        if known is None:
            self.connection.execute("INSERT OR IGNORE INTO queue (name) VALUES (?)", (name,))
            (known,) = self.connection.execute("SELECT id FROM queue WHERE name = ?", (name,)).fetchone()
            self.database.queue_ids[name] = known
        return known

    def route(self, out: Outgoing) -> Sequence[str]:
        """Names of the queues that `out` goes to; empty when there is none."""
        if out.queue:
            return (out.queue,)
        bindings = Bindings()
        if out.exchange:
            rows = self.connection.execute(
                "SELECT queue, exchange, routing_key, exchange_type, max_priority FROM binding"
                " WHERE exchange = ?",
                (out.exchange,),
            )
            bindings.declare([Queue(*row) for row in rows])
        return bindings.route(out)

    # -- into a line -----------------------------------------------------------------------------------------

    def row(self, queue: str, out: Outgoing, raw: bytes) -> Row:
        if out.countdown is not None:
            since = self.now + microseconds(out.countdown)
        else:
            since = self.now if out.due is None else microseconds(out.due)
        return Row(self.queue_id(queue), out.priority, 0, max(since, self.now), raw)

    def enqueue(self, rows: Sequence[Row]) -> None:
        """Store new messages, ready or delayed, and note who is to be woken."""
        if len(rows) == 1:
            self._enqueue_one(rows[0])
        elif rows:
            self._enqueue_all(rows)

    def _enqueue_one(self, row: Row) -> None:
        message = self.connection.execute(ONE_MESSAGE, (*row, self.now)).lastrowid
        if row.since <= self.now:
            rank = max(row.priority, SUSPECT + 1)
            self.connection.execute(ONE_READY, (row.queue, rank, row.since, message))
            self._rouse(row.queue, 1)
        else:
            self.connection.execute(ONE_DELAYED, (row.queue, row.since, message, row.priority))
            self._rouse_if_earliest(row.queue, row.since)

    def _enqueue_all(self, rows: Sequence[Row]) -> None:
        (first,) = self.connection.execute(NEXT_ID, (self.now,)).fetchone()
        last = first + len(rows) - 1
        values(self.connection, MESSAGE, [(*row, first + n) for n, row in enumerate(rows)])
        delayed = [row for row in rows if row.since > self.now]
        if len(delayed) < len(rows):
            self.connection.execute(NEW_READY, (first, last, self.now))
            self._rouse_for([row.queue for row in rows if row.since <= self.now])
        if delayed:
            self.connection.execute(NEW_DELAYED, (first, last, self.now))
            for queue in {row.queue for row in delayed}:
                self._rouse_if_earliest(queue, min(row.since for row in delayed if row.queue == queue))

    def put_back(self, ids: Sequence[int], queues: Sequence[int]) -> None:
        """Messages that were taken return to their old place; `queues` has one entry per message."""
        self.connection.execute(PUT_BACK, (numbers(ids),))
        self._rouse_for(queues)

    def bury(self, message: int, reason: str) -> None:
        """The message becomes a dead letter."""
        self.connection.execute(BURY, (reason, self.now, message))
        self.connection.execute("DELETE FROM message WHERE id = ?", (message,))

    def bury_unroutable(self, out: Outgoing, raw: bytes, reason: str) -> None:
        queue = self.queue_id(out.routing_key or out.exchange)
        self.connection.execute(
            "INSERT INTO dead (queue, priority, crashes, reason, at, raw) VALUES (?, ?, 0, ?, ?, ?)",
            (queue, out.priority, reason, self.now, raw),
        )

    def wake_due(self, queue: int) -> None:
        """Move what is due from the delay store into the line, in the order of the due times."""
        row = self.connection.execute(LAST_DUE, (queue, self.now)).fetchone()
        until = row[0] if row else self.now
        moved = self.connection.execute(DUE, (queue, until)).rowcount
        self.connection.execute("DELETE FROM delayed WHERE queue = ? AND due <= ?", (queue, until))
        self._rouse(queue, moved)

    # -- out of a line ---------------------------------------------------------------------------------------

    def look(self, queue: int, limit: int, lease: int) -> View:
        arguments = {"queue": queue, "limit": limit, "lease": lease}
        return View(*self.connection.execute(LOOK, arguments).fetchone())

    def take(self, queue: int, limit: int) -> list[Taken]:
        """Up to `limit` ordinary messages from the front of the line."""
        keys, raws = self.connection.execute(FRONT, (queue, limit)).fetchone()
        if keys is None:
            return []
        taken, end = [], 0
        entries = keys.split(",")
        for entry in entries:
            _, _, message, length = entry.split(":")
            start, end = end, end + int(length)
            taken.append(Taken(int(message), raws[start:end]))
        rank, since, last, _ = map(int, entries[-1].split(":"))
        cut = self.connection.execute(CUT, (queue, rank, since, last)).rowcount
        if cut < len(taken):  # cannot be, unless the file is damaged: better no delivery than two
            raise OperationalError(
                f"{len(taken)} messages were taken from a line that let {cut} go: the task store "
                f"{self.database.path} is damaged. Stop all workers and run PRAGMA integrity_check on it."
            )
        return taken

    def take_suspect(self, queue: int) -> Taken | None:
        """The first message that has crashed a process, unless another one is out on trial."""
        if self.trial_end(queue) > self.now:
            return None
        row = self.connection.execute(FIRST_SUSPECT, (queue,)).fetchone()
        if row is None:
            return None
        since, message, crashes, raw = row
        self.connection.execute(
            "DELETE FROM ready WHERE queue = ? AND rank = ? AND since = ? AND id = ?",
            (queue, SUSPECT, since, message),
        )
        self.connection.execute(
            "INSERT OR REPLACE INTO trial (queue, message, until) VALUES (?, ?, ?)",
            (queue, message, self.now + microseconds(QUARANTINE)),
        )
        return Taken(message, raw, crashes)

    def trial_end(self, queue: int) -> int:
        """Until when the suspects of `queue` wait; 0 when none is out."""
        row = self.connection.execute("SELECT until FROM trial WHERE queue = ?", (queue,)).fetchone()
        return row[0] if row else 0

    def end_trials(self, messages: Sequence[int]) -> None:
        delete(self.connection, "trial", "message", messages)

    # -- waking ----------------------------------------------------------------------------------------------

    def _rouse_for(self, queues: Sequence[int]) -> None:
        for queue in set(queues):
            self._rouse(queue, queues.count(queue))

    def _rouse_if_earliest(self, queue: int, due: int) -> None:
        """A sleeper set its alarm for the earliest due time; if that is now earlier, all must hear of it."""
        (earliest,) = self.connection.execute(
            "SELECT min(due) FROM delayed WHERE queue = ?", (queue,)
        ).fetchone()
        if earliest >= due:
            self._rouse(queue, -1)

    def _rouse(self, queue: int, count: int) -> None:
        """Note the bells of up to `count` sleepers (-1: all) who serve `queue`; they count as awake now."""
        rows = self.connection.execute(
            "SELECT lease, bell FROM idle WHERE queue = ? LIMIT ?", (queue, count)
        ).fetchall()
        if rows:
            self.bells += [bell for _, bell in rows]
            delete(self.connection, "idle", "lease", [lease for lease, _ in rows])
