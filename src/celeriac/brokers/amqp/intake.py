"""What RabbitMQ sends ahead: the connection, the window, the stock, and what is held.

1. `Intake.connect`: declares and starts nothing; `take` starts consuming with a window (prefetch) that fits
   what is asked for, and widens it when more is.
2. `Intake.service`: takes in what has arrived and sorts it: ordinary messages into the stock, those that
   came back into the doubts, and carries out what was decided about these.
3. `Intake.take`: hands out from the stock; a suspect alone, from the queue of suspects, when there is quiet.
4. `Intake.settle`: acknowledges, with one frame for everything up to the oldest delivery that is still open.

Not here: settlements and copies (`consumer.py`, `copies.py`), fates (`suspects.py`).
"""

from __future__ import annotations

import logging
import random
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from celeriac.brokers.amqp import copies, names
from celeriac.brokers.amqp.inquiry import Inquiry
from celeriac.brokers.amqp.lines import Desk
from celeriac.brokers.amqp.publisher import Post, Publisher
from celeriac.brokers.amqp.suspects import ASKS, ASKS_IN_TURMOIL, Doubtful, Doubts
from celeriac.brokers.amqp.topology import Topology
from celeriac.brokers.base import QUARANTINE, ConsumerSpec, Delivery, Outgoing, Place
from celeriac.exceptions import OperationalError
from celeriac.transport.amqp.channel import Channel
from celeriac.transport.amqp.link import Link
from celeriac.transport.amqp.url import AmqpServer
from celeriac.transport.amqp.values import Arrival
from celeriac.wire.amqp import AGAIN, CRASHES, DUE, FAR, MARKS, PARKED, count_of, tag_of
from celeriac.wire.message import Message, Unreadable

__all__ = ["Held", "Intake"]

logger = logging.getLogger("celeriac.broker")

#: Windows are exact up to this; above, they are powers of two.
EXACT: Final = 8
#: Seconds for which a window must have been too wide before it is narrowed.
PATIENCE: Final = 1.0
#: Seconds between looks into the queues of suspects, about.
LOOK: Final = 1.5
#: Seconds for which nothing is handed out, so that a suspect that waits may run alone.
QUIET: Final = 0.1
#: Such pauses in vain, after which a suspect is taken beside others.
VAIN: Final = 5
#: Such looks in a row at which messages waited and none came, after which we consume anew.
STARVED: Final = 2
#: Seconds after connecting anew in which other nodes may be on their way back as well.
TURMOIL: Final = 3.0
#: Seconds for what the server has sent already.
ON_ITS_WAY: Final = 0.02
#: Seconds for moving what came back to another queue, and before the next attempt.
MOVE_TIMEOUT: Final = 2.0
MOVE_PAUSE: Final = 5.0
_monotonic = time.monotonic
_new = tuple.__new__


class Held(NamedTuple):
    """A delivery that is handed out and not settled."""

    delivery_tag: int
    message: Message | Unreadable
    crashes: int = 0


class _Stocked(NamedTuple):
    queue: str
    tag: int
    delivery_tag: int
    message: Message | Unreadable
    ended: str = ""


