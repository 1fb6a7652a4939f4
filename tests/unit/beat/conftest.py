from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
import time_machine

from celeriac import Celeriac, uuid

START = datetime(2024, 5, 15, 10, tzinfo=UTC)

Sent = Callable[[], list[tuple[str, str]]]


@pytest.fixture
def app() -> Iterator[Celeriac]:
    own = f"memory://{uuid()}"
    with Celeriac("beats", broker=own, backend=f"cache+{own}", set_as_current=False) as made:
        yield made


@pytest.fixture
def sent(app: Celeriac) -> Sent:
    """What is in the queue: (task, id) of every message, oldest first."""

    def look() -> list[tuple[str, str]]:
        messages = app.broker.browse("celery", 100_000)
        return [(message.headers["task"], message.headers["id"]) for message in messages]  # type: ignore[union-attr]

    return look


@pytest.fixture
def clock() -> Iterator[time_machine.Coordinates]:
    """A wall clock that stands still until it is moved."""
    with time_machine.travel(START, tick=False) as coordinates:
        yield coordinates
