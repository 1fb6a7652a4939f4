"""Speaking for a node: a thread that answers other nodes' questions about deliveries.

1. `Attendant`: listens on a queue of its own (exclusive: it is gone when the node is), answers what it is
   asked, passes on what it is told.
2. It reconnects for ever; while it is away, whoever asks waits a little and asks again.

Not here: the answers (`worker/whereabouts.py`), the questions (`inquiry.py`).
"""

from __future__ import annotations

import logging
import random
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from celeriac.brokers.amqp import names
from celeriac.brokers.amqp.inquiry import letter, read_letter
from celeriac.brokers.base import Answer, Place
from celeriac.exceptions import OperationalError
from celeriac.transport.alarm import Alarm
from celeriac.transport.amqp.channel import Channel
from celeriac.transport.amqp.link import Link
from celeriac.transport.amqp.url import AmqpServer
from celeriac.transport.amqp.values import Arrival
from celeriac.wire.message import Message

__all__ = ["Attendant"]

logger = logging.getLogger("celeriac.broker")

#: Seconds between attempts to connect: first and longest.
_PAUSES: Final = (0.1, 1.0)


class Attendant(threading.Thread):
    """See `Broker.attend`. Start it, and `stop` it. `homes`: gives those that are known; None: not yet."""

    def __init__(
        self,
        server: AmqpServer,
        answer: Answer,
        learn: Callable[[Sequence[Place]], None],
        home: str = "",
        homes: Callable[[], Sequence[str] | None] = lambda: None,
    ) -> None:
        super().__init__(name="attendant", daemon=True)
        self._server = server
        self._answer = answer
        self._learn = learn
        self._home = home
        self._homes = homes
        self._alarm = Alarm()
        self._name = secrets.token_hex(8)
        self._stopped = False
        self.listening = threading.Event()

    def stop(self) -> None:
        self._stopped = True
        self._alarm.ring()

    def run(self) -> None:
        pause = _PAUSES[0]
        while not self._stopped:
            link = None
            try:
                link = Link.dial(self._server, deadline=time.monotonic() + self._server.timeout)
                channel = self._listen(link)
                pause = _PAUSES[0]
                self._serve(link, channel)
            except OperationalError as exc:
                logger.debug("The attendant lost its connection: %s", exc)
            except Exception as exc:  # others must be answered whatever happens here
                logger.critical("The attendant failed: %r", exc, exc_info=True)
            finally:
                self.listening.clear()
                if link is not None:
                    link.close()
            if not self._stopped:
                self._alarm.wait(pause * random.uniform(0.5, 1.0))
                pause = min(2 * pause, _PAUSES[1])

    def _listen(self, link: Link) -> Channel:
        channel = link.channel()
        channel.exchange_declare(names.NODES, "fanout")
        queue = channel.queue_declare("", durable=False, exclusive=True).name
        channel.queue_bind(queue, names.NODES)
        channel.consume(queue, "questions", no_ack=True)
        self.listening.set()
        return channel

    def _serve(self, link: Link, channel: Channel) -> None:
        while not self._stopped:
            link.read(0)
            if channel.error is not None:
                raise channel.error
            if channel.cancelled:
                raise OperationalError("RabbitMQ deleted the node's queue")
            while channel.arrivals:
                self._hear(channel, channel.arrivals.popleft())
            link.flush(time.monotonic() + self._server.timeout)
            self._alarm.wait(min(2.0, link.heartbeat / 2 or 2.0), link.fileno())

    def _hear(self, channel: Channel, arrival: Arrival) -> None:
        content = read_letter(arrival.message)
        if told := _places(content.get("done")):
            self._learn(told)
        asked = _places(content.get("ask"))
        if not asked or not isinstance(arrival.message, Message):
            return
        words = self._answer(asked)
        reply: Mapping[str, Any] = {
            "words": [[*place, word.fate, word.age] for place, word in words.items() if word.fate],
            "claims": [[*place, name] for place, word in words.items() for name in word.claims],
            "node": self._name,
            "home": self._home,
            "homes": self._homes(),
            "number": content.get("number"),
        }
        channel.publish("", arrival.message.properties.get("reply_to") or "", letter(reply))


def _places(listed: object) -> list[Place]:
    """What is well formed among the (queue, tag) pairs of a message."""
    if not isinstance(listed, list):
        return []
    return [
        (pair[0], pair[1])
        for pair in listed
        if isinstance(pair, list) and len(pair) == 2 and type(pair[0]) is str and type(pair[1]) is int
    ]