class Intake:
    """One consumer's supply. Used by one thread.

    Attributes:
        stock: sent ahead and not handed out.
        held: handed out and not settled, by (queue, tag).
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
        self.stock: deque[_Stocked] = deque()
        self.held: dict[Place, Held] = {}
        self.is_new_connection = False
        self._doubts = Doubts(inquiry, spec.trail is not None)
        self._desk: Desk | None = None
        self._channel: Channel | None = None
        self._open: dict[int, None] = {}  # delivery tags without an acknowledgement, ascending
        self._window = 0  # 0: nothing is sent ahead
        self._narrow_at = 0.0
        self._consumed_at = 0.0
        self._starved = 0
        self._queue_of: dict[str, str] = {}  # by consumer tag
        self._consumers = 0
        self._connected = 0.0  # when, if that was not the first time
        self._look_at = _monotonic() + random.uniform(0.0, LOOK)
        self._alone_until = 0.0  # a suspect was handed out
        self._suspect: Place | None = None
        self._quiet_until = 0.0
        self._vain = 0

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
            self._topology.ensure(desk, names.suspects_queue(name), deadline)
        self._channel = desk.link.channel(deadline=deadline)
        self._window = 0
        return self._channel

    def lose(self) -> Sequence[int]:
        """Forget everything that the server has taken back; the tags of the stock."""
        dropped = [each.tag for each in self.stock]
        self.stock.clear()
        self.held = {}
        self._open.clear()
        self._doubts.clear()
        self._suspect = None
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
        look = max(0.001, self._look_at - _monotonic())
        due = self._doubts.due()
        soon = min(beat, look) if due is None else min(beat, look, max(0.001, due))
        for until in (self._alone_until, self._quiet_until):
            if until > _monotonic():
                soon = min(soon, until - _monotonic() + 0.001)
        return soon

    # -- what has arrived -----------------------------------------------------------------------------------

    def service(self) -> Channel:
        """Take in what has come, ask and decide about what came back; connect if need be."""
        channel = self._channel
        if channel is None:
            channel = self.connect(_monotonic() + self._server.timeout)
        assert self._desk is not None
        self._desk.link.read(0)
        if channel.error is not None:
            raise channel.error
        if channel.cancelled:
            channel.cancelled.clear()
            raise OperationalError("RabbitMQ ended a consumer: its queue was deleted.")
        if channel.arrivals:
            self._sort(channel.arrivals)
        if self._doubts:
            self._resolve()
        return channel

    def _sort(self, arrivals: deque[Arrival]) -> None:
        """Ordinary messages into the stock, in order. Hot."""
        stock, opened, queue_of = self.stock, self._open, self._queue_of
        self._starved = 0
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
            stock.append(_new(_Stocked, (queue, tag, delivery_tag, message, "")))
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
            self._put(_Stocked(queue, tag, arrival.delivery_tag, message))

    def _put(self, one: _Stocked) -> None:
        if self._trail is not None:
            self._trail.took([one.tag])
        self.stock.append(one)

    def _resolve(self) -> None:
        """Do what was decided about deliveries that came back."""
        done: list[Doubtful] = []
        posts: list[Post | Outgoing] = []
        for doubt, what, reason in self._doubts.decide():
            post = _moved(doubt, what, is_here=AGAIN in doubt.marks and self._is_here(doubt.place))
            if post is not None:
                posts.append(post)
            if post is not None or what == "drop":
                done.append(doubt)
            else:
                self._put(_Stocked(doubt.queue, doubt.tag, doubt.delivery_tag, doubt.message, reason))
        if not done:
            return
        try:
            lost = self._publisher.post(posts, _monotonic() + MOVE_TIMEOUT, careful=True)
            if lost:
                raise OperationalError(f"The queue {lost[0].queue!r} takes no messages.")
        except OperationalError as exc:  # all else goes on; these are asked about once more
            logger.error("Cannot move %d messages that came back, trying again: %s", len(posts), exc)
            for doubt in done:
                doubt.words.clear()
                doubt.asks, doubt.runs, doubt.ask_at = 0, 0, _monotonic() + MOVE_PAUSE
                self._doubts.add(doubt)
            return
        self._look_at = 0.0
        self._done([doubt.delivery_tag for doubt in done])

    def _is_here(self, place: Place) -> bool:
        """Another copy of the same publish."""
        stock = ((one.queue, one.tag) for one in self.stock)
        return place in self.held or place in stock or place in self._doubts

    def _publish(self, post: Post | Outgoing) -> None:
        self._publisher.post([post], _monotonic() + self._server.timeout)

    # -- handing out ----------------------------------------------------------------------------------------

    def take(self, limit: int) -> list[Delivery]:
        """Up to `limit` messages of the stock, or one suspect."""
        now = _monotonic()
        if now >= self._look_at or now < self._quiet_until:
            suspect = self._look(now)
            if suspect is not None:
                return [suspect]
        if now < self._alone_until or (now < self._quiet_until and self.held):
            return []
        if self._doubts and self._doubts.are_fresh():  # they were first
            return []
        self._tune(limit, now)
        stock, held = self.stock, self.held
        taken: list[Delivery] = []
        for _ in range(min(limit, len(stock))):
            queue, tag, delivery_tag, message, ended = stock.popleft()
            while (queue, tag) in held:  # another copy of a message that is here already
                tag = (tag + 1) % (1 << 62)
            held[queue, tag] = _new(Held, (delivery_tag, message, 0))
            taken.append(_new(Delivery, (queue, tag, message, 0, ended)))
        return taken

    def hold_stock(self) -> list[Place]:
        """Take what is in stock, as if it were handed out; where it is. What was killed to end it stays: a
        copy would run again."""
        places: list[Place] = []
        stock, self.stock = self.stock, deque(one for one in self.stock if one.ended)
        for queue, tag, delivery_tag, message, ended in stock:
            if ended:
                continue
            while (queue, tag) in self.held:
                tag = (tag + 1) % (1 << 62)
            self.held[queue, tag] = Held(delivery_tag, message)
            places.append((queue, tag))
        return places

    def restock(self, place: Place) -> None:
        """Put back what was handed out and did not start."""
        one = self.held.pop(place)
        self.stock.append(_Stocked(*place, one.delivery_tag, one.message))

    def _tune(self, limit: int, now: float) -> None:
        """Have as many sent ahead as fit what is asked for and what is out."""
        need = limit + len(self._open) - len(self.stock)
        window = need if need <= EXACT else 1 << (need - 1).bit_length()
        if self._window and window >= self._window:
            self._narrow_at = now + PATIENCE
        if not self._window or window > self._window:
            self._consume(window)
            self._narrow_at = now + PATIENCE
        elif window < self._window and now >= self._narrow_at:
            self.pause()
            self._consume(window)
            self._narrow_at = now + PATIENCE

    def _consume(self, window: int) -> None:
        """Have that much sent ahead of each queue. A window is widened by another consumer beside the first:
        what is on its way to one that is cancelled goes back as if it had been delivered (quorum queues)."""
        channel = self._channel or self.connect(_monotonic() + self._server.timeout)
        deadline = _monotonic() + self._server.timeout
        channel.qos(window - self._window, deadline=deadline)
        for queue in self._queues:
            self._consumers += 1
            tag = f"c{self._consumers}"
            self._queue_of[tag] = queue
            channel.consume(queue, tag, deadline=deadline)
        self._window = window
        self._consumed_at = _monotonic()
        if channel.arrivals:
            self._sort(channel.arrivals)

    def pause(self) -> Channel:
        """Have nothing sent ahead from now on."""
        channel = self._channel or self.connect(_monotonic() + self._server.timeout)
        if self._window:
            self._await_full()
            self._window = 0
            for tag in self._queue_of:
                channel.cancel(tag, deadline=_monotonic() + self._server.timeout)
            self._sort(channel.arrivals)
            self._queue_of.clear()
        return channel

    def _await_full(self) -> None:
        """Let what is on its way arrive, for a moment: a quorum queue takes back as if it had been delivered
        what meets a cancelled consumer."""
        assert self._desk is not None
        self.flush()
        deadline = _monotonic() + ON_ITS_WAY
        while len(self._open) < self._window * len(self._queues) and _monotonic() < deadline:
            self._desk.link.read(ON_ITS_WAY / 4)
            if self._channel is not None and self._channel.arrivals:
                self._sort(self._channel.arrivals)

    # -- suspects -------------------------------------------------------------------------------------------

    def is_ready(self) -> bool:
        """Whether there is something to hand out, or it is time to look for suspects."""
        now = _monotonic()
        if now >= self._look_at:
            return True
        if self._doubts and self._doubts.are_fresh():
            return False
        return bool(self.stock) and now >= self._alone_until and (not self.held or now >= self._quiet_until)

    def _look(self, now: float) -> Delivery | None:
        """Take a suspect, if there is one and it can run alone."""
        assert self._desk is not None
        if self.held and now < self._quiet_until:
            return None
        self._look_at = now + LOOK * random.uniform(0.7, 1.3)
        deadline = now + self._server.timeout
        self._check_consumers(now, deadline)
        waiting = [queue for queue in self._queues if self._suspects_of(queue, deadline)]
        if not waiting:
            self._vain = 0
            return None
        if self.held and self._vain < VAIN:  # let them end, and look again
            self._vain += 1
            self._quiet_until = now + QUIET
            return None
        self._vain, self._quiet_until = 0, 0.0
        if self._trail is not None and not self._trail.alone():
            self._look_at = now + QUARANTINE / 4
            return None
        random.shuffle(waiting)
        for queue in waiting:
            suspect = self._get(queue, deadline)
            if suspect is not None:
                self._look_at = 0.0  # there may be more
                return suspect
        if self._trail is not None:
            self._trail.free()
        return None

    def _check_consumers(self, now: float, deadline: float) -> None:
        """A quorum queue that is deleted and declared again does not always tell its consumers, and may count
        them on."""
        assert self._desk is not None
        if not self._window or now < self._consumed_at + LOOK:
            return
        for queue in self._queues:
            state = self._desk.desk(deadline).queue_declare(queue, passive=True, deadline=deadline)
            if not state.consumers:
                raise OperationalError(f"RabbitMQ has forgotten the consumer of {queue!r}; consuming anew.")
            arguments = dict(self._topology.described(queue)[0].arguments)
            if state.messages and not self._open and not arguments.get("x-single-active-consumer"):
                self._starved += 1
                if self._starved > STARVED:
                    self._starved = 0
                    raise OperationalError(f"RabbitMQ sends nothing of {queue!r}; consuming anew.")

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
        self._open[arrival.delivery_tag] = None
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
        self.held[queue, tag] = Held(arrival.delivery_tag, message, crashes)
        self._suspect, self._alone_until = (queue, tag), _monotonic() + QUARANTINE
        return Delivery(queue, tag, message, crashes)

    # -- settling -------------------------------------------------------------------------------------------

    def settle(self, places: Sequence[Place]) -> None:
        """Acknowledge what is held there."""
        held = self.held
        self._done([one.delivery_tag for place in places if (one := held.pop(place, None)) is not None])
        if self._suspect is not None and self._suspect not in held:
            self._suspect, self._alone_until = None, 0.0
            if self._trail is not None:
                self._trail.free()

    def _done(self, delivery_tags: Iterable[int]) -> None:
        """Acknowledge: one frame for all up to the oldest that is still open, one for each of the others."""
        channel, opened = self._channel, self._open
        closing = set(delivery_tags)
        if channel is None or not closing:
            return
        upto = 0
        front: list[int] = []
        for delivery_tag in opened:
            if delivery_tag not in closing:
                break
            front.append(delivery_tag)
        for upto in front:
            del opened[upto]
        closing.difference_update(front)
        if upto:
            channel.ack(upto, multiple=True)
        for delivery_tag in sorted(closing):
            del opened[delivery_tag]
            channel.ack(delivery_tag)


def _moved(doubt: Doubtful, what: str, *, is_here: bool = False) -> Post | Outgoing | None:
    """The copy that takes the place of a delivery that came back; None when it is handed out here, or is
    no more. `is_here`: another copy of the same publish is at this consumer as well."""
    queue, message, crashes = doubt.queue, doubt.message, doubt.crashes
    times = count_of(doubt.marks, PARKED) + 1
    if what == "park":
        again = {AGAIN: 1} if AGAIN in doubt.marks else {}
        return copies.parked(queue, message, crashes, times, copies.PARKS[min(times, 3) - 1], **again)
    if is_here and not doubt.is_suspect and what in ("run", "crash"):
        return copies.parked(queue, message, crashes, times, copies.apart(), **{AGAIN: 1})
    in_turmoil = doubt.patience > ASKS
    if what == "run" and AGAIN in doubt.marks and not doubt.is_suspect and times <= (4 if in_turmoil else 1):
        # The first copy is there, has been given back as well, and comes first; unless the server has died.
        return copies.parked(queue, message, crashes, times, copies.apart(), **{AGAIN: 1})
    if what == "run" and crashes:
        return copies.suspect(queue, message, crashes)
    if what != "crash":
        return None
    if doubt.is_suspect and not doubt.came_back:  # nobody has known it all the time: it runs now
        return copies.suspect(queue, message, crashes, rename=False)
    if doubt.came_back and not (AGAIN in doubt.marks and times <= 2):
        if doubt.words:
            return copies.suspect(queue, message, crashes + 1)
        # Where a publish was in doubt another copy may be about to run: asked once more. Not for all, since
        # suspects are asked about one by one.
        marks = {AGAIN: 1} if AGAIN in doubt.marks and not doubt.is_suspect else {}
        return copies.suspect(queue, message, crashes + 1, rename=False, **marks)
    # A publish was in doubt, and the first copy is not known anywhere: it may be waiting before this one.
    return copies.parked(queue, message, crashes, times, copies.apart(), **{AGAIN: 1}) if times == 1 else None
