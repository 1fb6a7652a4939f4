"""The one interface of a contender.

A contender is a folder under `contenders/` with two modules:

1. `contender.py`, read by the harness (standard library only): `CONTENDERS`, a list of `Contender`.
2. `app.py`, imported in the contender's own environment by its worker and by `bench.client`: the application,
   its tasks, and the functions of `App` below.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

Lane = Literal["processes", "threads", "asyncio"]
Store = Literal["redis", "sqlite", "rabbitmq", "postgresql"]
Kind = Literal["noop", "io", "aio", "nap", "due"]


class Shape(NamedTuple):
    """How much a worker runs at once: `processes`, each with `slots` (threads, coroutines) in `lane`."""

    lane: Lane = "processes"
    processes: int = 2
    slots: int = 1


class Contender(NamedTuple):
    """What the harness must know of a contender."""

    name: str
    requirements: tuple[str, ...]
    app: str
    store: Store
    measures: frozenset[str]
    settings: str
    worker: Callable[[Path, Shape], list[str]]
    distributions: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()
    prepared: bool = False  # its app has a `prepare()`, to be called once on a fresh store (tables, queues)

    @property
    def environment(self) -> str:
        """Contenders with the same requirements share a virtual environment, named after the folder."""
        return self.app.split(".")[-2]


def several(command: str, processes: int) -> list[str]:
    """For workers that are one process each: a shell that starts so many, and ends them when told to."""
    return ["sh", "-c", "trap 'trap - TERM; kill 0' TERM; " + f"{command} & " * processes + "wait"]


class App(Protocol):
    """What a contender's `app.py` offers. Addresses and switches come from `bench.site`."""

    def send_one(self) -> None:
        """One no-op task sent as its documentation shows it first (`noop.delay()`)."""

    def send_bulk(self, count: int) -> None:
        """`count` no-op tasks by the documented way of sending many."""

    def send_tasks(self, kind: Kind, count: int) -> None:
        """`count` tasks of that kind by the fastest way there is; nothing is measured here."""

    def send_due(self, count: int, at: float) -> None:
        """`count` tasks that note how late they run, due at the epoch time `at`."""

    def send_group(self, count: int) -> Any:
        """Send tasks as a group; what stands for their results (`waiting`)."""

    def wait_for_group(self, results: Any) -> None:
        """Wait until all are there."""

    def run_chord(self, count: int) -> None:
        """A chord of `count` no-op tasks and a body, waited for (`chord`)."""

    def run_chain(self, count: int) -> None:
        """A chain of `count` tasks that note when they run, waited for (`chain`)."""

    def round_trip(self) -> None:
        """Send one no-op task and wait for its result."""

    def send_spread(self, count: int, begin: float, span: float) -> None:
        """As `send_due`, due one after the other from `begin` on, within `span` s (`delayed`)."""

    def fill(self, count: int) -> None:
        """Have `count` no-op messages waiting, by the shortest way (`backlog`)."""

    def claim(self, count: int) -> None:
        """Settle what the call before took and take `count` messages, as a worker does (`backlog`)."""


REDIS_MEASURES = frozenset(
    {
        "enqueue-one",
        "calls",
        "enqueue-bulk",
        "drain-off-2",
        "drain-off-1",
        "drain-on-2",
        "drain-on-1",
        "round-trip",
        "memory",
        "start-up",
        "due",
        "io-threads",
    }
)
SQLITE_MEASURES = frozenset({"sqlite-enqueue", "sqlite-drain-off", "sqlite-drain-on"})
RABBITMQ_MEASURES = frozenset(
    {
        "rabbitmq-enqueue",
        "rabbitmq-bulk",
        "rabbitmq-drain-off",
        "rabbitmq-drain-on",
        "rabbitmq-trip",
        "rabbitmq-due",
    }
)
POSTGRES_MEASURES = frozenset({"postgres-enqueue", "postgres-bulk", "postgres-drain-off", "postgres-due"})


def all_contenders() -> list[Contender]:
    """Every contender under `contenders/`, ours first."""
    package = importlib.import_module("bench.contenders")
    found: list[Contender] = []
    for module in pkgutil.iter_modules(package.__path__):
        found += importlib.import_module(f"bench.contenders.{module.name}.contender").CONTENDERS
    return sorted(found, key=lambda contender: (not contender.name.startswith("celeriac"), contender.name))
