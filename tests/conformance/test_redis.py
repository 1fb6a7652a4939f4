"""`redis://` keeps the contracts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from tests.servers import RedisServer

from celeriac.backends.redis import RedisBackend
from celeriac.brokers.redis import RedisBroker
from celeriac.conformance import BrokerContract, ChordContract, ResultBackendContract
from celeriac.conformance.kit import ack, ids, message, out
from celeriac.conformance.machine import Clock, Stores, broker_machine


class Stage:
    """The server of the run, for what pytest cannot hand a fixture to."""

    server: ClassVar[RedisServer]


@pytest.fixture(scope="module", autouse=True)
def _stage(redis_server: RedisServer) -> None:
    Stage.server = redis_server


class TestRedisBroker(BrokerContract):
    broker_class = RedisBroker
    backend_class = RedisBackend

    @pytest.fixture
    def url(self) -> str:
        Stage.server.flush()
        return Stage.server.url

    def plant(self, url: str, queue: str, raw: bytes) -> None:
        Stage.server.send("LPUSH", queue, raw)

    def test_a_followup_that_nothing_goes_before_comes_back_at_once(self, broker: RedisBroker) -> None:
        spec, consumer = self.consumer(broker)
        broker.publish([out("a")])
        received = consumer.exchange((), 5)
        large = message("next")._replace(body=b"x" * 200_000)
        for priority in (0, 3):
            followup = out("next", priority=priority)._replace(message=large)
            received = consumer.exchange(ack(*received.deliveries, followups=[followup]), 5)
            assert [each.message for each in received.deliveries] == [large]
            assert broker.depth("celery") == 0
        self.lapse(broker, spec)
        _, other = self.consumer(broker)
        assert ids(other.exchange((), 5).deliveries) == ["next"]
        assert consumer.exchange(ack(*received.deliveries), 0).lost

    def test_a_followup_waits_behind_what_waits(self, broker: RedisBroker) -> None:
        _, consumer = self.consumer(broker, "celery", "other")
        broker.publish([out("a")])
        received = consumer.exchange((), 1)
        broker.publish([out("b", "other")])
        received = consumer.exchange(ack(*received.deliveries, followups=[out("next")]), 1)
        taken = ids(received.deliveries)
        received = consumer.exchange(ack(*received.deliveries), 1)
        assert sorted(taken + ids(received.deliveries)) == ["b", "next"]
        broker.publish([out("c"), out("d")])
        received = consumer.exchange(ack(*received.deliveries, followups=[out("last")]), 1)
        assert ids(received.deliveries) == ["c"]
        received = consumer.exchange(ack(*received.deliveries), 5)
        assert ids(received.deliveries) == ["d", "last"]

    def test_a_followup_of_one_who_wants_no_more_is_left_to_others(self, broker: RedisBroker) -> None:
        _, consumer = self.consumer(broker)
        broker.publish([out("a")])
        received = consumer.exchange((), 1)
        assert not consumer.exchange(ack(*received.deliveries, followups=[out("next")]), 0).deliveries
        assert broker.depth("celery") == 1


class TestRedisBrokerWithPrefix(TestRedisBroker):
    """The same under a prefix, another separator and other steps, results in another database."""

    OPTIONS: ClassVar[Mapping[str, Any]] = {
        "global_keyprefix": "pfx:",
        "sep": ":",
        "priority_steps": [0, 3, 5, 6, 9],
    }

    @staticmethod
    def backend_class(url: str, options: Mapping[str, Any]) -> RedisBackend:
        return RedisBackend(url[:-1] + "5", {"global_keyprefix": "results-"})

    @pytest.fixture
    def options(self) -> Mapping[str, Any]:
        return self.OPTIONS

    def plant(self, url: str, queue: str, raw: bytes) -> None:
        Stage.server.send("LPUSH", f"pfx:{queue}", raw)


class TestRedisBackend(ResultBackendContract):
    backend_class = RedisBackend

    @pytest.fixture
    def url(self) -> str:
        Stage.server.flush()
        return Stage.server.url


class TestRedisChords(ChordContract):
    backend_class = RedisBackend

    @pytest.fixture
    def url(self) -> str:
        Stage.server.flush()
        return Stage.server.url


def open_store(clock: Clock) -> Stores:
    Stage.server.flush()
    url = Stage.server.url
    one, two, backend = RedisBroker(url, {}), RedisBroker(url, {}), RedisBackend(url, {})

    def close() -> None:
        for each in (one, two, backend):
            each.close()

    return Stores(one, two, backend, close)


TestRedisHistories = broker_machine(open_store, movable_clock=False, examples=50)
