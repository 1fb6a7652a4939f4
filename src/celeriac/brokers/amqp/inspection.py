"""Looking at queues, purging, and what the operator should know.

1. `depth`, `stats`, `purge`: by RabbitMQ's own protocol, which tells of a queue how many messages are ready
   and how many consumers it has, and nothing of what is in flight or delayed.
2. `warnings`, `describe`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from celeriac.brokers.amqp import names
from celeriac.brokers.amqp.lines import Lines
from celeriac.brokers.amqp.topology import Topology
from celeriac.brokers.base import QueueStats
from celeriac.transport.amqp.channel import Channel
from celeriac.transport.amqp.values import ChannelClosed

__all__ = ["Inspector"]

_NOT_FOUND: Final = 404
#: The first version with quorum queues that dead-letter at least once, which delays need.
_OLDEST: Final = (3, 10)


class Inspector:
    """Thread-safe: each call works over a line of its own."""

    def __init__(self, lines: Lines, topology: Topology) -> None:
        self._lines = lines
        self._topology = topology
        self.server: dict[str, Any] = {}  # what the server says of itself

    def depth(self, queue: str) -> int:
        return self._state(queue)[0] + self._state(names.suspects_queue(queue))[0]

    def stats(self, queues: Sequence[str]) -> Sequence[QueueStats]:
        return [self._stats(queue) for queue in queues]

    def _stats(self, queue: str) -> QueueStats:
        ready, consumers = self._state(queue)
        suspects, _ = self._state(names.suspects_queue(queue))
        dead, _ = self._state(names.dead_queue(queue))
        return QueueStats(queue, ready + suspects, None, 0, 0, dead, consumers)

    def _state(self, queue: str) -> tuple[int, int]:
        """Ready messages and consumers; nothing of a queue that does not exist."""

        def ask(desk: Channel, deadline: float) -> tuple[int, int]:
            _, messages, consumers = desk.queue_declare(queue, passive=True, deadline=deadline)
            return messages, consumers

        try:
            return self._lines.ask(ask)
        except ChannelClosed as exc:
            if exc.code == _NOT_FOUND:
                return 0, 0
            raise

    def purge(self, queue: str) -> int:
        return self._purge(queue) + self._purge(names.suspects_queue(queue))

    def _purge(self, queue: str) -> int:
        try:
            return self._lines.ask(lambda desk, deadline: desk.queue_purge(queue, deadline=deadline))
        except ChannelClosed as exc:
            if exc.code == _NOT_FOUND:
                return 0
            raise

    # -- for the operator ---------------------------------------------------------------------------------

    def warnings(self) -> Sequence[str]:
        self._meet()
        found: list[str] = []
        if self.server.get("product", "RabbitMQ") == "RabbitMQ" and _version(self.server) < _OLDEST:
            found.append(
                f"RabbitMQ {self.server.get('version')} is older than 3.10: its delays lose messages when a "
                "node fails, and before 3.8 there are no quorum queues."
            )
        for name, text in sorted(self._topology.differences.items()):
            found.append(
                f"{name} exists with other arguments than these settings ask for, and is used as it is: "
                f"{text.strip().rstrip('.')}."
            )
        for name, declared in sorted(self._topology.known.items()):
            if any(not queue.durable and not queue.exclusive for queue in declared):
                found.append(
                    f"The queue {name} is not durable: a restart of RabbitMQ loses its tasks. Declare it "
                    "with durable=True."
                )
        return found

    def describe(self) -> str:
        self._meet()
        return f"{self.server.get('product', 'RabbitMQ')} {self.server.get('version', '')}".strip()

    def _meet(self) -> None:
        if not self.server:
            with self._lines.line():
                pass


def _version(server: dict[str, Any]) -> tuple[int, ...]:
    parts = str(server.get("version", "")).split(".")[:2]
    return tuple(int(part) for part in parts if part.isdigit()) or _OLDEST
