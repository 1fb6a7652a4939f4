"""Looking at queues and dead letters, and at the server itself, without any worker."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from celeriac.brokers.base import DeadLetter, QueueStats
from celeriac.brokers.redis.apart import as_pairs
from celeriac.brokers.redis.keys import Layout, split_crashes, split_letter
from celeriac.brokers.redis.routes import run_by_key
from celeriac.brokers.redis.scripts import DROP, PURGE, REVIVE, REVOKE, REVOKED
from celeriac.transport.redis.link import Link, Refused, pack
from celeriac.transport.redis.pool import Pool
from celeriac.utils.identity import tagged_at
from celeriac.wire import moments, virtual
from celeriac.wire.message import Message, Unreadable

__all__ = ["Inspector"]


class Inspector:
    """Its methods are those of `celeriac.brokers.base.Broker`."""

    def __init__(self, pool: Pool, layout: Layout) -> None:
        self._pool = pool
        self._layout = layout

    def queues(self) -> Sequence[str]:
        """Names that were declared, published to or consumed from, and those bound to Celery's exchange."""
        listed, bound = self._layout.shared("queues"), self._layout.binding("celery")
        names, members = self._ask([(listed, (b"SMEMBERS", listed)), (bound, (b"SMEMBERS", bound))])
        found = {name.decode() for name in names}
        found |= {member.decode(errors="replace").rpartition(self._layout.sep)[2] for member in members}
        return sorted(found)

    def depth(self, queue: str) -> int:
        lists = self._ready(queue)
        return sum(self._ask([(key, (b"LLEN", key)) for key in lists]))

    def stats(self, queues: Sequence[str]) -> Sequence[QueueStats]:
        return [self._stats(queue) for queue in queues]

    def _stats(self, queue: str) -> QueueStats:
        names = self._layout.queue(queue)
        lists = self._ready(queue)
        now, leases, delayed, dead, *lengths = self._ask(
            [
                (names.leases, (b"TIME",)),
                (names.leases, (b"ZRANGE", names.leases, 0, -1, b"WITHSCORES")),
                (names.delayed, (b"ZCARD", names.delayed)),
                (names.dead, (b"ZCARD", names.dead)),
                *((key, (b"LLEN", key)) for key in lists),
            ]
        )
        now_ms = int(now[0]) * 1000 + int(now[1]) // 1000
        lapses = dict(_scored(leases))
        helds = [names.held + consumer for consumer in lapses]
        return QueueStats(
            queue,
            depth=sum(lengths),
            oldest_age=self._oldest_age(lists, lengths, now_ms / 1000),
            in_flight=sum(self._ask([(key, (b"HLEN", key)) for key in helds])),
            delayed=delayed,
            dead=dead,
            consumers=sum(when > now_ms for when in lapses.values()),
        )

    def _oldest_age(self, lists: Sequence[bytes], lengths: Sequence[int], now: float) -> float | None:
        """Known of our producers' messages, whose tag tells when they were made; a delay does not count."""
        key = next((key for key, length in zip(lists, lengths, strict=True) if length), None)
        if key is None:
            return None
        [stored] = self._ask([(key, (b"LINDEX", key, -1))])
        message = virtual.decode(split_crashes(stored)[1]) if stored else None
        if not isinstance(message, Message):
            return None
        since = tagged_at(message.properties.get("delivery_tag"))
        if since is None:
            return None
        eta = message.headers.get("eta")
        if isinstance(eta, str):
            with suppress(ValueError):
                since = max(since, moments.epoch(eta))
        return max(0.0, now - since)

    def browse(self, queue: str, limit: int, offset: int = 0) -> Sequence[Message | Unreadable]:
        lists = self._ready(queue)
        lengths = self._ask([(key, (b"LLEN", key)) for key in lists])
        commands: list[tuple[bytes, tuple[Any, ...]]] = []
        for key, length in zip(lists, lengths, strict=True):
            skipped = min(offset, length)
            wanted = min(limit, length - skipped)
            offset, limit = offset - skipped, limit - wanted
            if wanted:
                commands.append((key, (b"LRANGE", key, -(skipped + wanted), -1 - skipped)))
        found = [stored for page in self._ask(commands) for stored in reversed(page)]
        return [virtual.decode(split_crashes(stored)[1]) for stored in found]

    def purge(self, queue: str) -> int:
        names = self._layout.queue(queue)
        keys = (names.delayed, names.suspects, *names.lists)
        return int(self._pool.run(keys[0], lambda link, until: PURGE.run(link, keys, (), until)))

    def dead(self, queue: str, limit: int = 100, offset: int = 0) -> Sequence[DeadLetter]:
        names = self._layout.queue(queue)
        window = (b"ZRANGE", names.dead, offset, offset + limit - 1, b"WITHSCORES")
        [reply] = self._ask([(names.dead, window)]) if limit > 0 else [[]]
        graves = _scored(reply)
        letters = self._letters(names.letters, [name for name, _ in graves])
        return [
            DeadLetter(name.decode(), queue, reason, when / 1000, virtual.decode(envelope), crashes)
            for (name, when), letter in zip(graves, letters, strict=True)
            if letter is not None
            for crashes, reason, envelope in [split_letter(letter)]
        ]

    def revive(self, queue: str, ids: Sequence[str]) -> int:
        names = self._layout.queue(queue)
        args: list[Any] = []
        for name, letter in zip(ids, self._letters(names.letters, ids), strict=True):
            if letter is not None:
                message = virtual.decode(split_letter(letter)[2])
                priority = message.properties.get("priority") if isinstance(message, Message) else 0
                args += (name, self._layout.index(priority if isinstance(priority, int) else 0))
        keys = (names.dead, names.letters, *names.lists)
        return int(self._pool.run(keys[0], lambda link, until: REVIVE.run(link, keys, args, until)))

    def drop(self, queue: str, ids: Sequence[str]) -> int:
        names = self._layout.queue(queue)
        keys = (names.dead, names.letters)
        return int(self._pool.run(keys[0], lambda link, until: DROP.run(link, keys, tuple(ids), until)))

    def revoke(self, ids: Sequence[str], *, ttl: float) -> None:
        keys = (self._layout.shared("revoked"),)
        args: list[str | int] = [int(ttl * 1000), *ids]
        self._pool.run(keys[0], lambda link, until: REVOKE.run(link, keys, args, until))

    def revoked(self) -> Sequence[str]:
        keys = (self._layout.shared("revoked"),)
        return [
            name.decode()
            for name in self._pool.run(keys[0], lambda link, until: REVOKED.run(link, keys, (), until))
        ]

    def warnings(self) -> Sequence[str]:
        facts = self._facts("persistence") | self._facts("memory")
        found: list[str] = []
        if facts.get("aof_enabled", "0") == "0":
            found.append(
                "Redis keeps no append-only file: tasks that were sent and accepted are lost when the server "
                "crashes. Set 'appendonly yes' on the server."
            )
        policy = facts.get("maxmemory_policy", "noeviction")
        if policy != "noeviction" and facts.get("maxmemory", "0") != "0":
            found.append(
                f"Redis drops keys when its memory is full (maxmemory-policy {policy}), and tasks with them. "
                "Set 'maxmemory-policy noeviction' on the server."
            )
        elif policy != "noeviction":
            found.append(
                f"Redis has maxmemory-policy {policy}: it would drop tasks once a memory limit is set. "
                "Set 'maxmemory-policy noeviction' on the server."
            )
        return found

    def describe(self) -> str:
        facts = self._facts("server")
        if "valkey_version" in facts:
            return f"Valkey {facts['valkey_version']}"
        return f"Redis {facts.get('redis_version', 'of unknown version')}"

    def _facts(self, section: str) -> dict[str, str]:
        """INFO works where CONFIG is barred; where INFO is barred too, nothing is known."""

        def ask(link: Link, until: float) -> bytes:
            try:
                reply = link.call("INFO", section, deadline=until)
            except Refused:
                return b""
            return reply if isinstance(reply, bytes) else str(reply).encode()

        text = self._pool.run(self._layout.shared("queues"), ask).decode(errors="replace")
        return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)

    def _ready(self, queue: str) -> list[bytes]:
        """The lists of a queue in the order in which they are served."""
        names = self._layout.queue(queue)
        return [names.suspects, *names.lists]

    def _letters(self, key: bytes, ids: Sequence[str | bytes]) -> list[bytes | None]:
        if not ids:
            return []
        [letters] = self._ask([(key, (b"HMGET", key, *ids))])
        return list(letters)

    def _ask(self, commands: Sequence[tuple[bytes, tuple[Any, ...]]]) -> list[Any]:
        return run_by_key(self._pool, [(key, pack(words)) for key, words in commands])


def _scored(reply: Any) -> list[tuple[bytes, float]]:
    """Members and scores: pairs in RESP3, a flat list in RESP2."""
    if reply and isinstance(reply[0], list):
        return [(member, float(score)) for member, score in reply]
    return [(member, float(score)) for member, score in as_pairs(reply)]
