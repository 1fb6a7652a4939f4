"""Exchanges and bindings that both sides declare alike: topic, direct, fanout; with kombu's own objects."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.compat.conftest import Place
from tests.faults.harness import Journal, Node, until

from celeriac import Celeriac

Peer = Callable[..., Any]

KEYS = {"media": ["media.video.hd", "media.video.short.old", "the.image.one"], "pairs": ["two"]}
TYPES = {"media": "topic", "pairs": "direct"}
EXPECTED = {f"{key}:{key}" for keys in KEYS.values() for key in keys}


def serves(node: Node) -> bool:
    """Whether it has declared its queues and says that it works."""
    return "ready." in node.log or "concurrency=" in node.log


@pytest.fixture
def ours_with_kombu(env: dict[str, str], tmp_path: Path, celery_python: str) -> Callable[..., Node]:
    """Starts our worker where kombu can be imported, as it is while an application changes over."""
    packages = next(Path(celery_python).parent.parent.glob("lib/python*/site-packages"))

    def start(**more: str) -> Node:
        path = os.pathsep.join([env["PYTHONPATH"], str(packages)])
        return Node(
            {**env, "PYTHONPATH": path, **more}, "-c", "2", name="ours", log=tmp_path / "ours.log",
            app="tests.compat.routed",
        )  # fmt: skip

    return start


@pytest.fixture(params=["ours", "theirs"])
def worker(
    request: pytest.FixtureRequest, ours_with_kombu: Callable[..., Node], start_theirs: Callable[..., Node]
) -> Iterator[Node]:
    """A worker of either side that serves all queues of the application."""
    node = (
        ours_with_kombu() if request.param == "ours" else start_theirs("-c", "2", app="tests.compat.routed")
    )
    with node:
        until(lambda: serves(node), 30)
        yield node


def test_their_calls_go_by_key(peer: Peer, worker: Node, journal: Journal) -> None:
    for exchange, keys in KEYS.items():
        peer("routed", "where", exchange, TYPES[exchange], *keys)
    until(lambda: set(journal.count("end")) == EXPECTED, 20)


def test_our_calls_go_by_key(client: Celeriac, worker: Node, journal: Journal) -> None:
    for exchange, keys in KEYS.items():
        for key in keys:
            client.send_task("where", (key,), exchange=exchange, routing_key=key, ignore_result=True)
    until(lambda: set(journal.count("end")) == EXPECTED, 20)


def test_a_broadcast_reaches_every_worker_of_both(
    place: Place,
    peer: Peer,
    client: Celeriac,
    journal: Journal,
    ours_with_kombu: Callable[..., Node],
    start_theirs: Callable[..., Node],
) -> None:
    if place.name == "redis":
        pytest.skip("Celery's broadcasts on Redis are Pub/Sub messages, which our workers do not listen to")
    with (
        ours_with_kombu(FAULTS_BROADCAST="1") as ours,
        start_theirs("-c", "1", app="tests.compat.routed", FAULTS_BROADCAST="1") as theirs,
    ):
        until(lambda: serves(ours) and serves(theirs), 30)
        peer("routed", "where", "everyone", "fanout", "hello")
        client.send_task("where", ("again",), exchange="everyone", routing_key="again", ignore_result=True)
        until(lambda: journal.count("end") == {"hello:hello": 2, "again:again": 2}, 20)
