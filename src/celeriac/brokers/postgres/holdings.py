"""What a consumer holds, and an exchange as the parameters of ``{s}exchange``.

1. `Holdings`: deliveries by tag, and how many of each claim are left.
2. `Ends`: settlements sorted into what the statement does with them.

Pure: no clock, no connection.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple

from celeriac.brokers.base import ACK, DEAD, REQUEUE, Outgoing, Settlement, StoredResult
from celeriac.brokers.postgres.publisher import Batch
from celeriac.brokers.postgres.routes import utf8
from celeriac.brokers.routing import unroutable
from celeriac.transport.postgres.results import arguments
from celeriac.transport.postgres.values import NULL, Param, byteas, int8s, name_key

__all__ = ["PLACES", "Ends", "Holding", "Holdings", "Routed"]

#: A tag is its claim's number times this, plus its place in the claim.
PLACES: Final = 4096


class Holding(NamedTuple):
    """What the tag of a delivery stands for."""

    queue: str
    message: int
    crashes: int


class Routed(NamedTuple):
    """A follow-up, the queues that it goes to, and its envelope."""

    out: Outgoing
    queues: Sequence[str]
    raw: bytes


class Holdings:
    """The deliveries that a consumer holds. Nobody else can settle them while its lease lives."""

    def __init__(self) -> None:
        self.by_tag: dict[int, Holding] = {}
        self._left: Counter[int] = Counter()

    def add(self, tag: int, holding: Holding) -> None:
        self.by_tag[tag] = holding
        self._left[tag // PLACES] += 1

    def add_claim(self, claim: int, holdings: Sequence[tuple[int, Holding]]) -> None:
        self.by_tag.update(holdings)
        self._left[claim] += len(holdings)

    def used_up_by(self, tags: Iterable[int]) -> list[int]:
        """The claims of which nothing is left when `tags` are settled."""
        ending = Counter([tag // PLACES for tag in tags])
        return [claim for claim, count in ending.items() if count == self._left[claim]]

    def remove(self, tags: Iterable[int]) -> None:
        for tag in tags:
            del self.by_tag[tag]
            claim = tag // PLACES
            self._left[claim] -= 1
            if not self._left[claim]:
                del self._left[claim]


class Ends:
    """Settlements, sorted. Those of what is not held are `stale` and have no effect.

    Args:
        settlements: each with its follow-ups routed.
        holdings: what is held.
        unknown: tags that are held and were never handed out: they go back.
        settled: tags that an exchange of unknown fate has settled: silently gone.
    """

    def __init__(
        self,
        settlements: Sequence[tuple[Settlement, Sequence[Routed]]],
        holdings: Holdings,
        unknown: Sequence[int],
        settled: Collection[int],
    ) -> None:
        self.stale: list[int] = []
        self.tags: dict[int, Holding] = {tag: holdings.by_tag[tag] for tag in unknown}
        self.gone: list[int] = []
        self.back = [holding.message for holding in self.tags.values()]
        self.struck: list[int] = list(unknown)
        self.buried: list[tuple[int, str]] = []
        self.results: list[StoredResult] = []
        self.followups: list[Routed] = []
        by_tag = holdings.by_tag
        for end, followups in settlements:
            tag = end.tag
            holding = by_tag.get(tag)
            if holding is None or holding.queue != end.queue or tag in self.tags:
                if tag not in settled:
                    self.stale.append(tag)
                continue
            self.tags[tag] = holding
            if end.verdict == ACK:
                self.gone.append(holding.message)
            elif end.verdict == REQUEUE:
                self.back.append(holding.message)
                self.struck.append(tag)
            elif end.verdict == DEAD:
                self.buried.append((holding.message, end.reason))
            self.results += end.results
            self.followups += followups
        self.used = holdings.used_up_by(self.tags)

    def params(self) -> tuple[Param, ...]:
        """The 22 parameters from `p_gone` to `p_strays`."""
        if not self.tags:
            return _NOTHING
        tried = [holding.message for holding in self.tags.values() if holding.crashes]
        batch, strays = Batch(), []
        for out, queues, raw in self.followups:
            batch.add(queues, out, raw)
            if not queues:  # nobody is there to catch an error; nothing is lost, and the operator sees it
                strays.append((out.routing_key or out.exchange, str(unroutable(out)), raw))
        return (
            _numbers(self.gone),
            _numbers(self.used),
            _numbers(self.back),
            _numbers([tag // PLACES for tag in self.struck]),
            _numbers([tag % PLACES for tag in self.struck]),
            _numbers([message for message, _ in self.buried]),
            byteas([utf8(reason) for _, reason in self.buried]) if self.buried else NULL,
            _numbers(tried),
            *(arguments(self.results) if self.results else (NULL,) * 3),
            *(batch.params() if batch.raws else (NULL,) * 7),
            *(_strays(strays) if strays else (NULL,) * 4),
        )


_NOTHING: Final = (NULL,) * 22


def _numbers(values: Sequence[int]) -> Param:
    return int8s(values) if values else NULL


def _strays(strays: Sequence[tuple[str, str, bytes]]) -> tuple[Param, ...]:
    return (
        byteas([name_key(name) for name, _, _ in strays]),
        byteas([utf8(name) for name, _, _ in strays]),
        byteas([utf8(reason) for _, reason, _ in strays]),
        byteas([raw for _, _, raw in strays]),
    )
