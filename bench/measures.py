"""What is measured: one function per measure, from a `Trial` to figures.

Times of executions are read from shared memory (`bench.pages`), so that waiting for them costs the contender
nothing. A drain is the time from the first execution to the last of tasks that were all queued before the
worker started.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from bench import machine
from bench.contender import Kind, Shape
from bench.trial import PATIENCE, Trial, TrialFailed

SETTLED = 1.0  # seconds a worker rests before its memory is read
CLAIM = 100  # messages taken at once where claims are timed

Figures = dict[str, float]


class Measure(NamedTuple):
    """One row of the report. `figures` are the columns, the first is the one compared."""

    name: str
    title: str
    figures: tuple[str, ...]
    more_is_better: bool
    run: Callable[[Trial], Figures]


def enqueue_one(trial: Trial) -> Figures:
    return {"messages/s": trial.client("single", trial.counts.single)}


def enqueue_bulk(trial: Trial) -> Figures:
    return {"messages/s": trial.client("bulk", trial.counts.bulk)}


def calls(trial: Trial) -> Figures:
    """Python functions that one `delay()` calls, and the files they are in."""
    sends = min(100, trial.counts.single)
    counted = trial.client("calls", sends)
    return {
        "Python calls": sum(sum(functions.values()) for functions in counted.values()) / sends,
        "files": float(len(counted)),
    }


def drain(
    kind: Kind, count: Callable[[Trial], int], shape: Shape, *, results: bool = False
) -> Callable[[Trial], Figures]:
    """Tasks per second, and the processor time per task of the worker's processes and of the broker."""

    def run(trial: Trial) -> Figures:
        wanted = count(trial)
        trial.switch_on(results=results)
        trial.client("tasks", kind, wanted)
        trial.start_worker(shape)
        begun = trial.wait_for(1)
        worker, broker = _cpu(trial)
        done = trial.wait_for(wanted, patience=5 * PATIENCE)
        worker, broker = (after - before for after, before in zip(_cpu(trial), (worker, broker), strict=True))
        if done.executions > wanted:
            raise TrialFailed(f"{done.executions} executions of {wanted} tasks")
        seen = max(1, wanted - begun.executions)
        return {
            "tasks/s": (wanted - 1) / (done.last - done.first),
            "worker µs/task": 1e6 * worker / seen,
            "broker µs/task": 1e6 * broker / seen,
        }

    return run


def _cpu(trial: Trial) -> tuple[float, float]:
    return machine.own_cpu_seconds(trial.worker_tree()), machine.own_cpu_seconds(trial.broker_pids())


def round_trip(backend: str = "") -> Callable[[Trial], Figures]:
    """Milliseconds of `delay().get()`, one after the other; results in the trial's store or in `backend`."""

    def run(trial: Trial) -> Figures:
        trial.switch_on(results=True, waited=True, backend=backend)
        _start_and_warm(trial, Shape(processes=2), 20)
        taken = trial.client("trips", trial.counts.trips)
        return {f"p{share} ms": quantile(taken, share / 100) for share in (50, 95, 99)}

    return run


def memory(trial: Trial) -> Figures:
    trial.switch_on(results=True)
    _start_and_warm(trial, Shape(processes=2), 200)
    time.sleep(SETTLED)
    tree = trial.worker_tree()
    return {"PSS MB": machine.pss(tree), "processes": len(tree)}


def waiting(trial: Trial) -> Figures:
    """What a client grows by that waits for the results of one large group."""
    trial.switch_on(results=True, waited=True)
    _start_and_warm(trial, Shape(processes=2), 20)
    grown, peak = trial.client("waiting", trial.counts.waiting, patience=5 * PATIENCE)
    return {"MB": grown, "peak MB": peak}


def chord(trial: Trial) -> Figures:
    """Members per second of one large chord, from sending it to the result of its body."""
    trial.switch_on(results=True, waited=True)
    _start_and_warm(trial, Shape(processes=2), 20)
    seconds = trial.client("chord", trial.counts.chord, patience=5 * PATIENCE)
    return {"tasks/s": trial.counts.chord / seconds, "s": seconds}


def chain(trial: Trial) -> Figures:
    """Steps per second of one long chain, and the time from one step to the next."""
    trial.switch_on(results=True, waited=True)
    _start_and_warm(trial, Shape(processes=2), 20)
    seconds = trial.client("chain", trial.counts.chain, patience=5 * PATIENCE)
    times = sorted(trial.pages.values())[-trial.counts.chain :]
    steps = [1000 * (after - before) for before, after in itertools.pairwise(times)]
    return {"steps/s": trial.counts.chain / seconds, "p50 ms": quantile(steps, 0.5)}


