"""What RabbitMQ sends ahead to one consumer: its connection, and the way of a delivery through it.

1. `Intake.connect`: declares and starts nothing; `take` starts consuming, with a window (`window.py`) that
   fits what is asked for.
2. `Intake.service`: takes in what has arrived and sorts it: ordinary messages into the stock (`stock.py`),
   those that came back into the doubts (`suspects.py`), and carries out what was decided about these.
3. `Intake.take`: hands out from the stock; a suspect alone, from the queue of suspects, when it has its turn
   (`turns.py`).

Not here: settlements (`consumer.py`), the copies that take a delivery's place (`replacing.py`, `copies.py`).
"""

from __future__ import annotations

import logging
import random
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from celeriac import failpoints
from celeriac.brokers.amqp import copies, names
from celeriac.brokers.amqp.inquiry import Inquiry
from celeriac.brokers.amqp.lines import Desk
from celeriac.brokers.amqp.publisher import Post, Publisher
from celeriac.brokers.amqp.replacing import replacement
from celeriac.brokers.amqp.stock import Held, Stock, Stocked
from celeriac.brokers.amqp.suspects import ASKS, ASKS_IN_TURMOIL, Doubtful, Doubts
from celeriac.brokers.amqp.topology import Topology
from celeriac.brokers.amqp.turns import Turns
from celeriac.brokers.amqp.window import Window
from celeriac.brokers.base import ConsumerSpec, Delivery, Outgoing, Place
from celeriac.exceptions import OperationalError
from celeriac.transport.amqp.channel import Channel
from celeriac.transport.amqp.link import Link
from celeriac.transport.amqp.url import AmqpServer
from celeriac.transport.amqp.values import Arrival
from celeriac.wire.amqp import AGAIN, CRASHES, DUE, FAR, MARKS, PARKED, count_of, tag_of
from celeriac.wire.message import Message, Unreadable

__all__ = ["Intake"]

logger = logging.getLogger("celeriac.broker")

#: Seconds after connecting anew in which other nodes may be on their way back as well.
TURMOIL: Final = 3.0
#: Seconds for moving what came back to another queue, and before the next attempt.
MOVE_TIMEOUT: Final = 2.0
MOVE_PAUSE: Final = 5.0
_monotonic = time.monotonic
_new = tuple.__new__


