"""The raw loop on RabbitMQ: what Python and this broker can do with nothing around it. A bound, no product.

Each process consumes with a prefetch of 1,000 and acknowledges a hundred at once; each message is decoded
(msgspec) and called. Publishing is confirmed and mandatory: one by one, or a thousand under way.
"""

from __future__ import annotations

from pathlib import Path

from bench.contender import Contender, Shape

APP = "bench.contenders.raw_rabbitmq"
ROOT = Path(__file__).resolve().parents[3]
REQUIREMENTS = ("-e", str(ROOT), "amqp==5.4.2", "msgspec==0.22.0", "hiredis==3.5.0")
MEASURES = frozenset(
    {"rabbitmq-enqueue", "rabbitmq-bulk", "rabbitmq-drain-off", "rabbitmq-drain-off-1", "rabbitmq-trip"}
)
SETTINGS = "confirms, mandatory, persistent; prefetch 1,000, an acknowledgement per 100; msgspec"


def _raw(name: str, module: str, client: str, queue: str) -> Contender:
    def worker(python: Path, shape: Shape) -> list[str]:
        return [str(python), "-m", f"{APP}.{module}", str(shape.processes)]

    return Contender(
        name=name,
        requirements=REQUIREMENTS,
        distributions=("amqp", "msgspec") if module == "app" else ("msgspec",),
        app=f"{APP}.{module}",
        store="rabbitmq",
        measures=MEASURES,
        settings=f"{client}; {queue} queue; {SETTINGS}",
        worker=worker,
        variables=(("BENCH_QUEUE_TYPE", queue),),
        prepared=True,
    )


CONTENDERS = [
    _raw("raw-rabbitmq", "link", "our own bare connection", "classic"),
    _raw("raw-rabbitmq-quorum", "link", "our own bare connection", "quorum"),
    _raw("raw-rabbitmq-pyamqp", "app", "py-amqp", "classic"),
]
