"""The raw loop: what Python and this Redis can do with nothing around it. A bound, not a product.

One script takes up to 100 messages into a held list and drops those held before; each is decoded (msgspec)
and called. No lease, no fence, no ledger, no limits, no hand-over between threads.
"""

from __future__ import annotations

from pathlib import Path

from bench.contender import Contender, Shape

APP = "bench.contenders.raw.app"


def worker(python: Path, shape: Shape) -> list[str]:
    return [str(python), "-m", APP, str(shape.processes)]


CONTENDERS = [
    Contender(
        name="raw",
        requirements=("hiredis==3.5.0", "redis==8.1.0", "msgspec==0.22.0"),
        distributions=("redis", "hiredis", "msgspec"),
        app=APP,
        store="redis",
        measures=frozenset(
            {
                *("enqueue-one", "enqueue-bulk", "drain-off-2", "drain-off-1", "drain-on-2", "drain-on-1"),
                *("round-trip", "memory", "start-up"),
            }
        ),
        settings="redis-py LPUSH, pipeline of 100; one script pops 100 and acks; msgspec, bare socket",
        worker=worker,
    )
]
