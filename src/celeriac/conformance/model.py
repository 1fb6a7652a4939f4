"""A pure model of a broker: what may be observed after any history. No clock, no store; times are arguments.

1. `Entry`: one message; `Line`: one queue; `Lease`: what a consumer holds.
2. `Model`: the transitions, and `taken`, which says whether a batch of deliveries was allowed.

The model leaves open what the seam leaves open: in which order messages come that went back or were delayed
(`loose`), and whether a suspect or ordinary messages come first.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

from celeriac.brokers.base import QUARANTINE, Delivery
from celeriac.wire.message import Message

__all__ = ["Entry", "Lease", "Line", "Model", "Trial"]


@dataclasses.dataclass(eq=False)
class Entry:
    """One message. `loose`: its place among others of its priority is not checked."""

    id: str
    queue: str
    priority: int = 0
    crashes: int = 0
    loose: bool = False


@dataclasses.dataclass
class Trial:
    """A suspect is out. `began` is a time before it was delivered, so windows judged by it end too late."""

    tag: int
    began: float


@dataclasses.dataclass
class Line:
    ready: list[Entry] = dataclasses.field(default_factory=list)  # suspects included, in the order of arrival
    delayed: list[tuple[float, Entry]] = dataclasses.field(default_factory=list)
    dead: list[Entry] = dataclasses.field(default_factory=list)
    trial: Trial | None = None

    def suspects(self) -> list[Entry]:
        return [entry for entry in self.ready if entry.crashes]

    def ordinary(self) -> list[Entry]:
        """In the order in which they are to come, as far as that is laid down."""
        return sorted((entry for entry in self.ready if not entry.crashes), key=lambda entry: entry.priority)


@dataclasses.dataclass
class Lease:
    queues: Sequence[str]
    held: dict[tuple[str, int], Entry] = dataclasses.field(default_factory=dict)


class Model:
    """The state that a broker must be in."""

    def __init__(self) -> None:
        self.lines: defaultdict[str, Line] = defaultdict(Line)
        self.leases: dict[str, Lease] = {}
        self.gone: list[tuple[str, int]] = []  # names of ended deliveries
        self.published = 0
        self.ended = 0  # acknowledged, purged, dropped
        self.results: dict[str, bytes] = {}
        self.revoked: set[str] = set()

    # -- publishing ------------------------------------------------------------------------------------------

    def publish(self, entry: Entry, due: float | None = None) -> None:
        self.published += 1
        line = self.lines[entry.queue]
        if due is None:
            line.ready.append(entry)
        else:
            line.delayed.append((due, entry))

    def wake_due(self, now: float) -> None:
        for line in self.lines.values():
            for due, entry in line.delayed:
                if due <= now:
                    entry.loose = True
                    line.ready.append(entry)
            line.delayed = [(due, entry) for due, entry in line.delayed if due > now]

    # -- taking ----------------------------------------------------------------------------------------------

    def taken(
        self, consumer: str, deliveries: Sequence[Delivery], limit: int, began: float, ended: float
    ) -> None:
        """Check a batch that `consumer` got from an exchange run from `began` to `ended`, and apply it."""
        lease = self.leases[consumer]
        lines = {queue: self.lines[queue] for queue in lease.queues}
        assert len(deliveries) <= limit
        if len(deliveries) == 1 and deliveries[0].crashes:
            self._taken_suspect(lines[deliveries[0].queue], deliveries[0], began, ended)
        else:
            self._taken_ordinary(lines, deliveries, limit)
        for delivery in deliveries:
            name = (delivery.queue, delivery.tag)
            assert name not in self.gone, "a tag was used twice"
            assert not any(name in other.held for other in self.leases.values()), "a tag is held twice"
            entry = self._find(lines[delivery.queue], delivery)
            lines[delivery.queue].ready.remove(entry)
            lease.held[name] = entry

    def _taken_suspect(self, line: Line, delivery: Delivery, began: float, ended: float) -> None:
        if line.trial is not None:
            assert ended - line.trial.began >= QUARANTINE, "a suspect came while another was in quarantine"
        line.trial = Trial(delivery.tag, began)

    def _taken_ordinary(self, lines: dict[str, Line], deliveries: Sequence[Delivery], limit: int) -> None:
        ready = {queue: line.ordinary() for queue, line in lines.items()}
        # A broker may hand a consumer no more than its fair share of a queue.
        rivals = {queue: sum(queue in lease.queues for lease in self.leases.values()) for queue in ready}
        share = sum(-(-len(entries) // rivals[queue]) for queue, entries in ready.items())
        assert min(limit, share) <= len(deliveries) <= min(limit, sum(map(len, ready.values())))
        for queue, entries in ready.items():
            got = [self._find(lines[queue], delivery) for delivery in deliveries if delivery.queue == queue]
            assert not any(entry.crashes for entry in got), "a suspect was not delivered alone"
            firm = [entry for entry in entries if not entry.loose]
            assert [e.id for e in got if not e.loose] == [e.id for e in firm[: sum(not e.loose for e in got)]]
            if got:
                last = max(entry.priority for entry in got)
                assert {e.id for e in entries if e.priority < last} <= {e.id for e in got}, "priority ignored"
        if limit and not deliveries:
            free = [q for q, line in lines.items() if line.suspects() and line.trial is None]
            assert not free, f"suspects of {free} are kept back though none is out"

    def _find(self, line: Line, delivery: Delivery) -> Entry:
        assert isinstance(delivery.message, Message)
        wanted = delivery.message.headers["id"]
        found = [entry for entry in line.ready if entry.id == wanted]
        assert len(found) == 1, f"{wanted} was delivered and is not ready"
        assert found[0].crashes == delivery.crashes
        return found[0]

    # -- ending ----------------------------------------------------------------------------------------------

    def let_go(self, consumer: str, name: tuple[str, int]) -> Entry:
        entry = self.leases[consumer].held.pop(name)
        self.gone.append(name)
        line = self.lines[name[0]]
        if line.trial is not None and line.trial.tag == name[1]:
            line.trial = None
        return entry

    def put_back(self, entry: Entry, crashes: int) -> None:
        entry.loose, entry.crashes = True, crashes
        self.lines[entry.queue].ready.append(entry)

    def end_lease(
        self, consumer: str, crashed: Collection[tuple[str, int]], done: Iterable[tuple[str, int]]
    ) -> int:
        for name in done:
            self.let_go(consumer, name)
            self.ended += 1
        names = list(self.leases[consumer].held)
        for name in names:
            entry = self.let_go(consumer, name)
            self.put_back(entry, entry.crashes + (name in crashed))
        del self.leases[consumer]
        return len(names)

    def purge(self, queue: str) -> int:
        line = self.lines[queue]
        count = len(line.ready) + len(line.delayed)
        line.ready.clear()
        line.delayed.clear()
        self.ended += count
        return count

    # -- what can be seen ------------------------------------------------------------------------------------

    def in_flight(self, queue: str) -> int:
        return sum(name[0] == queue for lease in self.leases.values() for name in lease.held)

    def consumers(self, queue: str) -> int:
        return sum(queue in lease.queues for lease in self.leases.values())

    def accounted(self) -> int:
        """Every message there is, in whatever stage; plus those ended it is what was published."""
        lines = sum(len(line.ready) + len(line.delayed) + len(line.dead) for line in self.lines.values())
        return lines + sum(len(lease.held) for lease in self.leases.values()) + self.ended
