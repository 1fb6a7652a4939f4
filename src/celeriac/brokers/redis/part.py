"""The queues of one consumer that share a link: script calls, and the account of what is held.

1. `register`, `exchange`, `give_back`: one script call each, repeated over reconnections.
2. `arm`: look, and have the server tell us of the next change (client tracking, RESP3).
3. `recover`: when the server holds more for us than we know of (a reply was lost), fetch it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from celeriac.brokers.base import (
    ACK,
    QUARANTINE,
    ConsumerSpec,
    Delivery,
    Received,
    Settlement,
)
from celeriac.brokers.redis.apart import held_envelopes, held_tags
from celeriac.brokers.redis.elsewhere import Elsewhere
from celeriac.brokers.redis.keys import SUSPECTS, Layout, split_crashes
from celeriac.brokers.redis.routes import Routes
from celeriac.brokers.redis.scripts import ARM, EXCHANGE, GIVE_BACK, REGISTER
from celeriac.brokers.redis.settling import Heir, write_settlements
from celeriac.exceptions import ImproperlyConfigured, OperationalError
from celeriac.transport.redis.link import (
    Disconnected,
    Link,
    NotNow,
    Refused,
    ReplyError,
    pack,
    refusal,
)
from celeriac.transport.redis.pool import Channel, Pool
from celeriac.wire import virtual
from celeriac.wire.steps import Rest

__all__ = ["Part"]

T = TypeVar("T")
logger = logging.getLogger(__name__)
_monotonic = time.monotonic
_QUARANTINE_MS: Final = int(QUARANTINE * 1000)
_CACHING: Final = pack(("CLIENT", "CACHING", "YES"))
_TRACKING: Final = pack(("CLIENT", "TRACKING", "ON", "OPTIN", "NOLOOP"))
#: Seconds after which an exchange looks at everything again: the server's clock, how much is held for us.
LOOK: Final = 0.5
_LOOK: Final = 8  # its place among the arguments
_FIRST: Final = 7  # the place of the envelopes of the first group in a reply
_APART: Final = 9  # the place of whether one of the settled is held without the rest of its chain
#: An exchange that brings fewer than this tells of quiet times.
FEW: Final = 8
#: Seconds given to the farewell of a consumer whose server may be gone.
_FAREWELL: Final = 2.0
_decode = virtual.decode
_new = tuple.__new__


class _Order(NamedTuple):
    """One order of service: the queues, their place in it, and their keys as the scripts want them."""

    queues: tuple[str, ...]
    place: dict[str, int]
    keys: tuple[bytes, ...]


class Part:
    """Owned by one thread.

    Attributes:
        is_armed: the last `arm`, or the last exchange of a quiet time, has made the server push the next
            change.
    """

    def __init__(
        self,
        pool: Pool,
        layout: Layout,
        routes: Routes,
        spec: ConsumerSpec,
        queues: Sequence[str],
        elsewhere: Elsewhere | None,
    ) -> None:
        self.queues = tuple(queues)
        self.is_armed = False
        self._is_quiet = True  # little comes: exchanges arm the tracking, so that a wait need not
        self._next_change: float | None = None  # monotonic, as the exchange that armed knew it
        self._is_fresh = False  # nothing has been asked since then
        self._pool = pool
        self._layout = layout
        self._routes = routes
        self._elsewhere = elsewhere
        self._spec = spec
        self._channel = Channel()
        self._tracked: Link | None = None
        self._refused_tracking = False
        self._looked_by: Link | None = None  # the link of the last exchange that looked at everything,
        self._look_at = 0.0  # and when the next one is due
        self._clock = 0.0  # the server's clock minus ours
        self._was_pushed = False  # something was invalidated while the last `_run` ran
        self._tries = 0  # how often the last `_run` sent its request
        self._key = layout.queue(self.queues[0]).leases
        self._orders = [self._order(i) for i in range(len(self.queues))]
        self._turn = 0
        self._held: dict[str, set[int]] = {queue: set() for queue in self.queues}
        self._doubt: set[tuple[str, int]] = set()
        # What is held for us without the rest of its chain, and that rest as far as it is known here.
        self._apart: dict[tuple[str, int], Rest | None] = {}
        self._comes_back = True  # the last follow-up that went alone was handed to us at once
        steps = len(layout.steps)
        self._consumer = spec.id.encode()
        self._arm_data = self._pack_arm(steps)
        results = spec.results
        db = str(pool.server.db)
        result_db = results.location[-1] if results else db
        self._databases = (b"-1" if result_db == db else result_db.encode(), db.encode(), _QUARANTINE_MS)

    def _order(self, first: int) -> _Order:
        queues = self.queues[first:] + self.queues[:first]
        keys = tuple(key for queue in queues for key in self._layout.queue(queue).block(self._spec.id))
        return _Order(queues, {queue: place for place, queue in enumerate(queues)}, keys)

    def _pack_arm(self, steps: int) -> bytes:
        keys: list[bytes] = []
        for queue in self.queues:
            names = self._layout.queue(queue)
            keys += (names.delayed, names.suspects, names.quarantine, *names.lists)
        return ARM.packed(keys, (len(self.queues), steps))

    def register(self) -> None:
        """Take the lease, or join the one that is there."""
        keys = [self._layout.queue(queue).leases for queue in self.queues]
        args = (self._spec.id, int(self._spec.ttl * 1000))
        if self._run(lambda link, deadline: REGISTER.run(link, keys, args, deadline)):
            for queue, (tags, apart) in zip(self.queues, self._run(self._ask_tags), strict=True):
                self._held[queue] = tags
                self._apart.update(((queue, tag), None) for tag in apart)

    def exchange(self, settlements: Sequence[Settlement], limit: int) -> Received:
        order = self._orders[self._turn]
        plain, rich, stale = self._sort(settlements, order)
        keys: tuple[bytes, ...] = order.keys
        args: list[Any] = [
            self._consumer, limit, len(order.queues), len(self._layout.steps), len(rich), *self._databases,
            b"1", b"0",
        ]  # fmt: skip
        for tags in plain:
            args.append(len(tags))
            args += tags
        if rich and self._elsewhere is not None:
            rich = [self._elsewhere.send(end, self._spec.id) for end in rich]
        large, rest, heir = False, None, None
        if rich:
            heir = self._heir(rich, limit)
            if self._apart:
                args[_APART] = b"1" if any((end.queue, end.tag) in self._apart for end in rich) else b"0"
            keys, large, rest = write_settlements(
                rich,
                order.place,
                keys,
                args,
                self._layout,
                self._routes,
                self._spec.results,
                heir,
            )
        arms = False
        # Right after a push something is there to be taken: tracking is armed when that is done. So it is
        # where a follow-up is likely to come back.
        is_heir = heir is not None and self._comes_back
        may_arm = limit > 0 and self._is_quiet and bool(settlements) and not is_heir

        def attempt(link: Link, deadline: float) -> list[Any]:
            nonlocal arms
            arms = may_arm and self._track(link, deadline)
            looked = not arms and link is self._looked_by and _monotonic() < self._look_at
            args[_LOOK] = b"0" if looked else b"1"
            data = EXCHANGE.packed(keys, args, large=large)
            if arms:
                reply = link.pipeline([_CACHING, data], deadline)[-1]
                if type(reply) is not ReplyError:
                    return reply  # type: ignore[no-any-return]
                arms = False  # the script is not there yet, or the error is found again
            return EXCHANGE.request(link, data, deadline)  # type: ignore[no-any-return]

        self._is_fresh = False
        try:
            reply = self._run(attempt)
        except OperationalError:
            self.doubt(settlements)
            raise
        if self._tries > 1:
            self.doubt(settlements)
        if reply[0]:
            self.disconnect()
            return Received((), tuple(end.tag for end in settlements), True, time.time(), None)
        received = self._receive(reply, order, settlements, stale, rich, rest)
        if heir is not None:  # then it is the first group of the reply, or not among them
            self._comes_back = len(reply) > _FIRST and type(reply[_FIRST]) is int
        if limit > 0:
            self._is_quiet = len(received.deliveries) < FEW
        if arms and not received.deliveries and not self._was_pushed:
            self.is_armed = self._is_fresh = True
            due = received.next_due
            self._next_change = None if due is None else _monotonic() + due
        return received

    def _heir(self, rich: Sequence[Settlement], limit: int) -> Heir | None:
        """What is known of the only follow-up of `rich`, which the server may hand to us at once."""
        if len(rich) != 1 or limit < 1 or len(rich[0].followups) != 1:
            return None
        return Heir(self._apart.get((rich[0].queue, rich[0].tag)), self._comes_back)

    def _sort(
        self, settlements: Sequence[Settlement], order: _Order
    ) -> tuple[list[list[int]], list[Settlement], list[int]]:
        """Acknowledgements by place, everything else, and the tags that are not ours to settle."""
        plain: list[list[int]] = [[] for _ in order.queues]
        rich: list[Settlement] = []
        stale: list[int] = []
        place, held = order.place, self._held
        for end in settlements:
            queue, tag, verdict, _, followups, results, _ = end
            if tag not in held.get(queue, ()):
                if (queue, tag) not in self._doubt:
                    stale.append(tag)
            elif (
                verdict == ACK
                and not followups
                and not results
                and tag & SUSPECTS != SUSPECTS
                and (queue, tag) not in self._apart
            ):
                plain[place[queue]].append(tag)
            else:
                if results and self._spec.results is None:
                    raise ImproperlyConfigured(
                        "A settlement carries results, but the consumer was made without `results`. Ask "
                        "Broker.carries(target) first, and store the results through the backend when it "
                        "says no."
                    )
                rich.append(end)
        return plain, rich, stale

    def _receive(
        self,
        reply: list[Any],
        order: _Order,
        settlements: Sequence[Settlement],
        stale: list[int],
        rich: Sequence[Settlement],
        rest: Rest | None,
    ) -> Received:
        _, now, change, refused, counts, *groups = reply
        held = self._held
        for end in settlements:
            if end.queue in held:
                held[end.queue].discard(end.tag)
                self._apart.pop((end.queue, end.tag), None)
        for place, tag in zip(refused[::2], refused[1::2], strict=True):
            if (order.queues[place], tag) not in self._doubt:
                stale.append(tag)
        if self._doubt:
            self._doubt.difference_update((end.queue, end.tag) for end in settlements)
        deliveries: list[Delivery] = []
        for at in range(0, len(groups), 3):
            queue, tag, envelopes = order.queues[groups[at]], groups[at + 1], groups[at + 2]
            if type(envelopes) is int:  # the follow-up that was sent along is ours already
                deliveries.append(Delivery(queue, tag, virtual.reread(rich[0].followups[0].message)))
                held[queue].add(tag)
                if rest is not None:
                    self._apart[queue, tag] = rest
                continue
            if tag & SUSPECTS == SUSPECTS:
                deliveries.append(_suspect(queue, tag, envelopes[0]))
                held[queue].add(tag)
                continue
            tags = range(tag, tag + 16 * len(envelopes), 16)
            held[queue].update(tags)
            deliveries += [
                _new(Delivery, (queue, tag, _decode(envelope), 0, ""))
                for tag, envelope in zip(tags, envelopes, strict=True)
            ]
        if deliveries and len(self.queues) > 1:
            self._turn = (self._turn + 1) % len(self.queues)
        if counts:  # the server looked at everything
            self._looked_by, self._look_at = self._channel.link, _monotonic() + LOOK
            self._clock = now / 1000 - _monotonic()
            if counts != [len(held[queue]) for queue in order.queues]:
                deliveries += self._recover()
        next_due = None if change < 0 else max(0, change - now) / 1000
        return Received(deliveries, stale, False, self._clock + _monotonic(), next_due)

    def doubt(self, settlements: Iterable[Settlement]) -> None:
        """These may or may not have been done; when they come again and are gone, that is not stale."""
        self._doubt.update((end.queue, end.tag) for end in settlements)

    def _recover(self) -> list[Delivery]:
        """Deliveries that are held for us and that we never saw, oldest first."""
        found: list[Delivery] = []
        for queue, (tags, apart) in zip(self.queues, self._run(self._ask_tags), strict=True):
            unknown = sorted(tags - self._held[queue])
            self._held[queue] = tags
            self._apart.update(((queue, tag), None) for tag in apart.intersection(unknown))
            if unknown:
                names = self._layout.queue(queue)
                envelopes = self._run(
                    lambda link, deadline, names=names, unknown=unknown: held_envelopes(  # type: ignore[misc]
                        link, names, self._spec.id, unknown, deadline
                    )
                )
                found += [_suspect(queue, tag, envelope) for tag, envelope in envelopes]
        return found

    def _ask_tags(self, link: Link, deadline: float) -> list[tuple[set[int], set[int]]]:
        return held_tags(link, map(self._layout.queue, self.queues), self._spec.id, deadline)

    def arm(self) -> tuple[bool, float | None]:
        """(something can be taken, seconds until the next change); True as well when the link is broken, so
        that the caller's next exchange mends it or reports it."""
        link = self._channel.link
        if self._is_fresh and link is not None and not link.closed and not link.buffered():
            self._is_fresh = False
            change = self._next_change
            return False, None if change is None else max(0.0, change - _monotonic())
        self.is_armed = self._is_fresh = False
        if link is None or link.closed:
            return True, None
        deadline = _monotonic() + self._pool.server.timeout
        try:
            may_push = self._track(link, deadline)
            replies = link.pipeline([_CACHING, self._arm_data] if may_push else [self._arm_data], deadline)
            if type(replies[-1]) is ReplyError:
                raise refusal(replies[-1], link.where)
        except Refused as exc:
            if exc.code == "NOSCRIPT":
                ARM.load(link, deadline)
            return True, None
        except (Disconnected, NotNow):
            self._channel.drop()
            return True, None
        link.pushes.clear()
        ready, change_ms = replies[-1]
        self.is_armed = may_push
        return bool(ready) or link.buffered(), None if change_ms < 0 else change_ms / 1000

    def _track(self, link: Link, deadline: float) -> bool:
        """Switch client tracking on, once for each link; False where the server does not do it."""
        if link is not self._tracked:
            self._tracked = link
            self._refused_tracking = link.protocol < 3 or any(
                type(reply) is ReplyError for reply in link.pipeline([_TRACKING], deadline)
            )
        return not self._refused_tracking

    def fileno(self) -> int:
        link = self._channel.link
        assert link is not None  # armed parts have a link
        return link.fileno()

    def give_back(self) -> None:
        """End the lease; everything held returns to its queue. Without a server it does so by the lapse."""
        order = self._orders[0]
        args: list[Any] = [self._consumer, len(order.queues), len(self._layout.steps), "release"]
        args += [0, 0] * len(order.queues)
        try:
            self._run(lambda link, deadline: GIVE_BACK.run(link, order.keys, args, deadline), _FAREWELL)
        except OperationalError as exc:
            logger.warning("What consumer %s held goes back when its lease lapses: %s", self._spec.id, exc)

    def disconnect(self) -> None:
        self._channel.drop()

    def _run(self, work: Callable[[Link, float], T], timeout: float | None = None) -> T:
        deadline = _monotonic() + (self._pool.server.timeout if timeout is None else timeout)
        self._tries = 0

        def count(link: Link, until: float) -> T:
            self._tries += 1
            return work(link, until)

        result = self._pool.persist(self._channel, self._key, count, deadline)
        link = self._channel.link
        self._was_pushed = link is not None and bool(link.pushes)
        if link is not None and self._was_pushed:
            link.pushes.clear()  # what they told is in the reply, or in that of the next `arm`
        return result


def _suspect(queue: str, tag: int, stored: bytes) -> Delivery:
    """A delivery whose envelope may have a crash count at its head."""
    crashes, envelope = split_crashes(stored)
    return Delivery(queue, tag, _decode(envelope), crashes)
