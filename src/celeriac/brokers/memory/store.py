"""The store: queues, leases, and all transitions between them. One lock; a public method is one atomic step.

1. `Line`: one queue. `Lease`: what a consumer holds.
2. `Store`: the transitions.
3. `store(name)`: the one store of that name in this process.

Nothing here looks at the clock: `now` (epoch seconds) is an argument.
"""

from __future__ import annotations

import itertools
import threading
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from heapq import heappop, heappush
from typing import Final, NamedTuple

from celeriac.brokers.base import (
    DEAD,
    QUARANTINE,
    REQUEUE,
    DeadLetter,
    Delivery,
    Outgoing,
    QueueStats,
    Received,
    Settlement,
)
from celeriac.brokers.routing import Bindings, unroutable
from celeriac.transport.memory import Board
from celeriac.wire import virtual

__all__ = ["Lease", "Line", "Store", "Waiting", "store"]


class Waiting(NamedTuple):
    """A stored message: encoded, as every store keeps it. `since`: when it began to wait (epoch seconds)."""

    raw: bytes
    priority: int
    crashes: int
    since: float


class Line:
    """One queue."""

    def __init__(self) -> None:
        self.ready: defaultdict[int, deque[Waiting]] = defaultdict(deque)
        self.suspects: deque[Waiting] = deque()  # crashes >= 1: delivered alone
        self.delayed: list[tuple[float, int, Waiting]] = []  # a heap by due time
        self.dead: dict[str, tuple[DeadLetter, Waiting]] = {}
        self.trial: tuple[int, float] | None = None  # tag of the suspect that is out; until when others wait

    def append(self, waiting: Waiting) -> None:
        (self.suspects if waiting.crashes else self.ready[waiting.priority]).append(waiting)

    def put_back(self, waiting: Waiting) -> None:
        (self.suspects if waiting.crashes else self.ready[waiting.priority]).appendleft(waiting)

    def in_order(self) -> Iterator[Waiting]:
        """Ready messages in the order in which they would be taken: suspects, then 0, the most urgent."""
        yield from self.suspects
        for priority in sorted(self.ready):
            yield from self.ready[priority]

    def depth(self) -> int:
        return len(self.suspects) + sum(map(len, self.ready.values()))

    def wake_due(self, now: float) -> None:
        while self.delayed and self.delayed[0][0] <= now:
            due, _, waiting = heappop(self.delayed)
            self.append(waiting._replace(since=due))

    def may_try(self, now: float) -> bool:
        """True when a suspect may be delivered now."""
        return bool(self.suspects) and (self.trial is None or self.trial[1] <= now)

    def take(self, limit: int) -> Iterator[Waiting]:
        for priority in sorted(self.ready):
            line = self.ready[priority]
            while line and limit > 0:
                limit -= 1
                yield line.popleft()

    def next_change(self, now: float) -> float | None:
        """When (epoch seconds) something can be taken if nothing is published; `now` if already."""
        if any(self.ready.values()) or self.may_try(now):
            return now
        times = [self.delayed[0][0]] if self.delayed else []
        if self.suspects and self.trial:
            times.append(self.trial[1])
        return min(times, default=None)


class Lease:
    """What a consumer holds, by (queue, tag), in the order in which it was taken."""

    def __init__(self, queues: Sequence[str], expires: float) -> None:
        self.queues = queues
        self.expires = expires
        self.held: dict[tuple[str, int], Waiting] = {}


