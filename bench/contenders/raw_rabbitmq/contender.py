"""The raw loop on RabbitMQ: what Python and this broker can do with nothing around it. A bound, no product.

Each process consumes with a prefetch of 1,000 and acknowledges a hundred at once; each message is decoded
(msgspec) and called. Publishing is confirmed and mandatory: one by one, or a thousand under way.
"""

from __future__ import annotations

from pathlib import Path

from bench.contender import Contender, Shape

APP = "bench.contenders.raw_rabbitmq.app"
REQUIREMENTS = ("amqp==5.4.2", "msgspec==0.22.0", "hiredis==3.5.0")
MEASURES = frozenset(
    {"rabbitmq-enqueue", "rabbitmq-bulk", "rabbitmq-drain-off", "rabbitmq-drain-off-1", "rabbitmq-trip"}
)
SETTINGS = "py-amqp; confirms, mandatory, persistent; prefetch 1,000, an acknowledgement per 100; msgspec"


def worker(python: Path, shape: Shape) -> list[str]:
    return [str(python), "-m", APP, str(shape.processes)]


CONTENDERS = [
    Contender(
        name="raw-rabbitmq",
        requirements=REQUIREMENTS,
        distributions=("amqp", "msgspec"),
        app=APP,
        store="rabbitmq",
        measures=MEASURES,
        settings=f"classic durable queue; {SETTINGS}",
        worker=worker,
        prepared=True,
    ),
    Contender(
        name="raw-rabbitmq-quorum",
        requirements=REQUIREMENTS,
        distributions=("amqp", "msgspec"),
        app=APP,
        store="rabbitmq",
        measures=MEASURES,
        settings=f"quorum queue; {SETTINGS}",
        worker=worker,
        variables=(("BENCH_QUEUE_TYPE", "quorum"),),
        prepared=True,
    ),
]
