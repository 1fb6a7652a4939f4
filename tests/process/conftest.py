"""For the tests of the worker: a store, a client, workers of `tests.process.tasks`; new for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.faults.conftest import LENT, client, journal, nodes
from tests.faults.harness import Journal, Node, environment
from tests.faults.stores import KINDS, Store

__all__ = ["client", "journal", "node", "store"]


@pytest.fixture
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """SQLite, unless a test asks: `@pytest.mark.parametrize("store", ["redis"], indirect=True)`."""
    kind = KINDS[getattr(request, "param", "sqlite")]
    return kind.make(tmp_path, *(request.getfixturevalue(LENT[server]) for server in kind.servers))


@pytest.fixture
def node(store: Store, journal: Journal, tmp_path: Path) -> Iterator[Callable[..., Node]]:
    """Starts workers; kills what is left of them at the end."""

    def start(
        *arguments: str, name: str = "n1", conf: dict[str, Any] | None = None, switches: str = "", **env: str
    ) -> Node:
        variables = {
            **environment(store.broker, store.backend, journal.path, {**store.conf, **(conf or {})}),
            "TASKS_SWITCHES": switches,
            **env,
        }
        log = tmp_path / f"{name}.log"
        return Node(variables, *arguments, name=name, log=log, app="tests.process.tasks")

    yield from nodes(start)
