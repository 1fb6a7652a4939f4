"""Settlements that carry more than an acknowledgement, as arguments of `exchange.lua`.

1. `write_settlements`: append them to the script's keys and arguments.
2. `due_of`: when an `Outgoing` is to be delivered, as the scripts say it.
3. `mark_fanout`: what tells our own subscribers that their queue has a message already.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from celeriac.brokers.base import Outgoing, ResultTarget, Settlement
from celeriac.brokers.redis.keys import Layout
from celeriac.brokers.redis.routes import Routes
from celeriac.brokers.routing import unroutable
from celeriac.wire import virtual

__all__ = ["FANOUT_MARK", "due_of", "mark_fanout", "tells_due", "write_settlements"]

#: Head of an envelope on a fan-out channel that our own queues have got already.
FANOUT_MARK = b'{"celeriac-fanout":1,'


def due_of(out: Outgoing) -> tuple[bytes, int]:
    """(kind, ms): now, in so many ms, or at epoch ms; never early."""
    if out.countdown is not None:
        return (b"1", math.ceil(out.countdown * 1000)) if out.countdown > 0 else (b"0", 0)
    if out.due is not None:
        return b"2", math.ceil(out.due * 1000)
    return b"0", 0


def tells_due(out: Outgoing) -> bytes:
    """1 when the message itself says when it is due, so that a Celery worker would wait for it."""
    return b"1" if out.message.headers.get("eta") else b"0"


def mark_fanout(envelope: bytes) -> bytes:
    return FANOUT_MARK + envelope[1:]


class Script:
    """The keys and arguments of one call as they grow."""

    def __init__(self, keys: tuple[bytes, ...], args: list[Any]) -> None:
        self.keys = list(keys)
        self.args = args

    def key(self, *names: bytes) -> int:
        """Add keys; return the index of the first, as Lua counts."""
        self.keys += names
        return len(self.keys) - len(names) + 1


def write_settlements(
    rich: Sequence[Settlement],
    place: Mapping[str, int],
    keys: tuple[bytes, ...],
    args: list[Any],
    layout: Layout,
    routes: Routes,
    results: ResultTarget | None,
) -> tuple[bytes, ...]:
    """Append `rich` to `args`; return all keys."""
    call = Script(keys, args)
    prefix = results.prefix if results else ""
    for end in rich:
        head = len(args)
        args += (place[end.queue], end.tag, end.verdict, end.reason, 0, len(end.results))
        for out in end.followups:
            args[head + 4] += _write_follow_up(out, call, layout, routes)
        for task_id, document, ttl, _ in end.results:
            args += (
                call.key((prefix + task_id).encode()),
                0 if ttl is None else max(1, int(ttl * 1000)),
                document,
            )
    return tuple(call.keys)


def _write_follow_up(out: Outgoing, call: Script, layout: Layout, routes: Routes) -> int:
    """Append one follow-up, once for each queue it goes to; return how many that were."""
    envelope = virtual.encode(out.message)
    route = routes.route(out)
    if not route.queues and not route.channel:
        # Nobody is there to catch an error: it is kept where the operator sees it.
        lost = layout.queue(out.routing_key or out.exchange)
        reason = str(unroutable(out))
        call.args += (call.key(lost.dead, lost.letters, lost.seq), b"3", reason, 0, 0, envelope)
        return 1
    kind, ms = due_of(out)
    index = layout.index(out.priority)
    for name in route.queues:
        names = layout.queue(name)
        call.args += (
            call.key(names.lists[index], names.delayed, names.seq, names.leases),
            kind,
            ms,
            index,
            tells_due(out),
            envelope,
        )
    if route.channel:
        call.args += (call.key(route.channel), b"4", 0, 0, 0, mark_fanout(envelope))
    return len(route.queues) + bool(route.channel)
