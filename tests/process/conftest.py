"""For the tests of the worker: a store, a client, workers of `tests.process.tasks`; new for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.faults.conftest import LENT
from tests.faults.harness import Journal, Node, environment
from tests.faults.stores import KINDS, Store

from celeriac import Celeriac


@pytest.fixture
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """SQLite, unless a test asks: `@pytest.mark.parametrize("store", ["redis"], indirect=True)`."""
    kind = KINDS[getattr(request, "param", "sqlite")]
    return kind.make(tmp_path, *(request.getfixturevalue(LENT[server]) for server in kind.servers))


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


@pytest.fixture
def client(store: Store) -> Iterator[Celeriac]:
    app = Celeriac("client", broker=store.broker, backend=store.backend, set_as_current=False)
    app.conf.update(task_default_queue="faults", **store.conf)
    yield app
    app.close()


@pytest.fixture
def node(store: Store, journal: Journal, tmp_path: Path) -> Iterator[Callable[..., Node]]:
    """Starts workers; kills what is left of them at the end."""
    nodes: list[Node] = []

    def start(
        *arguments: str, name: str = "n1", conf: dict[str, Any] | None = None, switches: str = "", **env: str
    ) -> Node:
        variables = {
            **environment(store.broker, store.backend, journal.path, {**store.conf, **(conf or {})}),
            "TASKS_SWITCHES": switches,
            **env,
        }
        found = Node(
            variables, *arguments, name=name, log=tmp_path / f"{name}.log", app="tests.process.tasks"
        )
        nodes.append(found)
        return found

    yield start
    for found in nodes:
        if found.process is not None and found.process.poll() is None:
            found.kill()
