"""A consumer: one lease, served by one thread over links of its own.

1. `RedisConsumer`: splits an exchange over its parts, one for a single server, one per queue on a cluster.
2. `Part` (`part.py`): the script calls of the queues that share a link, and what they hold.
3. Waiting: for a push of client tracking on any part's socket, the wake pipe, or a time.

What may go wrong, and what then: a lost reply leaves settlements in doubt and messages held that nobody here
knows. The settlements are repeated by the caller and, gone already, are not called stale; the messages are
noticed by their number (every reply says how many are held) and fetched. A late request of a dead connection
can do no harm for the same reason.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from celeriac.brokers.base import ConsumerSpec, Delivery, Received, Settlement
from celeriac.brokers.redis.elsewhere import Elsewhere
from celeriac.brokers.redis.keys import Layout
from celeriac.brokers.redis.part import Part
from celeriac.brokers.redis.routes import Routes
from celeriac.exceptions import OperationalError
from celeriac.transport.alarm import Alarm
from celeriac.transport.redis.pool import Pool

__all__ = ["RedisConsumer"]

#: Seconds after which a wait looks at the queues again, should a push have been lost.
RECHECK: Final = 5.0
#: Seconds between looks where the server refuses client tracking: first and longest.
POLL: Final = (0.005, 0.05)


class RedisConsumer:
    """See `celeriac.brokers.base.Consumer`."""

    def __init__(
        self,
        pool: Pool,
        layout: Layout,
        routes: Routes,
        spec: ConsumerSpec,
        elsewhere: Elsewhere | None,
        farewell: Callable[[RedisConsumer], None],
    ) -> None:
        groups = [[name] for name in spec.queues] if pool.is_cluster else [list(spec.queues)]
        self._parts = [Part(pool, layout, routes, spec, group, elsewhere) for group in groups if group]
        self._part_of = {queue: part for part in self._parts for queue in part.queues}
        self._first = 0
        self._stash: list[Delivery] = []
        self._alarm = Alarm()
        self._farewell = farewell
        self._is_hungry = True  # the last exchange brought less than it asked for

    def register(self) -> None:
        for part in self._parts:
            part.register()

    def exchange(self, settlements: Sequence[Settlement], limit: int) -> Received:
        if len(self._parts) == 1:
            received = self._parts[0].exchange(settlements, limit)
        else:
            received = self._exchange_parts(settlements, limit)
        self._is_hungry = len(received.deliveries) < limit
        return received

    def _exchange_parts(self, settlements: Sequence[Settlement], limit: int) -> Received:
        """On a cluster: one call for each queue, the first one rotating."""
        mine: dict[int, list[Settlement]] = {id(part): [] for part in self._parts}
        for settlement in settlements:
            part = self._part_of.get(settlement.queue, self._parts[0])
            mine[id(part)].append(settlement)
        order = self._parts[self._first :] + self._parts[: self._first]
        self._first = (self._first + 1) % len(self._parts)
        deliveries, self._stash = self._stash, []
        stale: list[int] = []
        lost, now, next_due = False, time.time(), None
        for place, part in enumerate(order):
            alone = bool(deliveries) and deliveries[0].crashes > 0
            room = 0 if alone or lost else limit - len(deliveries)
            try:
                received = part.exchange(mine[id(part)], room)
            except OperationalError:
                # The caller will repeat everything: what is done already must not look stale then, and what
                # came must not get lost.
                for earlier in order[:place]:
                    earlier.doubt(mine[id(earlier)])
                self._stash = deliveries
                raise
            deliveries += received.deliveries
            stale += received.stale
            lost, now = lost or received.lost, received.now
            if received.next_due is not None:
                next_due = received.next_due if next_due is None else min(next_due, received.next_due)
        return Received(deliveries, stale, lost, now, next_due)

    def wait(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        pause = POLL[0]
        if not self._is_hungry:  # what there is no room for must not wake us
            self._alarm.wait(timeout)
        while self._is_hungry and not self._alarm.ringing:
            ready, soon = self._arm()
            left = deadline - time.monotonic()
            if ready or left <= 0:
                break
            armed = [part.fileno() for part in self._parts if part.is_armed]
            longest = RECHECK if len(armed) == len(self._parts) else pause
            pause = min(2 * pause, POLL[1])
            is_due = soon is not None and soon <= min(left, longest)
            if self._alarm.wait(soon if is_due else min(left, longest), *armed) or is_due:
                break
        self._alarm.clear()

    def _arm(self) -> tuple[bool, float | None]:
        """Look at all queues and arm tracking: (something is there, seconds until the next change)."""
        ready, soonest = False, None
        for part in self._parts:
            now_ready, soon = part.arm()
            ready = ready or now_ready
            if soon is not None:
                soonest = soon if soonest is None else min(soonest, soon)
        return ready, soonest

    def wake(self) -> None:
        self._alarm.ring()

    def lifeline(self) -> None:
        """The supervisor beats for a lease; the connection may die."""

    def close(self) -> None:
        try:
            for part in self._parts:
                part.give_back()
        finally:
            self.disconnect()
            self._alarm.close()
            self._farewell(self)

    def disconnect(self) -> None:
        """Drop the connections, keep the lease; the next exchange connects anew."""
        for part in self._parts:
            part.disconnect()
