"""Queues and exchanges as an application declares them.

1. `Exchange`, `Queue`, `Broadcast`: small values in kombu's shape, so that kombu's own objects do as well.
2. `Queues`: the queues an application knows of, by name; missing ones are made on demand.
3. `declarations`: what a broker is told about them.

Not here: which call goes to which queue (`routes.py`), what a broker does with it (`brokers/`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from celeriac.app.ids import new_id
from celeriac.brokers.base import Queue as Declaration
from celeriac.exceptions import ImproperlyConfigured, QueueNotFound

__all__ = ["Broadcast", "Exchange", "Queue", "Queues", "declarations"]


class Exchange:
    """Where messages are sent to be distributed to queues.

    Args:
        name: empty for the default exchange, where the routing key is the queue's name.
        type: `direct` (equal keys), `topic` (patterns with `*` and `#`) or `fanout` (everyone).
        durable, auto_delete, delivery_mode, arguments: for brokers that have such notions.
    """

    def __init__(
        self,
        name: str = "",
        type: str = "direct",
        *,
        durable: bool = True,
        auto_delete: bool = False,
        delivery_mode: int | str | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.type = type or "direct"
        self.durable = durable
        self.auto_delete = auto_delete
        self.delivery_mode = delivery_mode
        self.arguments = dict(arguments or {})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Exchange) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((self.name, self.type))

    def __repr__(self) -> str:
        return f"<Exchange {self.name}({self.type})>"


class Queue:
    """A queue, and the binding that feeds it.

    Args:
        name: the queue's name.
        exchange: the exchange it is bound to, or its name; none means the default exchange.
        routing_key: the key (direct) or pattern (topic) of the binding.
        bindings: further (exchange, routing key) pairs.
        max_priority, message_ttl, expires, max_length: limits of the queue (times in seconds), for brokers
            that have them.
        queue_arguments, binding_arguments, durable, exclusive, auto_delete, no_ack, alias: as in kombu.

    Example:
        >>> Queue("feeds", Exchange("feeds", type="topic"), routing_key="feed.#").exchange.type
        'topic'
    """

    def __init__(
        self,
        name: str = "",
        exchange: Exchange | str | None = None,
        routing_key: str = "",
        *,
        bindings: Iterable[tuple[Exchange | str, str]] = (),
        queue_arguments: Mapping[str, Any] | None = None,
        binding_arguments: Mapping[str, Any] | None = None,
        max_priority: int | None = None,
        message_ttl: float | None = None,
        expires: float | None = None,
        max_length: int | None = None,
        durable: bool = True,
        exclusive: bool = False,
        auto_delete: bool = False,
        no_ack: bool = False,
        alias: str | None = None,
    ) -> None:
        self.name = name
        self.exchange = Exchange(exchange) if isinstance(exchange, str) else exchange or Exchange()
        self.routing_key = routing_key
        self.bindings = [
            (Exchange(source) if isinstance(source, str) else source, key) for source, key in bindings
        ]
        self.queue_arguments = dict(queue_arguments or {})
        self.binding_arguments = dict(binding_arguments or {})
        self.max_priority = max_priority
        self.message_ttl = message_ttl
        self.expires = expires
        self.max_length = max_length
        self.durable = durable
        self.exclusive = exclusive
        self.auto_delete = auto_delete
        self.no_ack = no_ack
        self.alias = alias

    @classmethod
    def from_dict(cls, name: str, options: Mapping[str, Any]) -> Queue:
        """The queue that an entry of a `task_queues` dictionary describes.

        Keys: `exchange`, `exchange_type`, `routing_key` (or `binding_key`), and the arguments of `Queue`.
        """
        rest = dict(options)
        exchange = rest.pop("exchange", None)
        kind = rest.pop("exchange_type", None) or rest.pop("type", None)
        if not isinstance(exchange, (str, type(None))):
            exchange_object = exchange
        else:
            exchange_object = Exchange(exchange or "", kind or "direct")
        key = rest.pop("binding_key", None) or rest.pop("routing_key", "") or ""
        rest.pop("routing_key", None)
        try:
            return cls(name, exchange_object, key, **rest)
        except TypeError as exc:
            raise ImproperlyConfigured(
                f"The queue {name!r} in task_queues is described by keys it does not have: {exc}."
            ) from exc

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Queue) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((self.name, self.routing_key))

    def __repr__(self) -> str:
        return f"<Queue {self.name} -> {self.exchange!r} -> {self.routing_key}>"


class Broadcast(Queue):
    """A queue of one's own on a fanout exchange: every worker that has it runs every message.

    Args:
        name: the exchange; `queue=name` in a call reaches all workers.
        queue: the name of this process's queue; a new one by default.
    """

    def __init__(self, name: str, queue: str | None = None, *, exchange: Exchange | None = None) -> None:
        super().__init__(
            queue or f"bcast.{new_id()}",
            exchange or Exchange(name, "fanout"),
            name,
            auto_delete=True,
            alias=name,
        )


class Queues:
    """The queues an application knows of: those of `task_queues`, the default one, and those made on demand.

    Args:
        queues: `task_queues`: a list of queues, a dictionary of descriptions, or None.
        default: name of the queue of calls that are routed nowhere.
        create_missing: make a queue when an unknown name is asked for; otherwise `QueueNotFound`.
        missing_exchange_type: type of the exchange of such a queue.
        default_exchange, default_exchange_type, default_routing_key: the default queue's binding.
        default_type, missing_type: ``classic`` or ``quorum``, of the default queue and of those made on
            demand, for brokers that have such types.
        max_priority: of every queue that names none itself, for brokers whose queues have to know. It is
            noted on the queue, as Celery does.
    """

    def __init__(
        self,
        queues: Iterable[Any] | Mapping[str, Any] | None,
        *,
        default: str = "celery",
        create_missing: bool = True,
        missing_exchange_type: str | None = None,
        default_exchange: str | None = None,
        default_exchange_type: str = "direct",
        default_routing_key: str | None = None,
        default_type: str = "classic",
        missing_type: str = "classic",
        max_priority: int | None = None,
    ) -> None:
        self.default = default
        self._queue_types = {True: default_type, False: missing_type}
        self._max_priority = max_priority
        self._create_missing = create_missing
        self._default_exchange = Exchange(default_exchange or default, default_exchange_type or "direct")
        self._missing_type = missing_exchange_type or self._default_exchange.type
        self._declared: dict[str, Any] = {}
        self._made: dict[str, Any] = {}
        self._aliases: dict[str, Any] = {}
        self._selected: list[str] | None = None
        for queue in _described(queues):
            self.add(queue)
        if not self._declared:
            key = default_routing_key or default
            self.add(Queue(default, self._default_exchange, key, **self._kind(is_default=True)))

    def __getitem__(self, name: str) -> Any:
        queue = self._declared.get(name) or self._aliases.get(name) or self._made.get(name)
        return self.missing(name) if queue is None else queue

    def __contains__(self, name: object) -> bool:
        return name in self._declared or name in self._aliases or name in self._made

    def __iter__(self) -> Iterator[str]:
        return iter([*self._declared, *self._made])

    def __len__(self) -> int:
        return len(self._declared) + len(self._made)

    def items(self) -> list[tuple[str, Any]]:
        return [*self._declared.items(), *self._made.items()]

    def values(self) -> list[Any]:
        return [*self._declared.values(), *self._made.values()]

    def add(self, queue: Any) -> Any:
        """Declare `queue` (a `Queue`, kombu's, or a name); return it."""
        queue = self._named(queue) if isinstance(queue, str) else queue
        if self._max_priority is not None and _lacks_priority(queue):
            queue.max_priority = self._max_priority
        self._declared[queue.name] = queue
        if getattr(queue, "alias", None):
            self._aliases[queue.alias] = queue
        return queue

    def missing(self, name: str) -> Any:
        """Make the queue `name`, or raise `QueueNotFound` when that is switched off.

        Workers do not consume from it unless they are told to.
        """
        if not self._create_missing:
            raise QueueNotFound(
                f"There is no queue {name!r} in task_queues ({', '.join(sorted(self._declared))}), and "
                "task_create_missing_queues is off. Add the queue, or switch the setting on."
            )
        return self._made.setdefault(name, self._named(name))

    def _named(self, name: str) -> Queue:
        kind = self._kind(is_default=name == self.default)
        return Queue(name, Exchange(name, self._missing_type), name, **kind)

    def _kind(self, *, is_default: bool) -> dict[str, Any]:
        """Arguments of a queue that nobody has described."""
        if self._queue_types[is_default] == "quorum":
            return {"queue_arguments": {"x-queue-type": "quorum"}}
        return {"max_priority": self._max_priority}

    def select(self, names: Iterable[str]) -> None:
        """Consume from exactly these queues (the worker's `-Q`); unknown ones are made on demand."""
        self._selected = [self[name].name for name in names]

    def deselect(self, names: Iterable[str]) -> None:
        """Do not consume from these (the worker's `-X`)."""
        excluded = set(names)
        self._selected = [name for name in self.consumed if name not in excluded]

    @property
    def consumed(self) -> list[str]:
        """Names of the queues a worker of this application consumes from, in order."""
        return list(self._declared) if self._selected is None else list(self._selected)

    def to_consume(self, selected: Iterable[str] | None, excluded: Iterable[str] | None) -> list[str]:
        """Names of `selected`, else of all that are consumed from; less `excluded`."""
        names = [self[name].name for name in selected] if selected else self.consumed
        without = set(excluded or ())
        return [name for name in dict.fromkeys(names) if name not in without]


def _lacks_priority(queue: Any) -> bool:
    """Whether a queue could have a highest priority, and nobody has said which."""
    arguments = getattr(queue, "queue_arguments", None) or {}
    is_classic = arguments.get("x-queue-type", "classic") == "classic"
    return is_classic and "x-max-priority" not in arguments and getattr(queue, "max_priority", None) is None


def _described(queues: Iterable[Any] | Mapping[str, Any] | None) -> Iterator[Any]:
    if queues is None:
        return
    if isinstance(queues, Mapping):
        for name, options in queues.items():
            yield Queue.from_dict(name, options) if isinstance(options, Mapping) else options
        return
    for queue in queues:
        if isinstance(queue, str) or (hasattr(queue, "name") and hasattr(queue, "exchange")):
            yield queue
        else:
            raise ImproperlyConfigured(
                f"task_queues holds {queue!r}, which is no queue. Write Queue('name'), a name, or a "
                "dictionary of names and descriptions."
            )


def declarations(queues: Any) -> list[Declaration]:
    """What a broker needs to know of a queue (ours or kombu's), or of several: one declaration per
    binding."""
    queues = [queues] if hasattr(queues, "exchange") else queues
    return [declaration for queue in queues for declaration in _bindings(queue)]


#: What RabbitMQ calls the limits of a queue, and how many of its units one of ours is.
_LIMITS: Final = (
    ("message_ttl", "x-message-ttl", 1000),
    ("expires", "x-expires", 1000),
    ("max_length", "x-max-length", 1),
    ("max_length_bytes", "x-max-length-bytes", 1),
)


def _bindings(queue: Any) -> Iterator[Declaration]:
    further = getattr(queue, "bindings", None) or ()
    triples = [
        (b.exchange, b.routing_key, getattr(b, "arguments", None)) if hasattr(b, "exchange") else (*b, None)
        for b in further
    ]
    if queue.exchange is not None and (queue.exchange.name or not triples):
        triples.insert(0, (queue.exchange, queue.routing_key, getattr(queue, "binding_arguments", None)))
    arguments = dict(getattr(queue, "queue_arguments", None) or {})
    for name, argument, unit in _LIMITS:
        limit = getattr(queue, name, None)
        if limit is not None:
            arguments[argument] = int(limit * unit)
    for exchange, key, binding in triples:
        yield Declaration(
            queue.name,
            exchange.name,
            key or "",
            exchange.type or "direct",
            getattr(queue, "max_priority", None),
            _frozen(arguments),
            bool(getattr(queue, "durable", True)),
            bool(getattr(queue, "auto_delete", False)),
            bool(getattr(queue, "exclusive", False)),
            bool(getattr(exchange, "durable", True)),
            _frozen(getattr(exchange, "arguments", None)),
            _frozen(binding),
        )


def _frozen(arguments: Mapping[str, Any] | None) -> tuple[tuple[str, Any], ...]:
    """Arguments as a value that can be compared and hashed."""
    pairs = sorted((arguments or {}).items())
    return tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in pairs)
