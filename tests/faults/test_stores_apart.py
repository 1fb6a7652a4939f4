"""Results in another store than the tasks: they are stored first, then the delivery is settled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.faults.conftest import Store
from tests.faults.harness import Journal, Node, environment, until
from tests.faults.residue import residue
from tests.servers import RedisServer

from celeriac import Celeriac, states
from celeriac.exceptions import TimeLimitExceeded


class Apart:
    """A store for tasks, another for results that may be killed, a client and a worker for both."""

    def __init__(self, folder: Path) -> None:
        tasks = f"sqlite:///{folder / 'tasks.db'}"
        self.results = RedisServer()
        self.store = Store("sqlite", tasks, self.results.url)
        self.journal = Journal(folder / "journal")
        self.client = Celeriac("client", broker=tasks, backend=self.results.url, set_as_current=False)
        self.client.conf.update(task_default_queue="faults")
        self.worker = Node(
            environment(tasks, self.results.url, self.journal.path), "-c", "2", log=folder / "n1.log"
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
