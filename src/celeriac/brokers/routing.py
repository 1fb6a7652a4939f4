"""Which queues a message goes to, for transports without exchanges of their own.

1. `Bindings`: what has been declared, and the lookup (direct, topic, fanout: the meaning they have in AMQP).

Pure: no clock, no store. A transport that keeps bindings in its store fills a `Bindings` from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from celeriac.brokers.base import Outgoing, Queue
from celeriac.exceptions import ImproperlyConfigured, QueueNotFound

__all__ = ["EXCHANGE_TYPES", "Bindings", "unroutable"]

EXCHANGE_TYPES = frozenset({"direct", "topic", "fanout"})


class Bindings:
    """Declared queues, by exchange. Not thread-safe while `declare` runs; lookups are.

    Example:
        >>> bindings = Bindings()
        >>> bindings.declare([Queue("logs", "events", "log.#", "topic")])
        >>> bindings.match("events", "log.warning.disk")
        ('logs',)
    """

    def __init__(self) -> None:
        self.queues: dict[str, set[Queue]] = {}
        self._exchanges: dict[str, tuple[Queue, ...]] = {}

    def declare(self, queues: Sequence[Queue]) -> None:
        """Add queues and their bindings. Raises `ImproperlyConfigured` for an unknown exchange type."""
        for queue in queues:
            if queue.exchange_type not in EXCHANGE_TYPES:
                raise ImproperlyConfigured(
                    f"Queue {queue.name!r} has exchange type {queue.exchange_type!r}, which this broker does "
                    f"not have. Use one of: {', '.join(sorted(EXCHANGE_TYPES))}."
                )
            self.queues.setdefault(queue.name, set()).add(queue)
            bound = self._exchanges.get(queue.exchange, ())
            if queue not in bound:
                self._exchanges[queue.exchange] = (*bound, queue)

    def match(self, exchange: str, routing_key: str) -> tuple[str, ...]:
        """Names of the queues a message to `exchange` with `routing_key` goes to; each once."""
        if not exchange:  # the default exchange: the routing key is the queue
            return (routing_key,) if routing_key else ()
        bound = self._exchanges.get(exchange, ())
        return tuple(dict.fromkeys(queue.name for queue in bound if _matches(queue, routing_key)))

    def route(self, outgoing: Outgoing) -> tuple[str, ...]:
        """Queues of `outgoing`: the one it names, or those that are bound; empty when there is none."""
        return (outgoing.queue,) if outgoing.queue else self.match(outgoing.exchange, outgoing.routing_key)


def unroutable(outgoing: Outgoing) -> QueueNotFound:
    """The error for a message that no queue takes."""
    return QueueNotFound(
        f"No queue is bound to exchange {outgoing.exchange!r} with routing key {outgoing.routing_key!r}, so "
        f"the message was not stored. Declare such a queue in task_queues, or name the queue in the call."
    )


def _matches(queue: Queue, routing_key: str) -> bool:
    match queue.exchange_type:
        case "fanout":
            return True
        case "topic":
            return _topic_matches(_words(queue.routing_key), _words(routing_key))
        case _:
            return queue.routing_key == routing_key


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split(".")) if text else ()


@lru_cache(maxsize=4096)
def _topic_matches(pattern: tuple[str, ...], words: tuple[str, ...]) -> bool:
    """`*` stands for one word, `#` for any number of words, none included."""
    if not pattern:
        return not words
    head, rest = pattern[0], pattern[1:]
    if head == "#":
        return _topic_matches(rest, words) or (bool(words) and _topic_matches(pattern, words[1:]))
    return bool(words) and head in ("*", words[0]) and _topic_matches(rest, words[1:])
