"""The names of every key, and of what Celery's peers share with us.

1. `Layout`: prefix, separator and priority steps of one broker; hash tags for Redis Cluster.
2. `QueueKeys`: all keys of one queue.
3. The text forms: priority index of a list, members of a binding set, crash counts at the head of an
   envelope, dead letters.

Celery's: ``<queue>`` and ``<queue>\\x06\\x16<step>`` (LPUSH to send, taken from the right), the binding sets
``_kombu.binding.<exchange>`` and ``_kombu.binding_permanent.<exchange>``, fan-out channels.

Ours, each tagged so that one queue lives in one slot of a cluster::

    celeriac:{q}:leases         zset   consumer -> when its lease lapses (ms, server time)
    celeriac:{q}:held:<c>       hash   tag -> envelope; what consumer <c> holds
    celeriac:{q}:rest:<c>       hash   what is held without the rest of its chain, and the rests (whole.lua)
    celeriac:{q}:seq            string counts in steps of 16; tags and unique names come from it
    celeriac:{q}:delayed        zset   <list index><16 digits><envelope> -> due (ms)
    celeriac:{q}:suspects       list   envelopes with a crash count at their head; delivered alone
    celeriac:{q}:quarantine     string "<consumer>:<tag>" of the suspect that is out, for 250 ms
    celeriac:{q}:dead           zset   id -> when (ms)
    celeriac:{q}:letters        hash   id -> "<crashes>:<length of reason>:<reason><envelope>"
    celeriac:{q}:p:<producer>   string sequence number of its last publish here, for 120 s
    celeriac:queues             set    names of queues
    celeriac:revoked            zset   task id -> until when (ms)
    celeriac:fanout:<exchange>  set    our queues bound to a fan-out exchange

A tag is a number from ``seq`` plus the index of the list it came from (15: suspects), so that a message that
goes back finds its list.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from celeriac.exceptions import ImproperlyConfigured

__all__ = [
    "SUSPECTS",
    "Layout",
    "QueueKeys",
    "binding_member",
    "split_crashes",
    "split_letter",
]

#: Index in a tag that stands for the list of suspects; more priority lists than this are refused.
SUSPECTS: Final = 15
_CRASHES: Final = re.compile(rb'\{"celeriac-crashes":(\d+),')


class QueueKeys(NamedTuple):
    """The keys of one queue, encoded."""

    leases: bytes
    seq: bytes
    delayed: bytes
    suspects: bytes
    quarantine: bytes
    dead: bytes
    letters: bytes
    held: bytes  # prefix; the consumer's id follows
    rest: bytes  # prefix; the consumer's id follows
    producer: bytes  # prefix; the channel's name follows
    lists: tuple[bytes, ...]

    def held_by(self, consumer: str) -> bytes:
        return self.held + consumer.encode()

    def rest_of(self, consumer: str) -> bytes:
        return self.rest + consumer.encode()

    def block(self, consumer: str) -> tuple[bytes, ...]:
        """What `exchange.lua` and `give_back.lua` take for a queue, in their order."""
        return (
            self.leases, self.held_by(consumer), self.seq, self.delayed, self.suspects, self.quarantine,
            self.dead, self.letters, *self.lists, self.rest_of(consumer),
        )  # fmt: skip


class Layout:
    """How this broker names things.

    Args:
        options: the transport options `global_keyprefix`, `sep`, `priority_steps`, `fanout_prefix`.
        db: the database's number, which stands in the names of fan-out channels.
        is_cluster: True puts priority sub-lists into the slot of their queue.

    Raises:
        ImproperlyConfigured: the steps are not 1 to 15 rising numbers from 0.
    """

    def __init__(self, options: Mapping[str, Any], *, db: int = 0, is_cluster: bool = False) -> None:
        self.prefix = str(options.get("global_keyprefix") or "")
        self.sep = str(options.get("sep") or "\x06\x16")
        self.steps = _steps(options.get("priority_steps"))
        self._is_cluster = is_cluster
        self._channel = _channel_prefix(options.get("fanout_prefix", True), db)
        self._queues: dict[str, QueueKeys] = {}
        self.index_of = [max(i for i, step in enumerate(self.steps) if step <= p) for p in range(10)]

    def index(self, priority: int) -> int:
        """Index of the list for a priority; out of range counts as the nearest."""
        return self.index_of[min(max(priority, 0), 9)]

    def queue(self, name: str) -> QueueKeys:
        keys = self._queues.get(name)
        if keys is None:
            keys = self._queues[name] = self._make(name)
        return keys

    def _make(self, name: str) -> QueueKeys:
        listed = self.prefix + name
        ours = f"{self.prefix}celeriac:{self._tag(name, listed)}:"

        def key(suffix: str) -> bytes:
            return (ours + suffix).encode()

        return QueueKeys(
            leases=key("leases"), seq=key("seq"), delayed=key("delayed"), suspects=key("suspects"),
            quarantine=key("quarantine"), dead=key("dead"), letters=key("letters"), held=key("held:"),
            rest=key("rest:"), producer=key("p:"),
            lists=tuple(self._list(listed, step).encode() for step in self.steps),
        )  # fmt: skip

    def _tag(self, name: str, listed: str) -> str:
        """The part of our keys that names the queue and, on a cluster, shares the slot of its list."""
        if not self._is_cluster:
            return f"{{{name}}}"
        if _has_tag(listed):
            return listed
        if "}" in listed:
            raise ImproperlyConfigured(
                f"The queue name {name!r} cannot be used on Redis Cluster: it has a '}}' but no "
                "{hash tag}. Rename the queue."
            )
        return f"{{{listed}}}"

    def _list(self, listed: str, step: int) -> str:
        if not step:
            return listed
        same_slot = f"{{{listed}}}" if self._is_cluster and not _has_tag(listed) else listed
        return f"{same_slot}{self.sep}{step}"

    def shared(self, name: str) -> bytes:
        """A key of ours that belongs to no queue."""
        return f"{self.prefix}celeriac:{name}".encode()

    def binding(self, exchange: str) -> bytes:
        return f"{self.prefix}_kombu.binding.{exchange}".encode()

    def permanent_binding(self, exchange: str) -> bytes:
        return f"{self.prefix}_kombu.binding_permanent.{exchange}".encode()

    def channel(self, exchange: str, routing_key: str = "") -> bytes:
        """The pub/sub channel of a fan-out exchange."""
        tail = f"/{routing_key}" if routing_key else ""
        return f"{self.prefix}{self._channel}{exchange}{tail}".encode()


def _steps(given: Sequence[int] | None) -> tuple[int, ...]:
    steps = tuple(given) if given is not None else (0, 3, 6, 9)
    if not steps or len(steps) > SUSPECTS or list(steps) != sorted(set(steps)) or steps[0] != 0:
        raise ImproperlyConfigured(
            f"priority_steps is {steps!r}; it must be 1 to {SUSPECTS} rising numbers that begin with 0, "
            "e.g. [0, 3, 6, 9]."
        )
    return steps


def _channel_prefix(option: Any, db: int) -> str:
    if isinstance(option, str):
        return option.replace("{db}", str(db))
    return f"/{db}." if option else ""


def _has_tag(name: str) -> bool:
    start = name.find("{")
    return start >= 0 and name.find("}", start + 1) > start + 1


def binding_member(sep: str, queue: str, routing_key: str, exchange_type: str) -> str:
    """A member of a binding set, as Celery's peers read it: ``routing key, pattern, queue``.

    Example:
        >>> binding_member("|", "logs", "log.#", "topic")
        'log.#|^log\\\\..*?$|logs'
    """
    pattern = ""
    if exchange_type == "topic":
        words = {"*": r".*?[^\.]", "#": r".*?"}
        pattern = "^" + r"\.".join(words.get(word, word) for word in routing_key.split(".")) + "$"
    return sep.join((routing_key, pattern, queue))


def split_crashes(stored: bytes) -> tuple[int, bytes]:
    """Crash count and envelope of what stands in the list of suspects (or is held from there).

    Example:
        >>> split_crashes(b'{"celeriac-crashes":2,"body":""}')
        (2, b'{"body":""}')
        >>> split_crashes(b'{"body":""}')
        (0, b'{"body":""}')
    """
    head = _CRASHES.match(stored)
    if head is None:
        return 0, stored
    rest = stored[head.end() :]
    # A zero byte marks bytes that were no JSON object when they were counted.
    return int(head[1]), rest[1:] if rest.startswith(b"\0") else b"{" + rest


def split_letter(stored: bytes) -> tuple[int, str, bytes]:
    """Crashes, reason and envelope of a dead letter."""
    crashes, size, rest = stored.split(b":", 2)
    return int(crashes), rest[: int(size)].decode(errors="replace"), rest[int(size) :]
