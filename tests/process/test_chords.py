"""Chords on real workers: however a member ends, the chord does; its body runs once, its errback once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.faults.harness import Journal, Node, until

from celeriac import Celeriac, Signature, chain, chord, group
from celeriac.exceptions import ChordError
from celeriac.worker.inprocess import InProcessWorker

Start = Callable[..., Node]
STORES = ["sqlite", "redis", "postgres", "rabbitmq"]
#: Soon is an end for messages that crash their process, or that nobody knows.
SOON = {"task_delivery_limit": 2, "task_unknown_deadline": 1.0}


class Chords:
    """Chords of one client, all sent before the first is waited for."""

    def __init__(self, client: Celeriac) -> None:
        self.client = client
        self.sent: list[tuple[str, Any, Any]] = []

    def call(self, name: str, *args: Any, **options: Any) -> Signature[Any]:
        made: Signature[Any] = self.client.signature(name, args, **options)
        return made

    def send(self, what: str, expected: Any, *members: Any, body: Any = None) -> None:
        """`expected`: the body's result, or a word that its error has to have."""
        body = self.call("body") if body is None else body
        body = body.on_error(self.call("errback"))
        self.sent.append((what, expected, chord(list(members), body, app=self.client).apply_async()))

    def check(self, journal: Journal) -> None:
        failures = []
        for what, expected, result in self.sent:
            if isinstance(expected, str):
                with pytest.raises(ChordError, match=expected):
                    result.get(timeout=40, follow_parents=False)
                failures.append(result)
            else:
                assert result.get(timeout=40) == expected, what
        until(lambda: len(journal.count("errback")) == len(failures), 20)
        assert journal.count("errback") == {result.id: 1 for result in failures}


@pytest.mark.parametrize("store", STORES, indirect=True)
def test_however_a_member_ends(client: Celeriac, node: Start, journal: Journal) -> None:
    chords = Chords(client)
    call, send = chords.call, chords.send
    good = call("add", 1, 1)
    past = datetime.now(UTC) - timedelta(seconds=5)
    send("values", [2, 4, 6], good, call("add", 2, 2), call("add", 3, 3))
    send("one", [2], good)
    send("a chain", [2, 14], good, chain(call("add", 2, 2), call("add", 10)))
    send(
        "a group at a chain's end",
        [2, [5, 6]],
        good,
        chain(call("add", 2, 2), group(call("add", 1), call("add", 2))),
    )
    send("a chord", [[2, 4], 2], chord([good, call("add", 2, 2)], call("body")), good)
    send("results are ignored", [2, 2], good.clone(ignore_result=True), good)
    send("replaced", [6, 2], call("replaced", 5), good)
    send("added", [5, 105, 2], call("adds_more", 5), good)
    send("fails", "ValueError", good, call("raises", "value"))
    send("gives up", "never works", good, call("gives_up", "chord"))
    send(
        "a step fails",
        "ValueError",
        good,
        chain(call("add", 1, 1), call("raises", "value").set(immutable=True), call("add", 1)),
    )
    send("ignored", "ignored", good, call("raises", "ignore"))
    send("rejected", "no good", good, call("raises", "reject"))
    send("expired", "expired", good, call("add", 1, 1).set(expires=past))
    send("unknown", "nobody", good, call("nobody"))
    send("inner fails", "ChordError", chord([good, call("raises", "value")], call("body")), good)
    revoked = call("add", 7, 7)
    revoked.set(task_id="revoked-member", countdown=2)
    send("revoked", "revoked", good, revoked)
    client.AsyncResult("revoked-member").revoke()
    node("-c", "2", conf=SOON)
    chords.check(journal)
    # When nothing else is under way: what had ended in the same process unsettled would run again.
    send("dies", "WorkerLostError", good, call("dies"))
    chords.check(journal)
    send("too long", "TimeLimitExceeded", good, call("spin", 60.0).set(time_limit=1))
    chords.check(journal)


