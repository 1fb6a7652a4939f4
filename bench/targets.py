"""What ours must reach, and whether this run reached it. Ratios are of medians from the same run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from bench.report import Result, Summary, number, summarise

OURS, OURS_EMBEDDED = "celeriac", "celeriac-sqlite"
ON_RABBITMQ, ON_POSTGRES = "celeriac-rabbitmq", "celeriac-postgres"
UNFORCED = "huey-sqlite-nofsync"


class Target(NamedTuple):
    """One line of the table of targets: what is compared with which bound."""

    title: str
    value: Callable[[Summary], float]
    bound: float
    at_least: bool = True


def median(measure: str, figure: str, contender: str = OURS) -> Callable[[Summary], float]:
    """Ours (or another's) median of one figure."""
    return lambda summary: summary[measure, contender, figure].median


def times(measure: str, peer: str, ours: str = OURS, figure: str = "tasks/s") -> Callable[[Summary], float]:
    """Ours divided by the peer's."""
    return lambda summary: summary[measure, ours, figure].median / summary[measure, peer, figure].median


def frugality(measure: str, peer: str, ours: str = OURS) -> Callable[[Summary], float]:
    """The peer's processor time per task, worker and broker together, divided by ours."""

    def spent(summary: Summary, contender: str) -> float:
        return sum(summary[measure, contender, f"{part} µs/task"].median for part in ("worker", "broker"))

    return lambda summary: spent(summary, peer) / spent(summary, ours)


def time_of_raw(summary: Summary) -> float:
    """The time of our `delay()` divided by that of redis-py's LPUSH."""
    return 1 / times("enqueue-one", "raw", figure="messages/s")(summary)


def rabbitmq(ours: str, kind: str = "") -> list[Target]:
    """Targets on RabbitMQ; quorum queues are compared with the peers' and the raw loop's own."""
    name = f"RabbitMQ{kind.replace('-', ' ')}"
    celery, raw = f"celery-rabbitmq{kind}", f"raw-rabbitmq{kind}"
    drained, sent = "rabbitmq-drain-off", "messages/s"
    return [
        Target(f"{name} drain: x celery", times(drained, celery, ours), 5),
        *(
            []
            if kind
            else [Target(f"{name} drain: x dramatiq", times(drained, "dramatiq-rabbitmq", ours), 1.5)]
        ),
        Target(f"{name} drain: x raw (to be explained)", times(drained, raw, ours), 0),
        Target(f"{name} drain, processor time: celery's over ours", frugality(drained, celery, ours), 5),
        Target(f"{name} delay(): x raw, confirmed", times("rabbitmq-enqueue", raw, ours, sent), 0.8),
        Target(f"{name} bulk, messages/s", median("rabbitmq-bulk", sent, ours), 15_000),
        Target(f"{name} bulk: x raw", times("rabbitmq-bulk", raw, ours, sent), 0.85),
        Target(f"{name} round trip p50, ms", median("rabbitmq-trip", "p50 ms", ours), 1.2, at_least=False),
        Target(
            f"{name} round trip by rpc p50, ms",
            median("rabbitmq-trip-rpc", "p50 ms", ours),
            1.2,
            at_least=False,
        ),
    ]


def waiting(name: str, measure: str, ours: str) -> list[Target]:
    """Targets of 100,000 delayed messages."""
    return [
        Target(
            f"100,000 delayed, {name}: p99 late, s", median(measure, "p99 late s", ours), 1, at_least=False
        ),
        Target(f"100,000 delayed, {name}: early", median(measure, "early", ours), 0, at_least=False),
        Target(
            f"100,000 delayed, {name}: worker PSS MB more",
            median(measure, "PSS MB more", ours),
            1,
            at_least=False,
        ),
    ]


TARGETS = [
    Target("drain, results off, 2 processes: x celery", times("drain-off-2", "celery"), 25),
    Target("drain, results off, 2 processes: x dramatiq", times("drain-off-2", "dramatiq"), 4),
    Target("drain, results off, 2 processes: x raw (stretch)", times("drain-off-2", "raw"), 0.5),
    Target("drain, results stored, 2 processes: x celery", times("drain-on-2", "celery"), 20),
    Target("drain, results stored, 2 processes: x huey", times("drain-on-2", "huey"), 4),
    Target("drain, results stored, 2 processes: x raw (stretch)", times("drain-on-2", "raw"), 0.5),
    Target("processor time, results off: celery's over ours", frugality("drain-off-2", "celery"), 25),
    Target("processor time, results off: dramatiq's over ours", frugality("drain-off-2", "dramatiq"), 4),
    Target("processor time, results stored: celery's over ours", frugality("drain-on-2", "celery"), 20),
    Target("processor time, results stored: huey's over ours", frugality("drain-on-2", "huey"), 4),
    Target("delay() one by one: x celery", times("enqueue-one", "celery", figure="messages/s"), 4),
    Target("delay() one by one: time over redis-py LPUSH", time_of_raw, 1.6, at_least=False),
    Target("delay(): Python calls", median("calls", "Python calls"), 40, at_least=False),
    Target("delay(): files", median("calls", "files"), 10, at_least=False),
    Target("bulk, messages/s", median("enqueue-bulk", "messages/s"), 60_000),
    Target("round trip p50, ms", median("round-trip", "p50 ms"), 0.35, at_least=False),
    Target("round trip p99, ms", median("round-trip", "p99 ms"), 1.0, at_least=False),
    Target("1 ms I/O, asyncio lane 100, tasks/s", median("io-asyncio", "tasks/s"), 15_000),
    Target("1 ms I/O, threads 100, tasks/s", median("io-threads", "tasks/s"), 8_000),
    Target("10,000 due at once: p99 late, s", median("due", "p99 late s"), 0.5, at_least=False),
    Target("10,000 due at once: early", median("due", "early"), 0, at_least=False),
    Target("memory, concurrency 2: PSS MB", median("memory", "PSS MB"), 60, at_least=False),
    Target(
        "waiting for 10,000 results, memory: ours over celery's",
        times("waiting", "celery", figure="MB"),
        0.5,
        at_least=False,
    ),
    Target("chord of 10,000: x celery", times("chord", "celery"), 15),
    Target("chain of 1,000: x celery", times("chain", "celery", figure="steps/s"), 10),
    Target("chain of 1,000: p50 per step, ms", median("chain", "p50 ms"), 1.0, at_least=False),
    Target("start to first task, s", median("start-up", "s"), 0.4, at_least=False),
    Target("embedded drain, results off: x huey", times("sqlite-drain-off", "huey-sqlite", OURS_EMBEDDED), 4),
    Target(
        "embedded drain, results stored: x huey", times("sqlite-drain-on", "huey-sqlite", OURS_EMBEDDED), 4
    ),
    Target(
        "embedded drain, results off: x huey without fsync",
        times("sqlite-drain-off", UNFORCED, OURS_EMBEDDED),
        4,
    ),
    Target(
        "embedded drain, results stored: x huey without fsync",
        times("sqlite-drain-on", UNFORCED, OURS_EMBEDDED),
        4,
    ),
    Target(
        "embedded delay(): x huey",
        times("sqlite-enqueue", "huey-sqlite", OURS_EMBEDDED, figure="messages/s"),
        1.5,
    ),
    Target(
        "embedded delay(): x huey without fsync",
        times("sqlite-enqueue", UNFORCED, OURS_EMBEDDED, figure="messages/s"),
        1.5,
    ),
    Target("1,000 async sleep(1), one process, s", median("sleep", "s"), 2.0, at_least=False),
    *rabbitmq(ON_RABBITMQ),
    *rabbitmq(f"{ON_RABBITMQ}-quorum", "-quorum"),
    Target(
        "PostgreSQL drain: x procrastinate", times("postgres-drain-off", "procrastinate", ON_POSTGRES), 40
    ),
    Target("PostgreSQL drain: x pgqueuer", times("postgres-drain-off", "pgqueuer", ON_POSTGRES), 1.3),
    Target(
        "PostgreSQL drain: x raw (to be explained)",
        times("postgres-drain-off", "raw-postgres", ON_POSTGRES),
        0,
    ),
    Target(
        "PostgreSQL drain, processor time: pgqueuer's over ours",
        frugality("postgres-drain-off", "pgqueuer", ON_POSTGRES),
        1.3,
    ),
    Target("PostgreSQL bulk, messages/s", median("postgres-bulk", "messages/s", ON_POSTGRES), 50_000),
    Target(
        "PostgreSQL claim, 5 million waiting: p99 over empty",
        median("postgres-backlog", "p99 over empty", ON_POSTGRES),
        2,
        at_least=False,
    ),
    *waiting("Redis", "delayed", OURS),
    *waiting("RabbitMQ", "rabbitmq-delayed", ON_RABBITMQ),
    *waiting("RabbitMQ quorum", "rabbitmq-delayed", f"{ON_RABBITMQ}-quorum"),
    *waiting("PostgreSQL", "postgres-delayed", ON_POSTGRES),
]


class Verdict(NamedTuple):
    """One target held against a run; `value` is None when the run has no such figures."""

    title: str
    value: float | None
    bound: float
    at_least: bool

    @property
    def met(self) -> bool | None:
        if self.value is None:
            return None
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        word = {True: "met   ", False: "MISSED", None: "      "}[self.met]
        value = "not measured" if self.value is None else number(self.value)
        return f"    {word}  {self.title:<52} {value:>12}   {sign} {number(self.bound)}"


def verdicts(results: Sequence[Result]) -> list[Verdict]:
    """Every target held against these results."""
    summary = summarise(results)
    found = []
    for target in TARGETS:
        try:
            value = target.value(summary)
        except (KeyError, ZeroDivisionError):  # not measured, or too short to measure
            value = None
        found.append(Verdict(target.title, value, target.bound, target.at_least))
    return found
