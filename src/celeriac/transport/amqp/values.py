"""What crosses the border of the AMQP transport.

1. `Arrival`: a delivered message. `Returned`: one that no queue took. `QueueState`: what a declaration tells.
2. The errors, all `OperationalError`: `Disconnected` (the connection is gone), `Refused` (the server did not
   let us in), `ChannelClosed` (the server closed one channel, and said why), `Blocked` (it takes no
   publishes now).
"""

from __future__ import annotations

from typing import NamedTuple

from celeriac.exceptions import OperationalError
from celeriac.wire.message import Message, Unreadable

__all__ = ["Arrival", "Blocked", "ChannelClosed", "Disconnected", "QueueState", "Refused", "Returned"]


class Arrival(NamedTuple):
    """A message that the server handed over. `delivery_tag` is good on its channel only.

    `consumer_tag` is empty for one fetched by `Channel.get`. An `Unreadable` message has lost nothing: see
    `content.py` for what its `raw` is.
    """

    consumer_tag: str
    delivery_tag: int
    redelivered: bool
    exchange: str
    routing_key: str
    message: Message | Unreadable


class Returned(NamedTuple):
    """A `mandatory` message that came back: no queue is bound (312), or the server could not take it."""

    code: int
    text: str
    exchange: str
    routing_key: str
    message: Message | Unreadable


class QueueState(NamedTuple):
    """What the server says when a queue is declared. `messages` counts those ready to be delivered."""

    name: str
    messages: int
    consumers: int


class Disconnected(OperationalError):
    """The connection broke, was closed by the server, or nothing came in time. What was sent and not
    confirmed may or may not have been done. `code` is the server's reply code, 0 when it said none."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class Refused(Disconnected):
    """The server did not let us in: wrong password (403), no such virtual host or no right to it (530)."""


class ChannelClosed(OperationalError):
    """The server closed one channel; the others of the connection go on.

    Attributes:
        code: AMQP's reply code: 404 not found, 405 locked (exclusive), 406 precondition failed, 403, 311,
        541 …
        text: the server's own words.
    """

    def __init__(self, code: int, text: str, where: str = "") -> None:
        super().__init__(f"RabbitMQ{f' at {where}' if where else ''} closed a channel: {code} {text}")
        self.code = code
        self.text = text


class Blocked(OperationalError):
    """The server takes no publishes now (memory or disk alarm); it is not known that it took what was
    sent."""
