"""Nothing is lost, whatever is killed, and everything is back within seconds."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable

import pytest
from tests.faults.harness import PATIENCE, Journal, Node, alive, check, publish_many, until
from tests.faults.residue import drained

from celeriac import Celeriac
from celeriac.result import AsyncResult

Start = Callable[..., Node]


def publish(client: Celeriac, name: str, keys: list[str], *args: object) -> None:
    for key in keys:
        client.send_task(name, args=(key, *args), ignore_result=True)


@pytest.mark.timeout(240)
def test_whole_workers_are_killed_every_two_seconds(client: Celeriac, node: Start, journal: Journal) -> None:
    """F1: tasks of 0 to 20 ms, two workers of four, a whole worker killed every two seconds. `make faults`
    goes on for minutes."""
    chance = random.Random(7)
    keys = [f"k{i}" for i in range(8_000)]
    publish_many(client, "record", [(key, chance.uniform(0, 0.02)) for key in keys])
    nodes = [node("-c", "4", name=f"n{i}") for i in (1, 2)]
    killed_at: list[float] = []
    deadline = time.monotonic() + 200
    while journal.ended() < len(keys):
        assert time.monotonic() < deadline, f"{journal.ended()} of {len(keys)} after {len(killed_at)} kills"
        time.sleep(2.0)  # the fault's rhythm
        if journal.ended() < len(keys):
            victim = chance.choice(nodes)
            victim.kill()
            killed_at.append(time.time())
            victim.start()
    until(lambda: drained(client), deadline - time.monotonic())
    report = check(keys, journal)
    assert not report.lost
    assert not report.unexpected
    assert len(report.duplicated) <= 8 * 100 * len(killed_at)
    assert client.broker.stats(["faults"])[0].dead == 0
    for victim in nodes:
        assert victim.stop() in (0, -signal.SIGTERM)  # the latter: killed a moment ago and not yet up


def test_a_killed_child_is_replaced_and_its_task_runs_again_within_two_seconds(
    client: Celeriac, node: Start, journal: Journal
) -> None:
    """F2: a child is killed in the middle of a task, again and again; the supervisor's pid never changes."""
    worker = node("-c", "2")
    pid = worker.pid
    keys = [f"k{i}" for i in range(8)]
    publish(client, "record", keys, 1.0)
    chance = random.Random(3)
    kills: list[tuple[int, float]] = []
    until(lambda: journal.count("start"), 20)
    while len(kills) < 6:
        events = journal.events()
        ended = {(e.key, e.pid) for e in events if e.what == "end"}
        running = [e for e in events if e.what == "start" and (e.key, e.pid) not in ended]
        alive = {p.pid for p in worker.children()}
        running = [e for e in running if e.pid in alive]
        if running:
            victim = chance.choice(running)
            before = journal.count("start")[victim.key]
            killed = time.time()
            for process in worker.children():
                if process.pid == victim.pid:
                    process.kill()
            if ("end", *victim[1:3]) in {event[:3] for event in journal.events()}:
                continue  # it ended a moment before the kill
            kills.append((victim.pid, killed))
            until(lambda: journal.count("start")[victim.key] > before, 2.0, f"{victim.key} runs again")  # noqa: B023
            if journal.count("start")[victim.key] >= 3:  # one more would be the end of its budget
                until(lambda: journal.count("end")[victim.key], 10)  # noqa: B023
        elif journal.ended() == len(keys):  # some ended before they could be killed
            keys.append(f"k{len(keys)}")
            publish(client, "record", keys[-1:], 1.0)
        else:
            time.sleep(0.02)
    until(lambda: journal.ended() == len(keys) and drained(client), 30)
    assert not check(keys, journal).lost
    assert worker.pid == pid
    assert worker.process is not None
    assert worker.process.poll() is None


def test_a_killed_node_s_work_runs_elsewhere_within_ten_seconds(
    client: Celeriac, node: Start, journal: Journal
) -> None:
    """The other worker of this machine finds the ledger; another machine waits for the lease to lapse."""
    first = node("-c", "1", name="n1")
    publish(client, "record", ["long"], 3.0)
    until(lambda: journal.count("start")["long"] == 1, 20)
    node("-c", "1", name="n2")
    first.kill()
    until(lambda: journal.count("start")["long"] == 2, 10, "it runs again")
    until(lambda: journal.count("end")["long"] == 1 and drained(client), 20)


