"""How many Python functions a message costs on an AMQP connection. Numbers that may only fall."""

from __future__ import annotations

import uuid

from tests.budget.tracing import called
from tests.unit.transport.test_amqp_codec import a_channel, delivery

from celeriac.wire.message import Message
from celeriac.wire.protocol import write


def messages(count: int) -> list[Message]:
    return [
        write(name="proj.noop", id=str(uuid.uuid4()), args=(number,), routing_key="celery", reply_to="r")
        for number in range(count)
    ]


def test_taking_in_a_hundred_deliveries() -> None:
    _, channel, stream, _ = a_channel()
    data = b"".join(delivery(message, tag) for tag, message in enumerate(messages(100), 1))
    stream.feed(data)  # names, texts and runs of headers are learnt
    assert len(called(lambda: stream.feed(data))) <= 202
    assert len(channel.arrivals) == 200


def test_publishing_a_message() -> None:
    _, channel, _, _ = a_channel()
    one, other = messages(2)
    channel.publish("", "celery", one)
    assert len(called(lambda: channel.publish("", "celery", other))) <= 8


def test_acknowledging_a_delivery() -> None:
    _, channel, _, _ = a_channel()
    assert len(called(lambda: channel.ack(1, multiple=True))) <= 2
