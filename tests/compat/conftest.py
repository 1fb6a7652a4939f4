"""Celery 5.7 in an environment of its own, and both sides of one broker.

1. `Place`: a broker that both share, and what each is told of it: Redis; RabbitMQ, classic and quorum queues.
2. Clients and workers of both sides, on the same application (`tests.faults.proj`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.compat.asking import ask
from tests.faults import control
from tests.faults.harness import ROOT, Journal, Node, environment

from celeriac import Celeriac


class Place(NamedTuple):
    """Where both sides meet. `urgent` and `idle`: its most and its least urgent priority, if it has any."""

    name: str
    broker: str
    backend: str
    conf: dict[str, Any]
    urgent: int | None
    idle: int | None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first that needs an environment waits for its download, and the second for the first."""
    for item in items:
        needs = any(name.endswith("_python") for name in getattr(item, "fixturenames", ()))
        if needs and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(400))


@pytest.fixture(scope="session")
def celery_python() -> str:
    """The interpreter of a virtual environment with Celery 5.7, made on first use."""
    return control.celery_python()


@pytest.fixture(params=["redis", "classic", "quorum"])
def place(request: pytest.FixtureRequest, redis_server: Any) -> Iterator[Place]:
    """Results are in Redis everywhere. Classic queues take priorities; quorum queues have none before 4.0."""
    redis_server.flush()
    if request.param == "redis":
        yield Place("redis", redis_server.url, redis_server.url, {}, 0, 9)
        return
    rabbit = request.getfixturevalue("rabbit_server")
    url = rabbit.vhost()
    if request.param == "classic":
        conf: dict[str, Any] = {"task_queue_max_priority": 10}
        yield Place("classic", url, redis_server.url, conf, 9, 0)
    else:
        conf = {
            "task_default_queue_type": "quorum",
            "broker_transport_options": {"confirm_publish": True},
        }
        yield Place("quorum", url.replace("amqp://", "pyamqp://"), redis_server.url, conf, None, None)
    rabbit.drop_vhost(url)


@pytest.fixture
def env(place: Place, tmp_path: Path) -> dict[str, str]:
    Journal(tmp_path / "journal")
    return environment(place.broker, place.backend, tmp_path / "journal", place.conf)


@pytest.fixture
def journal(tmp_path: Path, env: dict[str, str]) -> Journal:
    return Journal(tmp_path / "journal")


@pytest.fixture
def peer(celery_python: str, env: dict[str, str]) -> Callable[..., Any]:
    """Runs one scenario of Celery's client and returns what it saw."""
    return partial(ask, celery_python, "peer.py", env={**env, "PYTHONPATH": ""})


@pytest.fixture
def client(place: Place) -> Iterator[Celeriac]:
    app = Celeriac("client", broker=place.broker, backend=place.backend, set_as_current=False)
    app.conf.update(task_default_queue="faults", **place.conf)
    yield app
    app.close()


@pytest.fixture
def ours(env: dict[str, str], tmp_path: Path) -> Iterator[Node]:
    """Our worker."""
    with Node(env, "-c", "2", name="ours", log=tmp_path / "ours.log") as node:
        yield node


@pytest.fixture
def start_theirs(env: dict[str, str], tmp_path: Path, celery_python: str) -> Callable[..., Node]:
    """Starts Celery's worker."""

    def start(*arguments: str, name: str = "theirs", app: str = "tests.faults.proj", **more: str) -> Node:
        theirs_env = {**env, "FAULTS_LIBRARY": "celery", "PYTHONPATH": str(ROOT), **more}
        return Node(
            theirs_env, "-c", "2", *(arguments or ("-Q", "faults")), name=name, log=tmp_path / f"{name}.log",
            python=celery_python, module="celery", app=app,
        )  # fmt: skip

    return start


@pytest.fixture
def theirs(start_theirs: Callable[..., Node]) -> Iterator[Node]:
    """Celery's worker, running the same application."""
    with start_theirs() as node:
        yield node
