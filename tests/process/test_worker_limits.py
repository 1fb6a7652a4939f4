"""Time limits in every pool, and the limits of a child's life: what is over them ends, nothing else does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.faults.harness import PATIENCE, Journal, Node, until

from celeriac import Celeriac
from celeriac.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded

Start = Callable[..., Node]
POOLS = ["prefork", "solo", "threads", "asyncio"]


def call(client: Celeriac, name: str, *args: Any, **options: Any) -> Any:
    return client.send_task(name, args, **options)


@pytest.mark.parametrize("pool", POOLS)
def test_soft_limits(client: Celeriac, node: Start, pool: str) -> None:
    worker = node("-c", "1", "-P", pool)
    assert call(client, "add", 1, 1).get(timeout=30) == 2
    for name in ("spin", "aspin"):
        begun = time.monotonic()
        with pytest.raises(SoftTimeLimitExceeded):
            call(client, name, 30.0, soft_time_limit=0.3).get(timeout=30)
        assert time.monotonic() - begun < 10  # of 30
    if pool in ("prefork", "solo"):  # a coroutine that keeps its loop from doing anything
        with pytest.raises(SoftTimeLimitExceeded):
            call(client, "ablocks", 30.0, soft_time_limit=0.3).get(timeout=30)
    for name in ("catches", "acatches"):
        assert call(client, name, 30.0, soft_time_limit=0.3).get(timeout=30) == "cleaned up"
        assert call(client, name, 0.01, soft_time_limit=5).get(timeout=30) == "not limited"
    # What rang too late, or not at all, hits nobody later.
    # The first ones' limits would ring while the last ones run.
    results = [call(client, "add", n, n, 0.03, soft_time_limit=1.0) for n in range(50)]
    assert [result.get(timeout=30) for result in results] == [2 * n for n in range(50)]
    assert worker.stop() == 0


@pytest.mark.parametrize("store", ["sqlite", "rabbitmq"], indirect=True)
@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("name", ["spin", "aspin", "swallows", "aswallows"])
def test_hard_limits(client: Celeriac, node: Start, journal: Journal, pool: str, name: str) -> None:
    worker = node("-c", "1", "-P", pool)
    assert call(client, "add", 1, 1).get(timeout=30) == 2
    args = () if "swallows" in name else (60.0,)
    soft = 0.3 if "swallows" in name else None
    failed = client.send_task(
        name, args, time_limit=1, soft_time_limit=soft, link_error=client.signature("errback")
    )
    good = call(client, "add", 2, 2)
    begun = time.monotonic()
    with pytest.raises(TimeLimitExceeded) as caught:
        failed.get(timeout=30)
    assert caught.value.args == (1,)
    assert good.get(timeout=30) == 4
    assert time.monotonic() - begun < 10  # of 60, or of no end
    until(lambda: journal.count("errback"), 5)
    assert bool(soft) == ("swallowed" in journal.path.read_text())
    # Nothing is left of it: the worker stops, and the task does not run again.
    assert worker.stop(timeout=8) == 0
    assert journal.count("errback") == {failed.id: 1}
    assert client.broker.stats(["faults"])[0].dead == 0
    assert client.broker.depth("faults") == 0


@pytest.mark.parametrize("store", ["sqlite", "rabbitmq"], indirect=True)
@pytest.mark.parametrize(
    ("pool", "name"),
    [("prefork", "holds_gil"), ("solo", "holds_gil"), ("threads", "holds_gil"), ("asyncio", "holds_gil"),
     ("prefork", "ablocks"), ("asyncio", "ablocks")],
)  # fmt: skip
def test_a_body_that_keeps_its_process_from_doing_anything(
    client: Celeriac, node: Start, journal: Journal, pool: str, name: str
) -> None:
    worker = node("-c", "2", "-P", pool)
    assert call(client, "add", 1, 1).get(timeout=30) == 2
    beside = call(client, "arecord", "beside", 0.8) if pool in ("threads", "asyncio") else None
    if beside is not None:
        until(lambda: journal.count("start")["beside"], 5)
    failed = call(client, name, 60, time_limit=1)
    begun = time.monotonic()
    with pytest.raises(TimeLimitExceeded) as caught:
        failed.get(timeout=30)
    assert caught.value.args == (1,)
    assert call(client, "add", 2, 2).get(timeout=30) == 4
    assert time.monotonic() - begun < 15  # of 60
    if beside is not None:  # its process was killed beside it: it runs again, and is not blamed
        assert beside.get(timeout=30) == "beside"
    assert worker.stop(timeout=8) == 0


@pytest.mark.parametrize("pool", ["threads", "asyncio"])
def test_slots_come_back_however_many_bodies_are_given_up(client: Celeriac, node: Start, pool: str) -> None:
    node("-c", "2", "-P", pool)
    results = [call(client, "swallows", time_limit=0.3) for _ in range(6)]
    for result in results:
        with pytest.raises(TimeLimitExceeded):
            result.get(timeout=30)
    assert call(client, "add", 2, 2).get(timeout=30) == 4


def test_limits_of_the_node(client: Celeriac, node: Start) -> None:
    node("-c", "1", "--soft-time-limit", "0.3", "--time-limit", "20")
    with pytest.raises(SoftTimeLimitExceeded):
        call(client, "spin", 30.0).get(timeout=30)


@pytest.mark.parametrize("store", ["sqlite", "rabbitmq"], indirect=True)
def test_long_tasks_do_not_keep_short_ones_waiting(client: Celeriac, node: Start, journal: Journal) -> None:
    node("-c", "2")
    results = [call(client, "add", n, 1) for n in range(300)]  # so that much is fetched ahead
    assert [result.get(timeout=30) for result in results] == [n + 1 for n in range(300)]
    long = call(client, "record", "long", 5.0)
    short = [call(client, "record", f"short{n}", 0.0) for n in range(100)]
    until(lambda: journal.ended() >= 100, 10)
    assert not journal.count("end")["long"]
    assert {result.get(timeout=30) for result in short} == {f"short{n}" for n in range(100)}
    assert long.get(timeout=30) == "long"


@pytest.mark.parametrize("store", ["sqlite", "rabbitmq"], indirect=True)
@pytest.mark.parametrize("pool", ["threads", "asyncio"])
def test_every_free_slot_is_used(client: Celeriac, node: Start, journal: Journal, pool: str) -> None:
    node("-c", "4", "-P", pool)
    for slot in range(4):  # one by one: the last comes when three are busy
        call(client, "record", f"k{slot}", 20.0)
        until(lambda slot=slot: journal.count("start")[f"k{slot}"], 15 if not slot else 1)
    assert journal.ended() == 0


@pytest.mark.parametrize("store", ["sqlite", "rabbitmq"], indirect=True)
@pytest.mark.parametrize("pool", ["prefork", "threads", "asyncio"])
def test_a_child_is_replaced_after_so_many_tasks(
    client: Celeriac, node: Start, journal: Journal, pool: str
) -> None:
    worker = node("-c", "2", "-P", pool, "--max-tasks-per-child", "10")
    results = [call(client, "record", f"r{n}") for n in range(120)]
    assert [result.get(timeout=30) for result in results] == [f"r{n}" for n in range(120)]
    assert set(journal.count("end").values()) == {1}
    pids = {event.pid for event in journal.events()}
    assert len(pids) >= (10 if pool == "prefork" else 6)
    assert worker.stop() == 0
    assert client.broker.stats(["faults"])[0][1:] == (0, None, 0, 0, 0, 0)


def test_a_child_is_replaced_when_it_has_grown(client: Celeriac, node: Start) -> None:
    node("-c", "1", "--max-memory-per-child", "200000")
    pids = [call(client, "leaks", 50).get(timeout=30) for _ in range(8)]
    assert 2 <= len(set(pids)) < 8


def test_a_child_that_dies_is_replaced_within_a_second(client: Celeriac, node: Start) -> None:
    worker = node("-c", "1")
    pid = call(client, "pid").get(timeout=30)
    for _ in range(3):
        next(child for child in worker.children() if child.pid == pid).kill()
        begun = time.monotonic()
        pid, old = call(client, "pid").get(timeout=30), pid
        assert time.monotonic() - begun < PATIENCE
        assert pid != old


def test_a_thousand_coroutines_in_one_process(client: Celeriac, node: Start) -> None:
    node("-c", "1000", "-P", "asyncio")
    assert call(client, "add", 1, 1).get(timeout=30) == 2
    from celeriac.canvas import group

    begun = time.monotonic()
    result = group(client.signature("aspin", (1.0,)) for _ in range(1000)).apply_async()
    result.get(timeout=60)
    assert time.monotonic() - begun < 10  # of 1000


@pytest.mark.parametrize("name", ["spin", "aspin"])
def test_soft_limits_that_ring_just_when_the_body_ends(client: Celeriac, node: Start, name: str) -> None:
    worker = node("-c", "1")
    pid = call(client, "pid").get(timeout=30)
    results = [call(client, name, 0.0199 + n * 0.000005, soft_time_limit=0.02) for n in range(60)]
    for result in results:
        until(lambda result=result: result.state in ("SUCCESS", "FAILURE"), 10)
        assert result.state == "SUCCESS" or isinstance(result.result, SoftTimeLimitExceeded)
    assert call(client, "pid").get(timeout=30) == pid
    assert worker.stop() == 0
