"""The life of leases, from outside their consumers: beat, release, sweep, and what is held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from celeriac.brokers.base import Delivery
from celeriac.brokers.redis.apart import as_pairs, whole
from celeriac.brokers.redis.keys import Layout, split_crashes
from celeriac.brokers.redis.routes import run_by_key
from celeriac.brokers.redis.scripts import BEAT, GIVE_BACK, LAPSED
from celeriac.transport.redis.link import pack
from celeriac.transport.redis.pool import Pool
from celeriac.wire import virtual

__all__ = ["Leases"]


class Leases:
    def __init__(self, pool: Pool, layout: Layout) -> None:
        self._pool = pool
        self._layout = layout

    def beat(self, consumers: Mapping[str, Sequence[str]], *, ttl: float) -> Sequence[str]:
        """See `Broker.beat`. On a cluster a lease that is lost on one queue is yet renewed on the others."""
        lost: dict[str, None] = {}
        for queues in self._groups({queue for served in consumers.values() for queue in served}):
            place = {queue: at for at, queue in enumerate(queues, 1)}
            args: list[Any] = [int(ttl * 1000)]
            for consumer, served in consumers.items():
                here = [place[queue] for queue in served if queue in place]
                if here:
                    args += (consumer, len(here), *here)
            keys = [self._layout.queue(queue).leases for queue in queues]
            names = self._pool.run(keys[0], lambda link, until, k=keys, a=args: BEAT.run(link, k, a, until))  # type: ignore[misc]
            lost.update(dict.fromkeys(name.decode() for name in names))
        return list(lost)

    def release(
        self,
        consumer: str,
        queues: Sequence[str],
        *,
        crashed: Sequence[tuple[str, int]] = (),
        done: Sequence[tuple[str, int]] = (),
    ) -> int:
        """See `Broker.release`."""
        return sum(
            max(0, self._give_back(consumer, group, "release", crashed, done))
            for group in self._groups(queues)
        )

    def sweep(self, queues: Sequence[str]) -> int:
        """See `Broker.sweep`."""
        count = 0
        for group in self._groups(queues):
            keys = [self._layout.queue(queue).leases for queue in group]
            found = self._pool.run(keys[0], lambda link, until, keys=keys: LAPSED.run(link, keys, (), until))  # type: ignore[misc]
            served: dict[str, list[str]] = {}
            for queue, names in zip(group, found, strict=True):
                for name in names:
                    served.setdefault(name.decode(), []).append(queue)
            for consumer, theirs in served.items():
                count += max(0, self._give_back(consumer, theirs, "sweep", (), ()))
        return count

    def _give_back(
        self,
        consumer: str,
        queues: Sequence[str],
        mode: str,
        crashed: Sequence[tuple[str, int]],
        done: Sequence[tuple[str, int]],
    ) -> int:
        keys = [key for queue in queues for key in self._layout.queue(queue).block(consumer)]
        args: list[Any] = [consumer, len(queues), len(self._layout.steps), mode]
        for queue in queues:
            for named in (done, crashed):
                tags = [tag for where, tag in named if where == queue]
                args += (len(tags), *tags)
        return int(self._pool.run(keys[0], lambda link, until: GIVE_BACK.run(link, keys, args, until)))

    def held(self, consumer: str, queues: Sequence[str]) -> Sequence[Delivery]:
        """See `Broker.held`."""
        names = [self._layout.queue(queue) for queue in queues]
        keys = [key(consumer) for each in names for key in (each.rest_of, each.held_by)]
        replies = run_by_key(self._pool, [(key, pack((b"HGETALL", key))) for key in keys])
        deliveries: list[Delivery] = []
        for queue, kept, reply in zip(queues, replies[::2], replies[1::2], strict=True):
            rests = dict(as_pairs(kept))
            for tag, stored in sorted((int(tag), stored) for tag, stored in as_pairs(reply)):
                crashes, envelope = split_crashes(whole(stored, tag, rests))
                deliveries.append(Delivery(queue, tag, virtual.decode(envelope), crashes))
        return deliveries

    def _groups(self, queues: Sequence[str] | set[str]) -> list[list[str]]:
        """Queues that one script call may touch: all, or on a cluster each by itself."""
        names = sorted(queues)
        if self._pool.is_cluster:
            return [[name] for name in names]
        return [names] if names else []