def start_up(trial: Trial) -> Figures:
    trial.switch_on(results=True)
    trial.client("tasks", "noop", 1)
    trial.start_worker(Shape(processes=2))
    return {"s": trial.wait_for(1).first - trial.worker_started}


def due(trial: Trial) -> Figures:
    """How late tasks run that are all due at one instant, sent while the worker is up."""
    wanted = trial.counts.due
    _start_and_warm(trial, Shape(processes=2), 20)
    left = trial.client("due", wanted, time.time() + trial.counts.due_after)
    if left < 0.5:
        raise TrialFailed(f"sending {wanted} tasks took until {left:.1f} s before they were due")
    trial.wait_for(20 + wanted)
    late = trial.pages.values()
    return {
        "p99 late s": quantile(late, 0.99),
        "p50 late s": quantile(late, 0.5),
        "early": float(sum(value < 0 for value in late)),
    }


def delayed(trial: Trial) -> Figures:
    """What many delayed messages cost a worker while they wait; how late those that are due run."""
    counts = trial.counts
    soon, later = counts.delayed_soon, counts.delayed - counts.delayed_soon
    _start_and_warm(trial, Shape(processes=2), 200)
    time.sleep(SETTLED)
    idle = machine.pss(trial.worker_tree())
    begin, left = trial.client(
        "spread", later, soon, counts.delayed_after, counts.delayed_span, patience=3 * PATIENCE
    )
    if left < SETTLED:
        raise TrialFailed(f"sending {soon} tasks took until {left:.1f} s before the first was due")
    time.sleep(max(0.0, begin - time.time() - SETTLED / 2))
    waiting = machine.pss(trial.worker_tree())
    trial.wait_for(200 + soon, patience=counts.delayed_span + PATIENCE)
    late = trial.pages.values()
    return {
        "p99 late s": quantile(late, 0.99),
        "p50 late s": quantile(late, 0.5),
        "max late s": max(late),
        "early": float(sum(value < 0 for value in late)),
        "PSS MB idle": idle,
        "PSS MB more": waiting - idle,
    }


def backlog(trial: Trial) -> Figures:
    """Milliseconds of a claim of 100 messages: nothing else in the queue, then very many."""
    counts = trial.counts
    empty = trial.client("claims", counts.claims, CLAIM, 0)
    full = trial.client("claims", counts.claims, CLAIM, counts.backlog, patience=600)
    return {
        "p99 over empty": quantile(full, 0.99) / quantile(empty, 0.99),
        "p99 ms": quantile(full, 0.99),
        "p50 ms": quantile(full, 0.5),
        "p99 ms empty": quantile(empty, 0.99),
        "p50 ms empty": quantile(empty, 0.5),
    }


def nap(trial: Trial) -> Figures:
    """From the first start to the last end of tasks that sleep for one second, all in one process."""
    wanted = trial.counts.nap
    trial.client("tasks", "nap", wanted)
    trial.start_worker(Shape("asyncio", 1, wanted))
    done = trial.wait_for(wanted)
    return {"s": done.last - done.first}


def _start_and_warm(trial: Trial, shape: Shape, count: int) -> None:
    trial.client("tasks", "noop", count)
    trial.start_worker(shape)
    trial.wait_for(count)


def quantile(values: Iterable[float], share: float) -> float:
    """The value below which `share` of them lie."""
    ordered = sorted(values)
    if len(ordered) < 2:
        return ordered[0]
    return statistics.quantiles(ordered, n=1000, method="inclusive")[round(share * 1000) - 1]


def _drained(trial: Trial) -> int:
    return trial.counts.drain


def _waited(trial: Trial) -> int:
    return trial.counts.io


TWO, ONE = Shape(processes=2), Shape(processes=1)
DRAIN = ("tasks/s", "worker µs/task", "broker µs/task")
SENT = ("messages/s",)
TRIP = ("p50 ms", "p95 ms", "p99 ms")
DUE = ("p99 late s", "p50 late s", "early")
DELAYED = ("p99 late s", "p50 late s", "max late s", "early", "PSS MB idle", "PSS MB more")
BACKLOG = ("p99 over empty", "p99 ms", "p50 ms", "p99 ms empty", "p50 ms empty")

