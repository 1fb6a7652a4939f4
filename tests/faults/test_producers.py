"""Producers that are killed while they publish, and networks that lose the answer to a publish."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.faults.conftest import Store
from tests.faults.harness import PATIENCE, ROOT, Journal, Node, environment, until
from tests.faults.producer import steps
from tests.faults.residue import stored_ids
from tests.proxy import Proxy
from tests.servers import RedisServer

from celeriac import Celeriac
from celeriac.exceptions import OperationalError

Start = Callable[..., Node]


class Producers:
    """So many producer processes; each that is killed is replaced by one with a new name."""

    def __init__(self, store: Store, journal: Journal, folder: Path) -> None:
        self.path = folder / "produced"
        self.path.touch()
        self.env = environment(store.broker, None, journal.path) | {"FAULTS_PRODUCED": str(self.path)}
        self.running: list[subprocess.Popen[bytes]] = []
        self.started = 0

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.faults.producer", f"p{self.started}", "1000000"]
        self.running.append(subprocess.Popen(command, env=self.env, cwd=ROOT))
        self.started += 1

    def kill(self, victim: subprocess.Popen[bytes]) -> None:
        self.running.remove(victim)
        victim.kill()
        victim.wait()

    def end(self) -> None:
        for victim in list(self.running):
            self.kill(victim)


@pytest.fixture
def producers(store: Store, journal: Journal, tmp_path: Path) -> Iterator[Producers]:
    made = Producers(store, journal, tmp_path)
    yield made
    made.end()


def test_producers_are_killed_while_they_publish(
    producers: Producers, store: Store, journal: Journal, node: Start
) -> None:
    """F10: 16 producers, singles and groups of 50, a kill every 100 ms. What has returned runs, once; what
    was attempted is stored whole or not at all."""
    chance = random.Random(10)
    for _ in range(16):
        producers.start()
    until(lambda: len(steps(producers.path)) > 32, 30, "they publish")
    for _ in range(20):
        time.sleep(0.1)  # the fault's rhythm
        producers.kill(chance.choice(producers.running))
        if producers.started < 24:
            producers.start()
    producers.end()
    produced = steps(producers.path)
    stored = Counter(stored_ids(store))
    returned = {id_ for step in produced if step.outcome == "returned" for id_ in step.ids}
    attempted = {id_ for step in produced if step.outcome == "attempt" for id_ in step.ids}
    assert "raised" not in {step.outcome for step in produced}
    assert returned <= stored.keys() <= attempted
    assert set(stored.values()) == {1}
    halves = [step for step in produced if 0 < sum(stored[id_] for id_ in step.ids) < len(step.ids)]
    assert halves == []
    worker = node("-c", "2")
    until(lambda: journal.ended() == len(stored), 60, "all have run")
    assert worker.stop() == 0
    assert journal.count("end") == stored


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[Proxy]:
    redis_server.flush()
    with Proxy(redis_server.port) as proxy:
        yield proxy


@pytest.fixture
def far(proxy: Proxy) -> Iterator[Celeriac]:
    """A client whose network can be broken."""
    app = Celeriac("far", broker=proxy.url, backend=proxy.url, set_as_current=False)
    app.conf.update(task_default_queue="faults", broker_publish_timeout=2.0)
    yield app
    app.close()


@pytest.mark.parametrize("store", ["redis"], indirect=True)
def test_the_answer_to_a_publish_is_lost(
    proxy: Proxy, far: Celeriac, journal: Journal, node: Start, client: Celeriac
) -> None:
    """F11: the broker has stored it, nobody hears of it, it is sent again: 100 times, and each runs once.
    (SQLite has no answer that could be lost: a commit either returned or did not happen.)"""
    worker = node("-c", "2")
    far.send_task("record", ("first",), ignore_result=True)
    for i in range(100):
        proxy.drop_reply(b"EVALSHA")
        far.send_task("record", (f"k{i}",), ignore_result=True, countdown=0.01 if i % 4 == 3 else None)
        assert proxy.dropped.is_set()
    until(lambda: journal.ended() == 101 and client.broker.stats(["faults"])[0].in_flight == 0, 20)
    assert worker.stop() == 0
    assert set(journal.count("start").values()) == {1}


@pytest.mark.parametrize("store", ["redis"], indirect=True)
def test_a_network_that_swallows_everything_is_noticed_in_time(
    proxy: Proxy, far: Celeriac, store: Store
) -> None:
    """A publish returns or raises within its timeout, and the next one works when the network does again."""
    far.send_task("record", ("before",), task_id="before")
    proxy.blackhole()
    for _ in range(2):  # on the open connection, then on a new one
        started = time.monotonic()
        with pytest.raises(OperationalError):
            far.send_task("record", ("lost",), task_id="lost")
        assert 1.0 < time.monotonic() - started < 2.0 * PATIENCE
    proxy.heal()
    far.send_task("record", ("after",), task_id="after")
    stored = Counter(stored_ids(store))
    assert (stored["before"], stored["after"]) == (1, 1)
    assert stored["lost"] <= 2  # two calls; what became of either is not known
