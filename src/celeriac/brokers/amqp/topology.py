"""Queues, exchanges and bindings: what is declared, when, and what is done when it has vanished.

1. `Topology.declare`: queues as the application describes them, once for each process, and again after the
   server was found to have lost them.
2. `Topology.ensure`: a queue that is only known by its name: as the application describes it, else a durable
   queue of the default type.
3. What already exists with other arguments stays as it is and is used; `differences` says so.
4. `Topology.ensure_delays`: the delay queues (`delays.py`) and who hears of them.

Not here: connections (`lines.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from celeriac.brokers.amqp import delays, names
from celeriac.brokers.amqp.lines import Desk
from celeriac.brokers.base import Outgoing, Queue
from celeriac.brokers.routing import unroutable
from celeriac.exceptions import ImproperlyConfigured
from celeriac.transport.amqp.values import ChannelClosed

__all__ = ["EXCHANGE_TYPES", "Topology"]

#: What RabbitMQ has itself, and its plug-ins bring.
EXCHANGE_TYPES: Final = frozenset({
    "direct", "topic", "fanout", "headers",
    "x-consistent-hash", "x-modulus-hash", "x-random", "x-local-random", "x-recent-history",
})  # fmt: skip
#: Exchange types whose delayed messages Celery sends on by pattern.
_PATTERNS: Final = frozenset({"topic", "fanout"})
_NOT_FOUND, _LOCKED, _PRECONDITION = 404, 405, 406

Describe = Callable[[str], Sequence[Queue]]


class Topology:
    """Shared by the threads of a process; what it does twice by accident does no harm.

    Args:
        describe: the application's declarations of a queue, by name; nothing when it has none.
        queue_type: ``classic`` or ``quorum``, for queues that nobody describes.
    """

    def __init__(self, describe: Describe, queue_type: str) -> None:
        self._describe = describe
        self._queue_type = queue_type
        self.known: dict[str, tuple[Queue, ...]] = {}  # declared by us or described, by queue
        self.differences: dict[str, str] = {}
        self._there: set[str] = set()  # queues that were seen on the server
        self._exchanges: set[str] = {""}
        self._waiting_for: set[str] = set()  # keys that the delay queues were bound for
        self._delays_there = False
        self._lock = threading.RLock()

    # -- what is known --------------------------------------------------------------------------------------

    def note(self, queues: Sequence[Queue]) -> None:
        """Remember declarations; refuses exchange types that RabbitMQ does not have."""
        for queue in queues:
            if queue.exchange_type not in EXCHANGE_TYPES:
                raise ImproperlyConfigured(
                    f"Queue {queue.name!r} has exchange type {queue.exchange_type!r}, which RabbitMQ does "
                    f"not have. Use one of: {', '.join(sorted(EXCHANGE_TYPES))}."
                )
            before = self.known.get(queue.name, ())
            if queue not in before:
                self.known[queue.name] = (*before, queue)
                self._there.discard(queue.name)

    def described(self, name: str) -> tuple[Queue, ...]:
        """The declarations of a queue; made up when there are none."""
        if name not in self.known:
            told = self._own(name) or self._describe(name)
            if told:
                self.note(told)
        return self.known.get(name) or (Queue(name, arguments=self._typed()),)

    def _own(self, name: str) -> tuple[Queue, ...]:
        """The queues beside a queue: of its dead letters and its suspects."""
        if dead_of := names.dead_of(name):
            return (Queue(name, names.DEAD, dead_of, arguments=_pairs(names.dead_arguments())),)
        if name == names.REVOKED:
            return (Queue(name, arguments=_pairs(names.REVOKED_ARGUMENTS)),)
        if suspects_of := names.suspects_of(name):
            arguments = names.suspects_arguments(passing=self.is_passing(suspects_of))
            return (Queue(name, arguments=_pairs(arguments)),)
        return ()

    def _typed(self) -> tuple[tuple[str, Any], ...]:
        return () if self._queue_type == "classic" else (("x-queue-type", self._queue_type),)

    def is_passing(self, name: str) -> bool:
        """Whether a queue is gone when its consumer is."""
        return any(queue.exclusive or queue.auto_delete for queue in self.described(name))

    def forget(self, name: str | None = None) -> None:
        """The server may have lost this queue, or (None) everything: declare it before the next use."""
        with self._lock:
            if name is not None:
                self._there.discard(name)
                self._waiting_for.discard(delays.queue_key(name))
                self._exchanges -= {queue.exchange for queue in self.known.get(name, ())} - {""}
                return
            self._there.clear()
            self._exchanges = {""}
            self._waiting_for.clear()
            self._delays_there = False

    # -- queues ---------------------------------------------------------------------------------------------

    def declare(self, line: Desk, queues: Sequence[Queue], deadline: float) -> None:
        self.note(queues)
        for name in dict.fromkeys(queue.name for queue in queues):
            self.ensure(line, name, deadline)

    def ensure(self, line: Desk, name: str, deadline: float) -> None:
        """Make sure that a queue is there, with its bindings."""
        if name in self._there:
            return
        declarations = self.described(name)
        self._declare_queue(line, declarations[0], deadline)
        for queue in declarations:
            if queue.exchange:
                self._declare_exchange(line, queue, deadline)
                self._bind(line, queue, deadline)
        self._there.add(name)

    def _declare_queue(self, line: Desk, queue: Queue, deadline: float) -> None:
        arguments = {name: _plain(value) for name, value in queue.arguments}
        if queue.max_priority and arguments.get("x-queue-type") != "quorum":
            arguments.setdefault("x-max-priority", queue.max_priority)
        self.put_queue(
            line,
            queue.name,
            arguments,
            deadline,
            durable=queue.durable,
            exclusive=queue.exclusive,
            auto_delete=queue.auto_delete,
        )

    def put_queue(
        self, line: Desk, name: str, arguments: Mapping[str, Any], deadline: float, **how: bool
    ) -> None:
        """Declare a queue; one that is there already with other arguments will do."""
        try:
            line.desk(deadline).queue_declare(name, arguments=arguments, deadline=deadline, **how)
        except ChannelClosed as exc:
            if exc.code == _LOCKED:  # exclusive to another connection: there it is
                return
            if exc.code != _PRECONDITION:
                raise
            line.desk(deadline).queue_declare(name, passive=True, deadline=deadline)
            self.differences[name] = exc.text

    def _declare_exchange(self, line: Desk, queue: Queue, deadline: float) -> None:
        name = queue.exchange
        if name in self._exchanges or name.startswith("amq."):
            return
        try:
            line.desk(deadline).exchange_declare(
                name,
                queue.exchange_type,
                durable=queue.exchange_durable,
                arguments={key: _plain(value) for key, value in queue.exchange_arguments},
                deadline=deadline,
            )
        except ChannelClosed as exc:
            if exc.code != _PRECONDITION:
                raise
            self.differences[name] = exc.text
        self._exchanges.add(name)

    def _bind(self, line: Desk, queue: Queue, deadline: float) -> None:
        desk = line.desk(deadline)
        arguments = {name: _plain(value) for name, value in queue.binding}
        desk.queue_bind(queue.name, queue.exchange, queue.routing_key, arguments=arguments, deadline=deadline)
        if queue.exchange_type == "topic":  # delayed messages come with their whole journey before the key
            late = f"{delays.exchange_key(queue.exchange)}.{queue.routing_key}"
            desk.queue_bind(queue.name, queue.exchange, delays.pattern(late), deadline=deadline)
        if queue.exchange_type in _PATTERNS and dict(queue.arguments).get("x-queue-type") == "quorum":
            self._bind_as_celery(line, queue, deadline)

    def _bind_as_celery(self, line: Desk, queue: Queue, deadline: float) -> None:
        """What a Celery worker declares for such a queue, so that its producers' delayed messages arrive."""
        self.ensure_levels(line, deadline)
        key = f"#.{queue.routing_key}"
        desk = line.desk(deadline)
        desk.exchange_bind(queue.exchange, delays.DELIVERY, key, deadline=deadline)
        desk.queue_bind(queue.name, queue.exchange, key, deadline=deadline)

    # -- exchanges ------------------------------------------------------------------------------------------

    def ensure_exchange(self, line: Desk, out: Outgoing, deadline: float) -> None:
        """Raises `QueueNotFound` when there is no such exchange."""
        name = out.exchange
        if name in self._exchanges:
            return
        for queues in list(self.known.values()):
            for queue in queues:
                if queue.exchange == name:
                    self.ensure(line, queue.name, deadline)
        if name in self._exchanges:
            return
        try:
            line.desk(deadline).exchange_declare(name, passive=True, deadline=deadline)
        except ChannelClosed as exc:
            if exc.code != _NOT_FOUND:
                raise
            raise unroutable(out) from exc
        self._exchanges.add(name)

    # -- delays ---------------------------------------------------------------------------------------------

    def delayed_suffixes(self, line: Desk, out: Outgoing, deadline: float) -> list[str]:
        """Where a delayed message goes in the end, as ends of its key; makes sure that it arrives there."""
        if out.queue or not out.exchange:
            queues = [out.queue or out.routing_key]
        else:
            self.ensure_exchange(line, out, deadline)
            bound = [q for known in list(self.known.values()) for q in known if q.exchange == out.exchange]
            if not bound or bound[0].exchange_type != "direct":
                key = delays.exchange_key(out.exchange)
                self._hear(line, f"{key}.#", deadline, exchange=out.exchange)
                return [f"{key}.{out.routing_key}"]
            queues = [queue.name for queue in bound if queue.routing_key == out.routing_key]
            if not queues:
                raise unroutable(out)
        for name in queues:
            self.ensure(line, name, deadline)
            self._hear(line, delays.queue_key(name), deadline, queue=name)
        return [delays.queue_key(name) for name in queues]

    def _hear(self, line: Desk, suffix: str, deadline: float, *, queue: str = "", exchange: str = "") -> None:
        """Bind a queue or exchange to the end of the delay queues."""
        if suffix in self._waiting_for:
            return
        self.ensure_levels(line, deadline)
        desk, pattern = line.desk(deadline), delays.pattern(suffix)
        if queue:
            desk.queue_bind(queue, delays.DELIVERY, pattern, deadline=deadline)
        else:
            desk.exchange_bind(exchange, delays.DELIVERY, pattern, deadline=deadline)
        self._waiting_for.add(suffix)

    def ensure_levels(self, line: Desk, deadline: float) -> None:
        """Declare the delay queues unless they are there."""
        if self._delays_there:
            return
        with self._lock:
            if not self._delays_there and not self._find_entry(line, deadline):
                self._declare_levels(line, deadline)
            self._delays_there = True

    def _find_entry(self, line: Desk, deadline: float) -> bool:
        try:
            line.desk(deadline).exchange_declare(delays.ENTRY, "topic", passive=True, deadline=deadline)
        except ChannelClosed as exc:
            if exc.code != _NOT_FOUND:
                raise
            return False
        return True

    def _declare_levels(self, line: Desk, deadline: float) -> None:
        line.desk(deadline).exchange_declare(delays.DELIVERY, "topic", deadline=deadline)
        for leg in delays.legs():
            self.put_queue(line, leg.queue, leg.arguments, deadline)
            desk = line.desk(deadline)
            desk.exchange_declare(leg.exchange, "topic", deadline=deadline)
            desk.queue_bind(leg.queue, leg.exchange, leg.waits, nowait=True, deadline=deadline)
            desk.exchange_bind(leg.behind, leg.exchange, leg.passes, deadline=deadline)
        line.desk(deadline).exchange_declare(delays.ENTRY, "topic", deadline=deadline)


def _pairs(arguments: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(arguments.items()))


def _plain(value: Any) -> Any:
    """As AMQP's tables want it: declarations are kept hashable."""
    return list(value) if isinstance(value, tuple) else value