MEASURES = [
    Measure("enqueue-one", "delay() one by one", SENT, True, enqueue_one),
    Measure("calls", "one delay(), inside", ("Python calls", "files"), False, calls),
    Measure("enqueue-bulk", "many together (group, map, pipeline)", SENT, True, enqueue_bulk),
    Measure("drain-off-2", "drain, results off, 2 processes", DRAIN, True, drain("noop", _drained, TWO)),
    Measure("drain-off-1", "drain, results off, 1 process", DRAIN, True, drain("noop", _drained, ONE)),
    Measure(
        "drain-on-2",
        "drain, results stored, 2 processes",
        DRAIN,
        True,
        drain("noop", _drained, TWO, results=True),
    ),
    Measure(
        "drain-on-1",
        "drain, results stored, 1 process",
        DRAIN,
        True,
        drain("noop", _drained, ONE, results=True),
    ),
    Measure("round-trip", "delay().get(), idle worker", TRIP, False, round_trip()),
    Measure("memory", "memory of the whole worker, concurrency 2", ("PSS MB", "processes"), False, memory),
    Measure("waiting", "memory of a client that waits for 10,000 results", ("MB", "peak MB"), False, waiting),
    Measure("chord", "chord of 10,000, 2 processes", ("tasks/s", "s"), True, chord),
    Measure("chain", "chain of 1,000", ("steps/s", "p50 ms"), True, chain),
    Measure("start-up", "start of the worker to its first task", ("s",), False, start_up),
    Measure("due", "many tasks due at one instant", DUE, False, due),
    Measure("delayed", "100,000 delayed tasks, 10,000 due within half a minute", DELAYED, False, delayed),
    Measure(
        "io-asyncio",
        "1 ms of I/O, asyncio lane 100",
        DRAIN,
        True,
        drain("aio", _waited, Shape("asyncio", 1, 100)),
    ),
    Measure(
        "io-threads", "1 ms of I/O, 100 threads", DRAIN, True, drain("io", _waited, Shape("threads", 1, 100))
    ),
    Measure("sleep", "async sleep(1) tasks, one process", ("s",), False, nap),
    Measure("sqlite-enqueue", "embedded store: delay() one by one", SENT, True, enqueue_one),
    Measure(
        "sqlite-drain-off",
        "embedded store: drain, results off, 2 processes",
        DRAIN,
        True,
        drain("noop", _drained, TWO),
    ),
    Measure(
        "sqlite-drain-on",
        "embedded store: drain, results stored, 2 processes",
        DRAIN,
        True,
        drain("noop", _drained, TWO, results=True),
    ),
    Measure("rabbitmq-enqueue", "RabbitMQ: delay() one by one", SENT, True, enqueue_one),
    Measure("rabbitmq-bulk", "RabbitMQ: many together", SENT, True, enqueue_bulk),
    Measure(
        "rabbitmq-drain-off",
        "RabbitMQ: drain, results off, 2 processes",
        DRAIN,
        True,
        drain("noop", _drained, TWO),
    ),
    Measure(
        "rabbitmq-drain-off-1",
        "RabbitMQ: drain, results off, 1 process",
        DRAIN,
        True,
        drain("noop", _drained, ONE),
    ),
    Measure(
        "rabbitmq-drain-on",
        "RabbitMQ: drain, results in Redis, 2 processes",
        DRAIN,
        True,
        drain("noop", _drained, TWO, results=True),
    ),
    Measure("rabbitmq-trip", "RabbitMQ: delay().get(), results in Redis", TRIP, False, round_trip()),
    Measure(
        "rabbitmq-trip-rpc", "RabbitMQ: delay().get(), results by rpc", TRIP, False, round_trip("rpc://")
    ),
    Measure("rabbitmq-due", "RabbitMQ: many tasks due at one instant", DUE, False, due),
    Measure(
        "rabbitmq-delayed",
        "RabbitMQ: 100,000 delayed tasks, 10,000 due within half a minute",
        DELAYED,
        False,
        delayed,
    ),
    Measure("postgres-enqueue", "PostgreSQL: delay() one by one", SENT, True, enqueue_one),
    Measure("postgres-bulk", "PostgreSQL: many together", SENT, True, enqueue_bulk),
    Measure(
        "postgres-drain-off",
        "PostgreSQL: drain, results off, 2 processes",
        DRAIN,
        True,
        drain("noop", _drained, TWO),
    ),
    Measure(
        "postgres-drain-on",
        "PostgreSQL: drain, results stored, 2 processes",
        DRAIN,
        True,
        drain("noop", _drained, TWO, results=True),
    ),
    Measure("postgres-trip", "PostgreSQL: delay().get(), results stored there", TRIP, False, round_trip()),
    Measure("postgres-due", "PostgreSQL: many tasks due at one instant", DUE, False, due),
    Measure(
        "postgres-delayed",
        "PostgreSQL: 100,000 delayed tasks, 10,000 due within half a minute",
        DELAYED,
        False,
        delayed,
    ),
    Measure(
        "postgres-backlog",
        "PostgreSQL: claim of 100 with very many messages waiting",
        BACKLOG,
        False,
        backlog,
    ),
]
