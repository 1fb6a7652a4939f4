"""The seam over the store in memory: thin, since all that matters is in `store.py`.

1. `MemoryBroker`.
2. `MemoryConsumer`: one lease; the only place where anybody waits.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from celeriac.brokers.base import (
    Capabilities,
    ConsumerSpec,
    DeadLetter,
    Delivery,
    Outgoing,
    Queue,
    QueueStats,
    Received,
    ResultTarget,
    Settlement,
    attend_to_nobody,
)
from celeriac.brokers.memory.store import Store, store
from celeriac.exceptions import ImproperlyConfigured
from celeriac.transport.memory import Board, board, store_name
from celeriac.wire import virtual
from celeriac.wire.message import Message, Unreadable

__all__ = ["MemoryBroker", "MemoryConsumer"]

Clock = Callable[[], float]


class MemoryConsumer:
    """One lease on a `Store`."""

    def __init__(self, store: Store, board: Board, spec: ConsumerSpec, clock: Clock) -> None:
        self.store = store
        self._board = board
        self._spec = spec
        self._clock = clock
        self._queues = deque(spec.queues)
        self._woken = False
        self._hungry = True  # the last exchange brought less than it asked for

    def exchange(self, settlements: Sequence[Settlement], limit: int) -> Received:
        if self._spec.results is None and any(end.results for end in settlements):
            raise ImproperlyConfigured(
                "A settlement carries results, but the consumer was made without `results`. Ask "
                "Broker.carries(target) first, and store the results through the backend when it says no."
            )
        received = self.store.exchange(
            self._spec.id, settlements, tuple(self._queues), limit, self._board, self._clock()
        )
        self._hungry = len(received.deliveries) < limit
        if received.deliveries:
            self._queues.rotate(-1)  # fairness: another queue is served first next time
        return received

    def wait(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        with self.store.changed:
            while not self._woken and self._spec.id in self.store.leases:
                now = self._clock()
                change = self.store.next_change(self._spec.queues, now) if self._hungry else None
                pause = deadline - time.monotonic()
                if pause <= 0 or (change is not None and change <= now):
                    break
                self.store.changed.wait(pause if change is None else min(pause, change - now))
            self._woken = False

    def wake(self) -> None:
        with self.store.changed:
            self._woken = True
            self.store.changed.notify_all()

    def lifeline(self) -> None:
        """The supervisor beats for a lease; the connection may die."""

    def close(self) -> None:
        self.store.release(self._spec.id)


class MemoryBroker:
    """The seam, over the store that the URL names.

    Example:
        >>> from celeriac.brokers.base import ConsumerSpec, Outgoing
        >>> from celeriac.wire.message import Message
        >>> broker = MemoryBroker("memory://example", {})
        >>> broker.publish([Outgoing(Message(b"[]", "application/json", "utf-8", {}, {}), queue="celery")])
        >>> broker.depth("celery")
        1
    """

    capabilities: Capabilities = Capabilities(fanout=True, processes=False)

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self._name = store_name(url)
        self.store = store(self._name)
        self._clock: Clock = options.get("clock", time.time)

    def publish(self, batch: Sequence[Outgoing], *, timeout: float | None = None) -> None:
        self.store.publish(batch, self._clock())

    def declare(self, queues: Sequence[Queue]) -> None:
        with self.store.changed:
            self.store.bindings.declare(queues)

    def queues(self) -> Sequence[str]:
        return self.store.names()

    def stats(self, queues: Sequence[str]) -> Sequence[QueueStats]:
        return [self.store.stats(queue, self._clock()) for queue in queues]

    def depth(self, queue: str) -> int:
        return len(self.store.in_order(queue, self._clock()))

    def purge(self, queue: str) -> int:
        return self.store.purge(queue)

    def browse(self, queue: str, limit: int, offset: int = 0) -> Sequence[Message | Unreadable]:
        waiting = self.store.in_order(queue, self._clock())[offset : offset + limit]
        return [virtual.decode(message.raw) for message in waiting]

    def carries(self, target: ResultTarget) -> bool:
        return target.location == ("memory", self._name)

    def consumer(self, spec: ConsumerSpec) -> MemoryConsumer:
        self.store.register(spec.id, spec.queues, self._clock() + spec.ttl)
        return MemoryConsumer(self.store, board(self._name), spec, self._clock)

    def beat(self, consumers: Mapping[str, Sequence[str]], *, ttl: float) -> Sequence[str]:
        return self.store.beat(list(consumers), self._clock() + ttl)

    def held(self, consumer: str, queues: Sequence[str]) -> Sequence[Delivery]:
        with self.store.changed:
            lease = self.store.leases.get(consumer)
            return [
                Delivery(queue, tag, virtual.decode(waiting.raw), waiting.crashes)
                for (queue, tag), waiting in (lease.held.items() if lease else ())
            ]

    def release(
        self,
        consumer: str,
        queues: Sequence[str],
        *,
        crashed: Sequence[tuple[str, int]] = (),
        done: Sequence[tuple[str, int]] = (),
    ) -> int:
        return self.store.release(consumer, crashed, done)

    def sweep(self, queues: Sequence[str]) -> int:
        return self.store.sweep(queues, self._clock())

    attend = staticmethod(attend_to_nobody)

    def dead(self, queue: str, limit: int = 100, offset: int = 0) -> Sequence[DeadLetter]:
        with self.store.changed:
            return [letter for letter, _ in self.store.lines[queue].dead.values()][offset : offset + limit]

    def revive(self, queue: str, ids: Sequence[str]) -> int:
        return self.store.revive(queue, ids, self._clock())

    def drop(self, queue: str, ids: Sequence[str]) -> int:
        return self.store.drop(queue, ids)

    def revoke(self, ids: Sequence[str], *, ttl: float) -> None:
        with self.store.changed:
            self.store.revoked.update(dict.fromkeys(ids, self._clock() + ttl))

    def revoked(self) -> Sequence[str]:
        now = self._clock()
        with self.store.changed:
            self.store.revoked = {name: until for name, until in self.store.revoked.items() if until > now}
            return list(self.store.revoked)

    def warnings(self) -> Sequence[str]:
        return ("memory:// keeps tasks in this process only: when it ends they are gone.",)

    def describe(self) -> str:
        return f"memory://{self._name}"

    def close(self) -> None:
        """Nothing to drop: the store lives as long as its process."""
