"""A process dies, stops, fails or loses its connection at every point of `celeriac.failpoints`: nothing is
lost, nothing runs twice that had not begun in a process that died, and nothing is left behind.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.faults.conftest import Store
from tests.faults.harness import ROOT, Journal, Node, environment, until
from tests.faults.load import CHILD, SUPERVISOR, Load
from tests.faults.producer import steps
from tests.faults.residue import stored_ids
from tests.faults.roulette import Round, play
from tests.servers import RedisServer

from celeriac import Celeriac
from celeriac.brokers.base import ConsumerSpec

Start = Callable[..., Node]


@pytest.fixture
def load(client: Celeriac, journal: Journal, store: Store, tmp_path: Path) -> Load:
    return Load(client, journal, store, tmp_path / "fired")


def live(worker: Node, done: Callable[[], object], timeout: float = 30.0) -> None:
    """Wait until `done`; whenever the whole worker has died, start it again."""

    def look() -> object:
        assert worker.process is not None
        if worker.process.poll() is not None:
            worker.start()
        return done()

    until(look, timeout)


def entries(point: str, counts: tuple[int, ...], action: str) -> list[str]:
    return [f"{point}:{count}:{action}" for count in counts]


CONF = {"task_delivery_limit": 20}  # the same task may be hit again and again


@pytest.mark.parametrize(("point", "counts"), CHILD)
def test_a_child_is_killed(load: Load, node: Start, point: str, counts: tuple[int, ...]) -> None:
    worker = node("-c", "2", conf=CONF, extra=load.environ(*entries(point, counts, "kill")))
    pid = worker.pid
    if point.startswith("close"):
        until(lambda: load.journal.ended() > 2, 20)
        assert worker.stop() == 0
        worker.start()
    until(load.ended, 30)
    assert point.startswith("close") or worker.pid == pid
    assert worker.stop() == 0
    load.check(f"{point}.{counts[0]}", set(load.fired().values()))


@pytest.mark.parametrize("store", ["sqlite", "redis", "postgres"], indirect=True)
@pytest.mark.parametrize("point", SUPERVISOR)
def test_a_supervisor_is_killed(load: Load, node: Start, point: str) -> None:
    """Where there are leases: without them it asks the broker for nothing."""
    operation = point.partition(".")[0]
    if operation == "sweep":
        silent = load.client.broker.consumer(ConsumerSpec("silent", ["faults"], ttl=0.3))
        assert silent.exchange((), 5).deliveries
    fired = f"{point}.1"
    worker = node("-c", "2", conf={**CONF, "worker_lease_ttl": 3.0}, extra=load.environ(f"{point}:1:kill"))
    if operation == "release":
        until(lambda: load.journal.ended() > 2, 20)
        worker.children()[0].kill()
    live(
        worker,
        lambda: load.fired().get(fired, worker.pid) != worker.pid and load.ended() and worker.children(),
    )
    assert worker.stop() == 0
    load.check(fired, None)


@pytest.mark.parametrize(
    ("pool", "point"),
    [
        ("prefork", "take.done"),
        ("prefork", "settle.before"),
        ("prefork", "start.before"),
        ("prefork", "start.after"),
        ("prefork", "outcome.noted"),
        ("threads", "start.after"),
        ("threads", "outcome.noted"),
        ("asyncio", "start.after"),
        ("asyncio", "outcome.noted"),
    ],
)
def test_our_own_code_fails(load: Load, node: Start, pool: str, point: str) -> None:
    """A bug of ours in a child: the child ends, its work goes back, another takes its place."""
    extra = load.environ(*entries(point, (1, 2), "raise"))
    worker = node("-c", "2", "-P", pool, conf=CONF, extra=extra)
    pid = worker.pid
    until(load.ended, 30)
    assert worker.pid == pid
    assert worker.stop() == 0
    load.check(f"{point}.1", set(load.fired().values()))


@pytest.mark.parametrize("store", ["redis"], indirect=True)
def test_results_in_another_store_are_there_before_the_delivery_is_settled(
    store: Store, journal: Journal, node: Start, tmp_path: Path
) -> None:
    backend = f"sqlite:///{tmp_path / 'results.db'}"
    client = Celeriac("client", broker=store.broker, backend=backend, set_as_current=False)
    client.conf.update(task_default_queue="faults")
    load = Load(client, journal, store, tmp_path / "fired")
    extra = load.environ(*entries("results.stored", (1, 3, 4), "kill")) | {"FAULTS_BACKEND": backend}
    worker = node("-c", "2", conf=CONF, extra=extra)
    until(load.ended, 30)
    assert worker.stop() == 0
    load.check("results.stored.1", set(load.fired().values()))
    client.close()


@pytest.mark.parametrize("store", ["redis"], indirect=True)
@pytest.mark.parametrize("operation", ["register", "take", "settle", "followup", "beat"])
def test_connections_are_dropped(load: Load, node: Start, operation: str) -> None:
    """Sent, and no reply; then the reply, and no connection. Nothing runs twice: nobody died. (SQLite has no
    connection that could be lost.)"""
    points = [f"{operation}.{stage}:{n}:drop" for stage in ("sent", "done") for n in (1, 2, 4)]
    worker = node("-c", "2", extra=load.environ(*points))
    pid = worker.pid
    until(lambda: load.ended() and f"{operation}.sent.1" in load.fired(), 30)
    assert worker.pid == pid
    assert worker.stop() == 0
    load.check(f"{operation}.sent.1", set())


@pytest.mark.parametrize("point", ["take.done", "settle.sent", "start.after", "release.sent"])
def test_a_process_is_stopped_and_goes_on(load: Load, node: Start, point: str) -> None:
    """On SQLite it is stopped with the write lock in its hand: all others wait for it and go on after it."""
    if point.startswith("release") and not load.client.broker.capabilities.leases:
        pytest.skip("without leases nothing is released")
    worker = node("-c", "2", conf=CONF, extra=load.environ(f"{point}:1:stop"))
    pid = worker.pid
    if point.startswith("release"):
        until(lambda: load.journal.ended() > 2, 20)
        worker.children()[0].kill()
    stopped = until(lambda: load.fired().get(f"{point}.1"), 20)
    time.sleep(1.0)
    os.kill(stopped, signal.SIGCONT)
    until(load.ended, 30)
    assert worker.pid == pid
    assert worker.stop() == 0
    load.check(f"{point}.1", None if point.startswith("release") else set())


@pytest.mark.parametrize("number", range(4))
def test_many_at_once(redis_server: RedisServer, tmp_path: Path, number: int) -> None:
    """Some rounds of the roulette."""
    play(Round.of(7, number), redis_server, tmp_path)


# -- producers ---------------------------------------------------------------------------------------------


def produce(store: Store, journal: Journal, folder: Path, name: str, *points: str) -> int:
    """Run a producer of 4 single calls and 4 groups to its end; its exit status."""
    env = environment(store.broker, None, journal.path) | {
        "FAULTS_PRODUCED": str(folder / "produced"),
        "FAILPOINT": ",".join(points),
    }
    command = [sys.executable, "-m", "tests.faults.producer", name, "4"]
    return subprocess.run(command, env=env, cwd=ROOT, timeout=30, check=False).returncode


@pytest.mark.parametrize("point", ["publish.before", "publish.sent", "publish.done"])
def test_a_producer_is_killed(store: Store, journal: Journal, tmp_path: Path, point: str) -> None:
    """What has returned is stored; what was attempted is stored whole or not at all, and nothing twice."""
    for count in (1, 2, 5, 6):
        assert produce(store, journal, tmp_path, f"p{count}", f"{point}:{count}:kill") == -signal.SIGKILL
    stored = Counter(stored_ids(store))
    assert set(stored.values()) <= {1}
    unknown = 0
    for step in steps(tmp_path / "produced"):
        there = sum(stored[id_] for id_ in step.ids)
        assert there in (0, len(step.ids))
        if step.outcome == "returned":
            assert there
        unknown += step.outcome == "attempt"
    returned = sum(step.outcome == "returned" for step in steps(tmp_path / "produced"))
    assert unknown - returned == 4


@pytest.mark.parametrize("store", ["redis"], indirect=True)
def test_a_producer_loses_its_connection(store: Store, journal: Journal, tmp_path: Path) -> None:
    """Each publish is carried out and never answered: it is repeated and stored once."""
    points = [f"publish.{stage}:{count}:drop" for stage in ("sent", "done") for count in (1, 3, 5, 7, 9)]
    assert produce(store, journal, tmp_path, "p", *points) == 0
    produced = steps(tmp_path / "produced")
    assert {step.outcome for step in produced} == {"attempt", "returned"}
    attempted = Counter(id_ for step in produced if step.outcome == "attempt" for id_ in step.ids)
    assert Counter(stored_ids(store)) == attempted


# -- the syntax --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["take.sent", "take.sent:x:kill", "take.sent:1:explode", ":1:kill"])
def test_a_wrong_entry_is_refused(text: str) -> None:
    command = [sys.executable, "-c", "import celeriac.failpoints"]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "FAILPOINT": text}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=30, check=False)
    assert "is not name:nth:action" in done.stderr