class Intake:
    """One consumer's supply. Used by one thread.

    Attributes:
        stock: what is here, and where.
        is_new_connection: since the flag was cleared.
    """

    def __init__(
        self,
        server: AmqpServer,
        topology: Topology,
        publisher: Publisher,
        spec: ConsumerSpec,
        inquiry: Inquiry,
    ) -> None:
        self._server = server
        self._topology = topology
        self._publisher = publisher
        self._queues = tuple(dict.fromkeys(spec.queues))
        self._trail = spec.trail
        self.stock = Stock()
        self.is_new_connection = False
        self._doubts = Doubts(inquiry, spec.trail, spec.id)
        self._window = Window(self._queues, topology, server.timeout)
        self._turns = Turns(spec.trail)
        self._desk: Desk | None = None
        self._channel: Channel | None = None
        self._connected = 0.0  # when, if that was not the first time

    # -- the connection -------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        return self._desk is not None and not self._desk.link.closed

    def connect(self, deadline: float) -> Channel:
        """Open link and channel as far as they are missing; make sure that the queues are there."""
        desk = self._desk
        if desk is None or desk.link.closed:
            again = desk is not None
            desk = self._desk = Desk(Link.dial(self._server, deadline=deadline))
            self.is_new_connection = True
            if again:
                self._connected = _monotonic()
                for name in self._queues:
                    self._topology.forget(name)
        for name in self._queues:
            self._topology.ensure(desk, name, deadline)
            self._topology.hear_again(desk, name, deadline)
            self._topology.ensure(desk, names.suspects_queue(name), deadline)
        self._channel = desk.link.channel(deadline=deadline)
        self._window.reset()
        return self._channel

    def _connection(self) -> Channel:
        return self._channel or self.connect(_monotonic() + self._server.timeout)

    def lose(self) -> Sequence[int]:
        """Forget everything that the server has taken back; the tags of the stock."""
        dropped = self.stock.clear()
        self._doubts.clear()
        self._turns.lose()
        self._connected = _monotonic()
        channel, desk = self._channel, self._desk
        self._channel = None
        if desk is not None and not desk.link.closed and channel is not None and channel.error is None:
            desk.link.close()  # something else failed: what is open here must go back
        for name in self._queues:
            self._topology.forget(name)
            self._topology.forget(names.suspects_queue(name))
        return dropped

    def close(self, farewell: float) -> None:
        if self._desk is not None:
            self._desk.link.close(farewell=farewell)
        self.lose()

    def flush(self) -> None:
        """Send what is buffered. The trail says when another process must not write."""
        assert self._desk is not None
        if self._trail is None:
            self._desk.link.flush()
            return
        self._trail.writing[0] = 1
        self._desk.link.flush()
        self._trail.writing[0] = 0

    def lifeline(self) -> tuple[int, float]:
        """Descriptor and interval, -1 when no other process can keep the connection alive."""
        link = self._desk.link if self._desk is not None else None
        if link is None or link.closed or link.is_tls or not link.heartbeat:
            return -1, 0.0
        return link.fileno(), link.heartbeat / 2

    def filenos(self) -> list[int]:
        assert self._desk is not None
        replies = self._doubts.inquiry.fileno() if self._doubts else None
        return [self._desk.link.fileno()] if replies is None else [self._desk.link.fileno(), replies]

    def next_event(self) -> float:
        """Seconds until `service` has something to do even if nothing arrives."""
        assert self._desk is not None
        beat = self._desk.link.heartbeat / 3 or 5.0
        soon = min(beat, self._turns.next_event(_monotonic()))
        due = self._doubts.due()
        return soon if due is None else min(soon, max(0.001, due))

    # -- what has arrived -----------------------------------------------------------------------------------

    def service(self) -> Channel:
        """Take in what has come, ask and decide about what came back; connect if need be."""
        channel = self._connection()
        assert self._desk is not None
        self._desk.link.read(0)
        if channel.error is not None:
            raise channel.error
        if channel.cancelled:
            channel.cancelled.clear()
            raise OperationalError("RabbitMQ ended a consumer: its queue was deleted.")
        if channel.arrivals:
            self._take_in(channel)
        if self._doubts:
            self._resolve()
        return channel

    def _take_in(self, channel: Channel) -> None:
        """Sort what has arrived, and find out that the connection was not cut before: somebody else has it
        then, if all nodes said that nobody had read it. After this they say that it is here."""
        self._sort(channel.arrivals)
        assert self._desk is not None
        while self._desk.link.read(0):
            self._sort(channel.arrivals)
        if channel.error is not None:
            raise channel.error

    def _sort(self, arrivals: deque[Arrival]) -> None:
        """Ordinary messages into the stock, in order. Hot."""
        waiting, opened, queue_of = self.stock.waiting, self.stock.open, self._window.queue_of
        self._window.starved = self._window.silent = 0
        ordinary: list[int] = []
        while arrivals:
            arrival = arrivals.popleft()
            consumer_tag, delivery_tag, came_back, _, _, message = arrival
            opened[delivery_tag] = None
            queue = queue_of[consumer_tag]
            if came_back or type(message) is not Message or not MARKS.isdisjoint(message.headers):
                self._sort_marked(arrival, queue)
                continue
            properties = message.properties
            name = properties.pop("message_id", None)
            if name is None or not message.content_type:
                self._sort_marked(arrival, queue)
                continue
            properties["delivery_tag"] = name
            properties["body_encoding"] = "base64"
            tag = tag_of(name)
            ordinary.append(tag)
            waiting.append(_new(Stocked, (queue, tag, delivery_tag, message, "")))
        if self._trail is not None and ordinary:
            self._trail.took(ordinary)

    def _sort_marked(self, arrival: Arrival, queue: str) -> None:
        """One that is not ordinary, or not of ours."""
        message, marks, name = copies.plain(arrival)
        tag = tag_of(name)
        due = marks.get(DUE)
        due = float(due) if isinstance(due, (int, float)) else 0.0
        if time.time() < due < FAR and isinstance(message, Message):
            self._publish(Outgoing(message, queue=queue, due=due))
            self._done([arrival.delivery_tag])
            return
        crashes = count_of(marks, CRASHES)
        came_back = arrival.redelivered or PARKED in marks
        if came_back or AGAIN in marks:
            patience = ASKS_IN_TURMOIL if _monotonic() - self._connected < TURMOIL else ASKS
            doubt = Doubtful(
                arrival.delivery_tag, queue, tag, message, marks, crashes, came_back, False, patience
            )
            self._doubts.add(doubt)
        elif crashes:  # somebody moved it by hand
            self._publish(copies.suspect(queue, message, crashes))
            self._done([arrival.delivery_tag])
        else:
            self._put(Stocked(queue, tag, arrival.delivery_tag, message))

    def _put(self, one: Stocked) -> None:
        if self._trail is not None:
            self._trail.took([one.tag])
        self.stock.waiting.append(one)

    def _resolve(self) -> None:
        """Do what was decided about deliveries that came back."""
        done: list[Doubtful] = []
        posts: list[Post | Outgoing] = []
        renamed: list[int] = []
        moving: list[int] = []
        for doubt, what, reason in self._doubts.decide():
            post = replacement(doubt, what, is_here=AGAIN in doubt.marks and self._is_here(doubt.place))
            if post is not None:
                posts.append(post)
                if _name_of(post) != doubt.tag:
                    renamed.append(doubt.tag)
                    if what == "crash" and doubt.came_back:
                        moving.append(doubt.tag)
            if post is not None or what == "drop":
                done.append(doubt)
            else:
                self._put(Stocked(doubt.queue, doubt.tag, doubt.delivery_tag, doubt.message, reason))
                self._doubts.settle([doubt])  # not before: whoever asks now sees that it is here
        if done:
            self._move(posts, done, renamed, moving)

    def _move(
        self,
        posts: Sequence[Post | Outgoing],
        done: Sequence[Doubtful],
        renamed: Sequence[int],
        moving: Sequence[int],
    ) -> None:
        """Publish the copies, then acknowledge the deliveries whose place they take.

        Args:
            renamed: those whose copies have another name.
            moving: those of them that have crashed once more: `MOVED`, should this process die in between.
        """
        if self._trail is not None and moving:
            self._trail.copying(moving)
        try:
            lost = self._publisher.post(posts, _monotonic() + MOVE_TIMEOUT, careful=True)
            if lost:
                raise OperationalError(f"The queue {lost[0].queue!r} takes no messages.")
        except OperationalError as exc:  # all else goes on; these are asked about once more
            logger.error("Cannot move %d messages that came back, trying again: %s", len(posts), exc)
            for doubt in done:
                doubt.runs = 0
                self._doubts.add(doubt, _monotonic() + MOVE_PAUSE)
            if self._trail is not None and moving:
                self._trail.dropped(moving)
            return
        if failpoints.on:
            failpoints.hit("moved")
        if self._trail is not None and renamed:  # before the acknowledgements: they may never arrive
            self._trail.concluded(renamed)
        self._turns.hurry()
        self._done([doubt.delivery_tag for doubt in done])
        self._doubts.settle(done)

    def _is_here(self, place: Place) -> bool:
        """Another copy of the same publish."""
        return self.stock.has(place) or place in self._doubts

    def _publish(self, post: Post | Outgoing) -> None:
        self._publisher.post([post], _monotonic() + self._server.timeout)

    # -- handing out ----------------------------------------------------------------------------------------

    def take(self, limit: int) -> list[Delivery]:
        """Up to `limit` messages of the stock, or one suspect."""
        now = _monotonic()
        busy = bool(self.stock.held)
        if self._turns.is_due(now, busy=busy):
            suspect = self._look(now)
            if suspect is not None:
                return [suspect]
        if not self._turns.lets(now, busy=busy):
            return []
        if self._doubts and self._doubts.are_fresh():  # they were first
            return []
        self._tune(limit, now)
        return self.stock.hand_out(limit)

    def _tune(self, limit: int, now: float) -> None:
        """Have as many sent ahead as fit what is asked for and what is out."""
        need = limit + len(self.stock.open) - len(self.stock.waiting)
        if self._window.is_too_wide(need, now):
            self.pause()
        channel = self._connection()
        self._window.widen(channel, need, now)
        if channel.arrivals:
            self._take_in(channel)

    def pause(self) -> Channel:
        """Have nothing sent ahead from now on."""
        channel = self._connection()
        if self._window.size:
            self.flush()
            self._window.stop(channel, len(self.stock.open))
            self._sort(channel.arrivals)
        return channel

    def is_ready(self) -> bool:
        """Whether there is something to hand out, or it is time to look for suspects."""
        now = _monotonic()
        if self._turns.is_time(now):
            return True
        if self._doubts and self._doubts.are_fresh():
            return False
        return bool(self.stock.waiting) and self._turns.lets(now, busy=bool(self.stock.held))

    # -- suspects -------------------------------------------------------------------------------------------

    def _look(self, now: float) -> Delivery | None:
        """Take a suspect, if there is one and it can run alone."""
        assert self._desk is not None
        self._turns.looked(now)
        deadline = now + self._server.timeout
        self._window.check(self._desk, has_open=bool(self.stock.open), now=now)
        if self._window.is_doubtful():
            self._renew(deadline)
        waiting = [queue for queue in self._queues if self._suspects_of(queue, deadline)]
        if not waiting:
            self._turns.none_waits()
            return None
        if not self._turns.grants(now, busy=bool(self.stock.held)):
            return None
        random.shuffle(waiting)
        for queue in waiting:
            suspect = self._get(queue, deadline)
            if suspect is not None:
                self._turns.hurry()
                return suspect
        self._turns.free()
        return None

    def _renew(self, deadline: float) -> None:
        """Go on over another channel. Nothing is open here; what arrives meanwhile goes back, unread."""
        assert self._desk is not None
        self._connection().close(deadline=deadline)
        self._channel = self._desk.link.channel(deadline=deadline)
        self._window.reset()

    def _suspects_of(self, queue: str, deadline: float) -> int:
        assert self._desk is not None
        name = names.suspects_queue(queue)
        return self._desk.desk(deadline).queue_declare(name, passive=True, deadline=deadline).messages

    def _get(self, queue: str, deadline: float) -> Delivery | None:
        channel = self._channel
        assert channel is not None
        arrival = channel.get(names.suspects_queue(queue), deadline=deadline)
        if channel.arrivals:
            self._sort(channel.arrivals)
        if arrival is None:
            return None
        self.stock.open[arrival.delivery_tag] = None
        message, marks, name = copies.plain(arrival)
        tag, crashes = tag_of(name), count_of(marks, CRASHES) or 1
        if arrival.redelivered or AGAIN in marks:
            doubt = Doubtful(
                arrival.delivery_tag, queue, tag, message, marks, crashes, arrival.redelivered, True,
                ASKS if arrival.redelivered else 1,
            )  # fmt: skip
            self._doubts.add(doubt)
            return None
        if self._trail is not None:
            self._trail.took([tag])
        self.stock.held[queue, tag] = Held(arrival.delivery_tag, message, crashes)
        self._turns.handed_out((queue, tag))
        return Delivery(queue, tag, message, crashes)

    # -- settling -------------------------------------------------------------------------------------------

    def settle(self, places: Sequence[Place]) -> None:
        """Acknowledge what is held there."""
        held = self.stock.held
        self._done([one.delivery_tag for place in places if (one := held.pop(place, None)) is not None])
        self._turns.settled(held)

    def _done(self, delivery_tags: Iterable[int]) -> None:
        if self._channel is not None:
            self.stock.acknowledge(self._channel, delivery_tags)


def _name_of(post: Post | Outgoing) -> int:
    message = post.message
    return -1 if isinstance(message, Unreadable) else tag_of(str(message.properties.get("delivery_tag", "")))
