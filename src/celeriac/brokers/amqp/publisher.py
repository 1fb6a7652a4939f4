"""Storing messages: every publish is confirmed and must find a queue; a batch waits once.

1. `Publisher.publish`: the seam's. One message to one queue, now, over a free line, is the hot path.
2. `Publisher.post`: the same for messages whose exchange and key are known, as consumers need it; tells which
   found no queue.
3. What may go wrong, and what then:
   - no queue (*returned*): it may have been deleted; it is declared and the message sent once more;
   - refused (*nacked*: the queue is full, or has no majority): `OperationalError`;
   - the line is lost: what was not confirmed may or may not be stored. It is sent again until the deadline,
     marked, so that whoever receives the copy asks whether it has run (`wire.amqp.AGAIN`);
   - an alarm on the server: `OperationalError` at the deadline, which says so.

Not here: connections (`lines.py`), declarations (`topology.py`), delays (`delays.py`).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from celeriac import failpoints
from celeriac.brokers.amqp import delays
from celeriac.brokers.amqp.lines import PAUSES, Line, Lines
from celeriac.brokers.amqp.topology import Topology
from celeriac.brokers.base import Outgoing
from celeriac.brokers.routing import unroutable
from celeriac.exceptions import EncodeError, OperationalError, QueueNotFound
from celeriac.transport.amqp.channel import Channel
from celeriac.transport.amqp.values import Blocked, ChannelClosed, Refused
from celeriac.utils.identity import delivery_tag
from celeriac.wire.amqp import AGAIN, DUE
from celeriac.wire.message import Message, Unreadable

__all__ = ["Post", "Publisher", "sendable"]

#: Messages that are made and sent together.
CHUNK: Final = 500
#: How often messages are offered again that a queue refuses.
_REFUSALS: Final = 4
#: Asks whether the server takes messages: one to a queue that does not exist is confirmed and dropped.
_NOBODY: Final = "celeriac.nobody"
_PROBE: Final = Message(b"", "", "", {}, {})
_NOT_FOUND = 404
_TOO_LARGE = 311
_monotonic = time.monotonic
_time = time.time
_new: Final = tuple.__new__


class Post(NamedTuple):
    """A message with its address. `queue`: the one to declare when it comes back, empty: none."""

    exchange: str
    routing_key: str
    message: Message | Unreadable
    queue: str = ""


def sendable(message: Message) -> Message:
    """`message` with what AMQP calls its name, the delivery tag; and with
    the time of its first publish, by which a stored result is known to be younger.

    Not with its `expiration`: RabbitMQ would drop it without a word, and its result would stay PENDING. All
    workers, Celery's as well, look at the header `expires`, and store REVOKED.
    """
    body, content_type, content_encoding, headers, given = message
    tag = given.get("delivery_tag")
    properties = {**given, "message_id": tag if type(tag) is str and tag else delivery_tag()}
    properties.pop("expiration", None)
    if "timestamp" not in properties:
        properties["timestamp"] = int(_time())
    return _new(Message, (body, content_type, content_encoding, headers, properties))


class _Patience:
    """How often what may be tried again within one call."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._pauses = list(PAUSES)
        self._refusals = 0
        self._second = False

    def once(self) -> bool:
        """True the first time."""
        first, self._second = not self._second, True
        return first

    def after(self, failure: OperationalError) -> None:
        """Go on after a failure, or raise it."""
        if isinstance(failure, ChannelClosed):
            if failure.code == _TOO_LARGE:
                raise EncodeError(f"RabbitMQ takes no message that large: {failure.text}") from failure
            if failure.code != _NOT_FOUND or not self.once():
                raise failure
        elif isinstance(failure, (Refused, Blocked)):
            raise failure
        else:
            self._pause(failure)

    def refused(self, count: int, total: int) -> None:
        """A quorum queue that has just been declared, or is choosing its leader, refuses for a moment."""
        self._refusals += 1
        error = OperationalError(
            f"RabbitMQ refused {count} of {total} messages: a queue is full (its overflow is reject-publish) "
            "or has lost its majority. They are not stored."
        )
        if self._refusals > _REFUSALS:
            raise error
        self._pause(error)

    def _pause(self, error: OperationalError) -> None:
        pause, longest = self._pauses
        if _monotonic() + pause >= self._deadline:
            raise error
        time.sleep(pause)
        self._pauses[0] = min(2 * pause, longest)


