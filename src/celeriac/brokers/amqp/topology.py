"""Queues, exchanges and bindings: what is declared, when, and what is done when it has vanished.

1. `Topology.declare`: queues as the application describes them, once for each process, and again after the
   server was found to have lost them.
2. `Topology.ensure`: a queue that is only known by its name: as the application describes it, else a durable
   queue of the default type.
3. What already exists with other arguments stays as it is and is used; `differences` says so.
4. `Topology.delayed_suffixes`, `Topology.ensure_waits`: who hears of what was delayed, and the queues where
   it waits (`delays.py`): each is declared when the first message is to wait there.

Not here: connections (`lines.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from celeriac.brokers.amqp import celery_delays, delays, names
from celeriac.brokers.amqp.lines import Desk
from celeriac.brokers.base import Outgoing, Queue
from celeriac.brokers.routing import unroutable
from celeriac.exceptions import ImproperlyConfigured
from celeriac.transport.amqp.values import ChannelClosed
from celeriac.utils.identity import uuid

__all__ = ["EXCHANGE_TYPES", "Topology"]

#: What RabbitMQ has itself, and its plug-ins bring.
EXCHANGE_TYPES: Final = frozenset({
    "direct", "topic", "fanout", "headers",
    "x-consistent-hash", "x-modulus-hash", "x-random", "x-local-random", "x-recent-history",
})  # fmt: skip
#: Exchange types whose delayed messages Celery sends on by pattern.
_PATTERNS: Final = frozenset({"topic", "fanout"})
_REFUSED, _NOT_FOUND, _LOCKED, _PRECONDITION = 403, 404, 405, 406

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
        self._ways_there = False  # the exchanges of delays
        self._levels_there: set[int] = set()
        self._trusts_seals = True  # no queue of delays was found missing so far
        self._celerys_there = False
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
            self._levels_there.clear()
            self._trusts_seals = self._ways_there = False
            self._celerys_there = False

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
        is_quorum = arguments.get("x-queue-type") == "quorum"
        if queue.max_priority and not is_quorum:
            arguments.setdefault("x-max-priority", queue.max_priority)
        is_new = is_quorum and not self._has_queue(line, queue.name, deadline)
        self.put_queue(
            line,
            queue.name,
            arguments,
            deadline,
            durable=queue.durable,
            exclusive=queue.exclusive,
            auto_delete=queue.auto_delete,
        )
        if is_new:
            self._seal(line, deadline)

    def _has_queue(self, line: Desk, name: str, deadline: float) -> bool:
        try:
            line.desk(deadline).queue_declare(name, passive=True, deadline=deadline)
        except ChannelClosed as exc:
            if exc.code != _NOT_FOUND:
                raise
            return False
        return True

    def _seal(self, line: Desk, deadline: float) -> None:
        """The quorum queue that was declared last is lost, with the messages in it, when RabbitMQ (3.10) is
        killed within the next second; once another one has been declared it is safe. So declare another."""
        name = f"celeriac.seal.{uuid()}"
        desk = line.desk(deadline)
        desk.queue_declare(name, arguments=names.SEAL_ARGUMENTS, deadline=deadline)
        desk.queue_delete(name, deadline=deadline)

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
        self._ensure_celerys_levels(line, deadline)
        key = f"#.{queue.routing_key}"
        desk = line.desk(deadline)
        desk.exchange_bind(queue.exchange, celery_delays.DELIVERY, key, deadline=deadline)
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
        """Bind a queue or exchange to what is due."""
        if suffix in self._waiting_for:
            return
        self._ensure_ways(line, deadline)
        desk, pattern = line.desk(deadline), delays.pattern(suffix)
        if queue:
            desk.queue_bind(queue, delays.DUE, pattern, deadline=deadline)
        else:
            desk.exchange_bind(exchange, delays.DUE, pattern, deadline=deadline)
        self._waiting_for.add(suffix)

    def hear_again(self, line: Desk, name: str, deadline: float) -> None:
        """Bind a queue to what is due, if anything was ever delayed here: a server that was killed may come
        back without the binding, and keeps what was delayed until there is one."""
        if delays.queue_key(name) in self._waiting_for:
            return
        try:
            if self._ways_there or self._is_there(line, delays.ENTRY, deadline):
                self._ways_there = True
                self._hear(line, delays.queue_key(name), deadline, queue=name)
        except ChannelClosed as exc:
            if exc.code != _REFUSED:  # who may only consume cannot help it
                raise

    def ensure_waits(self, line: Desk, key: str, deadline: float) -> None:
        """Declare the levels that a delayed message with the routing key `key` passes, unless they are
        there."""
        for level in delays.levels(key):
            if level not in self._levels_there:
                self._ensure_ways(line, deadline)
                if not (self._trusts_seals and self._has_queue(line, delays.seal(level).queue, deadline)):
                    self._declare_level(line, level, deadline)
                self._levels_there.add(level)

    def _declare_level(self, line: Desk, level: int, deadline: float) -> None:
        """All of it; the queue that says so, and that nothing is ever in, last: see `_seal`."""
        for wait in delays.waits(level):
            self.put_queue(line, wait.queue, wait.arguments, deadline)
            line.desk(deadline).queue_bind(wait.queue, wait.exchange, wait.pattern, deadline=deadline)
        self.put_queue(line, delays.seal(level).queue, delays.seal(level).arguments, deadline)

    def _ensure_ways(self, line: Desk, deadline: float) -> None:
        """Declare the exchanges of delays unless they are there."""
        if self._ways_there:
            return
        with self._lock:
            if not self._ways_there and not self._is_there(line, delays.ENTRY, deadline):
                desk = line.desk(deadline)
                desk.exchange_declare(delays.DUE, "topic", deadline=deadline)
                for exchange, behind, passes in delays.ways():
                    desk.exchange_declare(exchange, "topic", deadline=deadline)
                    desk.exchange_bind(behind, exchange, passes, deadline=deadline)
                desk.exchange_declare(delays.ENTRY, "topic", deadline=deadline)
            self._ways_there = True

    def _is_there(self, line: Desk, exchange: str, deadline: float) -> bool:
        try:
            line.desk(deadline).exchange_declare(exchange, "topic", passive=True, deadline=deadline)
        except ChannelClosed as exc:
            if exc.code != _NOT_FOUND:
                raise
            return False
        return True

    def _ensure_celerys_levels(self, line: Desk, deadline: float) -> None:
        if self._celerys_there:
            return
        line.desk(deadline).exchange_declare(celery_delays.DELIVERY, "topic", deadline=deadline)
        for leg in celery_delays.legs():
            self.put_queue(line, leg.name, leg.arguments, deadline)
            desk = line.desk(deadline)
            desk.exchange_declare(leg.name, "topic", deadline=deadline)
            desk.queue_bind(leg.name, leg.name, leg.waits, deadline=deadline)
            desk.exchange_bind(leg.behind, leg.name, leg.passes, deadline=deadline)
        self._celerys_there = True


def _pairs(arguments: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(arguments.items()))


def _plain(value: Any) -> Any:
    """As AMQP's tables want it: declarations are kept hashable."""
    return list(value) if isinstance(value, tuple) else value
