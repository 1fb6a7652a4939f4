"""Which queues a message goes to, by the binding sets that Celery's peers keep in the same Redis.

1. `declare`: write bindings where peers look for them, and names where we do.
2. `route`: the queues of an `Outgoing`; the channel of a fan-out exchange.

Bindings that peers declare become known here within `FRESH` seconds.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from celeriac.brokers.base import Outgoing, Queue
from celeriac.brokers.redis.keys import Layout, binding_member
from celeriac.brokers.routing import EXCHANGE_TYPES, Bindings
from celeriac.exceptions import ImproperlyConfigured
from celeriac.transport.redis.link import pack
from celeriac.transport.redis.pool import Pool, checked

__all__ = ["Route", "Routes"]

#: Seconds for which the binding set of an exchange is taken from memory.
FRESH: Final = 5.0


class Route(NamedTuple):
    """`queues` get the message; a fan-out exchange has a `channel` for Celery's peers beside them."""

    queues: tuple[str, ...]
    channel: bytes | None = None


class Routes:
    """The bindings as this broker knows them."""

    def __init__(self, pool: Pool, layout: Layout) -> None:
        self._pool = pool
        self._layout = layout
        self._types: dict[str, str] = {}
        self._read: dict[str, tuple[float, Bindings]] = {}

    def declare(self, queues: Sequence[Queue]) -> None:
        """Write names and bindings; what is there already stays."""
        for queue in queues:
            if queue.exchange_type not in EXCHANGE_TYPES:
                raise ImproperlyConfigured(
                    f"Queue {queue.name!r} has exchange type {queue.exchange_type!r}, which Redis does not "
                    f"have. Use one of: {', '.join(sorted(EXCHANGE_TYPES))}."
                )
        commands: list[tuple[bytes, bytes]] = []
        for queue in queues:
            commands += self._declaration(queue)
            if queue.exchange:
                self._types[queue.exchange] = queue.exchange_type
                self._read.pop(queue.exchange, None)
        run_by_key(self._pool, commands)

    def _declaration(self, queue: Queue) -> list[tuple[bytes, bytes]]:
        layout = self._layout
        words = [(layout.shared("queues"), queue.name)]
        if queue.exchange:
            member = binding_member(layout.sep, queue.name, queue.routing_key, queue.exchange_type)
            words += [
                (layout.binding(queue.exchange), member),
                (layout.permanent_binding(queue.exchange), member),
            ]
            if queue.exchange_type == "fanout":
                words.append((layout.shared(f"fanout:{queue.exchange}"), queue.name))
        return [(key, pack((b"SADD", key, member))) for key, member in words]

    def note(self, queues: Sequence[str], deadline: float | None = None) -> None:
        """Put names on record that nobody declared."""
        key = self._layout.shared("queues")
        run_by_key(self._pool, [(key, pack((b"SADD", key, *queues)))], deadline)

    def route(self, outgoing: Outgoing, deadline: float | None = None) -> Route:
        """Raises `OperationalError` when the binding set has to be read and cannot be by then."""
        if outgoing.queue:
            return Route((outgoing.queue,))
        if not outgoing.exchange:
            return Route((outgoing.routing_key,) if outgoing.routing_key else ())
        if self._types.get(outgoing.exchange) == "fanout":
            return Route(
                self._bindings(outgoing.exchange, deadline).match(outgoing.exchange, ""),
                self._layout.channel(outgoing.exchange, outgoing.routing_key),
            )
        return Route(
            self._bindings(outgoing.exchange, deadline).match(outgoing.exchange, outgoing.routing_key)
        )

    def _bindings(self, exchange: str, deadline: float | None) -> Bindings:
        read_at, bindings = self._read.get(exchange, (float("-inf"), Bindings()))
        if time.monotonic() - read_at > FRESH:
            bindings = self._read_bindings(exchange, deadline)
            self._read[exchange] = (time.monotonic(), bindings)
        return bindings

    def _read_bindings(self, exchange: str, deadline: float | None) -> Bindings:
        kind = self._types.get(exchange, "direct")
        bindings = Bindings()
        if kind == "fanout":
            key = self._layout.shared(f"fanout:{exchange}")
            names = [name.decode() for name in self._members(key, deadline)]
            bindings.declare([Queue(name, exchange, "", "fanout") for name in names])
            return bindings
        for member in self._members(self._layout.binding(exchange), deadline):
            routing_key, _, rest = member.decode(errors="replace").partition(self._layout.sep)
            name = rest.rpartition(self._layout.sep)[2]
            # A pattern from a peer means topic, whatever we declared.
            topic = kind == "topic" or rest.startswith("^")
            bindings.declare([Queue(name, exchange, routing_key, "topic" if topic else "direct")])
        return bindings

    def _members(self, key: bytes, deadline: float | None) -> list[bytes]:
        [members] = run_by_key(self._pool, [(key, pack((b"SMEMBERS", key)))], deadline)
        return list(members)


def run_by_key(
    pool: Pool, commands: Sequence[tuple[bytes, bytes]], deadline: float | None = None
) -> list[Any]:
    """Run packed commands, each with its key: in one trip, or on a cluster one by one. Replies in order."""
    if not commands:
        return []
    if not pool.is_cluster:
        return _trip(pool, commands[0][0], [command for _, command in commands], deadline)
    return [reply for key, command in commands for reply in _trip(pool, key, [command], deadline)]


def _trip(pool: Pool, key: bytes, batch: Sequence[bytes], deadline: float | None) -> list[Any]:
    timeout = None if deadline is None else deadline - time.monotonic()
    return pool.run(
        key, lambda link, until: list(checked(link.pipeline(batch, until), link.where)), timeout=timeout
    )
