"""The raw loop on RabbitMQ with py-amqp (`python -m … PROCESSES`)."""

from __future__ import annotations

import uuid
from urllib.parse import urlsplit

import amqp

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


def connect():
    parts = urlsplit(site.BROKER)
    connection = amqp.Connection(
        host=f"{parts.hostname}:{parts.port}",
        userid=parts.username,
        password=parts.password,
        virtual_host=parts.path[1:] or "/",
        confirm_publish=False,
    )
    connection.connect()
    return connection


def message():
    name = str(uuid.uuid4())
    return amqp.Message(
        BODY,
        application_headers={**HEADERS, "id": name, "root_id": name},
        content_type="application/json",
        content_encoding="utf-8",
        correlation_id=name,
        delivery_mode=2,
    )


class Sender:
    """A channel in confirm mode; counts what the broker has confirmed."""

    def __init__(self):
        self.connection = connect()
        self.channel = self.connection.channel()
        self.channel.confirm_select()
        self.channel.events["basic_ack"].add(self.on_ack)
        self.sent = self.confirmed = 0

    def on_ack(self, tag, multiple):
        self.confirmed = max(self.confirmed, tag) if multiple else self.confirmed + 1

    def send(self, one):
        self.channel.basic_publish(one, exchange="", routing_key=QUEUE, mandatory=True)
        self.sent += 1

    def settle(self, open_ones=0):
        while self.sent - self.confirmed > open_ones:
            self.connection.drain_events(timeout=30)


_sender = _replies = None


def sender():
    global _sender
    if _sender is None:
        _sender = Sender()
    return _sender


def prepare():
    channel = connect().channel()
    channel.queue_declare(
        QUEUE, durable=True, auto_delete=False, arguments={"x-queue-type": "quorum"} if QUORUM else None
    )
    channel.queue_declare(REPLIES, durable=True, auto_delete=False)


def send_one():
    out = sender()
    out.send(message())
    out.settle()


def send_bulk(count):
    out = sender()
    for _ in range(count):
        out.send(message())
        if out.sent - out.confirmed >= WINDOW:
            out.settle(WINDOW // 2)
    out.settle()


def send_tasks(kind, count):
    send_bulk(count)


def round_trip():
    global _replies
    if _replies is None:
        connection = connect()
        channel = connection.channel()
        _replies = connection, []
        channel.basic_consume(REPLIES, no_ack=True, callback=_replies[1].append)
    connection, arrived = _replies
    out = sender()
    out.send(message())
    while not arrived:
        connection.drain_events(timeout=10)
    arrived.clear()


def noop():
    pages.hit()
    return 1


TASKS = {TASK: noop}


def work(number):
    """Take, run, acknowledge, for ever: cumulatively, per batch or when nothing is left."""
    connection = connect()
    channel = connection.channel()
    channel.basic_qos(0, PREFETCH, False)
    state = [0, 0]  # the last tag that ran, the last one acknowledged

    def run(one):
        args, kwargs, _ = decode_body(one.body)
        value = TASKS[one.headers["task"]](*args, **kwargs)
        state[0] = one.delivery_info["delivery_tag"]
        if site.RESULTS:
            answer = amqp.Message(b'{"status": "SUCCESS", "result": %d, "traceback": null}' % value)
            channel.basic_publish(answer, exchange="", routing_key=REPLIES)
        if state[0] - state[1] >= BATCH:
            acknowledge()

    def acknowledge():
        if state[0] > state[1]:
            channel.basic_ack(state[0], multiple=True)
            state[1] = state[0]

    channel.basic_consume(QUEUE, callback=run)
    while True:
        try:
            connection.drain_events(timeout=0.005)
        except TimeoutError:
            acknowledge()
            connection.drain_events()


if __name__ == "__main__":
    fork(work)
