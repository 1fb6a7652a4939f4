"""PostgreSQL as a broker: the seam, put together from its parts.

1. `PostgresBroker`: each method a line or two; the work is in the modules that `__init__.py` lists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from celeriac.brokers.base import (
    Capabilities,
    ConsumerSpec,
    DeadLetter,
    Delivery,
    Queue,
    QueueStats,
    ResultTarget,
)
from celeriac.brokers.postgres.consumer import PostgresConsumer
from celeriac.brokers.postgres.inspection import Inspector
from celeriac.brokers.postgres.publisher import Publisher
from celeriac.brokers.postgres.routes import Routes
from celeriac.exceptions import ImproperlyConfigured
from celeriac.transport.postgres.pool import pool
from celeriac.transport.postgres.tables import PostgresTables
from celeriac.wire.message import Message, Unreadable

__all__ = ["PostgresBroker"]


class PostgresBroker:
    """See `celeriac.brokers.base.Broker`. Nothing is connected before the first use.

    Args:
        url: see `celeriac.transport.postgres.url.Server.parse`.
        options: `broker_transport_options`; see there.

    Example:
        >>> broker = PostgresBroker("postgresql://localhost/shop", {"schema": "tasks"})
        >>> broker.capabilities.transactional
        True
    """

    capabilities: Capabilities = Capabilities(fanout=True, wakes_one=True, in_parts=True, transactional=True)

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self._pool = pool(url, options)
        self.server = self._pool.server
        self._routes = Routes(self._pool)
        self._publisher = Publisher(self._pool, self._routes)
        self.publish = self._publisher.publish  # bound, not wrapped: it is on the way of every `delay()`
        self._inspector = Inspector(self._pool)
        self.tables = PostgresTables(self.server)

    def declare(self, queues: Sequence[Queue]) -> None:
        self._routes.declare(queues)

    # -- leases ----------------------------------------------------------------------------------------------

    def carries(self, target: ResultTarget) -> bool:
        return target.location == self.server.location

    def consumer(self, spec: ConsumerSpec) -> PostgresConsumer:
        if not spec.queues:
            raise ImproperlyConfigured("A consumer needs a queue: name at least one (worker -Q).")
        return PostgresConsumer(self._pool, self._routes, spec)

    def held(self, consumer: str, queues: Sequence[str]) -> Sequence[Delivery]:
        return self._inspector.held(consumer)

    def beat(self, consumers: Mapping[str, Sequence[str]], *, ttl: float) -> Sequence[str]:
        return self._inspector.beat(consumers, ttl)

    def release(
        self,
        consumer: str,
        queues: Sequence[str],
        *,
        crashed: Sequence[tuple[str, int]] = (),
        done: Sequence[tuple[str, int]] = (),
    ) -> int:
        return self._inspector.release(consumer, crashed, done)

    def sweep(self, queues: Sequence[str]) -> int:
        return self._inspector.sweep(queues)

    # -- looking and tidying ---------------------------------------------------------------------------------

    def queues(self) -> Sequence[str]:
        return self._inspector.queues()

    def stats(self, queues: Sequence[str]) -> Sequence[QueueStats]:
        return [self._inspector.stats(queue) for queue in queues]

    def depth(self, queue: str) -> int:
        return self._inspector.depth(queue)

    def purge(self, queue: str) -> int:
        return self._inspector.purge(queue)

    def browse(self, queue: str, limit: int, offset: int = 0) -> Sequence[Message | Unreadable]:
        return self._inspector.browse(queue, limit, offset)

    def dead(self, queue: str, limit: int = 100, offset: int = 0) -> Sequence[DeadLetter]:
        return self._inspector.dead(queue, limit, offset)

    def revive(self, queue: str, ids: Sequence[str]) -> int:
        return self._inspector.revive(queue, ids)

    def drop(self, queue: str, ids: Sequence[str]) -> int:
        return self._inspector.drop(queue, ids)

    def revoke(self, ids: Sequence[str], *, ttl: float) -> None:
        self._inspector.revoke(ids, ttl)

    def revoked(self) -> Sequence[str]:
        return self._inspector.revoked()

    # -- the store -------------------------------------------------------------------------------------------

    def warnings(self) -> Sequence[str]:
        return self._inspector.warnings()

    def describe(self) -> str:
        return self._inspector.describe()

    def close(self) -> None:
        self._pool.close()