class Store:
    """The queues of one process. Every public method is one atomic step; `changed` wakes consumers."""

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.bindings = Bindings()
        self.lines: defaultdict[str, Line] = defaultdict(Line)
        self.leases: dict[str, Lease] = {}
        self.revoked: dict[str, float] = {}
        self._numbers = itertools.count(1)  # tags, ids of dead letters, order among equal due times

    def publish(self, batch: Sequence[Outgoing], now: float) -> None:
        with self.changed:
            # Everything that can fail (routing, encoding) comes before the first change: all or nothing.
            routed = [(out, self.bindings.route(out), virtual.encode(out.message)) for out in batch]
            for out, queues, _ in routed:
                if not queues:
                    raise unroutable(out)
            for out, queues, raw in routed:
                for queue in queues:
                    self._enqueue(queue, out, raw, now)

    def _enqueue(self, queue: str, out: Outgoing, raw: bytes, now: float) -> None:
        due = out.due if out.countdown is None else now + out.countdown
        waiting = Waiting(raw, out.priority, 0, now)
        if due is not None and due > now:
            heappush(self.lines[queue].delayed, (due, next(self._numbers), waiting))
        else:
            self.lines[queue].append(waiting)
        self.changed.notify_all()

    def exchange(
        self,
        consumer: str,
        settlements: Sequence[Settlement],
        queues: Sequence[str],
        limit: int,
        board: Board,
        now: float,
    ) -> Received:
        with self.changed:
            lease = self.leases.get(consumer)
            if lease is None:
                return Received((), tuple(s.tag for s in settlements), True, now, None)
            stale = tuple(s.tag for s in settlements if not self._settle(lease, s, board, now))
            for queue in queues:
                self.lines[queue].wake_due(now)
            deliveries = self._take(lease, queues, limit, now) if limit > 0 else ()
            return Received(deliveries, stale, False, now, self._next_due(queues, now))

    def _settle(self, lease: Lease, end: Settlement, board: Board, now: float) -> bool:
        """Verdict, follow-ups and results of one delivery; False, and no effect at all, if it is not held."""
        if (end.queue, end.tag) not in lease.held:
            return False
        followups = [(out, virtual.encode(out.message)) for out in end.followups]  # first: it may fail
        waiting = self._let_go(lease, end.queue, end.tag)
        for out, raw in followups:
            self._follow_up(out, raw, now)
        if end.verdict == REQUEUE:
            self.lines[end.queue].put_back(waiting)
        elif end.verdict == DEAD:
            self._bury(end.queue, waiting, end.reason, now)
        for result in end.results:
            expires = None if result.ttl is None else now + result.ttl
            board.put(result.task_id, result.document, expires=expires)
        return True

    def _take(self, lease: Lease, queues: Sequence[str], limit: int, now: float) -> Sequence[Delivery]:
        for queue in queues:
            line = self.lines[queue]
            if line.may_try(now):
                delivery = self._hold(lease, queue, line.suspects.popleft())
                line.trial = (delivery.tag, now + QUARANTINE)
                return (delivery,)
        deliveries: list[Delivery] = []
        for queue in queues:
            free = min(limit - len(deliveries), self._share(queue))
            deliveries += [self._hold(lease, queue, waiting) for waiting in self.lines[queue].take(free)]
        return deliveries

    def _share(self, queue: str) -> int:
        """What a consumer of `queue` may take now, so that the others get theirs."""
        consumers = sum(queue in lease.queues for lease in self.leases.values())
        return -(-sum(map(len, self.lines[queue].ready.values())) // consumers)

    def _hold(self, lease: Lease, queue: str, waiting: Waiting) -> Delivery:
        tag = next(self._numbers)  # new for every delivery, so that an old settlement never names a new one
        lease.held[queue, tag] = waiting
        return Delivery(queue, tag, virtual.decode(waiting.raw), waiting.crashes)

    def _let_go(self, lease: Lease, queue: str, tag: int) -> Waiting:
        line = self.lines[queue]
        if line.trial and line.trial[0] == tag:
            line.trial = None
        self.changed.notify_all()
        return lease.held.pop((queue, tag))

    def _follow_up(self, out: Outgoing, raw: bytes, now: float) -> None:
        queues = self.bindings.route(out)
        for queue in queues:
            self._enqueue(queue, out, raw, now)
        if not queues:  # nobody is there to catch an error; nothing is lost, and the operator sees it
            lost = Waiting(raw, out.priority, 0, now)
            self._bury(out.routing_key or out.exchange, lost, str(unroutable(out)), now)

    def _bury(self, queue: str, waiting: Waiting, reason: str, now: float) -> None:
        name = str(next(self._numbers))
        letter = DeadLetter(name, queue, reason, now, virtual.decode(waiting.raw), waiting.crashes)
        self.lines[queue].dead[name] = (letter, waiting)

    def _next_due(self, queues: Sequence[str], now: float) -> float | None:
        delayed = [heap[0][0] for queue in queues if (heap := self.lines[queue].delayed)]
        trials = [
            line.trial[1]
            for queue in queues
            if (line := self.lines[queue]).suspects and line.trial and line.trial[1] > now
        ]
        return max(0.0, min(delayed + trials) - now) if delayed or trials else None

    def register(self, consumer: str, queues: Sequence[str], expires: float) -> None:
        with self.changed:
            if lease := self.leases.get(consumer):  # one that is still there is joined
                lease.expires = expires
            else:
                self.leases[consumer] = Lease(queues, expires)

    def beat(self, consumers: Sequence[str], expires: float) -> Sequence[str]:
        with self.changed:
            for consumer in consumers:
                if lease := self.leases.get(consumer):
                    lease.expires = expires
            return [consumer for consumer in consumers if consumer not in self.leases]

    def release(
        self,
        consumer: str,
        crashed: Sequence[tuple[str, int]] = (),
        done: Sequence[tuple[str, int]] = (),
    ) -> int:
        with self.changed:
            lease = self.leases.pop(consumer, None)
            if lease is None:
                return 0
            for name in done:
                if name in lease.held:
                    self._let_go(lease, *name)
            guilty = {name: lease.held[name].crashes + 1 for name in crashed if name in lease.held}
            return self._give_back(lease, guilty)

    def sweep(self, queues: Sequence[str], now: float) -> int:
        with self.changed:
            lapsed = [
                consumer
                for consumer, lease in self.leases.items()
                if lease.expires <= now and not set(queues).isdisjoint(lease.queues)
            ]
            count = 0
            for lease in map(self.leases.pop, lapsed):
                # Nobody knows what was running: everything held is suspect from now on.
                guilty = {name: waiting.crashes + 1 for name, waiting in lease.held.items()}
                count += self._give_back(lease, guilty)
            return count

    def _give_back(self, lease: Lease, crashes: Mapping[tuple[str, int], int]) -> int:
        """Everything held returns to the front, in its old order, with the new crash counts."""
        names = list(lease.held)
        for name in reversed(names):
            waiting = self._let_go(lease, *name)
            self.lines[name[0]].put_back(waiting._replace(crashes=crashes.get(name, waiting.crashes)))
        return len(names)

    def purge(self, queue: str) -> int:
        with self.changed:
            line = self.lines[queue]
            count = line.depth() + len(line.delayed)
            line.ready.clear()
            line.suspects.clear()
            line.delayed.clear()
            return count

    def revive(self, queue: str, ids: Sequence[str], now: float) -> int:
        with self.changed:
            graves = [grave for name in ids if (grave := self.lines[queue].dead.pop(name, None))]
            for _, waiting in graves:
                self.lines[queue].append(waiting._replace(crashes=0, since=now))
            self.changed.notify_all()
            return len(graves)

    def drop(self, queue: str, ids: Sequence[str]) -> int:
        with self.changed:
            return sum(self.lines[queue].dead.pop(name, None) is not None for name in ids)

    def names(self) -> Sequence[str]:
        with self.changed:
            used = {name for name, line in self.lines.items() if line.depth() or line.delayed or line.dead}
            held = {queue for lease in self.leases.values() for queue, _ in lease.held}
            return sorted(used | held | self.bindings.queues.keys())

    def stats(self, queue: str, now: float) -> QueueStats:
        with self.changed:
            line = self.lines[queue]
            line.wake_due(now)
            live = [lease for lease in self.leases.values() if lease.expires > now]
            return QueueStats(
                queue,
                depth=line.depth(),
                oldest_age=next((max(0.0, now - waiting.since) for waiting in line.in_order()), None),
                in_flight=sum(name == queue for lease in self.leases.values() for name, _ in lease.held),
                delayed=len(line.delayed),
                dead=len(line.dead),
                consumers=sum(queue in lease.queues for lease in live),
            )

    def in_order(self, queue: str, now: float) -> Sequence[Waiting]:
        with self.changed:
            self.lines[queue].wake_due(now)
            return list(self.lines[queue].in_order())

    def next_change(self, queues: Sequence[str], now: float) -> float | None:
        """When (epoch seconds) an exchange may bring something; `now` if it would already."""
        times = [when for queue in queues if (when := self.lines[queue].next_change(now)) is not None]
        return min(times, default=None)


_stores: Final[dict[str, Store]] = {}
_stores_lock = threading.Lock()


def store(name: str) -> Store:
    """The store called `name`; made on first use."""
    with _stores_lock:
        return _stores.setdefault(name, Store())
