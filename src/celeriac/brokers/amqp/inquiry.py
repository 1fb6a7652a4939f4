"""Asking all nodes what they know of deliveries that came back, over a connection of its own.

1. `Inquiry.ask` sends a question to the exchange that every node listens on; answers come to the same channel
   (RabbitMQ's direct reply-to), and `Inquiry.poll` brings them.
2. `Inquiry.tell` says that deliveries are done whose acknowledgements could not be sent.
3. `Inquiry.silent` tells who has not answered a question: silence proves something only when it is not that
   of a node which is on its way back. `Inquiry.all_homes`: everybody who can ever have had it has answered.
4. The two messages: JSON objects, `{"ask": [[queue, tag], …], "number": n}` answered by each node with
   `{"words": [[queue, tag, fate, age], …], "claims": [[queue, tag, consumer], …], "node": …, "number": n,
   "home": …, "homes": […]}`, and `{"done": [[queue, tag], …]}`.

Not here: who answers (`nodes.py`), what follows from an answer (`suspects.py`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

from celeriac.brokers.amqp import names
from celeriac.brokers.base import Place, Word
from celeriac.exceptions import DecodeError, OperationalError
from celeriac.transport.amqp.channel import Channel
from celeriac.transport.amqp.link import Link
from celeriac.transport.amqp.url import AmqpServer
from celeriac.wire import json
from celeriac.wire.message import Message, Unreadable

__all__ = ["MOST", "Inquiry", "Silence", "letter", "read_letter"]

_REPLIES: Final = "amq.rabbitmq.reply-to"
#: Seconds between attempts to connect.
_PAUSE: Final = 0.5
#: Places in one message.
MOST: Final = 1000
#: Nodes that are remembered at most.
_NODES: Final = 1000
#: Questions whose answers still matter, at most.
_OPEN: Final = 100

Silence = Literal["", "unheard", "some"]


def letter(content: Mapping[str, Any], **properties: Any) -> Message:
    """A message between nodes."""
    return Message(json.dumps(content), "application/json", "utf-8", {}, {"delivery_mode": 1, **properties})


def read_letter(message: Message | Unreadable) -> Mapping[str, Any]:
    """Its content; empty when it is none of ours."""
    if isinstance(message, Unreadable):
        return {}
    try:
        content = json.loads_plain(message.body)
    except (DecodeError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


class Inquiry:
    """Used by one thread. Nothing is connected before there is something to ask.

    Attributes:
        deaf: the last question reached nobody.
        number: of the last question.
    """

    def __init__(self, server: AmqpServer) -> None:
        self._server = server
        self._link: Link | None = None
        self._channel: Channel | None = None
        self._try_at = 0.0
        self.deaf = False
        self.number = 0
        self._lost = 0  # questions up to this one: their answers cannot come any more
        self._answered: dict[str, int] = {}  # node → the last question it answered
        self._homes: dict[int, tuple[set[str], set[str]]] = {}  # question → homes that there are; answered

    def ask(self, places: Sequence[Place]) -> bool:
        """Send the question, about `MOST` at most, whose number is then `number`; False when nobody can be
        reached at present."""
        return self._send([("ask", places)])

    def silent(self, number: int) -> Silence:
        """Who has not answered that question: nobody did, or its answers are lost (`unheard`); `some` that
        answered earlier ones; else empty."""
        if number <= self._lost or not any(last >= number for last in self._answered.values()):
            return "unheard"
        return "some" if any(last < number for last in self._answered.values()) else ""

    def all_homes(self, number: int) -> bool:
        """Whether all homes that there are have answered that question, so that what none of them knows has
        been read by nobody."""
        there, answered = self._homes.get(number, (set(), set()))
        return bool(there) and there <= answered

    def give_up(self, number: int) -> None:
        """Expect nothing any more of nodes that have not answered that question."""
        self._answered = {node: last for node, last in self._answered.items() if last >= number}

    def tell(self, places: Sequence[Place]) -> bool:
        """Say that `places` are done; False when nobody can be reached at present."""
        return self._send([("done", places[at : at + MOST]) for at in range(0, len(places), MOST)])

    def poll(self) -> Iterable[tuple[int, Place, Word]]:
        """What has been answered since, and to which question."""
        link, channel = self._link, self._channel
        if link is None or channel is None:
            return
        try:
            link.read(0)
            if channel.error is not None:
                raise channel.error
        except OperationalError:
            self.close()
        if channel.returned:
            channel.returned.clear()
            self.deaf = True
        while channel.arrivals:
            content = read_letter(channel.arrivals.popleft().message)
            words, node, number = content.get("words"), content.get("node"), content.get("number")
            claims = content.get("claims")
            if type(node) is str and type(number) is int and len(self._answered) < _NODES:
                self._answered[node] = max(number, self._answered.get(node, 0))
                self._hear_of_homes(number, content.get("home"), content.get("homes"))
            for queue, tag, fate, age in words if isinstance(words, list) else ():
                self.deaf = False
                yield number or 0, (queue, tag), Word(fate, age)
            for queue, tag, name in claims if isinstance(claims, list) else ():
                yield number or 0, (queue, tag), Word("", 0.0, (name,))

    def _hear_of_homes(self, number: int, home: object, homes: object) -> None:
        if isinstance(homes, list) and isinstance(home, str) and home:
            there, answered = self._homes.setdefault(number, (set(), set()))
            there |= {home, *(each for each in homes if isinstance(each, str))}
            answered.add(home)
            for old in [old for old in self._homes if old < self.number - _OPEN]:
                del self._homes[old]

    def fileno(self) -> int | None:
        """To wait for answers; None when there is no connection."""
        return None if self._link is None or self._link.closed else self._link.fileno()

    def tend(self) -> None:
        """Keep the connection alive, if there is one."""
        if self._link is not None:
            try:
                self._link.beat()
            except OperationalError:
                self.close()

    def close(self) -> None:
        if self._link is not None:
            self._link.close()
        self._link = self._channel = None
        self._lost = self.number

    def _send(self, messages: Sequence[tuple[str, Sequence[Place]]]) -> bool:
        try:
            channel = self._open()
            if channel is None or (self._link is not None and self._link.blocked):
                return False  # with an alarm on, the server reads what we send when that is over
            self.deaf = False
            self.number += 1
            for what, places in messages:
                channel.publish(
                    names.NODES,
                    "",
                    letter({what: places, "number": self.number}, reply_to=_REPLIES),
                    mandatory=what == "ask",
                )
            assert self._link is not None
            self._link.flush(time.monotonic() + self._server.timeout)
        except OperationalError:
            self.close()
            return False
        return True

    def _open(self) -> Channel | None:
        link, channel = self._link, self._channel
        if link is not None and not link.closed and channel is not None and channel.error is None:
            return channel
        self.close()
        now = time.monotonic()
        if now < self._try_at:
            return None
        self._try_at = now + _PAUSE
        deadline = now + self._server.timeout
        self._link = Link.dial(self._server, deadline=deadline, heartbeat=0)
        self._channel = self._link.channel(deadline=deadline)
        self._channel.exchange_declare(names.NODES, "fanout", deadline=deadline)
        self._channel.consume(_REPLIES, "answers", no_ack=True, deadline=deadline)
        return self._channel