@pytest.mark.parametrize("store", STORES, indirect=True)
def test_nested_and_long(client: Celeriac, node: Start, journal: Journal) -> None:
    chords = Chords(client)
    call = chords.call
    node("-c", "2")
    inner: Any = chord([call("add", 1, 1), call("add", 2, 2)], call("body"))
    for _ in range(5):
        inner = chord([inner, call("add", 3, 3)], call("body"))
    assert inner.apply_async().get(timeout=40) == [[[[[[2, 4], 6], 6], 6], 6], 6]
    big = chord([call("add", n, n) for n in range(3000)], call("body"), app=client).apply_async()
    assert big.get(timeout=60) == [2 * n for n in range(3000)]
    streamed = chord((call("add", n, n) for n in range(2500)), call("body"), app=client).apply_async()
    assert streamed.get(timeout=60) == [2 * n for n in range(2500)]
    assert chord([], call("body"), app=client).apply_async().get(timeout=20) == []


def _tasks(app: Celeriac) -> Callable[[], Any]:
    seen: list[str] = []

    @app.task(name="double", shared=False)
    def double(x: int) -> int:
        return 2 * x

    @app.task(name="fail", shared=False)
    def fail() -> None:
        raise ValueError("no way")

    @app.task(name="collect", shared=False)
    def collect(values: list[int]) -> list[int]:
        return values

    @app.task(name="note", shared=False)
    def note(failed: str) -> None:
        seen.append(failed)

    return lambda: seen


def test_a_store_that_does_not_count_is_polled(tmp_path: Path) -> None:
    from tests.process.foreign import PlainBackend

    app = Celeriac("polled", broker="memory://polled", backend=PlainBackend("memory://polled-results", {}))
    app.conf.result_chord_retry_interval = 0.1
    seen = _tasks(app)
    double, fail, collect, note = (app.tasks[name] for name in ("double", "fail", "collect", "note"))
    assert not app.counts_chords
    with InProcessWorker(app):
        assert chord([double.s(n) for n in range(5)], collect.s()).apply_async().get(timeout=20) == [
            0,
            2,
            4,
            6,
            8,
        ]
        nested = chord([chord([double.s(1), double.s(2)], collect.s()), double.s(3)], collect.s())
        assert nested.apply_async().get(timeout=20) == [[2, 4], 6]
        broken = chord([double.s(1), fail.s()], collect.s().on_error(note.s())).apply_async()
        with pytest.raises(ChordError, match="no way"):
            broken.get(timeout=20, follow_parents=False)
        until(lambda: seen() == [broken.id], 20)
    app.close()


def test_without_results_the_broker_counts() -> None:
    app = Celeriac("uncounted", broker="memory://uncounted")
    app.conf.result_backend = "disabled://"
    seen = _tasks(app)
    double, note = app.tasks["double"], app.tasks["note"]
    with InProcessWorker(app):
        chord([double.s(n) for n in range(5)], note.s()).apply_async()
        until(lambda: seen() == [[0, 2, 4, 6, 8]], 20)
    app.close()


@pytest.mark.parametrize("store", STORES, indirect=True)
def test_a_closer_that_dies_before_it_sends_the_body(
    client: Celeriac, node: Start, journal: Journal, tmp_path: Path
) -> None:
    call = Chords(client).call
    folder = tmp_path / "fired"
    folder.mkdir()
    sent = [chord([call("add", n, 1)], call("body"), app=client).apply_async() for n in range(4)]
    sent.append(chord([call("add", n, 1) for n in range(40)], call("body"), app=client).apply_async())
    points = "chord.arrived:1:kill,chord.arrived:2:kill"
    node("-c", "1", FAILPOINT=points, FAILPOINT_FOLDER=str(folder))
    assert [result.get(timeout=60) for result in sent[:4]] == [[n + 1] for n in range(4)]
    assert sent[4].get(timeout=60) == [n + 1 for n in range(40)]
    assert len(list(folder.iterdir())) == 2
    assert journal.count("body") == {"1": 4, "40": 1}