class Publisher:
    """Thread-safe: each call works over a line of its own."""

    def __init__(self, lines: Lines, topology: Topology) -> None:
        self._lines = lines
        self._topology = topology

    def publish(self, batch: Sequence[Outgoing], *, timeout: float | None = None) -> None:
        """See `Broker.publish`."""
        if not batch:
            return
        if failpoints.on:
            failpoints.begin("publish")
        deadline = _monotonic() + (self._lines.server.timeout if timeout is None else timeout)
        outs: dict[str, Outgoing] = {}
        returned = self._deliver(batch, deadline, outs, [])
        if returned:
            raise unroutable(outs[_name(returned[0])])

    def post(self, posts: Sequence[Post | Outgoing], deadline: float, *, careful: bool = False) -> list[Post]:
        """Store `posts`; return those that found no queue.

        Args:
            careful: try first whether the server takes anything now. While an alarm is on it leaves what we
                send in the socket and stores it in the end, when we have given up long ago.
        """
        homeless: list[Post] = []
        return (
            [*self._deliver(posts, deadline, {}, homeless, strict=False, careful=careful), *homeless]
            if posts
            else []
        )

    def probe(self, deadline: float) -> None:
        """Raises `OperationalError` when the server takes no publishes now."""
        self._deliver([], deadline, {}, [], careful=True)

    # -- attempts -------------------------------------------------------------------------------------------

    def _deliver(
        self,
        batch: Sequence[Post | Outgoing],
        deadline: float,
        outs: dict[str, Outgoing],
        homeless: list[Post],
        *,
        strict: bool = True,
        careful: bool = False,
    ) -> list[Post]:
        """Try until everything is answered for; return what no queue takes. `homeless`: those whose exchange
        does not exist, which is an error when `strict`."""
        rest: Sequence[Post | Outgoing] = batch
        returned: list[Post] = []
        again = _Patience(deadline)
        begun = _time()
        while True:
            line = self._lines.take(deadline)
            sender = line.sender  # another one, once the server has closed it
            posts: list[Post] = []
            reached = 0  # so many of `rest` are in `posts`, or homeless
            sent: dict[int, Post] = {}
            failure: OperationalError | None = None
            try:
                if careful:
                    sender.publish("", _NOBODY, _PROBE)
                    sender.await_confirms(deadline)
                while reached < len(rest):  # the server stores one part while we make the next
                    part = rest[reached : reached + CHUNK]
                    lost: list[Post] = []
                    some = self._addressed(line, part, deadline, outs, None if strict else lost, begun)
                    posts += some
                    homeless += lost
                    reached += len(part)
                    for post in some:
                        sent[
                            sender.publish(post.exchange, post.routing_key, post.message, mandatory=True)
                        ] = post
                    if reached < len(rest):
                        line.link.flush(deadline)
                sender.await_confirms(deadline)
                if not sender.returned and not sender.nacked:  # as nearly always
                    self._lines.give(line)
                    return returned
            except OperationalError as exc:
                failure = exc
            except Exception:  # one cannot be made: those before it are stored before anybody goes on
                with contextlib.suppress(OperationalError):  # then it is not known, as after any failure
                    sender.await_confirms(deadline)
                line.close()
                raise
            except BaseException:  # a signal's exception too: confirms are still to come, out of step
                line.close()
                raise
            back, refused = _verdicts(sender, sent)
            rest = [*_unanswered(sender, posts, sent), *rest[reached:]]
            self._put_away(line, failure, deadline)
            if failure is not None:
                again.after(failure)
                if isinstance(failure, ChannelClosed):
                    self._topology.forget()  # an exchange has vanished
                    rest = [_readdressed(post, outs) for post in rest]
            if back and again.once():
                for post in back:
                    self._topology.forget(post.queue or None)
                rest = [*rest, *back]
            else:
                returned += back
            if refused:
                again.refused(len(refused), len(batch))
                rest = [*rest, *refused]
            if not rest:
                return returned

    def _put_away(self, line: Line, failure: OperationalError | None, deadline: float) -> None:
        if failure is None:
            self._lines.give(line)
        elif isinstance(failure, ChannelClosed):
            self._lines.keep(line, deadline)
        else:
            line.close()

    def _addressed(
        self,
        line: Line,
        batch: Sequence[Post | Outgoing],
        deadline: float,
        outs: dict[str, Outgoing],
        homeless: list[Post] | None,
        begun: float,
    ) -> list[Post]:
        """`batch` as posts, everything they need being declared. `begun`: when countdowns began."""
        topology = self._topology
        posts: list[Post] = []
        for one in batch:
            if type(one) is Post:
                if one.queue:
                    topology.ensure(line, one.queue, deadline)
                elif one.exchange.startswith(delays.ENTRY):
                    topology.ensure_waits(line, one.routing_key, deadline)
                posts.append(one)
                continue
            assert isinstance(one, Outgoing)
            message, queue, exchange, key, priority, countdown, due = one
            message = sendable(message)
            if priority != message.properties.get("priority", 0):
                message.properties["priority"] = priority
            outs[message.properties["message_id"]] = one
            try:
                if countdown is not None:
                    due = begun + countdown
                if due is not None and due > _time():
                    posts += self._delayed(line, one, message, due, deadline)
                elif queue or not exchange:
                    queue = queue or key
                    topology.ensure(line, queue, deadline)
                    posts.append(_new(Post, ("", queue, message, queue)))
                else:
                    topology.ensure_exchange(line, one, deadline)
                    posts.append(Post(exchange, key, message))
            except QueueNotFound:
                if homeless is None:
                    raise
                homeless.append(Post(exchange, key, message))
        return posts

    def _delayed(
        self, line: Line, out: Outgoing, message: Message, due: float, deadline: float
    ) -> list[Post]:
        suffixes = self._topology.delayed_suffixes(line, out, deadline)  # declares, the first time
        left = max(delays.STEP, due - _time())
        if left > delays.LONGEST:
            message = message._replace(headers={**message.headers, DUE: due})
            left = float(delays.LONGEST)
        routes = [delays.route(left, suffix) for suffix in suffixes]
        for _, key in routes:
            self._topology.ensure_waits(line, key, deadline)
        return [Post(exchange, key, message) for exchange, key in routes]


