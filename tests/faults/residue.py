"""What is left in a store when all work is done and all workers have stopped: nothing.

1. `residue`: names what is left, by looking at the store itself and not through the broker under test.
2. `stored_ids`: the ids of the messages that wait in the queue, read likewise.
"""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING

import redis

if TYPE_CHECKING:
    from tests.faults.conftest import Store

#: Tables of the embedded store that are empty when nothing waits, runs or serves.
TABLES = ("message", "ready", "delayed", "claim", "lease", "serving", "idle")
#: The end of every key of ours on Redis that is gone when nothing waits, runs or serves.
KEYS = (":leases", ":delayed", ":suspects")


def residue(store: Store) -> list[str]:
    """What is left, as lines for a person."""
    if store.name == "redis":
        with redis.Redis.from_url(store.broker, protocol=2) as server:
            names = sorted(key.decode() for key in server.keys("*"))
        return [name for name in names if name == "faults" or name.endswith(KEYS) or ":held:" in name]
    found = []
    with sqlite3.connect(store.path, timeout=10) as db:
        for table in TABLES:
            count = db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            if count:
                found.append(f"{count} in {table}")
    db.close()
    return found


def stored_ids(store: Store) -> list[str]:
    """Ids of the tasks that wait in the queue ``faults``, each as often as it is there."""
    if store.name == "redis":
        with redis.Redis.from_url(store.broker, protocol=2) as server:
            envelopes = [json.loads(raw) for raw in server.lrange("faults", 0, -1)]
    else:
        with sqlite3.connect(store.path, timeout=10) as db:
            envelopes = [json.loads(raw) for (raw,) in db.execute("SELECT raw FROM message")]
        db.close()
    return [envelope["headers"]["id"] for envelope in envelopes]
