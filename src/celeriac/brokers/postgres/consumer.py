"""One lease on PostgreSQL: takes, settles, sleeps, over one connection of its own.

1. `PostgresConsumer`: the seam.
2. `Front`: where the first waiting message of a queue is, so that what was taken before, and stands in the
   index until a vacuum, need not be passed again and again.

What may go wrong, and what then: an answer is lost, and the transaction was done or not, or is still being
done. The next exchange first recovers: it waits for that one to end (the lease's row is locked), makes one
that is still on its way come too late (each carries a higher turn), and compares what it holds with the
tables.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple, cast

from celeriac.brokers.base import QUARANTINE, ConsumerSpec, Delivery, Received, Settlement
from celeriac.brokers.postgres.ear import Ear
from celeriac.brokers.postgres.holdings import PLACES, Ends, Holding, Holdings, Routed
from celeriac.brokers.postgres.routes import Routes, utf8
from celeriac.exceptions import ImproperlyConfigured, OperationalError
from celeriac.transport.alarm import Alarm
from celeriac.transport.postgres.link import Disconnected, Link, Rows
from celeriac.transport.postgres.pool import Pool
from celeriac.transport.postgres.values import (
    Param,
    boolean,
    bytea,
    byteas,
    float8,
    int8,
    int8s,
    integer,
    name_key,
)
from celeriac.wire import virtual

__all__ = ["PostgresConsumer"]

_monotonic = time.monotonic
#: Messages that one take brings at most.
LARGEST_CLAIM: Final = 1000
#: Bytes of envelopes that one take is meant to stay below.
TAKE_BYTES: Final = 16_000_000
#: … assuming that no envelope is larger than this until one was.
SMALL: Final = 16_000
#: A look at the front of a queue that the server calls long is made every so many times its length, and not
#: more often than every 0.1 s.
RARELY: Final = 30
#: Seconds given to the farewell of a consumer whose server may be gone.
FAREWELL: Final = 2.0

REGISTER: Final = "SELECT * FROM {s}register($1, $2, $3, $4, $5)"
EXCHANGE: Final = f"SELECT * FROM {{s}}exchange({','.join(f'${n + 1}' for n in range(32))})"
RECOVER: Final = "SELECT * FROM {s}recover($1, $2)"
LIE_DOWN: Final = "SELECT {s}lie_down($1, $2)"
PEEK: Final = "SELECT * FROM {s}peek($1, $2, $3)"
GIVE_BACK: Final = "SELECT {s}end_lease($1, '{}', '{}', false)"
_LOOK_FULLY: Final = -2
_Row = tuple[bytes, bytes, bytes, bytes, bytes]
_decode = virtual.decode
_new = tuple.__new__


class Front(NamedTuple):
    """The first waiting message of a queue: nothing of its rank, or before, is ahead of it.

    Until `fresh_until` (monotonic) it is worth more than another look.
    """

    rank: int
    since: int
    fresh_until: float


class PostgresConsumer:
    """See the module's head. Made by `PostgresBroker.consumer`."""

    def __init__(self, pool: Pool, routes: Routes, spec: ConsumerSpec) -> None:
        sql = pool.server.sql
        self._exchange, self._recover, self._lie_down, self._peek, self._give_back = (
            sql(each).encode() for each in (EXCHANGE, RECOVER, LIE_DOWN, PEEK, GIVE_BACK)
        )
        self._pool = pool
        self._routes = routes
        self._spec = spec
        names = list(dict.fromkeys(spec.queues))
        rows = pool.query(
            sql(REGISTER).encode(),
            (
                bytea(name_key(spec.id)), bytea(utf8(spec.id)), float8(spec.ttl),
                byteas([name_key(name) for name in names]), byteas([utf8(name) for name in names]),
            ),
        )  # fmt: skip
        self._lease, self._turn = integer(rows[0][0]), integer(rows[0][1])
        numbers = [integer(number) for _, _, number in rows]
        self._names = dict(zip(numbers, names, strict=True))
        self._queues = deque(numbers)
        self._link = pool.adopt()  # the one that has just registered us
        self._ear = Ear(pool, self._lease, numbers)
        self._alarm = Alarm()
        self._holdings = Holdings()
        self._certain = self._turn == 0  # a lease that was joined holds what we do not know of
        self._is_deputy = not self._certain
        self._doubtful: set[int] = set()  # tags that exchanges of unknown fate settle
        self._fronts: dict[int, Front] = {}
        self._largest = 0  # bytes of the largest envelope of late
        self._is_hungry = True  # the last exchange brought less than it asked for
        self._in_bed = False  # publishers know that we sleep
        self._closed = False

    # -- exchange --------------------------------------------------------------------------------------------

    def exchange(self, settlements: Sequence[Settlement], limit: int) -> Received:
        routed = self._route(settlements)
        deadline = _monotonic() + self._pool.server.timeout
        stale = self._link  # it may have died while it was not used: its failure costs one more try
        try:
            return self._try(routed, limit, deadline)
        except Disconnected:
            if stale is None:
                raise
            return self._try(routed, limit, deadline)

    def _try(
        self, routed: Sequence[tuple[Settlement, Sequence[Routed]]], limit: int, deadline: float
    ) -> Received:
        link = self._connected(deadline)
        unknown: list[int] = []
        if not self._certain:
            found = self._recovered(link, deadline)
            if found is None:
                return self._lost(routed, time.time())
            unknown = found
        ends = Ends(routed, self._holdings, unknown, self._doubtful)
        if ends.back:
            self._fronts.clear()  # they go back to the front
        self._turn += 1
        params = (int8(self._lease), int8(self._turn), float8(self._spec.ttl), *ends.params())
        self._certain = False
        self._doubtful.update(ends.tags)
        try:
            rows = link.query(self._exchange, (*params, *self._order(limit)), deadline=deadline)
        except Disconnected:
            raise
        except OperationalError:
            self._certain = True  # refused: nothing was done
            self._doubtful.clear()
            raise
        self._certain = True
        self._doubtful.clear()
        if rows[0][0] == _GONE:
            return self._lost(routed, integer_text(rows[0][4]) / 1e6)
        self._holdings.remove(ends.tags)
        return self._received(rows, ends.stale, limit)

    def _order(self, limit: int) -> tuple[Param, ...]:
        """The parameters from `p_queues` on."""
        now = _monotonic()
        room = min(limit, LARGEST_CLAIM, max(1, TAKE_BYTES // max(self._largest, SMALL)))
        fronts = [self._fronts.get(queue) for queue in self._queues]
        known = [front if front and front.fresh_until > now else None for front in fronts]
        return (
            int8s(self._queues),
            int8s([front.rank if front else _LOOK_FULLY for front in known]),
            int8s([front.since if front else 0 for front in known]),
            int8(room),
            float8(QUARANTINE),
            boolean(self._in_bed),
            boolean(limit > 0),
        )

    def _route(self, settlements: Sequence[Settlement]) -> list[tuple[Settlement, Sequence[Routed]]]:
        """Settlements with the queues and envelopes of their follow-ups."""
        if self._spec.results is None and any(end.results for end in settlements):
            raise ImproperlyConfigured(
                "A settlement carries results, but the consumer was made without `results`. Ask "
                "Broker.carries(target) first, and store the results through the backend when it says no."
            )
        route = self._routes.route
        return [
            (end, [Routed(out, route(out), virtual.encode(out.message)) for out in end.followups])
            if end.followups
            else (end, ())
            for end in settlements
        ]

    def _connected(self, deadline: float) -> Link:
        if self._link is None or self._link.closed:
            self._link = self._pool.open(deadline)
            self._in_bed = False
        return self._link

    def _recovered(self, link: Link, deadline: float) -> list[int] | None:
        """After an answer was lost: compare with the tables, which are right. None: the lease is gone.

        Returns the tags of what was taken and never handed out. What was settled without our hearing of it is
        gone.
        """
        self._turn += 1
        rows = link.query(self._recover, (int8(self._lease), int8(self._turn)), deadline=deadline)
        if not rows:
            return None
        there = {
            integer(tag): Holding(self._name_of(integer(queue)), integer(message), integer(crashes))
            for tag, _, queue, message, crashes in rows[1:]
        }
        by_tag = self._holdings.by_tag
        self._holdings.remove([tag for tag in by_tag if tag not in there])
        unknown = [tag for tag in there if tag not in by_tag]
        for tag in unknown:
            self._holdings.add(tag, there[tag])
        if self._is_deputy:  # what the dead one held is ours to settle, and nothing goes back before
            self._is_deputy = False
            return []
        self._fronts.clear()
        return unknown

    def _name_of(self, queue: int) -> str:
        return self._names.get(queue, "")

    def _lost(self, routed: Sequence[tuple[Settlement, Sequence[Routed]]], now: float) -> Received:
        self._certain = True
        self._doubtful.clear()
        return Received((), [end.tag for end, _ in routed], True, now, None)

    def _received(self, rows: Rows, stale: Sequence[int], limit: int) -> Received:
        head = rows.pop()
        now, claim, due, asleep = ((head[4] or b"").decode()).split(",")
        deliveries: list[Delivery] = []
        if rows:
            deliveries = self._deliveries(rows, int(claim) * PLACES)
        self._in_bed = asleep == "1"
        self._is_hungry = len(deliveries) < limit
        if deliveries:
            self._queues.rotate(-1)  # fairness: another queue is served first next time
            if deliveries[0].crashes and limit > 1:
                due = now  # others may be there, but not in this trip
        seconds = int(now) / 1e6
        return Received(
            deliveries, stale, False, seconds, max(0.0, int(due) / 1e6 - seconds) if due else None
        )

    def _deliveries(self, rows: Rows, first: int) -> list[Delivery]:
        deliveries: list[Delivery] = []
        held: list[tuple[int, Holding]] = []
        from_bytes, names = int.from_bytes, self._names
        largest = self._largest * 7 // 8
        number, queue, name = b"", 0, ""
        # NULL is only in the rows of `_note_front`.
        for queue_raw, place, message, crashes_raw, raw in cast("Sequence[_Row]", rows):
            if queue_raw != number:
                number = queue_raw
                queue = from_bytes(number, "big")
                name = names[queue]
            if place == _NO_PLACE:
                self._note_front(queue, crashes_raw, message, raw)
                continue
            tag = first + from_bytes(place, "big")
            crashes = from_bytes(crashes_raw, "big") if crashes_raw != _ZERO else 0
            held.append((tag, _new(Holding, (name, from_bytes(message, "big"), crashes))))
            deliveries.append(Delivery(name, tag, _decode(raw), crashes))
            if len(raw) > largest:
                largest = len(raw)
        if held:
            self._largest = largest
            self._holdings.add_claim(first // PLACES, held)
        return deliveries

    def _note_front(self, queue: int, rank: bytes | None, since: bytes | None, cost: bytes | None) -> None:
        fresh = _monotonic() + max(0.1, RARELY * integer_text(cost) / 1e6)
        self._fronts[queue] = Front(integer(rank), integer(since), fresh)

    # -- sleeping --------------------------------------------------------------------------------------------

    def wait(self, timeout: float) -> None:
        deadline = _monotonic() + timeout
        if not self._is_hungry:  # what there is no room for must not wake us
            self._alarm.wait(timeout)
            self._alarm.clear()
            return
        looks = 0
        try:
            while not self._alarm.ringing and not self._closed:
                soon = self._look()
                left = deadline - _monotonic()
                if soon == 0 or left <= 0 or self._is_woken():  # it may have come with the answer
                    return
                pause = min(left, self._ear.pause(looks))
                looks += 1
                is_due = soon is not None and soon <= pause
                link = self._link
                if self._alarm.wait(soon if is_due else pause, *([link.fileno()] if link else ())):
                    if self._is_woken():
                        return
                elif is_due:
                    return
        except Disconnected:
            self._in_bed = False
            raise
        finally:
            self._alarm.clear()

    def _is_woken(self) -> bool:
        woken, behind = self._ear.heard()
        if behind:
            self._fronts.clear()
        if woken:
            self._in_bed = False
        return woken

    def _look(self) -> float | None:
        """Lie down, then look: 0, something is there; seconds until the next message is due; or None."""
        deadline = _monotonic() + self._pool.server.timeout
        link = self._connected(deadline)
        self._ear.attach(link, deadline)
        queues = int8s(self._queues)
        if not self._in_bed:
            ((done,),) = link.query(self._lie_down, (int8(self._lease), queues), deadline=deadline)
            self._in_bed = bool(integer(done))
        now = _monotonic()
        fronts = [self._fronts.get(queue) for queue in self._queues]
        known = [front if front and front.fresh_until > now else None for front in fronts]
        ((ready, at, due),) = link.query(
            self._peek,
            (
                queues,
                int8s([front.rank if front else -1 for front in known]),
                int8s([front.since if front else 0 for front in known]),
            ),
            deadline=deadline,
        )
        if integer(ready):
            return 0
        return None if due is None else max(0, integer(due) - integer(at)) / 1e6

    def wake(self) -> None:
        self._alarm.ring()

    # -- the end ---------------------------------------------------------------------------------------------

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        link, lease = self._link, (int8(self._lease),)
        try:
            if link is not None and not link.closed:
                try:
                    link.query(self._give_back, lease, deadline=_monotonic() + FAREWELL)
                    return
                except OperationalError:
                    link.close()
            self._pool.query(self._give_back, lease, timeout=FAREWELL)
        finally:
            if link is not None:
                link.close()
            self._alarm.ring()


_GONE: Final = b"\xff\xff\xff\xff"
_NO_PLACE: Final = b"\xff\xff\xff\xff"
_ZERO: Final = b"\x00\x00\x00\x00"


def integer_text(value: bytes | None) -> int:
    return int(value or b"0")
