"""The raw loop on RabbitMQ with our own bare connection (`python -m … PROCESSES`)."""

from __future__ import annotations

import time
import uuid

from bench import pages, site
from bench.contenders.raw_rabbitmq.shared import (
    BATCH,
    BODY,
    HEADERS,
    PREFETCH,
    QUEUE,
    QUORUM,
    REPLIES,
    TASK,
    WINDOW,
    decode_body,
)
from bench.forks import fork
from celeriac.transport.amqp.link import Link
from celeriac.transport.amqp.url import parse
from celeriac.wire.message import Message


def connect():
    return Link.dial(parse(site.BROKER), deadline=time.monotonic() + 10)


def message():
    name = str(uuid.uuid4())
    headers = {**HEADERS, "id": name, "root_id": name}
    return Message(BODY, "application/json", "utf-8", headers, {"correlation_id": name, "delivery_mode": 2})


_channel = _replies = None


def sender():
    global _channel
    if _channel is None:
        _channel = connect().channel()
        _channel.confirm_select()
    return _channel


def settle():
    sender().await_confirms(time.monotonic() + 30)


def prepare():
    channel = connect().channel()
    channel.queue_declare(QUEUE, arguments={"x-queue-type": "quorum"} if QUORUM else None)
    channel.queue_declare(REPLIES)


def send_one():
    sender().publish("", QUEUE, message(), mandatory=True)
    settle()


def send_bulk(count):
    """A window of publishes under way; the next one begins when this one is confirmed."""
    channel = sender()
    for number in range(1, count + 1):
        channel.publish("", QUEUE, message(), mandatory=True)
        if number % WINDOW == 0:
            settle()
    settle()


def send_tasks(kind, count):
    send_bulk(count)


def round_trip():
    global _replies
    if _replies is None:
        _replies = connect().channel()
        _replies.consume(REPLIES, no_ack=True)
    channel = sender()
    channel.publish("", QUEUE, message())
    channel.link.flush()
    while not _replies.arrivals:
        _replies.link.read(10)
    _replies.arrivals.clear()


def noop():
    pages.hit()
    return 1


TASKS = {TASK: noop}


def work(number):
    """Take, run, acknowledge, for ever: cumulatively, per batch or when nothing is left."""
    link = connect()
    channel = link.channel()
    channel.qos(PREFETCH)
    channel.consume(QUEUE)
    arrivals = channel.arrivals
    ran = acknowledged = 0
    while True:
        link.read(0 if arrivals else 1)
        while arrivals:
            one = arrivals.popleft()
            args, kwargs, _ = decode_body(one.message.body)
            value = TASKS[one.message.headers["task"]](*args, **kwargs)
            ran = one.delivery_tag
            if site.RESULTS:
                body = b'{"status": "SUCCESS", "result": %d, "traceback": null}' % value
                channel.publish("", REPLIES, Message(body, "application/json", "utf-8", {}, {}))
            if ran - acknowledged >= BATCH:
                channel.ack(acknowledged := ran, multiple=True)
                link.flush()
        if ran > acknowledged:
            channel.ack(acknowledged := ran, multiple=True)
            link.flush()


if __name__ == "__main__":
    fork(work)
