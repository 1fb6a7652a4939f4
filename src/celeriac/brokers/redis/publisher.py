"""Storing messages: one script call per queue, repeated until the deadline, applied once.

1. The hot path: one message to one queue, now, on an idle link. It stands in `publish`, unfolded.
2. Everything else: batches, delays, exchanges, fan-out; grouped by queue, one trip (a cluster: one per queue).

A batch for one queue is all or nothing up to `MOST` bytes; a larger one is split there.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from celeriac.brokers.base import Outgoing
from celeriac.brokers.redis.keys import Layout, QueueKeys
from celeriac.brokers.redis.routes import Routes
from celeriac.brokers.redis.scripts import PUBLISH
from celeriac.brokers.redis.settling import due_of, mark_fanout
from celeriac.brokers.routing import unroutable
from celeriac.exceptions import OperationalError
from celeriac.transport.redis.link import Link, Refused, ReplyError, pack, refusal
from celeriac.transport.redis.pool import Channel, Pool
from celeriac.wire import virtual

__all__ = ["Publisher"]

#: Bytes of envelopes in one script call.
MOST: Final = 64 << 20
#: A repeated publish is recognised for 120 s; nobody may try for longer.
LONGEST: Final = 100.0
_EVALSHA: Final = b"EVALSHA"
_SHA: Final = PUBLISH.sha
_encode = virtual.encode
_monotonic = time.monotonic


class _Group(NamedTuple):
    """What goes into one queue: (list index, kind, ms, envelope), oldest first."""

    names: QueueKeys
    items: list[tuple[int, bytes, int, bytes]]

    def packed(self, channel: Channel) -> list[bytes]:
        """Script calls, numbered so that a repetition is recognised."""
        calls: list[bytes] = []
        for start, end in _cuts(self.items):
            channel.sequence += 1
            calls.append(self._pack(channel, self.items[start:end]))
        return calls

    def _pack(self, channel: Channel, items: Sequence[tuple[int, bytes, int, bytes]]) -> bytes:
        mark = self.names.producer + channel.name.encode()
        index = items[0][0]
        if all(item[1] == b"0" and item[0] == index for item in items):
            return PUBLISH.packed((mark, self.names.lists[index]), (channel.sequence, *[item[3] for item in items]))
        keys = (mark, self.names.delayed, self.names.seq, *self.names.lists)
        return PUBLISH.packed(keys, (channel.sequence, *[word for item in items for word in item]))


class Publisher:
    """Thread-safe: each call works on a channel of its own."""

    def __init__(self, pool: Pool, layout: Layout, routes: Routes) -> None:
        self._pool = pool
        self._layout = layout
        self._routes = routes
        self._heads: dict[tuple[str, int], tuple[bytes, bytes]] = {}

    def publish(self, batch: Sequence[Outgoing], timeout: float | None) -> None:
        """See `Broker.publish`."""
        seconds = self._pool.server.timeout if timeout is None else min(timeout, LONGEST)
        deadline = _monotonic() + seconds
        if len(batch) == 1 and self._pool.idle:
            message, queue, _, _, priority, countdown, due = batch[0]
            head = self._heads.get((queue, priority))
            if head is not None and countdown is None and due is None:
                envelope = _encode(message)
                try:
                    channel = self._pool.idle.pop()
                except IndexError:
                    channel = Channel()
                channel.sequence += 1
                mark, listed = head
                data = pack(
                    (_EVALSHA, _SHA, 2, mark + channel.name.encode(), listed, channel.sequence, envelope)
                )
                try:
                    channel.link.request(data, deadline)  # type: ignore[union-attr]
                except (OperationalError, AttributeError):  # stale, or never connected: the slow way mends it
                    self._persist(channel, listed, [data], deadline)
                finally:
                    self._pool.idle.append(channel)
                return
        self._publish_all(batch, deadline)

    def _publish_all(self, batch: Sequence[Outgoing], deadline: float) -> None:
        groups, shouts = self._sort(batch)
        pool = self._pool
        batches = [[group] for group in groups] if pool.is_cluster else [groups]
        for part in batches:
            if part:
                self._publish_groups(part, deadline)
        for channel_name, envelope in shouts:
            data = pack((b"PUBLISH", channel_name, envelope))
            pool.run(
                channel_name,
                lambda link, until, data=data: link.request(data, until),  # type: ignore[misc]
                timeout=deadline - _monotonic(),
            )

    def _publish_groups(self, groups: Sequence[_Group], deadline: float) -> None:
        key = groups[0].names.leases
        idle = self._pool.idle
        channel = idle.pop() if idle and not self._pool.is_cluster else Channel()
        try:
            calls = [call for group in groups for call in group.packed(channel)]
            self._persist(channel, key, calls, deadline)
        finally:
            if self._pool.is_cluster:
                channel.drop()
            else:
                idle.append(channel)

    def _persist(self, channel: Channel, key: bytes, calls: Sequence[bytes], deadline: float) -> None:
        def trip(link: Link, until: float) -> None:
            replies = link.pipeline(calls, until)
            if any(type(reply) is ReplyError and str(reply).startswith("NOSCRIPT") for reply in replies):
                PUBLISH.load(link, until)
                replies = link.pipeline(calls, until)
            for reply in replies:
                if type(reply) is ReplyError:
                    raise _explain(refusal(reply, link.where))

        self._pool.persist(channel, key, trip, deadline)

    def _sort(self, batch: Sequence[Outgoing]) -> tuple[list[_Group], list[tuple[bytes, bytes]]]:
        """Groups by queue, and what goes to fan-out channels. Everything that can be wrong is found here."""
        groups: dict[str, _Group] = {}
        shouts: list[tuple[bytes, bytes]] = []
        for out in batch:
            envelope = _encode(out.message)
            route = self._routes.route(out)
            if not route.queues and route.channel is None:
                raise unroutable(out)
            kind, ms = due_of(out)
            index = self._layout.index(out.priority)
            for queue in route.queues:
                group = groups.get(queue)
                if group is None:
                    group = groups[queue] = _Group(self._layout.queue(queue), [])
                    self._introduce(queue)
                group.items.append((index, kind, ms, envelope))
            if route.channel is not None:
                shouts.append((route.channel, mark_fanout(envelope)))
        return list(groups.values()), shouts

    def _introduce(self, queue: str) -> None:
        """The first message to a queue: note its name, and its keys for the hot path."""
        if (queue, 0) in self._heads or not queue:
            return
        self._routes.note(queue)
        if not self._pool.is_cluster:
            names = self._layout.queue(queue)
            for priority in range(10):
                self._heads[queue, priority] = (names.producer, names.lists[self._layout.index(priority)])

    def forget(self) -> None:
        """Queues are introduced anew (somebody may have emptied the server)."""
        self._heads.clear()


def _cuts(items: Sequence[tuple[int, bytes, int, bytes]]) -> list[tuple[int, int]]:
    """Ranges of at most `MOST` bytes (or one item) each."""
    cuts: list[tuple[int, int]] = []
    start = size = 0
    for at, item in enumerate(items):
        size += len(item[3])
        if size > MOST and at > start:
            cuts.append((start, at))
            start, size = at, len(item[3])
    return [*cuts, (start, len(items))]


def _explain(error: OperationalError) -> OperationalError:
    if isinstance(error, Refused) and error.code in ("OOM", "MISCONF"):
        return Refused(f"{error} The message was not stored. Free memory or disk on the Redis server.", error.code)
    return error
