"""A consumer: one connection that messages are sent ahead over, served by one thread.

1. `exchange`: settle (follow-ups and copies confirmed first, then the acknowledgements, as few as possible),
   then hand out what is here. `wait`: for more, for answers about what came back, for `wake`.
2. Losing the connection or its channel: what was not handed out is dropped, what was goes on (`_lose`).
3. A publish that fails does not fail the exchange: the settlement is kept, and nothing is taken until it is
   through (`_later`).

Not here: what is sent ahead and how much (`intake.py`, `window.py`), deliveries that came back
(`suspects.py`), copies (`copies.py`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from celeriac import failpoints
from celeriac.brokers.amqp import copies
from celeriac.brokers.amqp.inquiry import Inquiry
from celeriac.brokers.amqp.intake import Intake
from celeriac.brokers.amqp.publisher import Post, Publisher
from celeriac.brokers.amqp.stock import Held
from celeriac.brokers.amqp.topology import Topology
from celeriac.brokers.base import (
    DEAD,
    REQUEUE,
    ConsumerSpec,
    Delivery,
    Lifeline,
    Outgoing,
    Place,
    Received,
    Settlement,
    require_queues,
)
from celeriac.exceptions import ImproperlyConfigured, OperationalError
from celeriac.transport.alarm import Alarm
from celeriac.transport.amqp.url import AmqpServer
from celeriac.wire.message import Message

__all__ = ["AmqpConsumer"]

logger = logging.getLogger("celeriac.broker")

#: Seconds after which what was sent ahead goes back, when nobody asks for it.
LONG: Final = 0.05
#: Seconds for giving that back, and until the next attempt when it fails.
GIVE_BACK: Final = 2.0
KEEP: Final = 10.0
#: Seconds for giving back at the end.
FAREWELL: Final = 5.0
#: Deliveries of lost connections that are remembered, until they are settled.
ADRIFT: Final = 10_000
#: Seconds between attempts to publish what could not be published.
RETRY: Final = 0.5
#: Seconds after which all nodes are told that a delivery is done whose acknowledgement was lost.
TELL: Final = (0.0, 1.0, 3.0)
_NOTHING: Final[Sequence[int]] = ()


class AmqpConsumer:
    """See `celeriac.brokers.base.Consumer`."""

    def __init__(
        self,
        server: AmqpServer,
        topology: Topology,
        publisher: Publisher,
        spec: ConsumerSpec,
        farewell: Callable[[AmqpConsumer], None],
    ) -> None:
        require_queues(spec)
        self._server = server
        self._publisher = publisher
        self._trail = spec.trail
        self._inquiry = Inquiry(server)
        self._intake = Intake(server, topology, publisher, spec, self._inquiry)
        self._adrift: dict[Place, Held] = {}  # handed out by connections that are lost
        self._unreached: list[Place] = []  # out of the stock, but not handed out: nobody runs them
        self._published: set[Place] = set()  # what these owe is out; only their acknowledgement is missing
        self._later: list[Settlement] = []
        self._retry_at = 0.0
        self._keep_until = 0.0
        self._news: list[tuple[float, list[Place]]] = []  # (when to tell, what is done)
        self._alarm = Alarm()
        self._farewell = farewell
        self._is_hungry = True
        self._line: Lifeline | None = None

    def register(self) -> None:
        self._intake.connect(time.monotonic() + self._server.timeout)

    # -- the seam -------------------------------------------------------------------------------------------

    def exchange(self, settlements: Sequence[Settlement], limit: int) -> Received:
        intake = self._intake
        deliveries: list[Delivery] = []
        try:
            intake.service()
            no_more = limit <= 0 and (not settlements or any(end.verdict == REQUEUE for end in settlements))
            if no_more and self._can_give_back(is_asked=bool(settlements)):
                intake.pause()  # first: what is given back must not come here again
            stale = self._settle([*self._later, *settlements]) if settlements or self._later else _NOTHING
            deliveries = intake.take(limit) if limit > 0 and not self._later else []
            if no_more:
                self._relieve()
            if self._news:
                self._tell()
            intake.flush()
        except OperationalError:
            self._unreached += [(delivery.queue, delivery.tag) for delivery in deliveries]
            self._lose()
            raise
        self._is_hungry = limit > 0 and len(deliveries) < limit
        return Received(deliveries, stale, False, time.time(), None)

    def wait(self, timeout: float) -> None:
        intake = self._intake
        begun = time.monotonic()
        deadline = begun + timeout
        try:
            while not self._alarm.ringing:
                intake.service()
                if self._news:
                    self._tell()
                if self._later and time.monotonic() >= self._retry_at:
                    self._settle(self._later)
                if self._is_hungry and intake.is_ready():
                    break
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                pause = min(left, intake.next_event())
                if not self._is_hungry and intake.stock.waiting:
                    if time.monotonic() - begun >= LONG:
                        self._relieve()
                    else:
                        pause = min(pause, LONG)
                if self._later or self._news:
                    pause = min(pause, RETRY)
                intake.flush()
                self._alarm.wait(pause, *intake.filenos())
        except OperationalError:
            self._lose()
            raise
        finally:
            self._alarm.clear()

    def wake(self) -> None:
        self._alarm.ring()

    def lifeline(self) -> Lifeline | None:
        fd, every = self._intake.lifeline()
        if fd < 0:
            self._line = None
        elif self._line is None or self._intake.is_new_connection:
            self._line = Lifeline(fd, b"\x08\x00\x00\x00\x00\x00\x00\xce", every)
        self._intake.is_new_connection = False
        return self._line

    def close(self) -> None:
        try:
            if self._intake.is_open:
                self._give_back_all()
        except OperationalError as exc:
            logger.warning("What this consumer held goes back as its connection closes: %s", exc)
        finally:
            self.disconnect(farewell=1.0)
            if failpoints.on:
                failpoints.passed("done")
            self._alarm.close()
            self._farewell(self)

    def disconnect(self, farewell: float = 0.0) -> None:
        """Drop the connections; the next exchange connects anew."""
        self._intake.close(farewell)
        self._inquiry.close()

    # -- settling -------------------------------------------------------------------------------------------

    def _settle(self, settlements: Sequence[Settlement]) -> Sequence[int]:
        """Publish what the settlements owe, then acknowledge; the tags that nobody holds here. What cannot be
        published now is kept for later."""
        held, adrift = self._intake.stock.held, self._adrift
        stale: list[int] = []
        settled: list[Place] = []
        owing: list[Settlement] = []
        gone_back: list[int] = []
        for end in settlements:
            place = (end.queue, end.tag)
            if end.results:
                raise ImproperlyConfigured(
                    "A settlement carries results, which RabbitMQ cannot store. Ask Broker.carries(target) "
                    "first, and store the results through the backend when it says no."
                )
            if end.verdict == REQUEUE and place not in held and not end.followups:
                # The connection that brought it is lost, so it has gone back by itself; nobody runs it here.
                if adrift.pop(place, None) is None:
                    stale.append(end.tag)
                gone_back.append(end.tag)
            elif place not in held and place not in adrift:
                stale.append(end.tag)
            elif end.followups or end.verdict != "ack":
                owing.append(end)
                settled.append(place)
            else:
                settled.append(place)
        if gone_back and self._trail is not None:
            self._trail.dropped(gone_back)
        if owing and not self._pay(owing):
            waiting = {(end.queue, end.tag) for end in self._later}
            settled = [
                place for place in settled if place not in waiting and (place in held or place in adrift)
            ]
        if settled:
            self._acknowledge(settled)
        return stale

    def _pay(self, owing: Sequence[Settlement]) -> bool:
        """Publish what settlements owe; False when that must be tried again (then they are in `_later`)."""
        posts: list[Post | Outgoing] = []
        copying: list[int] = []
        for end in owing:
            place = (end.queue, end.tag)
            if place in self._published:
                continue
            posts += end.followups
            held = self._intake.stock.held.get(place)
            if end.verdict == DEAD:
                one = held or self._adrift[place]
                posts.append(copies.dead(end.queue, one.message, end.reason, one.crashes))
            elif end.verdict == REQUEUE and held is not None:  # adrift: it has gone back by itself
                posts.append(self._copy(place, held))
                copying.append(end.tag)
        self._say_copying(copying)
        try:
            gives_back = any(end.verdict == REQUEUE for end in owing)
            lost = self._publisher.post(posts, time.monotonic() + self._server.timeout, careful=gives_back)
            if lost:
                self._publisher.post(
                    [_unrouted(post) for post in lost], time.monotonic() + self._server.timeout
                )
        except OperationalError as exc:
            logger.error("Cannot publish what %d finished tasks set off, trying again: %s", len(owing), exc)
            self._later = [end for end in owing if not self._take_back(end)]
            self._retry_at = time.monotonic() + RETRY
            return False
        self._later = []
        self._published.update((end.queue, end.tag) for end in owing)
        return True

    def _take_back(self, end: Settlement) -> bool:
        """What cannot be given back now is kept, and handed out again here."""
        one = self._intake.stock.held.get((end.queue, end.tag))
        if end.verdict != REQUEUE or end.followups or one is None or one.crashes:
            return False
        self._keep_until = time.monotonic() + KEEP
        self._intake.stock.restock((end.queue, end.tag))
        if self._trail is not None:
            self._trail.took([end.tag])
        return True

    def _acknowledge(self, places: Sequence[Place]) -> None:
        if self._trail is not None:
            self._trail.concluded([tag for _, tag in places])
        told = [place for place in places if self._adrift.pop(place, None) is not None]
        if told:
            now = time.monotonic()
            self._news += [(now + pause, told) for pause in TELL]
        self._intake.settle(places)
        self._published.difference_update(places)

    def _tell(self) -> None:
        """Say what is done whose acknowledgement was lost; more than once, since those who are to hear it may
        be reconnecting as well."""
        now = time.monotonic()
        due = [places for when, places in self._news if when <= now]
        if due and self._inquiry.tell([place for places in due for place in places]):
            self._news = [news for news in self._news if news[0] > now]

    def _say_copying(self, tags: Sequence[int]) -> None:
        """If this process dies now, nobody knows whether the copies of `tags` are stored."""
        if self._trail is not None and tags:
            self._trail.copying(tags)

    def _copy(self, place: Place, held: Held) -> Post:
        if held.crashes:
            return copies.suspect(place[0], held.message, held.crashes)
        return copies.returned(place[0], held.message)

    # -- giving back ----------------------------------------------------------------------------------------

    def _relieve(self) -> None:
        """The lane is busy for long: have nothing sent ahead, and give back what was.

        Not while the server takes no publishes: what is on its way to a consumer that is cancelled comes
        back, and nobody can be asked about it then."""
        intake = self._intake
        if not self._can_give_back():
            return
        intake.pause()
        waiting = [one for one in intake.stock.waiting if not one.ended]
        if not waiting:
            return
        posts = [copies.returned(one.queue, one.message) for one in waiting]
        self._say_copying([one.tag for one in waiting])
        try:
            self._publisher.post(posts, time.monotonic() + GIVE_BACK, careful=True)
        except OperationalError as exc:
            self._keep(exc)
            if self._trail is not None:
                self._trail.took([one.tag for one in waiting])
            return
        self._acknowledge(intake.stock.hold_waiting())
        intake.flush()

    def _can_give_back(self, *, is_asked: bool = False) -> bool:
        """Whether the server takes publishes, if there is anything to give back."""
        if time.monotonic() < self._keep_until:
            return False
        if not is_asked and not self._intake.stock.waiting:
            return True
        try:
            self._publisher.probe(time.monotonic() + GIVE_BACK)
        except OperationalError as exc:
            self._keep(exc)
            return False
        return True

    def _keep(self, why: OperationalError) -> None:
        """They stay here, which is better than to lose the connection."""
        count = len(self._intake.stock.waiting)
        logger.warning("Cannot give back %d messages that were sent ahead: %s", count, why)
        self._keep_until = time.monotonic() + KEEP

    def _give_back_all(self) -> None:
        intake, stock = self._intake, self._intake.stock
        intake.pause()
        stock.hold_waiting()
        deadline = time.monotonic() + FAREWELL
        if self._later:
            self._settle(self._later)
        places = list(stock.held)
        self._say_copying([tag for _, tag in places])
        posts = [self._copy(place, stock.held[place]) for place in places]
        self._publisher.post(posts, deadline, careful=True)
        self._acknowledge(places)
        intake.flush()

    def _lose(self) -> None:
        """The connection or its channel is gone, and RabbitMQ has taken everything back. What runs here may
        end; what has not been handed out comes again, to whomever."""
        intake = self._intake
        self._adrift |= intake.stock.held
        while len(self._adrift) > ADRIFT:
            del self._adrift[next(iter(self._adrift))]
        dropped = [*intake.lose(), *(tag for _, tag in self._unreached)]
        for place in self._unreached:
            self._adrift.pop(place, None)
        self._unreached = []
        if self._trail is not None and dropped:
            self._trail.dropped(dropped)


def _unrouted(post: Post) -> Post:
    """A follow-up that no queue takes, as a dead letter of the queue that its key names."""
    where = post.routing_key
    if isinstance(post.message, Message) and post.queue:
        where = post.queue
    reason = f"No queue is bound to exchange {post.exchange!r} with routing key {post.routing_key!r}."
    return copies.dead(where, post.message, reason, 0)
