"""What is left in a store when all work is done and all workers have stopped: nothing.

1. `residue`: names what is left, by looking at the store itself and not through the broker under test.
2. `stored_ids`: the ids of the messages that wait in the queue, read likewise.
3. `drained`, `handed_out`: through the broker, where it can tell.
"""

from __future__ import annotations

import json
import re
import sqlite3
from typing import TYPE_CHECKING

import psycopg
import redis
from tests.faults import rabbit

if TYPE_CHECKING:
    from tests.faults.stores import Store

    from celeriac import Celeriac

#: Tables of the embedded store that are empty when nothing waits, runs or serves.
TABLES = ("message", "ready", "delayed", "claim", "lease", "serving", "idle")
#: The same of PostgreSQL's.
POSTGRES_TABLES = ("message", "line", "claim", "lease", "serving", "idle")
#: The end of every key of ours on Redis that is gone when nothing waits, runs or serves.
KEYS = (":leases", ":delayed", ":suspects")
HOLDINGS = re.compile(":(held|rest):")


def residue(store: Store) -> list[str]:
    """What is left, as lines for a person."""
    if store.name.startswith("redis"):
        return [
            name for name in _keys(store) if name == "faults" or name.endswith(KEYS) or HOLDINGS.search(name)
        ]
    if rabbit.knows(store.broker):
        found = rabbit.settled(store.broker).items()
        return [f"{name}: {ready} wait, {out} are out" for name, (ready, out) in found]
    if store.name == "postgres":
        with psycopg.connect(store.broker) as db:
            counts = [
                (t, db.execute(f"SELECT count(*) FROM celeriac.{t}").fetchone()) for t in POSTGRES_TABLES
            ]
        return [f"{row[0]} in {table}" for table, row in counts if row and row[0]]
    if store.name != "sqlite":
        return []  # nothing but the broker itself knows: `Ground.verdict` asks it
    found = []
    with sqlite3.connect(store.path, timeout=10) as db:
        for table in TABLES:
            count = db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            if count:
                found.append(f"{count} in {table}")
    db.close()
    return found


def _keys(store: Store) -> list[str]:
    """All keys of the server, or of all nodes of the cluster."""
    if store.name == "redis":
        with redis.Redis.from_url(store.broker, protocol=2) as server:
            return sorted(key.decode() for key in server.keys("*"))
    with redis.RedisCluster.from_url(store.broker.replace("redis+cluster", "redis"), protocol=2) as cluster:
        return sorted(key.decode() for key in cluster.keys("*", target_nodes="primaries"))


def stored_ids(store: Store) -> list[str]:
    """Ids of the tasks that wait in the queue ``faults``, each as often as it is there."""
    if store.name == "redis":
        with redis.Redis.from_url(store.broker, protocol=2) as server:
            envelopes = [json.loads(raw) for raw in server.lrange("faults", 0, -1)]
    elif rabbit.knows(store.broker):
        return rabbit.stored(store.broker, "faults")
    elif store.name == "postgres":
        with psycopg.connect(store.broker) as db:
            envelopes = [json.loads(raw) for (raw,) in db.execute("SELECT raw FROM celeriac.message")]
    else:
        with sqlite3.connect(store.path, timeout=10) as db:
            envelopes = [json.loads(raw) for (raw,) in db.execute("SELECT raw FROM message")]
        db.close()
    return [envelope["headers"]["id"] for envelope in envelopes]


def drained(client: Celeriac) -> bool:
    """Nothing waits, now or later, and nothing is handed out."""
    if rabbit.knows(client.conf.broker_url):
        return not rabbit.left(client.conf.broker_url)
    stats = client.broker.stats(["faults"])[0]
    return stats.depth == stats.in_flight == stats.delayed == 0


def handed_out(client: Celeriac) -> int:
    """Messages that somebody holds."""
    if rabbit.knows(client.conf.broker_url):
        return rabbit.handed_out(client.conf.broker_url)
    return client.broker.stats(["faults"])[0].in_flight
