"""How many Python functions a message costs on an AMQP connection. Numbers that may only fall."""

from __future__ import annotations

import gc
import sys
import uuid
from collections.abc import Callable
from types import FrameType

from tests.unit.transport.test_amqp_codec import a_channel, delivery

from celeriac.wire.message import Message
from celeriac.wire.protocol import write


def calls(work: Callable[[], object]) -> int:
    """How many Python functions `work` calls."""
    seen: list[str] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            seen.append(frame.f_code.co_name)

    gc.disable()  # others may have hung functions on the collector
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
        gc.enable()
    return len(seen) - 1  # `work` itself


def messages(count: int) -> list[Message]:
    return [
        write(name="proj.noop", id=str(uuid.uuid4()), args=(number,), routing_key="celery", reply_to="r")
        for number in range(count)
    ]


def test_taking_in_a_hundred_deliveries() -> None:
    _, channel, stream, _ = a_channel()
    data = b"".join(delivery(message, tag) for tag, message in enumerate(messages(100), 1))
    stream.feed(data)  # names, texts and runs of headers are learnt
    assert calls(lambda: stream.feed(data)) <= 202
    assert len(channel.arrivals) == 200


def test_publishing_a_message() -> None:
    _, channel, _, _ = a_channel()
    one, other = messages(2)
    channel.publish("", "celery", one)
    assert calls(lambda: channel.publish("", "celery", other)) <= 8


def test_acknowledging_a_delivery() -> None:
    _, channel, _, _ = a_channel()
    assert calls(lambda: channel.ack(1, multiple=True)) <= 2
