"""A suspect whose success is stored, and young enough, does not run again."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from celeriac import Celeriac, states
from celeriac.backends.base import StoredResult
from celeriac.brokers.base import ACK, DEAD, Delivery, Outgoing, Settlement
from celeriac.wire.message import Message
from celeriac.wire.results import encode_result
from celeriac.worker.child import make_processor
from celeriac.worker.job import Job
from celeriac.worker.options import WorkerOptions
from celeriac.worker.request import Processor

names = itertools.count()
NOW = 1_700_000_000.0


class Scene:
    """A processor whose results do not ride on settlements, and one message."""

    def __init__(self) -> None:
        self.app = Celeriac(
            "suspects", broker=f"memory://b-{next(names)}", backend=f"memory://r-{next(names)}",
            set_as_current=False,
        )  # fmt: skip
        self.app.task(name="add")(lambda x, y: x + y)
        self.app.finalize(auto=True)
        self.processor: Processor = make_processor(self.app, "n@test", WorkerOptions(), self.app.broker)
        assert not self.processor.carried
        after = self.app.signature("add", (10,), task_id="after")
        self.app.send_task("add", (1, 2), task_id="a", queue="q", link=after)
        self.message = self.app.broker.browse("q", 1)[0]

    def store(self, state: str, done: float, value: Any = 3) -> None:
        document = encode_result("a", state, value, date_done=datetime.fromtimestamp(done, UTC))
        self.app.backend.store([StoredResult("a", document)])

    def begin(self, crashes: int = 1, **properties: Any) -> Job | Settlement:
        assert isinstance(self.message, Message)
        message = self.message._replace(properties={**self.message.properties, **properties})
        return self.processor.begin(Delivery("q", 1, message, crashes))


@pytest.fixture
def scene() -> Iterator[Scene]:
    made = Scene()
    yield made
    made.app.close()


def test_it_is_concluded_from_what_is_stored(scene: Scene) -> None:
    scene.store(states.SUCCESS, NOW + 5)
    settlement = scene.begin(timestamp=int(NOW))
    assert isinstance(settlement, Settlement)
    assert (settlement.verdict, settlement.results) == (ACK, ())
    (after,) = settlement.followups
    assert isinstance(after, Outgoing)
    assert after.message.headers["id"] == "after"
    assert b"[3, 10]" in after.message.body


def test_even_when_it_has_reached_its_limit(scene: Scene) -> None:
    scene.store(states.SUCCESS, NOW + 5)
    settlement = scene.begin(crashes=9, timestamp=int(NOW))
    assert isinstance(settlement, Settlement)
    assert settlement.verdict == ACK
    settlement = scene.begin(crashes=9)
    assert isinstance(settlement, Settlement)
    assert settlement.verdict == DEAD


@pytest.mark.parametrize(
    ("state", "done", "sent"),
    [
        (states.SUCCESS, NOW - 60, int(NOW)),  # another call's, of the same id
        (states.SUCCESS, NOW + 0.9, int(NOW)),  # perhaps another's
        (states.SUCCESS, NOW + 60, None),
        (states.SUCCESS, NOW + 60, "noon"),
        (states.FAILURE, NOW + 60, int(NOW)),
        (states.RETRY, NOW + 60, int(NOW)),
    ],
)
def test_else_it_runs(scene: Scene, state: str, done: float, sent: object) -> None:
    value = 3 if state == states.SUCCESS else ValueError("no")
    scene.store(state, done, value)
    assert isinstance(scene.begin(timestamp=sent), Job)


def test_it_runs_when_the_store_knows_nothing_or_something_else(scene: Scene) -> None:
    assert isinstance(scene.begin(timestamp=int(NOW)), Job)
    scene.app.backend.store([StoredResult("a", b"no document")])
    assert isinstance(scene.begin(timestamp=int(NOW)), Job)


def test_nobody_looks_for_what_is_not_suspected(scene: Scene) -> None:
    scene.store(states.SUCCESS, NOW + 5)
    assert isinstance(scene.begin(crashes=0, timestamp=int(NOW)), Job)


def test_what_its_node_ended_is_concluded_and_does_not_run(scene: Scene) -> None:
    delivery = Delivery("q", 1, scene.message, 0, "time limit:2.5")
    settlement = scene.processor.begin(delivery)
    assert isinstance(settlement, Settlement)
    (stored,) = settlement.results
    assert b"TimeLimitExceeded" in stored.document
    assert b"2.5" in stored.document
    terminated = scene.processor.begin(delivery._replace(ended="terminated"))
    assert isinstance(terminated, Settlement)
    assert b'"status": "REVOKED"' in terminated.results[0].document
