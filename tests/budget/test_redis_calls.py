"""What one publish and one exchange may cost in Python calls. The numbers may only fall."""

from __future__ import annotations

import pytest
from tests.budget.tracing import called
from tests.servers import RedisServer

from celeriac.brokers.base import ConsumerSpec
from celeriac.brokers.redis import RedisBroker
from celeriac.conformance.kit import ack, out


@pytest.fixture
def broker(redis_server: RedisServer) -> RedisBroker:
    redis_server.flush()
    return RedisBroker(redis_server.url, {})


def test_publishing_one_message(broker: RedisBroker) -> None:
    batch = [out("a")]
    broker.publish(batch)
    assert len(called(lambda: broker.publish(batch, timeout=5))) <= 9
    broker.close()


def test_acknowledging_and_taking_a_hundred(broker: RedisBroker) -> None:
    broker.publish([out(f"{n}") for n in range(300)])
    consumer = broker.consumer(ConsumerSpec("c", ["celery"]))
    settlements = ack(*consumer.exchange((), 100).deliveries)
    fixed, per_message = 30, 2
    assert len(called(lambda: consumer.exchange(settlements, 100))) <= fixed + 100 * per_message
    consumer.close()
    broker.close()
