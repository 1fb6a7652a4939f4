"""Redis and Valkey as a broker: the seam, put together from its parts.

1. `RedisBroker`: each method a line or two; the work is in `publisher.py` (storing), `consumer.py` and
   `part.py` (taking and settling), `leases.py` (beat, release, sweep), `inspection.py` (looking), `routes.py`
   (bindings).
2. The transitions themselves are the Lua scripts in `scripts/`, the keys are in `keys.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from celeriac.brokers.base import (
    Answer,
    Capabilities,
    ConsumerSpec,
    DeadLetter,
    Delivery,
    Place,
    Queue,
    QueueStats,
    ResultTarget,
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
from celeriac.wire.message import Message, Unreadable

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
        self.capabilities = Capabilities(fanout=True, atomic_settle=not is_cluster)
        self._pool = Pool(self.server)
        self._layout = Layout(options, db=self.server.db, is_cluster=is_cluster)
        self._routes = Routes(self._pool, self._layout)
        self._publisher = Publisher(self._pool, self._layout, self._routes)
        self.publish = self._publisher.publish  # bound, not wrapped: it is on the way of every `delay()`
        self._elsewhere = (
            Elsewhere(self._pool, self._layout, self._routes, self.publish) if is_cluster else None
        )
        self._leases = Leases(self._pool, self._layout)
        self._inspector = Inspector(self._pool, self._layout)
        self._consumers: set[RedisConsumer] = set()  # those not closed

    @classmethod
    def from_url(cls, url: str, options: Mapping[str, Any]) -> RedisBroker:
        return cls(url, options)

    def declare(self, queues: Sequence[Queue]) -> None:
        self._routes.declare(queues)

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

    def held(self, consumer: str, queues: Sequence[str]) -> Sequence[Delivery]:
        return self._leases.held(consumer, queues)

    def beat(self, consumers: Mapping[str, Sequence[str]], *, ttl: float) -> Sequence[str]:
        return self._leases.beat(consumers, ttl)

    def release(
        self,
        consumer: str,
        queues: Sequence[str],
        *,
        crashed: Sequence[tuple[str, int]] = (),
        done: Sequence[tuple[str, int]] = (),
    ) -> int:
        return self._leases.release(consumer, queues, crashed, done)

    def sweep(self, queues: Sequence[str]) -> int:
        return self._leases.sweep(queues)

    def attend(self, answer: Answer, learn: Callable[[Sequence[Place]], None]) -> None:
        """Nothing to do: leases tell who holds what."""

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

    def warnings(self) -> Sequence[str]:
        return self._inspector.warnings()

    def describe(self) -> str:
        return self._inspector.describe()

    def close(self) -> None:
        self._publisher.forget()
        for consumer in list(self._consumers):
            consumer.disconnect()
        self._pool.close()
