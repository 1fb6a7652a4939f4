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
from celeriac.transport.amqp.values import Blocked, ChannelClosed, Refused
from celeriac.wire.amqp import AGAIN, DUE
from celeriac.wire.identity import delivery_tag
from celeriac.wire.message import Message, Unreadable

__all__ = ["Post", "Publisher", "sendable"]

#: Messages between two looks at what the server says.
CHUNK: Final = 500
_NOT_FOUND = 404
_TOO_LARGE = 311
_monotonic = time.monotonic


class Post(NamedTuple):
    """A message with its address. `queue`: the one to declare when it comes back, empty: none."""

    exchange: str
    routing_key: str
    message: Message | Unreadable
    queue: str = ""


def sendable(message: Message) -> Message:
    """`message` with what AMQP calls its name: the delivery tag, which every message of ours has."""
    properties = message.properties
    tag = properties.get("delivery_tag")
    named = {**properties, "message_id": tag if type(tag) is str and tag else delivery_tag()}
    return message._replace(properties=named)


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

    def post(self, posts: Sequence[Post | Outgoing], deadline: float) -> list[Post]:
        """Store `posts`; return those that found no queue."""
        homeless: list[Post] = []
        return [*self._deliver(posts, deadline, {}, homeless, strict=False), *homeless] if posts else []

    # -- attempts -------------------------------------------------------------------------------------------

    def _deliver(
        self,
        batch: Sequence[Post | Outgoing],
        deadline: float,
        outs: dict[str, Outgoing],
        homeless: list[Post],
        *,
        strict: bool = True,
    ) -> list[Post]:
        """Try until everything is answered for; return what no queue takes. `homeless`: those whose exchange
        does not exist, which is an error when `strict`."""
        pause = PAUSES[0]
        rest: Sequence[Post | Outgoing] = batch
        returned: list[Post] = []
        retried = False
        while True:
            line = self._lines.take(deadline)
            posts: list[Post] = []
            sequence: dict[int, Post] = {}
            try:
                posts = self._addressed(line, rest, deadline, outs, None if strict else homeless)
                self._send(line, posts, deadline, sequence)
                self._lines.give(line)
                rest = []
            except (Refused, Blocked):
                line.close()
                raise
            except ChannelClosed as exc:
                self._lines.keep(line, deadline)
                if exc.code == _TOO_LARGE:
                    raise EncodeError(f"RabbitMQ takes no message that large: {exc.text}") from exc
                if exc.code != _NOT_FOUND or retried:
                    raise
                self._topology.forget()  # an exchange has vanished
                retried = True
                rest = [_readdressed(post, outs) for post in _unanswered(line, posts, sequence)]
            except OperationalError:
                line.close()
                if _monotonic() + pause >= deadline:
                    raise
                if posts:
                    rest = _unanswered(line, posts, sequence)
                time.sleep(pause)
                pause = min(2 * pause, PAUSES[1])
            except BaseException:
                line.close()
                raise
            back, self_refused = _verdicts(line, posts)
            if self_refused:
                raise OperationalError(
                    f"RabbitMQ refused {self_refused} of {len(posts)} messages: a queue is full (its "
                    "overflow is reject-publish) or has lost its majority. They are not stored."
                )
            if back and not retried:
                retried = True
                for post in back:
                    self._topology.forget(post.queue or None)
                rest = [*rest, *back]
            else:
                returned += back
            if not rest:
                return returned

    def _addressed(
        self,
        line: Line,
        batch: Sequence[Post | Outgoing],
        deadline: float,
        outs: dict[str, Outgoing],
        homeless: list[Post] | None,
    ) -> list[Post]:
        """`batch` as posts, everything they need being declared."""
        topology = self._topology
        posts: list[Post] = []
        for one in batch:
            if type(one) is Post:
                if one.queue:
                    topology.ensure(line, one.queue, deadline)
                posts.append(one)
                continue
            assert isinstance(one, Outgoing)
            message, queue, exchange, key, priority, countdown, due = one
            message = sendable(message)
            if priority != message.properties.get("priority", 0):
                message.properties["priority"] = priority
            outs[message.properties["message_id"]] = one
            try:
                left = 0.0
                if countdown is not None or due is not None:
                    left = countdown if countdown is not None else (due or 0.0) - time.time()
                if left > 0:
                    posts += self._delayed(line, one, message, left, deadline)
                elif queue or not exchange:
                    topology.ensure(line, queue or key, deadline)
                    posts.append(Post("", queue or key, message, queue or key))
                else:
                    topology.ensure_exchange(line, one, deadline)
                    posts.append(Post(exchange, key, message))
            except QueueNotFound:
                if homeless is None:
                    raise
                homeless.append(Post(exchange, key, message))
        return posts

    def _delayed(
        self, line: Line, out: Outgoing, message: Message, left: float, deadline: float
    ) -> list[Post]:
        if left > delays.LONGEST:
            message.properties["delivery_mode"] = 2
            message = message._replace(headers={**message.headers, DUE: time.time() + left})
            left = float(delays.LONGEST)
        suffixes = self._topology.delayed_suffixes(line, out, deadline)
        return [Post(*delays.route(left, suffix), message) for suffix in suffixes]

    def _send(self, line: Line, posts: list[Post], deadline: float, sequence: dict[int, Post]) -> None:
        """Publish and wait for all confirms. `sequence`: what went out under which number."""
        sender = line.sender
        for count, post in enumerate(posts, 1):
            exchange, key, message, _ = post
            sequence[sender.publish(exchange, key, message, mandatory=True)] = post
            if count % CHUNK == 0:
                line.link.flush(deadline)
        sender.await_confirms(deadline)


def _name(post: Post) -> str:
    message = post.message
    return "" if isinstance(message, Unreadable) else str(message.properties.get("message_id", ""))


def _readdressed(post: Post, outs: dict[str, Outgoing]) -> Post | Outgoing:
    """The message as it was asked for, so that its exchange is looked for again."""
    out = outs.get(_name(post))
    if out is None or not isinstance(post.message, Message):
        return post
    return out._replace(message=post.message)


def _verdicts(line: Line, posts: Sequence[Post]) -> tuple[list[Post], int]:
    """The posts that came back, and how many were refused."""
    sender = line.sender
    if not sender.returned and not sender.nacked:
        return [], 0
    refused = len(sender.nacked)
    names = {(each.exchange, each.routing_key, _name(Post("", "", each.message))) for each in sender.returned}
    sender.returned.clear()
    sender.nacked.clear()
    return [post for post in posts if (post.exchange, post.routing_key, _name(post)) in names], refused


def _unanswered(line: Line, posts: Sequence[Post], sequence: dict[int, Post]) -> list[Post]:
    """What is to be sent again after the line or its channel was lost: marked when it went out before."""
    sender = line.sender
    sent = {id(post): seq for seq, post in sequence.items()}
    again: list[Post] = []
    for post in posts:
        seq = sent.get(id(post))
        if seq is None:
            again.append(post)
        elif not sender.is_confirmed(seq):
            message = post.message
            if isinstance(message, Message):
                message = message._replace(headers={**message.headers, AGAIN: 1})
            again.append(post._replace(message=message))
    return again
