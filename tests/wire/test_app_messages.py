"""What an app publishes is what Celery publishes for the same call."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.wire import samples

from celeriac import Celeriac
from celeriac.brokers.base import Outgoing
from celeriac.wire import json
from celeriac.wire.message import Message

_ID = re.compile(r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")


class Recorder:
    """A broker that only remembers."""

    def __init__(self, url: str, options: Any) -> None:
        self.messages: list[Message] = []

    def publish(self, batch: Sequence[Outgoing], *, timeout: float | None = None) -> None:
        self.messages += [outgoing.message for outgoing in batch]


@pytest.fixture
def app() -> Celeriac:
    app = Celeriac("proj", broker=f"{__name__}:Recorder://", backend="disabled://", set_as_current=False)

    @app.task(name="proj.add", shared=False)
    def add(x: int, y: int) -> int:
        return x + y

    @app.task(name="proj.tsum", shared=False)
    def tsum(numbers: list[int]) -> int:
        return sum(numbers)

    @app.task(name="proj.err", shared=False)
    def err(task_id: str) -> None: ...

    return app


def stamped(app: Celeriac) -> None:
    signature = app.tasks["proj.add"].s(1, 2)
    signature.stamp(monitoring_id="m-1")
    signature.apply_async()


CALLS: dict[str, Callable[[Celeriac], Any]] = {
    "simple": lambda app: app.tasks["proj.add"].delay(2, 3),
    "eta_expires": lambda app: app.tasks["proj.add"].apply_async(
        (1, 2), eta=datetime(2030, 1, 1, tzinfo=UTC), expires=datetime(2030, 1, 1, 1, tzinfo=UTC)
    ),
    "queue": lambda app: app.tasks["proj.add"].apply_async((1, 2), queue="other"),
    "task_options": lambda app: app.tasks["proj.add"].apply_async(
        (1, 2),
        task_id="my-id",
        shadow="alias.name",
        time_limit=30,
        soft_time_limit=20,
        ignore_result=True,
        reply_to="rq",
        headers={"x-custom": "v"},
        argsrepr="(hidden)",
    ),
    "send_task": lambda app: app.send_task("other.module.task", [1], {"a": None}, queue="q2"),
    "link": lambda app: app.tasks["proj.add"].apply_async(
        (1, 2),
        link=[app.tasks["proj.add"].s(10), app.tasks["proj.tsum"].si([1, 2])],
        link_error=app.tasks["proj.err"].s(),
    ),
    "stamped": stamped,
}

#: What differs from run to run, or is a leak of Celery's own (options that show up in the properties).
VOLATILE = {"delivery_tag", "origin", "expiration", "argsrepr", "kwargsrepr"}


def comparable(value: Any, ids: dict[str, str]) -> Any:
    """`value` with ids numbered in the order in which they appear."""
    if isinstance(value, dict):
        return {key: comparable(item, ids) for key, item in value.items() if key not in VOLATILE}
    if isinstance(value, (list, tuple)):
        return [comparable(item, ids) for item in value]
    if isinstance(value, str) and _ID.match(value):
        return ids.setdefault(value, f"id-{len(ids)}")
    return value


@pytest.mark.parametrize("name", CALLS)
def test_the_message_is_celerys(app: Celeriac, name: str) -> None:
    app.finalize()
    CALLS[name](app)
    broker: Any = app.broker
    (message,) = broker.messages
    ours: dict[str, str] = {}
    theirs: dict[str, str] = {}
    (item,) = samples.envelopes()[name]
    assert comparable(message.headers, ours) == comparable(item["headers"], theirs)
    assert comparable(message.properties, ours) == comparable(item["properties"], theirs)
    assert comparable(json.loads(message.body), ours) == comparable(item["body"], theirs)
    assert (message.content_type, message.content_encoding) == (
        item["content-type"],
        item["content-encoding"],
    )
    assert message.headers["argsrepr"] == item["headers"]["argsrepr"]
