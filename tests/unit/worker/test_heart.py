"""When the heart sweeps."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from celeriac.backends.sqlite import SqliteBackend
from celeriac.brokers.base import Broker, ConsumerSpec
from celeriac.brokers.sqlite import SqliteBroker
from celeriac.conformance.kit import out
from celeriac.worker.heart import Heart

TTL = 4.0


@pytest.fixture
def heart(tmp_path: Path) -> Iterator[Heart]:
    """A heart that nobody has started, and a message held by somebody who fell silent."""
    url = f"sqlite:///{tmp_path / 'tasks.db'}"
    broker: Broker = SqliteBroker(url, {})
    broker.publish([out("a")])
    broker.consumer(ConsumerSpec("silent", ["celery"], ttl=0.01)).exchange((), 1)
    own = broker.consumer(ConsumerSpec("own", ["celery"], ttl=TTL))
    time.sleep(0.02)  # the lease lapses
    yield Heart(
        broker,
        SqliteBackend(url, {}),
        ["celery"],
        ttl=TTL,
        store=url,
        target=None,
        alive=lambda: {"own": ["celery"]},
        on_lost=lambda lost: pytest.fail(f"lost {lost}"),
        on_revoked=lambda ids: None,
        conclude=lambda *_: pytest.fail("nothing ends here"),
        machine=False,
    )
    own.close()
    broker.close()


def test_it_sweeps_who_fell_silent(heart: Heart) -> None:
    heart._beat()
    heart._beat()
    heart._round(time.monotonic())
    assert heart.broker.depth("celery") == 1


def test_after_a_standstill_all_others_may_beat_first(heart: Heart) -> None:
    heart.last_beat = time.monotonic() - TTL * 0.6
    heart._beat()
    heart._round(time.monotonic())
    assert heart.broker.depth("celery") == 0
    heart._round(time.monotonic() + TTL)
    assert heart.broker.depth("celery") == 1
