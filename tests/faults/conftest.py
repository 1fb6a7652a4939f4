"""Stores under test, each private and new for every test, and clients and workers for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.faults.harness import Journal, Node, environment

from celeriac import Celeriac

pytest.register_assert_rewrite("tests.faults.load")


class Store(NamedTuple):
    """URLs of one broker and its result store."""

    name: str
    broker: str
    backend: str

    @property
    def path(self) -> Path:
        """The file of an embedded store."""
        return Path(self.broker.removeprefix("sqlite:///"))


@pytest.fixture(params=["sqlite", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "sqlite":
        (tmp_path / "store").mkdir()
        url = f"sqlite:///{tmp_path / 'store' / 'celeriac.db'}"
        return Store("sqlite", url, url)
    server = request.getfixturevalue("redis_server")
    server.flush()
    return Store("redis", server.url, server.url)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


@pytest.fixture
def client(store: Store) -> Iterator[Celeriac]:
    app = Celeriac("client", broker=store.broker, backend=store.backend, set_as_current=False)
    app.conf.update(task_default_queue="faults")
    yield app
    app.close()


@pytest.fixture
def node(store: Store, journal: Journal, tmp_path: Path) -> Iterator[Callable[..., Node]]:
    """Starts workers, with `extra` in their environment; kills what is left of them at the end."""
    nodes: list[Node] = []

    def start(
        *arguments: str,
        name: str = "n1",
        conf: dict[str, Any] | None = None,
        extra: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> Node:
        env = environment(store.broker, store.backend, journal.path, conf) | dict(extra or {})
        found = Node(env, *arguments, name=name, log=tmp_path / f"{name}.log", **kwargs)
        nodes.append(found)
        return found

    yield start
    for found in nodes:
        if found.process is not None and found.process.poll() is None:
            found.kill()