def _name(post: Post) -> str:
    message = post.message
    return "" if isinstance(message, Unreadable) else str(message.properties.get("message_id", ""))


def _readdressed(post: Post | Outgoing, outs: dict[str, Outgoing]) -> Post | Outgoing:
    """The message as it was asked for, so that its exchange is looked for again."""
    if not isinstance(post, Post):
        return post
    out = outs.get(_name(post))
    if out is None or not isinstance(post.message, Message):
        return post
    return out._replace(message=post.message)


def _verdicts(sender: Channel, sent: dict[int, Post]) -> tuple[list[Post], list[Post]]:
    """The posts that came back, and those that were refused."""
    if not sender.returned and not sender.nacked:
        return [], []
    refused = [sent[seq] for seq in sender.nacked if seq in sent]
    names = {(each.exchange, each.routing_key, _name(Post("", "", each.message))) for each in sender.returned}
    sender.returned.clear()
    sender.nacked.clear()
    back = [post for post in sent.values() if (post.exchange, post.routing_key, _name(post)) in names]
    return back, refused


def _unanswered(sender: Channel, posts: Sequence[Post], sent: dict[int, Post]) -> list[Post | Outgoing]:
    """What is to be sent again after the line or its channel was lost: marked when it went out before."""
    if not sender.unconfirmed and len(sent) == len(posts):
        return []
    numbers = {id(post): seq for seq, post in sent.items()}
    again: list[Post | Outgoing] = []
    for post in posts:
        seq = numbers.get(id(post))
        if seq is None:
            again.append(post)
        elif not sender.is_confirmed(seq):
            message = post.message
            if isinstance(message, Message):
                message = message._replace(headers={**message.headers, AGAIN: 1})
            again.append(post._replace(message=message))
    return again
