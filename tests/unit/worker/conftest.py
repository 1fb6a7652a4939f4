"""A worker of any lane inside the test: the real lane, courier and broker in memory, no processes."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from celeriac import Celeriac
from celeriac.brokers.base import ConsumerSpec
from celeriac.worker.child import LANES, make_processor, make_storing
from celeriac.worker.courier import Courier
from celeriac.worker.options import WorkerOptions

names = itertools.count()


def until(true: Callable[[], Any], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.002)


class LaneWorker:
    """Runs the tasks of `app` in a lane of the pool `pool`, whose main thread is a thread of the test."""

    def __init__(self, app: Celeriac, pool: str, slots: int = 2) -> None:
        app.finalize(auto=True)
        broker = app.broker
        queues = tuple(app.queues_to_consume(None, ()))
        processor = make_processor(app, "n@test", WorkerOptions(), broker)
        consumer = broker.consumer(ConsumerSpec("c", queues, 3600.0, app.backend.target()))
        self.lane = LANES[pool](processor, slots, None)
        self.courier = Courier(consumer, make_storing(app), self.lane, None, on_lost=self.lane.stop)
        self.lane.courier = processor.courier = self.courier
        self._main = threading.Thread(target=self.lane.run, name="lane", daemon=True)

    def __enter__(self) -> LaneWorker:
        self._main.start()
        self.courier.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.lane.stop()
        self.join()

    def join(self) -> None:
        """Wait for the lane to end by itself, as a child does."""
        self._main.join(10)
        assert not self._main.is_alive()
        self.courier.finish(10)
        assert not self.courier.is_alive()
        assert self.courier.failure is None


@pytest.fixture
def app() -> Iterator[Celeriac]:
    url = f"memory://lanes-{next(names)}"
    made = Celeriac(f"lanes-{next(names)}", broker=url, backend=url, set_as_current=False)
    made.conf.update(task_default_queue="q")
    yield made
    made.close()


@pytest.fixture(params=["prefork", "threads", "asyncio"])
def pool(request: pytest.FixtureRequest) -> str:
    return str(request.param)
