"""Storing messages: statements that are repeated until the deadline and applied once.

1. `Publisher.publish`: all of a batch or none of it, one commit; one trip, unless the batch is long.
2. `Batch`: messages as parameters of ``{s}enqueue``; follow-ups of settlements are such, too.

A publish carries its channel's name and number, so that one that is repeated after a lost answer is
recognised (the server keeps the last number of each channel for 15 minutes); while the first one is still
being committed, the repetition waits for it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from celeriac import failpoints
from celeriac.brokers.base import Outgoing
from celeriac.brokers.postgres.routes import Routes, utf8
from celeriac.brokers.routing import unroutable
from celeriac.transport.postgres import foreign
from celeriac.transport.postgres.link import Link, Rows
from celeriac.transport.postgres.pool import Channel, Pool
from celeriac.transport.postgres.values import (
    Param,
    bytea,
    byteas,
    float8s,
    int8,
    int8s,
    integer,
    name_key,
)
from celeriac.wire import virtual

__all__ = ["Batch", "Publisher"]

#: A repeated publish is recognised for 15 minutes; nobody may try for longer.
LONGEST: Final = 600.0
#: Seconds from now, or since the epoch, beyond which it does not matter: the year 5138.
FAR: Final = 1e11

PUBLISH: Final = "SELECT {s}publish($1, $2, $3, $4, $5, $6)"
PUBLISH_ALL: Final = "SELECT {s}publish_all($1, $2, $3, $4, $5, $6, $7, $8, $9)"
ENQUEUE: Final = (
    "SELECT {s}enqueue(1, %s::bytea[], %s::bytea[], %s::bigint[], %s::bigint[], %s::float8[], %s::float8[],"
    " %s::bytea[])"
)
#: Messages of one statement; a longer batch is encoded while its beginning is being stored.
PART: Final = 500
#: Whoever dies or stands still between two parts must not keep others waiting.
BEGIN: Final = b"BEGIN; SET LOCAL idle_in_transaction_session_timeout = '30s'"
NO_NUMBER: Final = bytea(None), int8(0)
_encode = virtual.encode


class Batch:
    """Messages for queues, sorted out."""

    __slots__ = ("delays", "dues", "names", "priorities", "raws", "which")

    def __init__(self) -> None:
        self.names: dict[str, int] = {}  # with their places, from 1
        self.which: list[int] = []
        self.priorities: list[int] = []
        self.delays: list[float | None] = []
        self.dues: list[float | None] = []
        self.raws: list[bytes] = []

    def add(self, queues: Iterable[str], out: Outgoing, raw: bytes) -> None:
        for queue in queues:
            self.which.append(self.names.setdefault(queue, len(self.names) + 1))
            self.priorities.append(out.priority)
            self.delays.append(None if out.countdown is None else min(out.countdown, FAR))
            self.dues.append(None if out.due is None else min(out.due, FAR))
            self.raws.append(raw)

    def params(self) -> tuple[Param, ...]:
        """The seven arrays of ``{s}enqueue``."""
        return (
            byteas([name_key(name) for name in self.names]),
            byteas([utf8(name) for name in self.names]),
            int8s(self.which),
            int8s(self.priorities),
            float8s(self.delays),
            float8s(self.dues),
            byteas(self.raws),
        )


class Publisher:
    """Thread-safe: each call works on a channel of its own."""

    def __init__(self, pool: Pool, routes: Routes) -> None:
        self._pool = pool
        self._routes = routes
        self._publish, self._publish_all = (pool.server.sql(each).encode() for each in (PUBLISH, PUBLISH_ALL))
        self._enqueue = pool.server.sql(ENQUEUE)
        self._introduced: set[str] = set()

    def publish(
        self, batch: Sequence[Outgoing], *, timeout: float | None = None, connection: Any = None
    ) -> None:
        """See `Broker.publish`."""
        if not batch:
            return
        seconds = self._pool.server.timeout if timeout is None else min(timeout, LONGEST)
        if connection is not None:
            self._publish_in(connection, batch, seconds)
            return
        if len(batch) > PART:
            self._stream(batch, seconds)
        else:
            begun = time.monotonic()
            sql, params = self._statement(list(batch), seconds)
            left = seconds - (time.monotonic() - begun)
            channel = self._channel()
            try:
                number = bytea(channel.name), int8(channel.turn)
                self._pool.query(sql, (*number, *params), timeout=left)
            finally:
                self._pool.channels.append(channel)

    def _statement(self, batch: Sequence[Outgoing], seconds: float) -> tuple[bytes, tuple[Param, ...]]:
        """The statement that stores `batch`, and its parameters but name and turn."""
        first = batch[0]
        queue, priority = first.queue, first.priority
        if queue and all(
            out.queue == queue and out.priority == priority and out.countdown is None and out.due is None
            for out in batch
        ):
            raws = byteas([_encode(out.message) for out in batch])
            return self._publish, (bytea(name_key(queue)), bytea(utf8(queue)), int8(priority), raws)
        return self._publish_all, self._sorted(batch, seconds).params()

    def _stream(self, batch: Sequence[Outgoing], seconds: float) -> None:
        """A long batch: one transaction, a statement for each part. While the server stores one part the next
        is made and encoded, which takes about as long."""
        made: list[tuple[bytes, tuple[Param, ...]]] = []  # is kept for the next attempt

        def statements() -> Iterator[tuple[bytes, tuple[Param, ...]]]:
            for at in range(0, len(batch), PART):
                if at // PART == len(made):
                    made.append(self._statement(batch[at : at + PART], seconds))
                yield made[at // PART]

        def store(link: Link, deadline: float) -> None:
            try:
                link.script(BEGIN, deadline=deadline)
                number = bytea(channel.name), int8(channel.turn)
                for at, (sql, params) in enumerate(statements()):
                    if at and not _is_new(link.receive(deadline=deadline)):
                        break
                    link.send(sql, (*number, *params), deadline=deadline)
                    number = NO_NUMBER
                else:
                    link.receive(deadline=deadline)
                link.script(b"COMMIT", deadline=deadline)  # of nothing, when it was stored before
            except BaseException:
                link.close()  # and with it the transaction
                raise

        channel = self._channel()
        try:
            self._pool.run(store, timeout=seconds)
        finally:
            self._pool.channels.append(channel)

    def _channel(self) -> Channel:
        """With the number of one publish, however often that is repeated. It must be given back."""
        if failpoints.on:
            failpoints.begin("publish")
        channels = self._pool.channels
        try:
            channel = channels.pop()
        except IndexError:
            channel = Channel()
        channel.turn += 1
        return channel

    def _sorted(self, batch: Sequence[Outgoing], seconds: float) -> Batch:
        """Everything that can be wrong with a message is found here, before the first is stored."""
        sorted_out = Batch()
        for out in batch:
            queues = self._routes.route(out, seconds)
            if not queues:
                raise unroutable(out)
            sorted_out.add(queues, out, _encode(out.message))
        return sorted_out

    def _publish_in(self, connection: Any, batch: Sequence[Outgoing], seconds: float) -> None:
        """Inside the caller's transaction: nothing is repeated, and nothing is sent unless it commits."""
        run = foreign.runner(connection)
        sorted_out = self._sorted(batch, seconds)
        new = [name for name in sorted_out.names if name not in self._introduced]
        if new:  # beforehand: a queue that is new in a long transaction would keep others waiting
            self._routes.introduce(new, seconds)
            self._introduced.update(new)
        run(self._enqueue, [foreign.literal(param) for param in sorted_out.params()])


def _is_new(rows: Rows) -> bool:
    return bool(integer(rows[0][0]))
