"""Signals to a worker mean what they mean in Celery, and stopping it loses nothing and blames nobody."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import psutil
import pytest
from tests.faults.conftest import Store
from tests.faults.harness import PATIENCE, Journal, Node, until
from tests.servers import RedisServer

from celeriac import Celeriac

Start = Callable[..., Node]


def starts(journal: Journal, key: str) -> int:
    return journal.count("start")[key]


def exit_code(worker: Node, timeout: float) -> int:
    assert worker.process is not None
    return worker.process.wait(timeout * PATIENCE)


@pytest.mark.parametrize("pool", ["prefork", "solo", "threads", "asyncio"])
def test_term_lets_running_tasks_finish_and_starts_nothing_new(
    client: Celeriac, node: Start, journal: Journal, pool: str
) -> None:
    worker = node("-c", "1", "-P", pool)
    running = client.send_task("record", ("running", 1.0))
    until(lambda: starts(journal, "running"), 15)
    client.send_task("record", ("waiting", 0.0))
    for _ in range(3):
        worker.signal(signal.SIGTERM)
    assert exit_code(worker, 10) == 0
    assert running.get(timeout=30) == "running"
    assert starts(journal, "waiting") == 0
    assert client.broker.depth("faults") == 1
    assert client.broker.stats(["faults"])[0].in_flight == 0


def test_term_to_every_process_is_a_warm_shutdown_too(
    client: Celeriac, node: Start, journal: Journal
) -> None:
    """As systemd sends it by default, and container runtimes do."""
    worker = node("-c", "2")
    running = client.send_task("record", ("running", 1.0))
    until(lambda: starts(journal, "running"), 15)
    for process in worker.family():
        process.send_signal(signal.SIGTERM)
    assert exit_code(worker, 10) == 0
    assert running.get(timeout=30) == "running"


def test_int_is_warm_and_ends_with_one(client: Celeriac, node: Start, journal: Journal) -> None:
    worker = node("-c", "1")
    running = client.send_task("record", ("running", 0.7))
    until(lambda: starts(journal, "running"), 15)
    worker.signal(signal.SIGINT)
    assert exit_code(worker, 10) == 1
    assert running.get(timeout=30) == "running"


def test_a_second_int_is_cold(client: Celeriac, node: Start, journal: Journal) -> None:
    worker = node("-c", "1")
    client.send_task("record", ("running", 60.0))
    until(lambda: starts(journal, "running"), 15)
    worker.signal(signal.SIGINT)
    until(lambda: "warm shutdown" in worker.log, 5)
    worker.signal(signal.SIGINT)
    assert exit_code(worker, 2) == 1
    assert client.broker.depth("faults") == 1


@pytest.mark.parametrize("store", ["sqlite", "redis", "rabbitmq"], indirect=True)
def test_quit_stops_at_once_and_another_worker_runs_the_task(
    client: Celeriac, node: Start, journal: Journal, store: Store
) -> None:
    first = node("-c", "1", name="n1")
    result = client.send_task("record", ("cold", 3.0))
    until(lambda: starts(journal, "cold") == 1, 15)
    node("-c", "1", name="n2")
    # Without leases a busy child consumes from no queue.
    served = 2 if client.broker.capabilities.leases else 1
    until(lambda: client.broker.stats(["faults"])[0].consumers == served, 15)
    asked = time.time()
    first.signal(signal.SIGQUIT)
    assert exit_code(first, 3) == 0
    assert result.state == "PENDING"
    until(lambda: starts(journal, "cold") == 2, 5)
    again = [event for event in journal.events() if event.what == "start"][1]
    assert again.at - asked < 2 * PATIENCE
    assert result.get(timeout=30) == "cold"
    assert journal.count("end")["cold"] == 1
    assert "succeeded" not in first.log


@pytest.mark.parametrize("store", ["sqlite", "rabbitmq"], indirect=True)
def test_cold_shutdowns_never_count_as_crashes(client: Celeriac, node: Start, journal: Journal) -> None:
    result = client.send_task("record", ("patient", 2.0))
    for round_ in range(1, 5):  # the limit is three crashes
        worker = node("-c", "1", name=f"n{round_}")
        until(lambda round_=round_: starts(journal, "patient") == round_, 15)
        worker.signal(signal.SIGQUIT)
        assert exit_code(worker, 3) == 0
    node("-c", "1", name="last")
    assert result.get(timeout=30) == "patient"


@pytest.mark.parametrize("signals", [(signal.SIGTERM, signal.SIGQUIT), (signal.SIGQUIT, signal.SIGQUIT)])
def test_hard_shutdown_of_a_very_long_task(
    client: Celeriac, node: Start, journal: Journal, signals: tuple[signal.Signals, ...]
) -> None:
    worker = node("-c", "1")
    client.send_task("record", ("long", 420.0))
    until(lambda: starts(journal, "long"), 15)
    for number in signals:
        worker.signal(number)
    exit_code(worker, 2)
    assert client.broker.depth("faults") == 1


def test_remapped_term_is_cold(client: Celeriac, node: Start, journal: Journal) -> None:
    worker = node("-c", "1", REMAP_SIGTERM="SIGQUIT")
    client.send_task("record", ("long", 420.0))
    until(lambda: starts(journal, "long"), 15)
    worker.signal(signal.SIGTERM)
    assert exit_code(worker, 2) == 0
    assert client.broker.depth("faults") == 1


def test_soft_shutdown_gives_time_and_then_stops(client: Celeriac, node: Start, journal: Journal) -> None:
    worker = node("-c", "2", conf={"worker_soft_shutdown_timeout": 3.0})
    quick = client.send_task("record", ("quick", 1.0))
    slow = client.send_task("record", ("slow", 60.0))
    until(lambda: starts(journal, "quick") and starts(journal, "slow"), 15)
    begun = time.monotonic()
    worker.signal(signal.SIGQUIT)
    assert exit_code(worker, 4) == 0
    assert 2.5 < time.monotonic() - begun < 10  # of 60
    assert quick.get(timeout=30) == "quick"
    assert slow.state == "PENDING"
    assert client.broker.depth("faults") == 1


def test_soft_shutdown_ends_at_once_when_idle(client: Celeriac, node: Start) -> None:
    worker = node("-c", "1", conf={"worker_soft_shutdown_timeout": 20.0})
    assert client.send_task("add", (1, 1)).get(timeout=30) == 2
    worker.signal(signal.SIGQUIT)
    assert exit_code(worker, 3) == 0


def test_hup_starts_the_worker_again_under_the_same_pid(
    client: Celeriac, node: Start, journal: Journal
) -> None:
    worker = node("-c", "1")
    running = client.send_task("record", ("running", 0.5))
    until(lambda: starts(journal, "running"), 15)
    before = client.send_task("pid")
    worker.signal(signal.SIGHUP)
    assert running.get(timeout=30) == "running"
    old = next(event.pid for event in journal.events())
    assert before.get(timeout=30) != old
    assert worker.family()[0].pid == worker.pid
    assert worker.stop() == 0


def test_usr1_dumps_the_stacks_of_every_process(client: Celeriac, node: Start, journal: Journal) -> None:
    worker = node("-c", "1")
    running = client.send_task("record", ("running", 1.0))
    until(lambda: starts(journal, "running"), 15)
    worker.signal(signal.SIGUSR1)
    until(lambda: "in record" in worker.log and "supervisor.py" in worker.log, 5)
    assert running.get(timeout=30) == "running"
    assert worker.stop() == 0


def test_ttin_and_ttou_change_the_number_of_children(client: Celeriac, node: Start, journal: Journal) -> None:
    worker = node("-c", "1")
    running = client.send_task("record", ("running", 1.5))
    until(lambda: starts(journal, "running"), 15)
    worker.signal(signal.SIGTTIN)
    assert client.send_task("add", (1, 1)).get(timeout=30) == 2
    worker.signal(signal.SIGTTIN)
    until(lambda: len(worker.children()) == 3, 5)

    def one_less() -> int:  # signals of one kind that come together are one
        worker.signal(signal.SIGTTOU)
        return len(worker.children())

    until(lambda: one_less() == 1, 10, every=0.2)
    one_less()  # one always stays
    assert running.get(timeout=30) == "running"
    assert client.send_task("add", (1, 1)).get(timeout=30) == 2
    assert worker.stop() == 0


def test_the_worker_tells_its_life_by_signals(client: Celeriac, node: Start, journal: Journal) -> None:
    worker = node("-c", "2", switches="signals")
    until(lambda: journal.count("worker_ready"), 15)
    until(lambda: journal.count("worker_process_init")["-"] == 2, 5)
    client.send_task("record", ("running", 2.0))
    until(lambda: starts(journal, "running"), 5)
    assert worker.stop() == 0
    life = [event.what for event in journal.events() if event.what != "worker_process_init"]
    assert life == ["worker_ready", "start", "worker_shutting_down", "worker_process_shutdown", "end",
                    "worker_process_shutdown", "worker_shutdown"] or life == [
        "worker_ready", "start", "worker_shutting_down", "end", "worker_process_shutdown",
        "worker_process_shutdown", "worker_shutdown"]  # fmt: skip
    assert list(journal.count("worker_shutting_down")) == ["SIGTERM/Warm/0"]


def test_it_waits_for_a_broker_that_is_down_and_can_be_stopped_meanwhile(node: Start) -> None:
    server = RedisServer()
    impatient = {"broker_transport_options": {"socket_timeout": 0.5}}
    env = {"FAULTS_BROKER": server.url, "FAULTS_BACKEND": server.url}
    try:
        server.kill()
        worker = node("-c", "1", name="n1", conf=impatient, **env)
        other = node("-c", "1", name="n2", conf=impatient, **env)
        until(lambda: "Cannot reach the broker:" in worker.log, 15)
        until(lambda: "Cannot reach the broker:" in other.log, 15)
        assert other.stop(timeout=8) == 0
        server.start()
        app = Celeriac("late", broker=server.url, backend=server.url, set_as_current=False)
        app.conf.update(task_default_queue="faults")
        assert app.send_task("add", (2, 3)).get(timeout=30) == 5
        app.close()
        server.kill()
        until(lambda: "Broker lost" in worker.log, 10)
        assert worker.stop(timeout=15) == 0
    finally:
        server.stop()


def test_no_process_is_left(client: Celeriac, node: Start) -> None:
    worker = node("-c", "2", "-B", "-s", f"{client.conf.broker_url.removeprefix('sqlite:///')}.schedule")
    assert client.send_task("add", (1, 1)).get(timeout=30) == 2
    family = until(lambda: len(found := worker.family()) == 5 and found, 5)  # a template, two children, beat
    worker.signal(signal.SIGTERM)
    assert exit_code(worker, 10) == 0
    _, alive = psutil.wait_procs(family, 10)
    assert not alive
