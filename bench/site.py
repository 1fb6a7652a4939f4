"""Where a trial takes place, as a contender's `app.py` reads it: addresses and switches in the environment.

Only the standard library is used here, since this module is imported in every contender's environment.
"""

from __future__ import annotations

import os

#: Address of the store: `redis://…`, `amqp://…`, `postgresql://…`; or a path, of an SQLite file to be made.
BROKER = os.environ.get("BENCH_BROKER", "redis://127.0.0.1:6379/0")

#: Address of the store for results: the broker's own, Redis beside RabbitMQ, or `rpc://`.
BACKEND = os.environ.get("BENCH_BACKEND", BROKER)

#: Whether results are stored.
RESULTS = os.environ.get("BENCH_RESULTS") == "1"

#: Whether somebody waits for each result (round trips), where a contender must be told so.
WAITED = os.environ.get("BENCH_WAITED") == "1"
