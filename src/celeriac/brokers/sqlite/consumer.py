"""One lease on the embedded store: takes, settles, sleeps.

1. `SqliteConsumer`: the seam.
2. `Claims`: what this consumer holds. Nobody else can settle or take it while the lease lives, so one look at
   the lease is all the fencing there is.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from celeriac.brokers.base import (
    DEAD,
    REQUEUE,
    ConsumerSpec,
    Delivery,
    Outgoing,
    Received,
    Settlement,
)
from celeriac.brokers.routing import unroutable
from celeriac.brokers.sqlite import leases
from celeriac.brokers.sqlite.lines import Row, Store, Taken, View
from celeriac.exceptions import ImproperlyConfigured
from celeriac.transport import sqlite_results
from celeriac.transport.bells import POLL, Bell
from celeriac.transport.bulk import delete, numbers
from celeriac.transport.schema import DELIVERIES
from celeriac.transport.sqlite import Connection, Database
from celeriac.transport.sqlite_results import News
from celeriac.wire import virtual

__all__ = ["SqliteConsumer"]

#: Messages that one take brings at most.
LARGEST_CLAIM: Final = 1000
#: Bytes of envelopes that one take is meant to stay below.
TAKE_BYTES: Final = 16_000_000

#: Microseconds after which a consumer that got its fair share, and wanted more, looks for more.
SECOND_HELPING: Final = 50_000
#: … assuming that no envelope is larger than this until one was.
SMALL: Final = 16_000

STRIKE_OFF: Final = "UPDATE claim SET messages = json_set(messages, ?, 0) WHERE lease = ? AND first = ?"
CLAIM: Final = "INSERT INTO claim (lease, first, messages) VALUES (?, ?, ?)"
SLEEP: Final = "INSERT OR IGNORE INTO idle (queue, lease, bell) SELECT value, ?, ? FROM json_each(?)"
NO_NEWS: Final = News((), ())


class Holding(NamedTuple):
    """What the tag of a delivery stands for. `claim`: number of the first delivery of its batch."""

    queue: str
    message: int
    crashes: int
    claim: int


class Claims:
    """The deliveries that this consumer holds, by tag; and how many of each claim are left."""

    def __init__(self) -> None:
        self.holdings: dict[int, Holding] = {}
        self._left: Counter[int] = Counter()

    def add(self, tag: int, holding: Holding) -> None:
        self.holdings[tag] = holding
        self._left[holding.claim] += 1

    def used_up_by(self, ended: Iterable[Holding]) -> list[int]:
        """The claims of which nothing is left when `ended` are settled."""
        ending = Counter([holding.claim for holding in ended])
        return [claim for claim, count in ending.items() if count == self._left[claim]]

    def remove(self, tags: Iterable[int]) -> None:
        for tag in tags:
            claim = self.holdings.pop(tag).claim
            self._left[claim] -= 1
            if not self._left[claim]:
                del self._left[claim]


Encoded = tuple[Outgoing, bytes]


class Line(NamedTuple):
    """A queue of the consumer, and what it looks like now."""

    name: str
    queue: int
    view: View


class Accepted(NamedTuple):
    """A settlement of something that is held."""

    end: Settlement
    held: Holding
    followups: Sequence[Encoded]


class SqliteConsumer:
    """See the module's head. Made by `SqliteBroker.consumer`."""

    def __init__(
        self,
        database: Database,
        spec: ConsumerSpec,
        registered: leases.Registered,
        holding: Sequence[leases.Held] = (),
    ) -> None:
        self._database = database
        self._spec = spec
        self._lease, self._numbered = registered  # `_numbered`: the next delivery
        self._bell = Bell(database.wake_folder)
        self._claims = Claims()
        for each in holding:
            self._claims.add(each.tag, Holding(each.queue_name, each.message, each.crashes, each.claim))
        self._certain = True  # False: an exchange failed, and the store may know more than `_claims`
        self._queues = deque(spec.queues)
        self._largest = 0  # bytes of the largest envelope of late
        self._listening = True  # the last exchange brought less than it asked for
        self._alarm: int | None = 0  # when (microseconds, the store's clock) a listener has to look again
        self._in_bed = False  # rows in `idle` may name this consumer

    # -- exchange --------------------------------------------------------------------------------------------

    def exchange(self, settlements: Sequence[Settlement], limit: int) -> Received:
        encoded = self._encode(settlements)
        certain, self._certain = self._certain, False
        with self._database.write() as connection:
            store = Store(self._database, connection)
            lines = self._look(store, limit)
            if not lines[0].view.lease_lives:
                self._certain = True
                lost = [end.tag for end in settlements]
                return Received((), lost, True, store.now / 1_000_000, None)
            if not certain:
                self._recover(store)
                lines = self._look(store, limit)
            accepted, stale = self._sort(settlements, encoded)
            news = self._settle(store, accepted) if accepted else NO_NEWS
            if any(each.followups or each.end.verdict == REQUEUE for each in accepted):
                lines = self._look(store, limit)
            taken = self._take(store, lines, limit)
            tags = self._claim(connection, taken)
            self._listening = len(taken) < limit
            if not taken and self._listening:
                self._go_to_bed(store)  # at once: who found nothing is about to wait
            elif not self._listening:
                self._get_up(connection)
        store.ring()
        if news.bells:
            sqlite_results.tell(self._database, news)
        self._claims.remove(end.tag for end, _, _ in accepted)
        deliveries = self._hold(tags, taken)
        self._certain = True
        return Received(deliveries, stale, False, store.now / 1_000_000, self._next_due(store.now))

    def _encode(self, settlements: Sequence[Settlement]) -> list[list[Encoded]]:
        """The follow-ups of each settlement; made before the write lock is taken."""
        if self._spec.results is None and any(end.results for end in settlements):
            raise ImproperlyConfigured(
                "A settlement carries results, but the consumer was made without `results`. Ask "
                "Broker.carries(target) first, and store the results through the backend when it says no."
            )
        return [[(out, virtual.encode(out.message)) for out in end.followups] for end in settlements]

    def _recover(self, store: Store) -> None:
        """After a failed exchange: compare with the store, which is right.

        What was taken and never handed out goes back; what was settled without our hearing of it is gone.
        """
        there = {each.tag: each for each in leases.held(store.connection, self._lease)}
        self._claims.remove([tag for tag in self._claims.holdings if tag not in there])
        unknown = [each for tag, each in there.items() if tag not in self._claims.holdings]
        self._strike_off(store.connection, [(each.tag, each.claim) for each in unknown])
        store.end_trials([each.message for each in unknown])
        store.put_back([each.message for each in unknown], [each.queue for each in unknown])

    # -- settling --------------------------------------------------------------------------------------------

    def _sort(
        self, settlements: Sequence[Settlement], encoded: Sequence[list[Encoded]]
    ) -> tuple[list[Accepted], list[int]]:
        """The settlements of what is held, with what they end; and the tags of the others."""
        accepted: list[Accepted] = []
        stale: list[int] = []
        seen: set[int] = set()
        for end, followups in zip(settlements, encoded, strict=True):
            holding = self._claims.holdings.get(end.tag)
            if holding is None or holding.queue != end.queue or end.tag in seen:
                stale.append(end.tag)
            else:
                seen.add(end.tag)
                accepted.append(Accepted(end, holding, followups))
        return accepted, stale

    def _settle(self, store: Store, accepted: Sequence[Accepted]) -> News:
        connection = store.connection
        for end, held, _ in accepted:
            if end.verdict == DEAD:
                store.bury(held.message, end.reason)
        gone = [held.message for end, held, _ in accepted if end.verdict != REQUEUE]
        delete(connection, "message", "id", gone)
        for claim in self._claims.used_up_by(held for _, held, _ in accepted):
            connection.execute("DELETE FROM claim WHERE lease = ? AND first = ?", (self._lease, claim))
        store.end_trials([held.message for _, held, _ in accepted if held.crashes])
        returned = [(end.tag, held) for end, held, _ in accepted if end.verdict == REQUEUE]
        if returned:
            self._strike_off(connection, [(tag, held.claim) for tag, held in returned])
            messages = [held.message for _, held in returned]
            store.put_back(messages, [store.queue_id(held.queue) for _, held in returned])
        self._follow_up(store, [each for _, _, followups in accepted for each in followups])
        return sqlite_results.put(
            connection, [each for end, _, _ in accepted for each in end.results], store.now
        )

    def _strike_off(self, connection: Connection, claimed: Sequence[tuple[int, int]]) -> None:
        """These (tag, claim) are held no longer, but their messages live on: off the list."""
        connection.executemany(
            STRIKE_OFF,
            [(f"$[{tag % DELIVERIES - claim}]", self._lease, claim) for tag, claim in claimed],
        )

    def _follow_up(self, store: Store, outgoing: Sequence[Encoded]) -> None:
        rows: list[Row] = []
        for out, raw in outgoing:
            queues = store.route(out)
            rows += [store.row(queue, out, raw) for queue in queues]
            if not queues:  # nobody is there to catch an error; nothing is lost, and the operator sees it
                store.bury_unroutable(out, raw, str(unroutable(out)))
        store.enqueue(rows)

    # -- taking ----------------------------------------------------------------------------------------------

    def _look(self, store: Store, limit: int) -> list[Line]:
        ids = [(name, store.queue_id(name)) for name in self._queues]
        return [Line(name, queue, store.look(queue, limit, self._lease)) for name, queue in ids]

    def _take(self, store: Store, lines: list[Line], limit: int) -> list[tuple[str, Taken]]:
        if any(line.view.due is not None and line.view.due <= store.now for line in lines):
            for line in lines:
                store.wake_due(line.queue)
            lines = self._look(store, limit)
        self._alarm = min((line.view.due for line in lines if line.view.due is not None), default=None)
        if limit <= 0:
            return []
        for line in lines:
            if not line.view.suspect:
                continue
            if suspect := store.take_suspect(line.queue):
                if limit > 1:
                    self._look_again(store.now)  # others may be there, but not in this trip
                return [(line.name, suspect)]
            self._look_again(store.trial_end(line.queue))
        return self._take_ordinary(store, lines, limit)

    def _take_ordinary(self, store: Store, lines: Sequence[Line], limit: int) -> list[tuple[str, Taken]]:
        room = min(limit, LARGEST_CLAIM, max(1, TAKE_BYTES // max(self._largest, SMALL)))
        taken: list[tuple[str, Taken]] = []
        for line in lines:
            share = line.view.share(room - len(taken))
            if share:
                taken += [(line.name, each) for each in store.take(line.queue, share)]
            if share < line.view.ready:
                self._look_again(store.now + SECOND_HELPING)  # there is more, but others come first
        if taken:
            self._queues.rotate(-1)  # fairness: another queue is served first next time
            self._largest = max(self._largest * 7 // 8, *(len(each.raw) for _, each in taken))
        if len(taken) == room < limit:
            self._look_again(store.now)
        return taken

    def _look_again(self, when: int) -> None:
        self._alarm = when if self._alarm is None else min(when, self._alarm)

    def _claim(self, connection: Connection, taken: Sequence[tuple[str, Taken]]) -> range:
        """List what was taken under the lease; the tags."""
        if not taken:
            return range(0)
        first = self._numbered
        self._numbered += len(taken)  # used up, even if the transaction fails
        connection.execute(CLAIM, (self._lease, first, numbers(each.id for _, each in taken)))
        tag = self._lease * DELIVERIES + first
        return range(tag, tag + len(taken))

    def _hold(self, tags: range, taken: Sequence[tuple[str, Taken]]) -> list[Delivery]:
        deliveries = []
        for tag, (queue, message) in zip(tags, taken, strict=True):
            self._claims.add(tag, Holding(queue, message.id, message.crashes, tags[0] % DELIVERIES))
            deliveries.append(Delivery(queue, tag, virtual.decode(message.raw), message.crashes))
        return deliveries

    # -- sleeping --------------------------------------------------------------------------------------------

    def _go_to_bed(self, store: Store) -> None:
        """Ask to be woken. In the transaction that found nothing to take, so that nothing is missed."""
        if not self._in_bed and self._bell.name:
            ids = numbers(store.queue_id(name) for name in self._spec.queues)
            store.connection.execute(SLEEP, (self._lease, self._bell.name, ids))
            self._in_bed = True

    def _get_up(self, connection: Connection) -> None:
        if self._in_bed:
            connection.execute("DELETE FROM idle WHERE lease = ?", (self._lease,))
            self._in_bed = False

    def _next_due(self, now: int) -> float | None:
        return None if self._alarm is None else max(0, self._alarm - now) / 1_000_000

    def wait(self, timeout: float) -> None:
        if self._listening and not self._in_bed and self._bell.name and not self._has_settled_down():
            return
        alarm = self._next_due(self._database.now())
        if not self._listening:
            pause = timeout
        else:
            pause = min(timeout, POLL) if alarm is None else min(timeout, POLL, alarm)
        self._bell.wait(max(0.0, pause))
        # Whoever rang got us out of bed; and if nobody did, it does no harm to lie down once more.
        self._in_bed = False

    def _has_settled_down(self) -> bool:
        """Before a wait of some length: is there still nothing, or only what others are to take?"""
        soon = self._next_due(self._database.now())
        if soon is not None and soon <= SECOND_HELPING / 1_000_000:
            return True
        with self._database.write() as connection:
            store = Store(self._database, connection)
            lines = self._look(store, 1)
            self._alarm = None
            for line in lines:
                if line.view.due is not None:
                    self._look_again(line.view.due)
                if line.view.suspect:
                    self._look_again(store.trial_end(line.queue))
            if any(line.view.ready for line in lines) or self._next_due(store.now) == 0:
                return False
            self._go_to_bed(store)
        return True

    def wake(self) -> None:
        self._bell.ring()

    def lifeline(self) -> None:
        """The supervisor beats for a lease; the connection may die."""

    def close(self) -> None:
        self._bell.close()
        with self._database.write() as connection:
            store = Store(self._database, connection)
            if connection.execute("SELECT 1 FROM lease WHERE id = ?", (self._lease,)).fetchone():
                leases.end(store, self._spec.id)
        store.ring()
