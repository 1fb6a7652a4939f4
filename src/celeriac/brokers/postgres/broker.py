"""PostgreSQL as a broker: the seam, put together from its parts.

1. `PostgresBroker`: its methods are those of its parts; the work is in the modules that `__init__.py` lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celeriac.brokers.base import (
    Capabilities,
    ConsumerSpec,
    ResultTarget,
    attend_to_nobody,
    require_queues,
)
from celeriac.brokers.postgres.consumer import PostgresConsumer
from celeriac.brokers.postgres.inspection import Inspector
from celeriac.brokers.postgres.publisher import Publisher
from celeriac.brokers.postgres.routes import Routes
from celeriac.transport.postgres.pool import pool
from celeriac.transport.postgres.tables import PostgresTables

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
        self.tables = PostgresTables(self.server)
        self.declare = self._routes.declare  # bound like all that one part does alone
        inspector = Inspector(self._pool)
        self.held, self.beat, self.release = inspector.held, inspector.beat, inspector.release
        self.sweep, self.queues, self.stats = inspector.sweep, inspector.queues, inspector.stats
        self.depth, self.purge, self.browse = inspector.depth, inspector.purge, inspector.browse
        self.dead, self.revive, self.drop = inspector.dead, inspector.revive, inspector.drop
        self.revoke, self.revoked = inspector.revoke, inspector.revoked
        self.warnings, self.describe = inspector.warnings, inspector.describe

    attend = staticmethod(attend_to_nobody)

    def carries(self, target: ResultTarget) -> bool:
        return target.location == self.server.location

    def consumer(self, spec: ConsumerSpec) -> PostgresConsumer:
        require_queues(spec)
        return PostgresConsumer(self._pool, self._routes, spec)

    def close(self) -> None:
        self._pool.close()
