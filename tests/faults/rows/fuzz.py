"""F31: real messages with something wrong about them, by the thousand, and good ones among them.

1. `mutants`: seeded; each is a real message with another header, property, body or bytes.
2. `fuzz`: nobody exits, every good one runs, memory does not grow.
"""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Iterator, Sequence
from typing import Any

import redis
from tests.faults.ground import Ground
from tests.faults.harness import until
from tests.faults.malformed import envelope

from celeriac.brokers.base import Outgoing
from celeriac.wire import protocol
from celeriac.wire.message import Message

__all__ = ["fuzz", "mutants"]

#: Put where something else belongs.
JUNK: Sequence[Any] = (
    *(None, True, -1, 0, 10**9, 10**18, 1.5, "", "x", "\x00", "é😀", "x" * 5000, "add", "record"),
    *("2099-13-45", "9999-12-31T23:59:59+00:00", "1969-01-01T00:00:00"),
    *([], [1], [None, None], {}, {"a": 1}, {"a": {"b": [1, {"c": None}]}}, [[[[]]]]),
)
BODIES: Sequence[Any] = ([[1, 2], {}, {}], [[1], {"y": 2}, None], [["a", "b"], {}, {"callbacks": None}])
HEADERS = (
    *("task", "id", "eta", "expires", "retries", "timelimit", "root_id", "parent_id", "group", "argsrepr"),
    *("kwargsrepr", "origin", "lang", "shadow", "ignore_result", "compression", "stamps", "group_index"),
)
PROPERTIES = (
    *("correlation_id", "reply_to", "priority", "delivery_mode", "delivery_info", "body_encoding"),
    *("delivery_tag", "expiration", "timestamp", "message_id"),
)
#: Messages published in one batch.
BATCH = 500


def mutants(chance: random.Random, count: int) -> Iterator[Message | bytes]:
    """Messages, and bytes in place of an envelope."""
    for number in range(count):
        message = protocol.write(name="add", id=f"fuzz-{number}", args=(1, 2), routing_key="faults")
        for _ in range(chance.choice((1, 1, 2, 3))):
            message = _mutate(chance, message)
        yield message


def _mutate(chance: random.Random, message: Message) -> Message:
    how = chance.randrange(7)
    if how == 0:
        return message._replace(headers={**message.headers, chance.choice(HEADERS): chance.choice(JUNK)})
    if how == 1:
        left = {name: value for name, value in message.headers.items() if chance.random() > 0.2}
        return message._replace(headers=left)
    if how == 2:
        return message._replace(body=_bytes(chance, message.body))
    if how == 3:
        body = json.loads(json.dumps(chance.choice(BODIES)))
        body[chance.randrange(len(body))] = chance.choice(JUNK)
        return message._replace(body=json.dumps(body).encode())
    if how == 4:
        words = (
            "application/json",
            "application/x-yaml",
            "application/x-python-serialize",
            "text/plain",
            "",
            "\n",
            "json",
        )
        return message._replace(content_type=chance.choice(words))  # fmt: skip
    return message._replace(content_encoding=chance.choice(("utf-8", "binary", "utf-16", "klingon", "")))


def _bytes(chance: random.Random, data: bytes) -> bytes:
    """Cut, flipped, doubled or with something in between."""
    at, end = sorted((chance.randrange(len(data) + 1), chance.randrange(len(data) + 1)))
    how = chance.randrange(4)
    if how == 0:
        return data[:at]
    if how == 1:
        return data[:at] + chance.randbytes(chance.randrange(1, 9)) + data[at:]
    if how == 2:
        return data[:at] + data[at:end] * 2 + data[end:]
    flipped = bytearray(data)
    for _ in range(chance.randrange(1, 4)):
        if flipped:
            flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
    return bytes(flipped)


def fuzz(ground: Ground, count: int) -> str:
    """One in ten is good."""
    conf = {"task_unknown_deadline": 0.5, "task_always_eager": False}
    worker = ground.node("-c", "2", conf=conf)
    ground.send(["warm"])
    ground.wait(1)
    family = {process.pid for process in worker.family()}
    sizes, good = [], []
    broken = mutants(ground.chance, count)
    raw = redis.Redis.from_url(ground.store.broker, protocol=2) if ground.kind == "redis" else None
    for at in range(0, count, BATCH):
        batch = [message for _, message in zip(range(min(BATCH, count - at)), broken, strict=False)]
        _publish(ground, batch, raw)
        keys = [f"good-{at + i}" for i in range(max(1, len(batch) // 10))]
        ground.bulk(keys, lambda: 0.0)
        good += keys
        until(lambda: ground.journal.count("end").keys() >= set(keys), 30, "the good ones run")  # noqa: B023
        until(lambda: _settled(ground), 30, "all are settled", every=0.05)
        sizes.append(sum(process.memory_info().rss for process in worker.family()) / 1e6)
    if raw is not None:
        raw.close()
    assert {process.pid for process in worker.family()} == family, "a process has exited"
    dead = ground.client.broker.stats(["faults"])[0].dead
    assert dead, "nothing was refused"
    settled = sizes[len(sizes) // 3 :]
    growth = (settled[-1] - settled[0]) / max(1, len(settled) - 1) * 1e6 / BATCH if len(settled) > 3 else 0.0
    assert growth < 300, f"{growth:.0f} bytes of memory for each message: {sizes}"
    assert worker.stop() == 0
    return (
        f"{count:,} broken ones, {dead:,} dead-lettered, {len(good):,} good ones ran, 0 exits, memory "
        f"{sizes[0]:.0f} -> {sizes[-1]:.0f} MB ({growth:.0f} bytes a message)"
    )


def _publish(ground: Ground, batch: Sequence[Message | bytes], raw: Any) -> None:
    """As messages, or as a stranger writes them where that is easy: with damaged envelopes, too."""
    outgoing = [Outgoing(message, "faults") for message in batch if isinstance(message, Message)]
    try:
        ground.client.broker.publish(outgoing, timeout=30)
    except (TypeError, ValueError, OverflowError):
        for one in outgoing:  # one that the broker itself refuses must not keep the others back
            with contextlib.suppress(TypeError, ValueError, OverflowError):
                ground.client.broker.publish([one], timeout=10)
    if raw is not None:
        whole = json.dumps(envelope()).encode()
        raw.lpush("faults", *(_bytes(ground.chance, whole) for _ in range(50)))


def _settled(ground: Ground) -> bool:
    stats = ground.client.broker.stats(["faults"])[0]
    return stats.depth == stats.in_flight == 0
