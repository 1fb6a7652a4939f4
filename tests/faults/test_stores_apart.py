"""Results in another store than the tasks: they are stored first, then the delivery is settled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.faults.conftest import Store
from tests.faults.harness import Journal, Node, environment, until
from tests.faults.residue import residue
from tests.servers import RedisServer

from celeriac import Celeriac, states
from celeriac.exceptions import TimeLimitExceeded


class Apart:
    """A store for tasks, another for results that may be killed, a client and a worker for both."""

    def __init__(self, folder: Path, conf: dict[str, Any] | None = None) -> None:
        tasks = f"sqlite:///{folder / 'tasks.db'}"
        self.results = RedisServer()
        self.store = Store("sqlite", tasks, self.results.url)
        self.journal = Journal(folder / "journal")
        self.client = Celeriac("client", broker=tasks, backend=self.results.url, set_as_current=False)
        self.client.conf.update(task_default_queue="faults")
        self.worker = Node(
            environment(tasks, self.results.url, self.journal.path, conf), "-c", "2", log=folder / "n1.log"
        )

    def close(self) -> None:
        with self.worker:
            self.client.close()
        self.results.stop()


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[Apart]:
    made = Apart(tmp_path)
    yield made
    made.close()


def is_drained(apart: Apart) -> Callable[[], bool]:
    def look() -> bool:
        stats = apart.client.broker.stats(["faults"])[0]
        return stats.depth == stats.in_flight == stats.delayed == 0

    return look


def test_the_results_come(apart: Apart) -> None:
    results = [apart.client.send_task("flaky", (f"k{i}", i % 2)) for i in range(10)]
    assert [result.get(timeout=20) for result in results] == [0, 1] * 5
    until(is_drained(apart), 5)
    assert apart.worker.stop() == 0
    assert residue(apart.store) == []


def test_the_end_of_a_killed_body_is_told(apart: Apart) -> None:
    """A hard time limit: the supervisor settles in the dead child's place."""
    result = apart.client.send_task("record", ("long", 60.0), time_limit=0.5)
    with pytest.raises(TimeLimitExceeded):
        result.get(timeout=20)
    until(is_drained(apart), 5)
    assert apart.worker.stop() == 0
    assert residue(apart.store) == []
    assert apart.journal.count("start")["long"] == 1


def test_no_result_is_lost_while_its_store_is_down(apart: Apart) -> None:
    """Nothing is settled whose result could not be stored; nothing runs twice for it."""
    assert apart.client.send_task("add", (1, 1)).get(timeout=20) == 2
    apart.results.kill()
    keys = [f"k{i}" for i in range(50)]
    for key in keys:
        apart.client.send_task("record", (key,), task_id=key)
    until(lambda: apart.journal.ended() > 0, 10, "it works on")
    assert apart.client.broker.stats(["faults"])[0].in_flight > 0
    apart.results.start()
    until(is_drained(apart), 20)
    assert [apart.client.AsyncResult(key).state for key in keys] == [states.SUCCESS] * len(keys)
    assert apart.journal.count("start") == dict.fromkeys(keys, 1)
    assert apart.worker.stop() == 0
    assert residue(apart.store) == []


def test_a_frozen_result_store_is_waited_for(apart: Apart) -> None:
    """It accepts connections and never answers: noticed, told, and no acknowledgement before it is stored."""
    assert apart.client.send_task("add", (1, 1)).get(timeout=20) == 2
    pid = apart.worker.pid
    apart.results.freeze()
    keys = [f"k{i}" for i in range(20)]
    for key in keys:
        apart.client.send_task("record", (key,), task_id=key)
    until(lambda: "Result store lost" in apart.worker.log, 15, "it is noticed")
    stats = apart.client.broker.stats(["faults"])[0]
    assert stats.depth + stats.in_flight == len(keys)
    apart.results.thaw()
    until(is_drained(apart), 15)
    assert [apart.client.AsyncResult(key).state for key in keys] == [states.SUCCESS] * len(keys)
    assert apart.journal.count("start") == dict.fromkeys(keys, 1)
    assert apart.worker.pid == pid
    assert apart.worker.stop() == 0
    assert residue(apart.store) == []


def test_who_prefers_to_lose_results_says_so(tmp_path: Path) -> None:
    """With `result_backend_max_retries` work goes on without the store; the log says what is lost."""
    apart = Apart(tmp_path, {"result_backend_max_retries": 2, "redis_socket_timeout": 0.3})
    try:
        assert apart.client.send_task("add", (1, 1)).get(timeout=20) == 2
        apart.results.kill()
        for number in range(20):
            apart.client.send_task("record", (f"k{number}",), task_id=f"k{number}")
        until(is_drained(apart), 60)
        assert apart.journal.count("start") == {f"k{number}": 1 for number in range(20)}
        assert "LOST" in apart.worker.log
        apart.results.start()
        assert apart.client.send_task("add", (2, 2)).get(timeout=20) == 4
        assert apart.worker.stop() == 0
    finally:
        apart.close()
