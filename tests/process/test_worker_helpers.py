"""What runs beside the children: the embedded beat; and what new children must know of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil
from tests.faults.harness import Journal, Node, until

from celeriac import Celeriac, uuid

Start = Callable[..., Node]


def test_the_embedded_beat_lives_as_long_as_the_worker(
    client: Celeriac, node: Start, journal: Journal, tmp_path: Path
) -> None:
    schedule = {"often": {"task": "record", "schedule": 0.3, "args": ("tick",)}}
    worker = node("-c", "1", "-B", "-s", str(tmp_path / "schedule"), conf={"beat_schedule": schedule})
    child = client.send_task("pid").get(timeout=30)
    until(lambda: journal.count("end")["tick"] >= 2, 10)
    (beat,) = {process.pid for process in worker.children()} - {child}

    revoked = uuid()  # a word to the children is none to the beat
    client.broker.revoke([revoked], ttl=60)
    until(lambda: client.send_task("add", (1, 1), task_id=revoked).state == "REVOKED", 10, every=0.3)
    assert psutil.pid_exists(beat)

    psutil.Process(beat).kill()
    until(lambda: "beat ended" in worker.log, 5)
    ticks = journal.count("end")["tick"]
    until(lambda: journal.count("end")["tick"] > ticks + 1, 10)
    assert client.send_task("pid").get(timeout=30) == child
    assert worker.stop() == 0


def test_a_new_child_knows_what_was_revoked_before_it_was_born(client: Celeriac, node: Start) -> None:
    worker = node("-c", "1")
    first = client.send_task("pid").get(timeout=30)
    ids = [uuid() for _ in range(20_000)]  # more than fits into a socket
    client.broker.revoke(ids, ttl=60)
    psutil.Process(first).kill()
    assert client.send_task("pid").get(timeout=30) != first
    results = [client.send_task("add", (1, 1), task_id=id_) for id_ in (ids[0], ids[-1])]
    until(lambda: [result.state for result in results] == ["REVOKED"] * 2, 5)
    assert worker.stop() == 0
