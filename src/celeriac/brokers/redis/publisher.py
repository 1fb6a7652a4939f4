"""Storing messages: script calls that are repeated until the deadline and applied once.

1. The hot path: one message to one queue, now, on an idle link. It stands in `publish`, unfolded.
2. Batches, delays, exchanges, fan-out; one trip. What is more than one script call is a transaction (MULTI),
   so that a batch is stored whole or not at all; on a cluster, whole for each queue.
3. Batches whose messages are alike; the long ones by `bulk.py`.

A script call takes at most `CHUNK` messages: Lua copies its arguments, and large calls are slower for each
message than many (measured: 128,000/s in calls of 10,000, 240,000/s in calls of 1,000).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from celeriac import failpoints
from celeriac.brokers.alike import Alike
from celeriac.brokers.base import Outgoing
from celeriac.brokers.redis import bulk
from celeriac.brokers.redis.keys import Layout, QueueKeys
from celeriac.brokers.redis.refusals import check, forgotten
from celeriac.brokers.redis.routes import Routes
from celeriac.brokers.redis.scripts import PUBLISH
from celeriac.brokers.redis.settling import due_of, mark_fanout, tells_due
from celeriac.brokers.routing import unroutable
from celeriac.exceptions import OperationalError
from celeriac.transport.redis.link import LARGE, Link, pack, pack_large
from celeriac.transport.redis.pool import Channel, Pool
from celeriac.wire import virtual

__all__ = ["Publisher"]

#: Messages in one script call.
CHUNK: Final = 1000
#: A repeated publish is recognised for 120 s; nobody may try for longer.
LONGEST: Final = 100.0
_MULTI: Final = pack((b"MULTI",))
_EXEC: Final = pack((b"EXEC",))
_EVALSHA: Final = b"EVALSHA"
_SHA: Final = PUBLISH.sha
_encode = virtual.encode
_monotonic = time.monotonic


class _Batch:
    """What one `publish` stores in the queues of one node, sorted."""

    def __init__(self) -> None:
        self.now: dict[tuple[bytes, bytes], list[bytes]] = {}  # (producer prefix, list) -> envelopes
        self.later: dict[QueueKeys, list[Any]] = {}  # queue -> five words for each message

    def packed(self, channel: Channel) -> list[bytes]:
        """Script calls, numbered so that a repetition is recognised; a transaction when there are several."""
        calls: list[bytes] = []
        for (producer, listed), envelopes in self.now.items():
            keys: tuple[bytes, ...] = (producer + channel.name, listed)
            for start in range(0, len(envelopes), CHUNK):
                channel.sequence += 1
                calls.append(PUBLISH.packed(keys, [channel.sequence, *envelopes[start : start + CHUNK]]))
        for names, words in self.later.items():
            keys = (
                names.producer + channel.name, names.delayed, names.seq, names.leases, *names.lists
            )  # fmt: skip
            for start in range(0, len(words), 5 * CHUNK):
                channel.sequence += 1
                calls.append(PUBLISH.packed(keys, [channel.sequence, *words[start : start + 5 * CHUNK]]))
        return calls if len(calls) == 1 else [_MULTI, *calls, _EXEC]


class Publisher:
    """Thread-safe: each call works on a channel of its own."""

    def __init__(self, pool: Pool, layout: Layout, routes: Routes) -> None:
        self._pool = pool
        self._layout = layout
        self._routes = routes
        self._heads: dict[tuple[str, int], tuple[bytes, bytes]] = {}

    def publish(self, batch: Sequence[Outgoing], *, timeout: float | None = None) -> None:
        """See `Broker.publish`."""
        if failpoints.on:
            failpoints.begin("publish")
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
                words = (_EVALSHA, _SHA, 2, mark + channel.name, listed, channel.sequence, envelope)
                data = pack(words) if len(envelope) < LARGE else pack_large(words)
                try:
                    channel.link.request(data, deadline)  # type: ignore[union-attr]
                except (OperationalError, AttributeError):  # stale, or never connected: the slow way mends it
                    self._persist(channel, listed, [data], deadline)
                finally:
                    self._pool.idle.append(channel)
                return
        if type(batch) is Alike and batch and batch.destination[0] and not self._pool.is_cluster:
            self._publish_alike(batch, deadline)
        else:
            self._publish_all(batch, deadline)

    def _publish_alike(self, batch: Alike, deadline: float) -> None:
        queue, _, _, priority = batch.destination[:4]
        self._introduce(queue, deadline)
        mark, listed = self._heads[queue, priority]
        channel = self._pool.take(listed, deadline)
        try:
            channel.sequence += 1
            if len(batch) < bulk.LONG:
                words: list[bytes | int] = [channel.sequence, *batch.envelopes(slice(None))]
                call = PUBLISH.packed((mark + channel.name, listed), words)
                self._persist(channel, listed, [call], deadline)
            else:
                store = partial(bulk.store, batch, mark + channel.name, listed, channel.sequence)
                self._pool.persist(channel, listed, store, deadline)
        finally:
            self._pool.give(channel)

    def _publish_all(self, batch: Sequence[Outgoing], deadline: float) -> None:
        batches, shouts = self._sort(batch, deadline)
        for key, part in batches.items():
            self._store(key, part, deadline)
        for channel_name, envelope in shouts:
            data = pack((b"PUBLISH", channel_name, envelope))
            self._pool.run(
                channel_name,
                lambda link, until, data=data: link.request(data, until),  # type: ignore[misc]
                timeout=deadline - _monotonic(),
            )

    def _store(self, key: bytes, batch: _Batch, deadline: float) -> None:
        channel = self._pool.take(key, deadline)
        try:
            self._persist(channel, key, batch.packed(channel), deadline)
        finally:
            self._pool.give(channel)

    def _persist(self, channel: Channel, key: bytes, calls: Sequence[bytes], deadline: float) -> None:
        def trip(link: Link, until: float) -> None:
            replies = link.pipeline(calls, until)
            if forgotten(replies):
                PUBLISH.load(link, until)
                replies = link.pipeline(calls, until)
            check(replies, link.where)

        self._pool.persist(channel, key, trip, deadline)

    def _sort(
        self, batch: Sequence[Outgoing], deadline: float
    ) -> tuple[dict[bytes, _Batch], list[tuple[bytes, bytes]]]:
        """Batches by the key that finds their node, and what goes to fan-out channels. Everything that can
        be wrong with a message is found here, before the first is stored."""
        batches: dict[bytes, _Batch] = {}
        shouts: list[tuple[bytes, bytes]] = []
        open_lists: dict[tuple[str, int], list[bytes]] = {}
        for out in batch:
            message, queue, _, _, priority, countdown, due = out
            envelope = _encode(message)
            if countdown is None and due is None and (queue, priority) in open_lists:
                open_lists[queue, priority].append(envelope)
                continue
            route = self._routes.route(out, deadline)
            if not route.queues and route.channel is None:
                raise unroutable(out)
            kind, ms = due_of(out)
            index = self._layout.index(priority)
            for name in route.queues:
                self._introduce(name, deadline)
                names = self._layout.queue(name)
                part = batches.setdefault(names.leases if self._pool.is_cluster else b"", _Batch())
                if kind == b"0":
                    listed = part.now.setdefault((names.producer, names.lists[index]), [])
                    listed.append(envelope)
                    if name == queue:
                        open_lists[name, priority] = listed
                else:
                    words = (index, kind, ms, tells_due(out), envelope)
                    part.later.setdefault(names, []).extend(words)
            if route.channel is not None:
                shouts.append((route.channel, mark_fanout(envelope)))
        return batches, shouts

    def _introduce(self, queue: str, deadline: float) -> None:
        """The first message to a queue: note its name, and its keys for the hot path."""
        if (queue, 0) in self._heads or not queue:
            return
        self._routes.note([queue], deadline)
        if not self._pool.is_cluster:
            names = self._layout.queue(queue)
            for priority in range(10):
                self._heads[queue, priority] = (names.producer, names.lists[self._layout.index(priority)])

    def forget(self) -> None:
        """Queues are introduced anew (somebody may have emptied the server)."""
        self._heads.clear()