def test_a_node_of_another_machine_is_swept_when_its_lease_lapses(
    client: Celeriac, node: Start, journal: Journal, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the ledger (another run folder is another machine) the lease decides: in ten seconds."""
    first = node("-c", "1", name="n1")
    publish(client, "record", ["long"], 3.0)
    until(lambda: journal.count("start")["long"] == 1, 20)
    second = node("-c", "1", name="n2")
    second.kill()
    second.env["CELERIAC_RUN_DIR"] = f"{tmp_path}/other-machine"
    second.start()
    killed = time.monotonic()
    first.kill()
    until(lambda: journal.count("start")["long"] == 2, 10, "it runs again")
    assert time.monotonic() - killed < 10 * PATIENCE
    until(lambda: journal.count("end")["long"] == 1 and drained(client), 20)


@pytest.mark.timeout(240)
def test_poison_is_dead_lettered_after_three_kills_and_nobody_else_is(
    client: Celeriac, node: Start, journal: Journal
) -> None:
    """F6: three tasks that kill their whole worker among many good ones."""
    good = [f"g{i}" for i in range(20_000)]
    poison = ["p0", "p1", "p2"]
    calls = [(key, 0.0) for key in good]
    publish_many(client, "record", calls[:5_000])
    results = [client.send_task("poison", args=(key,), task_id=key) for key in poison]
    publish_many(client, "record", calls[5_000:])
    worker = node("-c", "2")

    def finished() -> bool:
        assert worker.process is not None
        if worker.process.poll() is not None:
            worker.start()
        return journal.ended() >= len(good) and drained(client)

    until(finished, 200, "all good ones have run", every=0.1)
    assert not check(good, journal).lost
    starts = journal.count("start")
    assert {key: starts[key] for key in poison} == dict.fromkeys(poison, 3)
    dead = client.broker.dead("faults")
    assert sorted(letter.message.headers["id"] for letter in dead) == poison  # type: ignore[union-attr]
    for result in results:
        assert result.state == "FAILURE"
        assert type(result.result).__name__ == "WorkerLostError"
    assert worker.stop() == 0


def test_a_zombie_settles_nothing(client: Celeriac, node: Start, journal: Journal) -> None:
    """F7: a stopped worker's task runs elsewhere; when it wakes up, it finds its lease gone."""
    zombie = node("-c", "1", name="zombie")
    result: AsyncResult[str] = client.send_task("record", args=("z", 2.0))
    until(lambda: journal.count("start")["z"] == 1, 20)
    zombie.pause()
    other = node("-c", "1", name="other")
    until(lambda: journal.count("start")["z"] == 2, 15, "it runs elsewhere")
    assert result.get(timeout=30) == "z"
    done = result.date_done
    zombie.resume()
    until(lambda: "LEASE_LOST" in zombie.log, 4, "the zombie notices")
    until(lambda: drained(client), 5)
    # The zombie's body may have reached its end before the zombie noticed; nothing it says is accepted.
    assert result.date_done == done
    publish(client, "record", ["after"], 0.0)
    until(lambda: journal.count("end")["after"] == 1, 5)
    assert zombie.stop() == 0
    assert other.stop() == 0


def test_children_die_with_their_supervisor(client: Celeriac, node: Start, journal: Journal) -> None:
    """F9: only the parent is killed; its children are gone within a second and store nothing."""
    worker = node("-c", "2")
    result: AsyncResult[str] = client.send_task("record", args=("orphan", 2.0))
    until(lambda: journal.count("start")["orphan"] == 1, 20)
    children = worker.children()
    assert children
    worker.signal(signal.SIGKILL)
    assert worker.process is not None
    worker.process.wait()
    until(lambda: not any(alive(process) for process in children), 1.0, "children are gone")
    assert result.state == "PENDING"
    worker.start()
    assert result.get(timeout=30) == "orphan"
    assert journal.count("start")["orphan"] == 2
