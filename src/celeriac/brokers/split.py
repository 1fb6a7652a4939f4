"""Two brokers as one: messages are published to one of them and taken from the other.

1. `SplitBroker`: publishes to the write broker; all else is the read broker's.
2. `_SplitConsumer`: what a settlement sets off is published to the write broker, confirmed, and only then is
   the delivery settled in the read broker. After a crash between the two it comes twice, under one task id.

For `broker_read_url` and `broker_write_url`: one server under two users, or two that something else bridges.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celeriac.brokers.base import Broker, Consumer, ConsumerSpec, Outgoing, Queue, Received, Settlement

__all__ = ["SplitBroker"]


class SplitBroker:
    """See `celeriac.brokers.base.Broker`.

    Args:
        read: where workers take from; queues, leases, dead letters and revocations are its own.
        write: where everything is published, follow-ups and retries included.
    """

    def __init__(self, read: Broker, write: Broker) -> None:
        self._read = read
        self._write = write
        reads, writes = read.capabilities, write.capabilities
        self.capabilities = reads._replace(
            atomic_settle=False,
            in_parts=writes.in_parts,
            envelopes=writes.envelopes,
            transactional=writes.transactional,
            delay=writes.delay,
            priority=reads.priority and writes.priority,
            fanout=reads.fanout and writes.fanout,
            processes=reads.processes and writes.processes,
        )
        self.publish = write.publish

    def __getattr__(self, name: str) -> Any:
        return getattr(self._read, name)

    def declare(self, queues: Sequence[Queue]) -> None:
        """In both: the bindings are resolved where messages are published."""
        self._write.declare(queues)
        self._read.declare(queues)

    def consumer(self, spec: ConsumerSpec) -> Consumer:
        return _SplitConsumer(self._read.consumer(spec), self._write)

    def warnings(self) -> Sequence[str]:
        return [*self._read.warnings(), *self._write.warnings()]

    def describe(self) -> str:
        return f"{self._read.describe()}, publishing to {self._write.describe()}"

    def close(self) -> None:
        self._read.close()
        self._write.close()


class _SplitConsumer:
    """A consumer of the read broker; used by one thread."""

    def __init__(self, consumer: Consumer, write: Broker) -> None:
        self._consumer = consumer
        self._write = write
        self._sent: set[tuple[str, int]] = set()  # published for settlements that are to be repeated

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)

    def exchange(self, settlements: Sequence[Settlement], limit: int) -> Received:
        owed = [end for end in settlements if end.followups]
        if not owed:
            return self._consumer.exchange(settlements, limit)
        news: list[Outgoing] = []
        for end in owed:
            if (end.queue, end.tag) not in self._sent:
                news += end.followups
        if news:
            self._write.publish(news)
            self._sent.update((end.queue, end.tag) for end in owed)
        settled = [end._replace(followups=()) if end.followups else end for end in settlements]
        received = self._consumer.exchange(settled, limit)
        self._sent.difference_update((end.queue, end.tag) for end in owed)
        return received
