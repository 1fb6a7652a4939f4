"""`redis+cluster://` keeps the contracts: every queue in one slot, one script call per queue."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest
from tests.servers import RedisCluster

from celeriac.backends.redis import RedisBackend
from celeriac.brokers.redis import RedisBroker
from celeriac.brokers.redis.keys import Layout
from celeriac.conformance import BrokerContract, ChordContract, ResultBackendContract
from celeriac.conformance.kit import ids, out
from celeriac.exceptions import ImproperlyConfigured
from celeriac.transport.redis.pool import slot_of


class Stage:
    """The cluster of the run, for what pytest cannot hand a fixture to."""

    cluster: ClassVar[RedisCluster]


@pytest.fixture(scope="module", autouse=True)
def _stage() -> Iterator[None]:
    Stage.cluster = RedisCluster()
    yield
    Stage.cluster.stop()


class TestRedisClusterBroker(BrokerContract):
    broker_class = RedisBroker
    backend_class = RedisBackend

    @pytest.fixture
    def url(self) -> str:
        Stage.cluster.flush()
        return Stage.cluster.url

    def plant(self, url: str, queue: str, raw: bytes) -> None:
        Stage.cluster.send("LPUSH", queue, raw)

    def test_queues_with_a_hash_tag_and_braces_are_served(self, broker: RedisBroker) -> None:
        names = ["{tag}rest", "pre{tag}", "a{b"]
        for name in names:
            broker.publish([out(name, name), out(f"{name}-9", name, priority=9)])
        _, consumer = self.consumer(broker, *names)
        assert sorted(ids(self.drain(consumer))) == sorted([*names, *(f"{name}-9" for name in names)])
        with pytest.raises(ImproperlyConfigured, match="hash tag"):
            broker.publish([out("x", "no}tag")])


class TestRedisClusterBackend(ResultBackendContract):
    backend_class = RedisBackend

    @pytest.fixture
    def url(self) -> str:
        Stage.cluster.flush()
        return Stage.cluster.url


class TestRedisClusterChords(ChordContract):
    backend_class = RedisBackend

    @pytest.fixture
    def url(self) -> str:
        Stage.cluster.flush()
        return Stage.cluster.url


@pytest.mark.parametrize("prefix", ["", "pfx:"])
@pytest.mark.parametrize("name", ["celery", "{tag}rest", "pre{tag}", "a{b", "ünïcode", "with space"])
def test_all_keys_of_a_queue_share_its_slot(name: str, prefix: str) -> None:
    names = Layout({"global_keyprefix": prefix}, is_cluster=True).queue(name)
    keys = [*names[:-1], *names.lists]
    assert {slot_of(key) for key in keys} == {slot_of(prefix + name)}


def test_a_plain_url_to_a_cluster_is_refused_with_the_right_one() -> None:
    port = Stage.cluster.nodes[0].port
    broker = RedisBroker(f"redis://127.0.0.1:{port}", {})
    with pytest.raises(ImproperlyConfigured, match=rf"redis\+cluster://127\.0\.0\.1:{port}"):
        broker.depth("celery")
