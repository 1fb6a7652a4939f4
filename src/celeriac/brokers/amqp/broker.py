"""RabbitMQ as a broker: the seam, put together from its parts.

1. `AmqpBroker`: most methods are those of its parts; the work is in `publisher.py` (storing), `consumer.py`
   and `intake.py` (taking and settling; with `stock.py`, `window.py`, `turns.py`), `suspects.py`,
   `inquiry.py`, `nodes.py` and `replacing.py` (what becomes of a delivery whose connection is lost),
   `delays.py`, `topology.py`, `graves.py`, `revocations.py`, `inspection.py`.
2. What RabbitMQ has not, and is refused or left out: leases (the connection is the lease), results that ride
   on settlements, looking into a queue, counts of what is delayed or in flight.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from celeriac.brokers.amqp import names
from celeriac.brokers.amqp.consumer import AmqpConsumer
from celeriac.brokers.amqp.graves import Graves
from celeriac.brokers.amqp.inspection import Inspector
from celeriac.brokers.amqp.lines import Lines
from celeriac.brokers.amqp.nodes import Attendant
from celeriac.brokers.amqp.publisher import Publisher
from celeriac.brokers.amqp.revocations import Revocations
from celeriac.brokers.amqp.topology import Topology
from celeriac.brokers.base import (
    Answer,
    Capabilities,
    ConsumerSpec,
    Delivery,
    Place,
    Queue,
    ResultTarget,
)
from celeriac.exceptions import ImproperlyConfigured, OperationalError
from celeriac.transport.amqp.link import Link
from celeriac.transport.amqp.url import parse
from celeriac.wire.message import Message, Unreadable

__all__ = ["AmqpBroker"]

_QUEUE_TYPES: Final = ("classic", "quorum")


class AmqpBroker:
    """See `celeriac.brokers.base.Broker`.

    Args:
        url: see `celeriac.transport.amqp.url.parse`; several, joined by ``;``, are tried in turn.
        options: `broker_transport_options`: those of the transport, and `queue_type` (``classic`` or
            ``quorum``, for queues that are not described), `declarations` (a function: the application's
            declarations of a queue, by name).

    Example:
        >>> broker = AmqpBroker("amqp://guest:guest@localhost//", {"queue_type": "quorum"})
        >>> broker.capabilities.leases, broker.capabilities.delay
        (False, True)
    """

    capabilities: Capabilities = Capabilities(
        fanout=True,
        atomic_settle=False,
        leases=False,
        browse=False,
        wakes_one=True,
        in_parts=True,
        census=False,
        most_urgent=9,
    )

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        given = dict(options)
        queue_type = given.pop("queue_type", "classic")
        if queue_type not in _QUEUE_TYPES:
            raise ImproperlyConfigured(f"queue_type is {queue_type!r}; use 'classic' or 'quorum'.")
        describe: Callable[[str], Sequence[Queue]] = given.pop("declarations", _describes_nothing)
        self.server = parse(url, given)
        self._topology = Topology(describe, queue_type)
        self._lines = Lines(self.server, self._met)
        self._publisher = Publisher(self._lines, self._topology)
        self.publish = self._publisher.publish  # bound, not wrapped: it is on the way of every `delay()`
        inspector = self._inspector = Inspector(self._lines, self._topology)
        self.stats, self.depth, self.purge = inspector.stats, inspector.depth, inspector.purge
        self.warnings, self.describe = inspector.warnings, inspector.describe
        graves = Graves(self._lines, self._publisher)
        self.dead, self.revive, self.drop = graves.letters, graves.revive, graves.drop
        self._revocations = Revocations(self.server, self._publisher, self._topology)
        self.revoke, self.revoked = self._revocations.revoke, self._revocations.revoked
        self._attendants: list[Attendant] = []
        self._consumers: set[AmqpConsumer] = set()

    @classmethod
    def from_url(cls, url: str, options: Mapping[str, Any]) -> AmqpBroker:
        return cls(url, options)

    def _met(self, link: Link) -> None:
        self._inspector.server = dict(link.server_properties)

    def declare(self, queues: Sequence[Queue]) -> None:
        self._topology.note(queues)
        with self._lines.line() as (line, deadline):
            for name in dict.fromkeys(queue.name for queue in queues if not queue.exclusive):
                self._topology.ensure(line, name, deadline)

    def queues(self) -> Sequence[str]:
        """Those that this process knows of: RabbitMQ's protocol has no list."""
        return [name for name in self._topology.known if not names.is_ours(name)]

    def browse(self, queue: str, limit: int, offset: int = 0) -> Sequence[Message | Unreadable]:
        raise ImproperlyConfigured(
            "RabbitMQ cannot show what waits in a queue without handing it over. Use its management plug-in."
        )

    def carries(self, target: ResultTarget) -> bool:
        return False

    def consumer(self, spec: ConsumerSpec) -> AmqpConsumer:
        consumer = AmqpConsumer(self.server, self._topology, self._publisher, spec, self._consumers.discard)
        self._consumers.add(consumer)
        consumer.register()
        return consumer

    def held(self, consumer: str, queues: Sequence[str]) -> Sequence[Delivery]:
        """Nothing: what a lost connection held is back in its queues."""
        return ()

    def beat(self, consumers: Mapping[str, Sequence[str]], *, ttl: float) -> Sequence[str]:
        return ()

    def release(
        self,
        consumer: str,
        queues: Sequence[str],
        *,
        crashed: Sequence[tuple[str, int]] = (),
        done: Sequence[tuple[str, int]] = (),
    ) -> int:
        return 0

    def sweep(self, queues: Sequence[str]) -> int:
        return 0

    def attend(self, answer: Answer, learn: Callable[[Sequence[Place]], None], home: str = "") -> None:
        self._revocations.home = home
        attendant = Attendant(self.server, answer, learn, home, lambda: self._revocations.homes)
        self._attendants.append(attendant)
        attendant.start()

    def close(self) -> None:
        with contextlib.suppress(OperationalError):  # then it is forgotten in a while
            self._revocations.give_up_home()
        for attendant in self._attendants:
            attendant.stop()
        self._attendants.clear()
        for consumer in list(self._consumers):
            consumer.disconnect()
        self._revocations.close()
        self._lines.close()


def _describes_nothing(name: str) -> Sequence[Queue]:
    return ()
