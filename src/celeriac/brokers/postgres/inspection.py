"""Leases from outside; looking and tidying: counts, browsing, purging, dead letters, revokes.

1. `Inspector`: each method one statement, or several short ones.

Counts of long queues are exact and take their time: a second for some millions of messages.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Final

from celeriac.brokers.base import DeadLetter, Delivery, QueueStats
from celeriac.brokers.postgres.routes import utf8
from celeriac.exceptions import OperationalError
from celeriac.transport.postgres.pool import Pool
from celeriac.transport.postgres.values import (
    Param,
    bytea,
    byteas,
    float8,
    int8,
    int8s,
    integer,
    name_key,
    number,
)
from celeriac.wire import virtual
from celeriac.wire.message import Message, Unreadable

__all__ = ["Inspector"]

#: Messages that one transaction of a purge deletes.
PURGE_AT_ONCE: Final = 10_000
#: Seconds after which a look for lapsed leases counts as one at a database that stood still.
STOOD_STILL: Final = 0.5
#: Seconds between removals of what is of no use any more.
TIDY_EVERY: Final = 60.0
#: Seconds for counting and purging.
LONG: Final = 120.0

HELD: Final = """
    SELECT h.tag, q.name, h.crashes, m.raw
    FROM {s}lease AS l CROSS JOIN LATERAL {s}held(l.id) AS h
    JOIN {s}message AS m ON m.id = h.message JOIN {s}queue AS q ON q.id = h.queue
    WHERE l.key = $1 ORDER BY h.tag"""
BEAT: Final = "SELECT * FROM {s}beat($1, $2)"
RELEASE: Final = "SELECT {s}release($1, $2, $3)"
LAPSED: Final = "SELECT count(*) FROM {s}lapsed($1)"
SWEEP: Final = "SELECT {s}sweep($1, $2)"

NUMBER: Final = "(SELECT id FROM {s}queue WHERE key = $1)"
QUEUES: Final = """
    SELECT q.name FROM {s}queue AS q
    WHERE EXISTS (SELECT FROM {s}binding AS b WHERE b.queue = q.id)
        OR EXISTS (SELECT FROM {s}line AS l WHERE l.queue = q.id)
        OR EXISTS (SELECT FROM {s}dead AS d WHERE d.queue = q.id)
        OR q.id IN (
            SELECT m.queue FROM {s}claim AS c CROSS JOIN unnest(c.messages) AS u
            JOIN {s}message AS m ON m.id = u
        )
    ORDER BY q.name"""
COUNTS: Final = f"""
    WITH q AS (SELECT {NUMBER} AS id, clock_timestamp() AS now)
    SELECT
        (SELECT count(*) FROM {{s}}line AS l WHERE l.queue = q.id AND l.since <= q.now),
        (SELECT count(*) FROM {{s}}line AS l WHERE l.queue = q.id AND l.since > q.now),
        (
            SELECT count(*) FROM {{s}}claim AS c CROSS JOIN unnest(c.messages) AS u
            JOIN {{s}}message AS m ON m.id = u WHERE m.queue = q.id
        ),
        (SELECT count(*) FROM {{s}}dead AS d WHERE d.queue = q.id),
        (
            SELECT count(*) FROM {{s}}serving AS s JOIN {{s}}lease AS l ON l.id = s.lease
            WHERE s.queue = q.id AND l.expires > q.now
        ),
        (
            SELECT greatest(0, extract(epoch FROM q.now - l.since))::float8 FROM {{s}}line AS l
            WHERE l.queue = q.id AND l.since <= q.now ORDER BY l.queue, l.rank, l.since, l.id LIMIT 1
        )
    FROM q"""
DEPTH: Final = f"""
    SELECT count(*) FROM {{s}}line WHERE queue = {NUMBER} AND since <= clock_timestamp()"""
BROWSE: Final = f"""
    SELECT m.raw FROM (
        SELECT rank, since, id FROM {{s}}line WHERE queue = {NUMBER} AND since <= clock_timestamp()
        ORDER BY queue, rank, since, id LIMIT $2 OFFSET $3
    ) AS l JOIN {{s}}message AS m USING (id) ORDER BY l.rank, l.since, l.id"""
PURGE: Final = f"""
    WITH cut AS (
        DELETE FROM {{s}}line WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM {{s}}line WHERE queue = {NUMBER}
            ORDER BY queue, rank, since, id LIMIT {PURGE_AT_ONCE} FOR UPDATE SKIP LOCKED
        )) RETURNING id
    ), gone AS (DELETE FROM {{s}}message AS m USING cut WHERE m.id = cut.id)
    SELECT count(*) FROM cut"""
DEAD: Final = f"""
    SELECT id, reason, extract(epoch FROM at)::float8, raw, crashes FROM {{s}}dead
    WHERE queue = {NUMBER} ORDER BY id LIMIT $2 OFFSET $3"""
DROP: Final = f"""
    WITH gone AS (DELETE FROM {{s}}dead WHERE queue = {NUMBER} AND id = ANY ($2) RETURNING 1)
    SELECT count(*) FROM gone"""
REVOKE: Final = """
    INSERT INTO {s}revoked (key, id, until)
    SELECT u.key, u.id, clock_timestamp() + $3 * interval '1 second' FROM unnest($1, $2) AS u(key, id)
    ON CONFLICT (key) DO UPDATE SET until = excluded.until"""
REVOKED: Final = "SELECT id FROM {s}revoked WHERE until > clock_timestamp()"
SETTINGS: Final = b"""
    SELECT current_setting('server_version'), current_setting('synchronous_commit'), current_setting('fsync'),
        current_setting('full_page_writes'), current_setting('autovacuum'),
        current_setting('default_transaction_isolation'), current_setting('synchronous_standby_names'),
        (SELECT count(*) FROM pg_stat_replication)::text"""


class Inspector:
    """Thread-safe."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sql = pool.server.sql
        self._tidied = time.monotonic()

    def _ask(self, sql: str, *params: Param, timeout: float | None = None) -> list[tuple[bytes | None, ...]]:
        return self._pool.query(self._sql(sql).encode(), params, timeout=timeout)

    def _count(self, sql: str, *params: Param, timeout: float | None = None) -> int:
        return integer(self._ask(sql, *params, timeout=timeout)[0][0])

    # -- leases ----------------------------------------------------------------------------------------------

    def held(self, consumer: str, queues: Sequence[str]) -> Sequence[Delivery]:
        return [
            Delivery(_name(queue), integer(tag), virtual.decode(raw or b""), integer(crashes))
            for tag, queue, crashes, raw in self._ask(HELD, bytea(name_key(consumer)))
        ]

    def beat(self, consumers: Mapping[str, Sequence[str]], *, ttl: float) -> Sequence[str]:
        names = {name_key(name): name for name in consumers}
        return [names[key or b""] for (key,) in self._ask(BEAT, byteas(list(names)), float8(ttl))]

    def release(
        self,
        consumer: str,
        queues: Sequence[str],
        *,
        crashed: Sequence[tuple[str, int]] = (),
        done: Sequence[tuple[str, int]] = (),
    ) -> int:
        settled, guilty = int8s(tag for _, tag in done), int8s(tag for _, tag in crashed)
        return self._count(RELEASE, bytea(name_key(consumer)), settled, guilty)

    def sweep(self, queues: Sequence[str]) -> int:
        """In two trips. While the database stood still nobody could beat: a look that took long is no ground
        to judge anybody, and those whose beats were held up are in time before the next one."""
        names = byteas([name_key(name) for name in queues])
        begun = time.monotonic()
        if begun > self._tidied + TIDY_EVERY:
            self._tidied = begun
            self._ask("SELECT {s}tidy()")
            begun = time.monotonic()
        lapsed = self._count(LAPSED, names)
        if not lapsed or time.monotonic() - begun > STOOD_STILL:
            return 0
        return self._count(SWEEP, names, float8(STOOD_STILL))

    # -- looking ---------------------------------------------------------------------------------------------

    def queues(self) -> Sequence[str]:
        return [_name(name) for (name,) in self._ask(QUEUES, timeout=LONG)]

    def stats(self, queues: Sequence[str]) -> Sequence[QueueStats]:
        return [self._stats(queue) for queue in queues]

    def _stats(self, queue: str) -> QueueStats:
        (found,) = self._ask(COUNTS, bytea(name_key(queue)), timeout=LONG)
        ready, delayed, in_flight, dead, consumers = (integer(each) for each in found[:5])
        return QueueStats(queue, ready, number(found[5]), in_flight, delayed, dead, consumers)

    def depth(self, queue: str) -> int:
        return self._count(DEPTH, bytea(name_key(queue)), timeout=LONG)

    def browse(self, queue: str, limit: int, offset: int = 0) -> Sequence[Message | Unreadable]:
        rows = self._ask(BROWSE, bytea(name_key(queue)), int8(limit), int8(offset))
        return [virtual.decode(raw or b"") for (raw,) in rows]

    def purge(self, queue: str) -> int:
        total = 0
        while count := self._count(PURGE, bytea(name_key(queue)), timeout=LONG):
            total += count
        return total

    # -- dead letters ----------------------------------------------------------------------------------------

    def dead(self, queue: str, limit: int = 100, offset: int = 0) -> Sequence[DeadLetter]:
        return [
            DeadLetter(
                str(integer(name)), queue, _name(reason), number(at) or 0.0, virtual.decode(raw or b""),
                integer(crashes),
            )
            for name, reason, at, raw, crashes in self._ask(
                DEAD, bytea(name_key(queue)), int8(limit), int8(offset)
            )
        ]  # fmt: skip

    def revive(self, queue: str, ids: Sequence[str]) -> int:
        return self._count("SELECT {s}revive($1, $2)", bytea(name_key(queue)), int8s(_numbers(ids)))

    def drop(self, queue: str, ids: Sequence[str]) -> int:
        return self._count(DROP, bytea(name_key(queue)), int8s(_numbers(ids)))

    # -- revokes ---------------------------------------------------------------------------------------------

    def revoke(self, ids: Sequence[str], *, ttl: float) -> None:
        names = {name_key(each): utf8(each) for each in ids}
        self._ask(REVOKE, byteas(list(names)), byteas(list(names.values())), float8(ttl))

    def revoked(self) -> Sequence[str]:
        return [_name(each) for (each,) in self._ask(REVOKED)]

    # -- the store -------------------------------------------------------------------------------------------

    def warnings(self) -> Sequence[str]:
        try:
            (found,) = self._pool.query(SETTINGS)
        except OperationalError as exc:
            return [f"The settings of PostgreSQL could not be read: {exc}"]
        version, commit, fsync, pages, vacuum, isolation, standbys, replicas = map(_name, found)
        warned = []
        if commit == "off":
            warned.append(
                "synchronous_commit=off: a crash of the server loses the tasks and settlements of its last "
                "moments. Set it to on (also for this database and user alone: ALTER ROLE … SET …)."
            )
        for name, value in (("fsync", fsync), ("full_page_writes", pages)):
            if value == "off":
                warned.append(
                    f"{name}=off: a crash of the machine can destroy the database, and all tasks with it. "
                    f"Set {name}=on."
                )
        if replicas != "0" and (not standbys or commit in ("local", "off")):
            warned.append(
                "There are standbys, and none is synchronous: a fail-over loses what had not arrived there. "
                "Set synchronous_standby_names, with synchronous_commit=on, or accept it."
            )
        if vacuum == "off":
            warned.append("autovacuum=off: tables of tasks grow without end and become slow. Set it to on.")
        if isolation != "read committed":
            warned.append(
                f"default_transaction_isolation={isolation}: workers will hinder each other. For this user: "
                "ALTER ROLE … SET default_transaction_isolation='read committed'."
            )
        if int(version.partition(".")[0]) < 13:
            warned.append(f"PostgreSQL {version} is too old; 13 or newer is needed.")
        return warned

    def describe(self) -> str:
        ((version,),) = self._pool.query(b"SHOW server_version", timeout=5.0)
        return f"PostgreSQL {_name(version).split()[0]}"


def _name(raw: bytes | None) -> str:
    return (raw or b"").decode("utf-8", "surrogatepass")


def _numbers(ids: Sequence[str]) -> list[int]:
    """Names of dead letters as numbers; what is none names nothing."""
    return [int(each) for each in ids if each.isascii() and each.isdigit() and len(each) < 19]
