"""Redis and Valkey as a broker: the seam, put together from its parts.

1. `RedisBroker`: its methods are those of its parts; the work is in `publisher.py` (storing), `consumer.py`
   and `part.py` (taking and settling), `leases.py` (beat, release, sweep), `inspection.py` (looking),
   `routes.py` (bindings).
2. The transitions themselves are the Lua scripts in `scripts/`, the keys are in `keys.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celeriac.brokers.base import (
    Capabilities,
    ConsumerSpec,
    ResultTarget,
    attend_to_nobody,
)
from celeriac.brokers.redis.consumer import RedisConsumer
from celeriac.brokers.redis.elsewhere import Elsewhere
from celeriac.brokers.redis.inspection import Inspector
from celeriac.brokers.redis.keys import Layout
from celeriac.brokers.redis.leases import Leases
from celeriac.brokers.redis.publisher import Publisher
from celeriac.brokers.redis.routes import Routes
from celeriac.transport.redis.pool import Pool
from celeriac.transport.redis.url import parse

__all__ = ["RedisBroker"]


class RedisBroker:
    """See `celeriac.brokers.base.Broker`.

    Args:
        url: see `celeriac.transport.redis.url.parse`.
        options: `broker_transport_options`: `global_keyprefix`, `sep`, `priority_steps`, `fanout_prefix`,
            `master_name`, `sentinel_kwargs`, `client_name`, `socket_timeout`, `socket_connect_timeout`
            (seconds), `socket_keepalive`, `ssl`, `credential_provider`.

    Example:
        >>> broker = RedisBroker("redis://localhost:6379/0", {})
        >>> broker.capabilities.atomic_settle
        True
    """

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self.server = parse(url, options)
        is_cluster = self.server.kind == "cluster"
        self.capabilities = Capabilities(fanout=True, atomic_settle=not is_cluster, envelopes=True)
        self._pool = Pool(self.server)
        self._layout = Layout(options, db=self.server.db, is_cluster=is_cluster)
        self._routes = Routes(self._pool, self._layout)
        self._publisher = Publisher(self._pool, self._layout, self._routes)
        self.publish = self._publisher.publish  # bound, not wrapped: it is on the way of every `delay()`
        self._elsewhere = (
            Elsewhere(self._pool, self._layout, self._routes, self.publish) if is_cluster else None
        )
        self._consumers: set[RedisConsumer] = set()  # those not closed
        self.declare = self._routes.declare  # bound like all that one part does alone
        leases = Leases(self._pool, self._layout)
        self.held, self.beat, self.release, self.sweep = (
            leases.held,
            leases.beat,
            leases.release,
            leases.sweep,
        )
        inspector = Inspector(self._pool, self._layout)
        self.queues, self.stats, self.depth = inspector.queues, inspector.stats, inspector.depth
        self.purge, self.browse = inspector.purge, inspector.browse
        self.dead, self.revive, self.drop = inspector.dead, inspector.revive, inspector.drop
        self.revoke, self.revoked = inspector.revoke, inspector.revoked
        self.warnings, self.describe = inspector.warnings, inspector.describe

    attend = staticmethod(attend_to_nobody)

    @classmethod
    def from_url(cls, url: str, options: Mapping[str, Any]) -> RedisBroker:
        return cls(url, options)

    def carries(self, target: ResultTarget) -> bool:
        """The same server and user, whatever the database; never on a cluster, where keys are apart."""
        same_server = target.location[:-1] == self.server.location[:-1]
        return same_server and self.capabilities.atomic_settle

    def consumer(self, spec: ConsumerSpec) -> RedisConsumer:
        self._routes.note(spec.queues)
        consumer = RedisConsumer(
            self._pool, self._layout, self._routes, spec, self._elsewhere, self._consumers.discard
        )
        self._consumers.add(consumer)
        consumer.register()
        return consumer

    def close(self) -> None:
        self._publisher.forget()
        for consumer in list(self._consumers):
            consumer.disconnect()
        self._pool.close()
