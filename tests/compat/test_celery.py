"""Celery 5.7 and ours on one broker: their client, our worker; our client, their worker; both fleets."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.compat.conftest import Place
from tests.faults.harness import Journal, Node, check, publish_many, until

from celeriac import Celeriac, chain
from celeriac.exceptions import TaskRevokedError

Peer = Callable[..., Any]


# -- their client, their worker: whether what we measure ourselves by works ---------------------------------


def test_they_understand_each_other(peer: Peer, theirs: Node) -> None:
    assert peer("chain") == 112
    value, took = peer("countdown")
    assert value == 2
    assert 1.0 <= took < 20


# -- their client, our worker -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scenario", "expected"),
    [
        ("plain", 5),
        ("keywords", 9),
        ("retry", 2),
        ("link", 4),
        ("chain", 112),
        ("members", [1, 2, 3, 4, 5]),
        ("serializers", [3, 3]),
        ("compressed", [3, 3]),
        ("dates", True),
        ("protocol_1", 7),
    ],
)
def test_their_call(peer: Peer, ours: Node, scenario: str, expected: Any) -> None:
    assert peer(scenario) == expected


@pytest.mark.parametrize("scenario", ["countdown", "eta"])
def test_their_delayed_call_is_not_early(peer: Peer, ours: Node, client: Celeriac, scenario: str) -> None:
    value, took = peer(scenario)
    assert value == 2
    assert 1.5 <= took < 10


def test_their_expired_call_does_not_run(peer: Peer, ours: Node, journal: Journal, place: Place) -> None:
    if place.name == "redis":
        assert peer("expires") == ["TaskRevokedError", "REVOKED"]
    assert peer("lapsed") == 5  # RabbitMQ drops what has expired; nobody hears of it
    assert not journal.count("start")


def test_their_client_sees_our_error(peer: Peer, ours: Node) -> None:
    assert peer("error") == ["ValueError", "no way", "FAILURE", True]


def test_their_client_sees_our_progress(peer: Peer, ours: Node) -> None:
    info = {"current": 1, "total": 10, "message": "reading"}
    assert peer("progress") == ["PROGRESS", info, "SUCCESS", ["SUCCESS"]]


def test_their_pickle_is_refused(peer: Peer, ours: Node, client: Celeriac) -> None:
    assert peer("pickled") == 4
    until(lambda: client.broker.stats(["faults"])[0].dead == 1, 5)
    assert "pickle" in client.broker.dead("faults")[0].reason.lower() or "python-serialize" in (
        client.broker.dead("faults")[0].reason
    )
    assert client.AsyncResult("pickled").state == "FAILURE"


def test_their_errback_is_called(peer: Peer, ours: Node, journal: Journal) -> None:
    peer("link_error")
    until(lambda: journal.count("errback"), 20)


def test_their_call_that_we_revoke_does_not_run(
    peer: Peer, client: Celeriac, journal: Journal, request: pytest.FixtureRequest
) -> None:
    peer("named", "stopped")
    client.AsyncResult("stopped").revoke()
    request.getfixturevalue("ours")
    with pytest.raises(TaskRevokedError):
        client.AsyncResult("stopped").get(timeout=20)
    assert not journal.count("start")


def test_their_priorities_are_kept(
    peer: Peer, client: Celeriac, env: Any, journal: Journal, tmp_path: Any, place: Place
) -> None:
    if place.urgent is None:
        pytest.skip("this broker has no priorities on such queues")
    peer("priority", place.urgent, place.idle)
    with Node(env, "-c", "1", name="ours", log=tmp_path / "ours.log"):
        until(lambda: journal.ended() == 6, 20)
    order = [event.key for event in journal.events() if event.what == "start"]
    assert [key[:-1] for key in order] == ["high"] * 3 + ["low"] * 3


# -- our client, their worker -------------------------------------------------------------------------------


def test_our_call(client: Celeriac, theirs: Node) -> None:
    assert client.send_task("add", (2, 3)).get(timeout=30) == 5
    assert client.send_task("add", kwargs={"x": 4, "y": 5}).get(timeout=20) == 9
    assert client.send_task("flaky", ("ours",), {"until": 2, "countdown": 0.1}).get(timeout=20) == 2
    moment = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert client.send_task("echo", (moment,)).get(timeout=20) == moment
    for name in ("gzip", "bzip2"):
        assert client.send_task("add", (1, 2), compression=name).get(timeout=20) == 3
    for name in ("yaml", "msgpack"):
        assert client.send_task("add", (1, 2), serializer=name).get(timeout=20) == 3


def test_our_delayed_call_is_not_early_there(client: Celeriac, theirs: Node) -> None:
    assert client.send_task("add", (0, 0)).get(timeout=30) == 0
    begun = time.time()
    results = [
        client.send_task("add", (1, 1), countdown=1.5),
        client.send_task("add", (1, 1), eta=datetime.now(UTC) + timedelta(seconds=1.5)),
    ]
    # Our delay store is moved by our own workers; with only theirs up, the message goes to the list.
    assert [result.get(timeout=20) for result in results] == [2, 2]
    assert time.time() - begun >= 1.5


def test_our_client_sees_their_error(client: Celeriac, theirs: Node) -> None:
    result = client.send_task("fail", ("no way",))
    with pytest.raises(ValueError, match="no way"):
        result.get(timeout=30)
    assert result.state == "FAILURE"
    assert "no way" in str(result.traceback)


def test_our_expired_call_does_not_run_there(
    client: Celeriac, theirs: Node, journal: Journal, place: Place
) -> None:
    result = client.send_task("record", ("expired",), expires=datetime.now(UTC) - timedelta(seconds=5))
    if place.name == "redis":
        with pytest.raises(TaskRevokedError):
            result.get(timeout=30)
    assert client.send_task("add", (2, 3)).get(timeout=30) == 5
    assert not journal.count("start")


@pytest.mark.parametrize("place", ["redis"], indirect=True)
def test_they_finish_a_long_chain_that_we_began(
    client: Celeriac, ours: Node, start_theirs: Callable[..., Node], journal: Journal
) -> None:
    halfway = client.signature("record", ("halfway", 1.0), immutable=True)
    steps = [client.signature("add", (1, 2), immutable=True), *[client.signature("add", (1,))] * 40]
    result = chain([*steps, halfway, *steps], app=client).apply_async()
    until(lambda: journal.count("start"), 30)
    ours.stop()
    assert journal.ended() == 1
    assert client.broker.depth("faults") == 1
    with start_theirs():
        assert result.get(timeout=60) == 43


# -- both fleets on one queue -------------------------------------------------------------------------------


def test_both_fleets_share_a_queue(
    peer: Peer, client: Celeriac, ours: Node, theirs: Node, journal: Journal
) -> None:
    until(lambda: "ready" in theirs.log, 30)
    keys = [f"mine{i}" for i in range(1000)]
    publish_many(client, "record", [(key, 0.002) for key in keys])
    keys += [f"theirs{i}" for i in range(peer("many", 300, "theirs"))]
    until(lambda: journal.ended() >= len(keys), 60)
    report = check(keys, journal)
    assert (report.lost, report.unexpected, report.duplicated) == (set(), set(), set())
    our_pids = {process.pid for process in ours.children()}
    ran_here = [event for event in journal.events() if event.what == "end" and event.pid in our_pids]
    assert 0 < len(ran_here) < len(keys)
