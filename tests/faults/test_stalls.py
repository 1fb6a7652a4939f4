"""The store stands still for longer than leases live, and nobody died: nobody is taken for dead."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import psycopg
import pytest
from tests.faults import rabbit
from tests.faults.conftest import Store
from tests.faults.harness import Journal, Node, until
from tests.faults.residue import residue
from tests.servers import RedisServer

from celeriac import Celeriac

Start = Callable[..., Node]
TTL = 2.5


@contextmanager
def stalled(store: Store, redis: RedisServer) -> Iterator[None]:
    """Nobody can write: the server is stopped, or somebody holds the lock of the file or of the leases."""
    if store.name == "redis" or rabbit.knows(store.broker):
        server = rabbit.server_of(store.broker) if rabbit.knows(store.broker) else redis
        server.freeze()
        try:
            yield
        finally:  # it is lent to others
            server.thaw()
        return
    if store.name == "postgres":
        with psycopg.connect(store.broker) as holder:
            holder.execute("LOCK TABLE celeriac.lease IN ACCESS EXCLUSIVE MODE")
            yield
        return
    with closing(sqlite3.connect(store.path, timeout=10, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("ROLLBACK")


@pytest.mark.parametrize("seconds", [4.0])
def test_nobody_is_swept_who_could_not_beat(
    client: Celeriac, store: Store, node: Start, journal: Journal, redis_server: RedisServer, seconds: float
) -> None:
    conf = {"worker_lease_ttl": TTL}
    nodes = [node("-c", "2", name=name, conf=conf) for name in ("a", "b", "c")]
    keys = [f"k{i}" for i in range(6)]
    for key in keys:
        client.send_task("record", (key, seconds + 1.0), ignore_result=True)
    until(lambda: len(journal.count("start")) == 6, 20, "all run")
    with stalled(store, redis_server):
        time.sleep(seconds)
    until(lambda: journal.ended() == 6, 20)
    client.send_task("record", ("after",), ignore_result=True)
    until(lambda: journal.count("end")["after"] == 1, 10)
    time.sleep(TTL + 1.0)  # for a sweep that must not come
    assert set(journal.count("start").values()) == {1}
    assert [one.log.count("LEASE_LOST") for one in nodes] == [0, 0, 0]
    assert [one.stop() for one in nodes] == [0, 0, 0]
    assert residue(store) == []
