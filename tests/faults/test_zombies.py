"""F7, round after round: a paused worker's task runs elsewhere, and nothing it says afterwards counts."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from tests.faults.conftest import Store
from tests.faults.harness import PATIENCE, Journal, Node, until
from tests.faults.residue import residue

from celeriac import Celeriac
from celeriac.result import AsyncResult

Start = Callable[..., Node]
ROUNDS = 5
#: Seconds that a lease lives here, so that a round is short.
TTL = 1.0


@pytest.mark.timeout(120)
def test_five_zombies(client: Celeriac, store: Store, node: Start, journal: Journal) -> None:
    """Two workers; whoever runs the round's task is paused until the other one has finished it."""
    nodes = [node("-c", "1", name=name, conf={"worker_lease_ttl": TTL}) for name in ("a", "b")]
    # Without leases it is the silence of its connection that tells.
    bound = PATIENCE * (TTL + 4.0 if client.broker.capabilities.leases else 12.0)
    for number in range(ROUNDS):
        key = f"z{number}"
        result: AsyncResult[str] = client.send_task("record", (key, 1.0), task_id=key)
        first = until(lambda: [e for e in journal.events() if e.key == key], 20)[0]  # noqa: B023
        zombie = next(one for one in nodes if first.pid in {p.pid for p in one.children()})
        told = zombie.log.count("LEASE_LOST")
        zombie.pause()
        paused = time.monotonic()
        assert result.get(timeout=45) == key
        assert time.monotonic() - paused < bound
        done = result.date_done
        zombie.resume()
        until(lambda: zombie.log.count("LEASE_LOST") > told, 4, "the zombie notices")  # noqa: B023
        ready = f"ready-{number}"
        until(lambda: first.pid not in {p.pid for p in zombie.children()}, 2, "its child is gone")  # noqa: B023
        client.send_task("record", (ready,), ignore_result=True)
        until(lambda: journal.count("end")[ready] == 1, 10)  # noqa: B023
        assert result.date_done == done
        assert journal.count("start")[key] == 2
    assert client.broker.stats(["faults"])[0].dead == 0
    assert [one.stop() for one in nodes] == [0, 0]
    assert residue(store) == []


@pytest.mark.timeout(90)
def test_a_zombie_s_progress_hides_no_result(
    client: Celeriac, store: Store, node: Start, journal: Journal
) -> None:
    """Its body goes on and says how far it is, when another worker's result is there."""
    nodes = [node("-c", "1", name=name, conf={"worker_lease_ttl": TTL}) for name in ("a", "b")]
    result: AsyncResult[int] = client.send_task("report", ("z", 2.0, 100), task_id="z")
    first = until(lambda: [e for e in journal.events() if e.key == "z"], 20)[0]
    until(lambda: client.AsyncResult("z").progress, 10, "it has said how far it is")
    zombie = next(one for one in nodes if first.pid in {p.pid for p in one.children()})
    zombie.pause()
    assert result.get(timeout=30) != first.pid
    seen = set()
    zombie.resume()
    deadline = time.monotonic() + 30
    while first.pid in {p.pid for p in zombie.children()}:
        assert time.monotonic() < deadline, "its child is not gone"
        seen.add(client.AsyncResult("z").state)
    seen.add(client.AsyncResult("z").state)
    assert seen == {"SUCCESS"}
    assert [one.stop() for one in nodes] == [0, 0]
