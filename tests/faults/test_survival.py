"""What a worker must survive: malformed messages and tasks that misbehave. Its pid never changes."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from tests.faults import rabbit
from tests.faults.conftest import Store
from tests.faults.harness import Journal, Node, until
from tests.faults.malformed import bad_messages, envelopes
from tests.faults.malformed_amqp import bad_contents, odd_contents, put
from tests.faults.residue import drained

from celeriac import Celeriac
from celeriac.brokers.base import Outgoing
from celeriac.wire.message import Message

Start = Callable[..., Node]


def inject(store: Store, raw: bytes) -> None:
    """Put bytes where a message should be, as a broken producer would."""
    if store.name == "redis":
        import redis

        with redis.Redis.from_url(store.broker, protocol=2) as client:
            client.lpush("faults", raw)
        return
    if rabbit.knows(store.broker):
        put(store.broker, "faults", Message(raw, "application/json", "utf-8", {}, {"delivery_mode": 2}))
        return
    if store.name == "postgres":
        with psycopg.connect(store.broker) as client:
            arguments = "NULL, 0, 'faults', 'faults', 0, ARRAY[%s::bytea]"
            client.execute(f"SELECT celeriac.publish({arguments})", (raw,))
        return
    path = Path(store.broker.removeprefix("sqlite:///"))
    with sqlite3.connect(path, timeout=10) as db:
        queue = db.execute("SELECT id FROM queue WHERE name = 'faults'").fetchone()[0]
        row = (queue, 0, 0, 0, raw)
        message = db.execute(
            "INSERT INTO message (queue, priority, crashes, since, raw) VALUES (?, ?, ?, ?, ?)", row
        ).lastrowid
        db.execute("INSERT INTO ready (queue, rank, since, id) VALUES (?, 0, 0, ?)", (queue, message))
    db.close()


def test_malformed_messages_are_dead_lettered_and_the_worker_goes_on(
    store: Store, client: Celeriac, node: Start
) -> None:
    worker = node("-c", "1")
    assert client.send_task("add", args=(0, 0)).get(timeout=30) == 0
    pids = {process.pid for process in worker.family()}
    refused = 0
    for name, raw in envelopes().items():
        inject(store, raw)
        refused += 1
        assert client.send_task("add", args=(2, 2)).get(timeout=30) == 4, name
    for name, message in bad_messages().items():
        client.broker.publish([Outgoing(message, "faults")], timeout=10)
        refused += 1
        assert client.send_task("add", args=(2, 2)).get(timeout=30) == 4, name
    # An object or null where headers belong may still be a message of protocol 1; all others must be dead.
    until(lambda: drained(client), 10)
    stats = client.broker.stats(["faults"])[0]
    assert stats.dead == refused
    assert all(letter.reason for letter in client.broker.dead("faults", 1000))
    assert {process.pid for process in worker.family()} == pids
    assert worker.stop() == 0


@pytest.mark.parametrize("store", ["rabbitmq", "rabbitmq-quorum"], indirect=True)
def test_messages_that_are_wrong_as_amqp_knows_it(store: Store, client: Celeriac, node: Start) -> None:
    """Properties, headers, marks of ours in other hands: dead-lettered, or run all the same."""
    worker = node("-c", "1")
    assert client.send_task("add", args=(0, 0)).get(timeout=30) == 0
    pids = {process.pid for process in worker.family()}
    bad, odd = bad_contents(), odd_contents()
    for name, message in bad.items():
        put(store.broker, "faults", message)
        assert client.send_task("add", args=(2, 2)).get(timeout=30) == 4, name
    for message in odd.values():
        put(store.broker, "faults", message)
    for name, message in odd.items():
        assert client.AsyncResult(message.headers["id"]).get(timeout=45) == 3, name
    until(lambda: drained(client), 10)
    letters = client.broker.dead("faults", 1000)
    assert len(letters) == len(bad), [letter.reason for letter in letters]
    assert all(letter.reason for letter in letters)
    assert {process.pid for process in worker.family()} == pids
    assert worker.stop() == 0


def test_an_unknown_task_is_parked_then_dead_lettered(client: Celeriac, node: Start) -> None:
    node("-c", "1", conf={"task_unknown_deadline": 2.0})
    result = client.send_task("not.there")
    good = client.send_task("add", args=(1, 1))
    assert good.get(timeout=30) == 2
    if client.broker.capabilities.census:
        until(lambda: client.broker.stats(["faults"])[0].delayed == 1, 5, "parked")
    until(lambda: client.broker.stats(["faults"])[0].dead == 1, 15, "dead-lettered")
    assert "not.there" in client.broker.dead("faults")[0].reason
    assert result.state == "FAILURE"
    assert type(result.result).__name__ == "NotRegistered"


@pytest.mark.parametrize(
    ("store", "pool", "how"),
    [
        ("sqlite", "prefork", "kill"),
        ("sqlite", "prefork", "segv"),
        ("redis", "prefork", "kill"),
        ("redis", "prefork", "exit"),
        ("redis", "prefork", "abort"),
        ("redis", "prefork", "segv"),
        ("redis", "threads", "kill"),
        ("redis", "asyncio", "exit"),
        ("redis", "solo", "segv"),
        ("rabbitmq", "prefork", "kill"),
        ("rabbitmq", "prefork", "segv"),
        ("rabbitmq", "threads", "exit"),
        ("rabbitmq-quorum", "asyncio", "abort"),
    ],
    indirect=["store"],
)
def test_a_task_that_kills_its_process(
    client: Celeriac, node: Start, journal: Journal, pool: str, how: str
) -> None:
    worker = node("-c", "1", "-P", pool)
    pid = worker.pid
    result = client.send_task("die", args=("d", how))
    until(lambda: client.broker.stats(["faults"])[0].dead == 1, 30, "dead-lettered after three deaths")
    assert journal.count("start")["d"] == 3
    assert result.state == "FAILURE"
    assert type(result.result).__name__ == "WorkerLostError"
    assert client.send_task("add", args=(2, 2)).get(timeout=30) == 4
    assert worker.pid == pid
    assert worker.stop() == 0


def test_system_exit_fails_the_task_and_replaces_the_process(
    client: Celeriac, node: Start, journal: Journal
) -> None:
    worker = node("-c", "1")
    result = client.send_task("die", args=("s", "sysexit"))
    until(lambda: result.state == "FAILURE", 20)
    assert client.send_task("add", args=(2, 2)).get(timeout=30) == 4
    assert journal.count("start")["s"] == 1
    assert worker.stop() == 0
