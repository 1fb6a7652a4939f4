"""Whatever a body does, its call ends with a clear state, the next task runs, and the worker's pid stays."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from tests.faults.conftest import Store
from tests.faults.harness import PATIENCE, Journal, Node, until

from celeriac import Celeriac

Start = Callable[..., Node]

#: What a body raises → the type that is stored.
RAISED = {
    "needs": "NeedsArguments",
    "unprintable": "Unprintable",
    "irreducible": "Irreducible",
    "group": "ExceptionGroup",
    "cycle": "ValueError",
    "huge": "ValueError",
    "local": "Local",
    "recursion": "RecursionError",
    "exit": "SystemExit",
    "interrupt": "KeyboardInterrupt",
    "generator": "GeneratorExit",
    "cancelled": "CancelledError",
    "reject": "Reject",
}


def call(client: Celeriac, name: str, *args: Any, **options: Any) -> Any:
    return client.send_task(name, args, **options)


def type_of(result: Any) -> str:
    """The name of the exception, also when its class is not loaded here."""
    exc = result.result
    return str(getattr(exc, "exc_type", type(exc).__name__)).rpartition(".")[2]


@pytest.mark.parametrize("pool", ["prefork", "solo", "threads", "asyncio"])
def test_everything_that_can_be_raised(client: Celeriac, node: Start, pool: str) -> None:
    worker = node("-c", "1", "-P", pool)
    for name in ("raises", "araises", "araises_inside"):
        results = {kind: call(client, name, kind) for kind in RAISED}
        for kind, wanted in RAISED.items():
            until(lambda kind=kind: results[kind].state == "FAILURE", 20, f"{name} {kind}")  # noqa: B023
            assert type_of(results[kind]) == wanted, (name, kind)
            assert len(results[kind].traceback or "") < 100_000
            assert kind == "reject" or wanted in results[kind].traceback
    assert call(client, "add", 2, 2).get(timeout=30) == 4
    stats = client.broker.stats(["faults"])[0]
    assert (stats.depth, stats.dead) == (0, 3)  # the rejected ones
    assert psutil.pid_exists(worker.pid)
    assert worker.stop() == 0
    assert "Traceback" not in "".join(line for line in worker.log.splitlines() if "CRITICAL" in line)


@pytest.mark.parametrize("pool", ["prefork", "threads", "asyncio"])
def test_what_cannot_be_stored_is_a_failure(client: Celeriac, node: Start, pool: str) -> None:
    node("-c", "1", "-P", pool)
    for what in ("lock", "circle", "deep"):
        result = call(client, "returns", what)
        until(lambda result=result: result.state == "FAILURE", 20, what)
        assert type_of(result) == "EncodeError", what
    assert call(client, "add", 2, 2).get(timeout=30) == 4


@pytest.mark.parametrize("store", ["sqlite", "redis", "rabbitmq"], indirect=True)
def test_large_values(client: Celeriac, node: Start, store: Store) -> None:
    node("-c", "1")
    assert call(client, "echo", "x" * 10_000_000).get(timeout=30) == 10_000_000
    assert len(call(client, "returns", "20000000").get(timeout=30)) == 20_000_000
    too_large = call(client, "returns", "300000000")
    until(lambda: too_large.state != "PENDING", 60)
    assert too_large.state == "FAILURE"
    assert "limit" in str(too_large.result)
    assert call(client, "add", 2, 2).get(timeout=30) == 4


@pytest.mark.parametrize("pool", ["prefork", "solo", "threads", "asyncio"])
def test_coroutines_behind_decorators(client: Celeriac, node: Start, pool: str) -> None:
    node("-c", "1", "-P", pool)
    assert call(client, "wrapped", 1).get(timeout=30) == 2
    assert call(client, "passed", 1).get(timeout=30) == 2
    assert call(client, "passed", 1, soft_time_limit=5, time_limit=9).get(timeout=30) == 2


@pytest.mark.parametrize("pool", ["prefork", "threads", "asyncio"])
@pytest.mark.parametrize("what", ["output", "signals", "cwd", "threads", "gc", "stdin", "group"])
def test_mischief(client: Celeriac, node: Start, pool: str, what: str) -> None:
    worker = node("-c", "1", "-P", pool)
    assert call(client, "add", 1, 1).get(timeout=30) == 2
    result = call(client, "mischief", what)
    if (what, pool) == ("signals", "threads") or (what, pool) == ("signals", "asyncio"):
        until(lambda: result.state == "FAILURE", 10)  # signal handlers belong to the main thread
    else:
        assert result.get(timeout=30) == ("" if what == "stdin" else what)
    for _ in range(3):
        assert call(client, "add", 2, 2).get(timeout=30) == 4
    if pool == "prefork":
        from celeriac.exceptions import SoftTimeLimitExceeded

        with pytest.raises(SoftTimeLimitExceeded):
            call(client, "spin", 30.0, soft_time_limit=0.2).get(timeout=30)
    assert worker.stop() == 0


@pytest.mark.parametrize("store", ["sqlite", "redis", "rabbitmq"], indirect=True)
def test_a_task_that_closes_every_descriptor(client: Celeriac, node: Start, store: Store) -> None:
    worker = node("-c", "1")
    assert call(client, "add", 1, 1).get(timeout=30) == 2
    pids = {process.pid for process in worker.family() if process not in worker.children()}
    result = call(client, "mischief", "fds")
    until(lambda: result.state in ("SUCCESS", "FAILURE") or client.broker.stats(["faults"])[0].dead, 30)
    assert call(client, "add", 2, 2).get(timeout=30) == 4
    assert pids <= {process.pid for process in worker.family()}
    assert worker.stop() == 0


def test_a_task_that_kills_the_process_its_own_was_forked_from(client: Celeriac, node: Start) -> None:
    worker = node("-c", "2")
    assert call(client, "add", 1, 1).get(timeout=30) == 2
    poison = call(client, "mischief", "parent")
    until(lambda: client.broker.stats(["faults"])[0].dead == 1, 30)
    assert poison.state == "FAILURE"
    assert call(client, "add", 2, 2).get(timeout=30) == 4
    assert worker.family()[0].pid == worker.pid
    assert worker.stop() == 0


def test_grandchildren_die_with_a_child_that_is_killed(
    client: Celeriac, node: Start, journal: Journal
) -> None:
    node("-c", "1")
    result = call(client, "grandchild", "g", 60.0, time_limit=1)
    until(lambda: journal.count("grandchild"), 15)
    pid = int(next(iter(journal.count("grandchild"))))
    assert psutil.pid_exists(pid)
    until(lambda: result.state == "FAILURE", 5)
    until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie", 2)


def test_what_a_task_starts_can_be_terminated(client: Celeriac, node: Start) -> None:
    node("-c", "1")
    assert call(client, "terminates").get(timeout=25) == -30


def test_arguments_that_a_body_changes_are_whole_at_its_next_try(client: Celeriac, node: Start) -> None:
    node("-c", "1")
    assert call(client, "mutates", [1, 2], {"a": 1}).get(timeout=30) == [[1, 2], {"a": 1}]


@pytest.mark.parametrize("name", ["gives_up", "auto"])
def test_retries_end(client: Celeriac, node: Start, journal: Journal, name: str) -> None:
    node("-c", "1")
    with pytest.raises(ValueError, match="never works"):
        call(client, name, "k").get(timeout=30)
    assert journal.count("try") == {"k": 3}


def test_a_retry_comes_when_it_should_with_all_that_it_had(
    client: Celeriac, node: Start, journal: Journal
) -> None:
    node("-c", "1", "-Q", "side,faults")
    result = call(client, "later", "k", 1.5, queue="side", priority=3, headers={"mine": "yes"})
    answer = result.get(timeout=30)
    assert answer == {"queue": "side", "priority": 3, "mine": "yes", "retries": 1, "id": result.id}
    first, second = (event.at for event in journal.events())
    assert 1.5 <= second - first < 1.5 + 2 * PATIENCE


def test_only_the_queues_that_were_named(client: Celeriac, node: Start) -> None:
    node("-c", "1", "-Q", "a,b")
    results = [call(client, "add", 1, 1, queue=queue) for queue in ("a", "b", "c")]
    assert [result.get(timeout=30) for result in results[:2]] == [2, 2]
    assert results[2].state == "PENDING"
    assert client.broker.depth("c") == 1


def test_purge_before_the_start(client: Celeriac, node: Start, journal: Journal) -> None:
    for n in range(5):
        call(client, "record", f"old{n}")
    worker = node("-c", "1", "--purge")
    until(lambda: "Purged 5 messages" in worker.log, 15)
    assert call(client, "record", "new").get(timeout=30) == "new"
    assert set(journal.count("start")) == {"new"}


def test_logs_as_json(client: Celeriac, node: Start) -> None:
    worker = node("-c", "1", "--log-format", "json")
    good, bad = call(client, "add", 1, 1), call(client, "raises", "unprintable")
    until(lambda: good.state == "SUCCESS" and bad.state == "FAILURE", 15)
    call(client, "mischief", "output").get(timeout=30)
    assert worker.stop() == 0
    lines = [line for line in worker.log.splitlines() if line.startswith("{")]
    records = [json.loads(line) for line in lines]
    ends = [record for record in records if record.get("task_id") in (good.id, bad.id)]
    assert {(record["task_name"], record["queue"]) for record in ends} == {
        ("add", "faults"),
        ("raises", "faults"),
    }


def test_an_application_that_starts_threads_when_it_is_imported(
    client: Celeriac, node: Start, journal: Journal
) -> None:
    """Its children are started afresh instead of being forked."""
    worker = node("-c", "2", switches="thread signals")
    running = call(client, "record", "k", 0.5)
    assert running.get(timeout=25) == "k"
    until(lambda: journal.count("worker_ready"), 10)
    pid = call(client, "pid").get(timeout=30)
    psutil.Process(pid).kill()
    until(lambda: "exited with signal 9" in worker.log, 5)
    assert call(client, "add", 1, 1).get(timeout=30) == 2
    assert "Task record" in worker.log
    family = worker.family()
    assert worker.stop() == 0
    assert not psutil.wait_procs(family, 10)[1]


def test_children_that_die_at_birth_are_started_again_with_pauses(
    client: Celeriac, node: Start, journal: Journal
) -> None:
    worker = node("-c", "1", switches="die")
    until(lambda: journal.count("born")["-"] >= 3, 15)
    begun, births = time.monotonic(), journal.count("born")["-"]
    until(lambda: journal.count("born")["-"] > births, 10)
    until(lambda: time.monotonic() - begun > 2, 5)
    assert journal.count("born")["-"] - births < 5
    assert worker.stop() == 0


def test_early_acknowledgement_runs_at_most_once_and_keeps_its_result(
    client: Celeriac, node: Start, journal: Journal
) -> None:
    worker = node("-c", "1", conf={"task_acks_late": False})
    link = client.signature("errback")
    assert call(client, "record", "good", link=link).get(timeout=30) == "good"
    until(lambda: journal.count("errback")["good"], 5)
    killed = call(client, "record", "killed", 60.0)
    until(lambda: journal.count("start")["killed"], 5)
    assert client.broker.stats(["faults"])[0].in_flight == 0
    next(child for child in worker.children()).kill()
    assert call(client, "add", 1, 1).get(timeout=30) == 2
    assert journal.count("start")["killed"] == 1
    until(lambda: killed.state == "FAILURE", 5)
    assert type_of(killed) == "WorkerLostError"
    late = call(client, "spin", 60.0, time_limit=1)
    until(lambda: late.state == "FAILURE", 5)
    assert type_of(late) == "TimeLimitExceeded"
