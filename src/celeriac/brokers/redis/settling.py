"""Settlements that carry more than an acknowledgement, as arguments of `exchange.lua`.

1. `write_settlements`: append them to the script's keys and arguments.
2. `due_of`: when an `Outgoing` is to be delivered, as the scripts say it.
3. `mark_fanout`: what tells our own subscribers that their queue has a message already.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from celeriac.brokers.base import Outgoing, ResultTarget, Settlement
from celeriac.brokers.redis.keys import Layout
from celeriac.brokers.redis.routes import Routes
from celeriac.brokers.routing import unroutable
from celeriac.transport.redis.link import LARGE
from celeriac.wire import virtual
from celeriac.wire.steps import SHORT, Chained, Rest

__all__ = ["FANOUT_MARK", "Heir", "Written", "due_of", "mark_fanout", "tells_due", "write_settlements"]

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


class Heir(NamedTuple):
    """A consumer's only follow-up, where it is likely that the consumer gets it at once.

    Attributes:
        rest: where the server has the steps of what is settled; None: in its envelope.
        is_likely: without such a rest; then the steps are sent apart for the first time.
    """

    rest: Rest | None
    is_likely: bool


class Written(NamedTuple):
    """`keys` of the call. `large`: one of the arguments is. `rest`: where the follow-up's steps are, when it
    is written without them."""

    keys: tuple[bytes, ...]
    large: bool
    rest: Rest | None


class Script:
    """The keys and arguments of one call as they grow."""

    def __init__(self, keys: tuple[bytes, ...], args: list[Any], heir: Heir | None) -> None:
        self.keys = list(keys)
        self.args = args
        self.heir = heir
        self.large = False
        self.rest: Rest | None = None

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
    heir: Heir | None = None,
) -> Written:
    """Append `rich` to `args`."""
    call = Script(keys, args, heir)
    prefix = results.prefix if results else ""
    for end in rich:
        head = len(args)
        args += (place[end.queue], end.tag, end.verdict, end.reason, 0, len(end.results))
        for out in end.followups:
            args[head + 4] += _write_follow_up(out, end.queue, call, layout, routes)
        for task_id, document, ttl, _ in end.results:
            args += (
                call.key((prefix + task_id).encode()),
                0 if ttl is None else max(1, int(ttl * 1000)),
                document,
            )
    return Written(tuple(call.keys), call.large, call.rest)


def _write_follow_up(out: Outgoing, home: str, call: Script, layout: Layout, routes: Routes) -> int:
    """Append one follow-up, once for each queue it goes to; return how many that were."""
    if call.heir is not None and out.queue == home and _write_apart(out, call.heir, call, layout):
        return 1
    envelope = virtual.encode(out.message)
    call.large = call.large or len(envelope) > LARGE
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


def _write_apart(out: Outgoing, heir: Heir, call: Script, layout: Layout) -> bool:
    """Append a follow-up without its steps, if that is worth it: the server has them, or will have them for
    all that come after it."""
    message = out.message
    if type(message) is not Chained or message.steps is None or due_of(out)[0] != b"0":
        return False
    if heir.rest is None and (not heir.is_likely or len(message.body) <= SHORT):
        return False
    rest = message.steps.rest()
    apart = virtual.encode_apart(message) if rest is heir.rest or heir.is_likely else None
    if apart is None:
        return False
    text = b"" if rest is heir.rest else rest.text
    call.args += (0, b"5", f"{apart.length} {apart.at}", layout.index(out.priority), text, apart.text)
    call.large = len(text) > LARGE or len(apart.text) > LARGE
    call.rest = rest
    return True
