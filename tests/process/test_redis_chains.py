"""Redis keeps the steps of a long chain once, while one consumer goes from step to step. Everybody else sees
whole messages: peers, sweeps, the dead letters, and a consumer that has missed a reply."""

from __future__ import annotations

import base64
import itertools
import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import redis
from tests.faults.harness import Journal, Node, environment, until
from tests.proxy import Proxy
from tests.servers import RedisServer

from celeriac import Celeriac, chain
from celeriac.backends.base import StoredResult
from celeriac.backends.redis import RedisBackend
from celeriac.brokers.base import DEAD, REQUEUE, ConsumerSpec, Delivery, Outgoing, Settlement
from celeriac.brokers.redis import RedisBroker
from celeriac.brokers.redis.consumer import RedisConsumer
from celeriac.conformance.kit import ack, ids, out
from celeriac.wire import protocol, serialization
from celeriac.wire.message import Message
from celeriac.wire.steps import SHORT, Chained, Steps

JSON = serialization.content_types(["json"])
LENGTH = 60
#: Bytes of an envelope at most that is held without its steps.
SMALL = 2500
OPTIONS: list[Mapping[str, Any]] = [{}, {"global_keyprefix": "pfx:", "priority_steps": [0, 3, 5, 6, 9]}]
_names = itertools.count(1)


@pytest.fixture(params=OPTIONS, ids=["plain", "prefix"])
def options(request: pytest.FixtureRequest) -> Mapping[str, Any]:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def server(redis_server: RedisServer) -> RedisServer:
    redis_server.flush()
    return redis_server


@pytest.fixture
def broker(server: RedisServer, options: Mapping[str, Any]) -> Iterator[RedisBroker]:
    broker = RedisBroker(server.url, options)
    yield broker
    broker.close()


@pytest.fixture
def keys(server: RedisServer) -> Iterator[Callable[[str], list[bytes]]]:
    with redis.Redis.from_url(server.url) as client:
        yield lambda pattern: sorted(client.keys(pattern))


def consumer_of(broker: RedisBroker, *queues: str) -> tuple[str, RedisConsumer]:
    spec = ConsumerSpec(f"chain-{next(_names)}", queues or ("celery",), ttl=60.0)
    return spec.id, broker.consumer(spec)


def signature(number: int) -> dict[str, Any]:
    options = {"task_id": f"step-{number}", "reply_to": "r" * 36}
    plain = {"task": "proj.add", "args": [number, "ß\u2028"], "kwargs": {}, "options": options}
    return {**plain, "subtask_type": None, "immutable": False}


#: As a message has them: the next one last. The number is how many come after it.
STEPS = [signature(number) for number in range(LENGTH)]


def first(queue: str = "celery", priority: int = 0) -> Outgoing:
    message = protocol.write(
        name="proj.add", id=f"step-{LENGTH}", args=(1,), chain=STEPS, routing_key=queue, priority=priority
    )
    return Outgoing(message, queue, priority=priority)


def following(delivery: Delivery, **options: Any) -> Outgoing:
    """What the end of `delivery` sets off."""
    assert isinstance(delivery.message, Message)
    call = protocol.read(delivery.message, JSON)
    assert type(call.chain) is Steps
    step = call.chain[-1]
    message = protocol.write(
        name=step["task"], id=step["options"]["task_id"], args=("é", *step["args"]),
        routing_key=delivery.queue, chain=call.chain.before(), callbacks=[signature(1000)],
        chord=signature(2000),
    )  # fmt: skip
    assert type(message) is Chained
    return Outgoing(message, **{"queue": delivery.queue, **options})


def step_on(consumer: RedisConsumer, delivery: Delivery, limit: int = 5) -> Delivery:
    """End `delivery`; its follow-up, which comes at once."""
    [found] = consumer.exchange(ack(delivery, followups=[following(delivery)]), limit).deliveries
    return found


def value_of(message: Any) -> Any:
    """The body, read as any peer reads it."""
    assert isinstance(message, Message)
    return json.loads(message.body)


def expected(number: int) -> Any:
    """The body of the step with `number` steps after it."""
    follows = {"callbacks": [signature(1000)], "errbacks": None, "chain": STEPS[:number]}
    return [["é", number, "ß\u2028"], {}, {**follows, "chord": signature(2000)}]


def begun(broker: RedisBroker, steps: int = 2, *queues: str) -> tuple[str, RedisConsumer, Delivery]:
    """A chain of which `steps` steps have ended in the hands of one consumer."""
    name, consumer = consumer_of(broker, *queues)
    broker.publish([first()])
    [delivery] = consumer.exchange((), 5).deliveries
    for _ in range(steps):
        delivery = step_on(consumer, delivery)
    return name, consumer, delivery


def test_the_steps_are_stored_once(
    broker: RedisBroker, server: RedisServer, keys: Callable[[str], list[bytes]]
) -> None:
    _, consumer, delivery = begun(broker, 1)
    with redis.Redis.from_url(server.url) as client:
        for number in range(LENGTH - 2, -1, -1):
            before = client.info("stats")["total_net_input_bytes"]
            delivery = step_on(consumer, delivery) if number else delivery
            sent = client.info("stats")["total_net_input_bytes"] - before
            assert sent < 2 * SMALL
            [held], [rest] = keys("*:held:*"), keys("*:rest:*")
            assert all(len(envelope) < SMALL for envelope in client.hvals(held))
            assert client.hlen(held) == 1
            assert client.hlen(rest) == 2  # the text, and what it is missing in
            if number:
                assert ids([delivery]) == [f"step-{number}"]
                assert value_of(delivery.message) == expected(number)
    last = Outgoing(protocol.write(name="proj.add", id="last", routing_key="celery"), "celery")
    [delivery] = consumer.exchange(ack(delivery, followups=[last]), 5).deliveries
    assert ids([delivery]) == ["last"]
    assert not keys("*:rest:*")
    consumer.exchange(ack(delivery), 0)
    assert not keys("*:held:*")


def test_what_comes_back_is_read_like_any_message(broker: RedisBroker) -> None:
    _, _, delivery = begun(broker)
    assert isinstance(delivery.message, Message)
    plain = Message(*delivery.message)
    assert protocol.read(plain, JSON)._replace(chain=None) == protocol.read(delivery.message, JSON)._replace(
        chain=None
    )
    assert protocol.read(plain, JSON).chain is not None
    assert list(protocol.read(plain, JSON).chain or ()) == STEPS[: LENGTH - 2]


@pytest.mark.parametrize("how", ["sweep", "release", "crash", "close"])
def test_what_goes_back_is_whole(
    broker: RedisBroker, server: RedisServer, keys: Callable[[str], list[bytes]], how: str
) -> None:
    name, consumer, delivery = begun(broker)
    [held] = broker.held(name, ["celery"])
    assert value_of(held.message) == expected(LENGTH - 2)
    if how == "close":
        consumer.close()
    elif how == "sweep":
        broker.beat({name: ["celery"]}, ttl=0.001)
        while not broker.sweep(["celery"]):
            pass
    else:
        crashed = [(delivery.queue, delivery.tag)] if how == "crash" else []
        assert broker.release(name, ["celery"], crashed=crashed) == 1
    assert not keys("*:held:*")
    assert not keys("*:rest:*")
    [message] = broker.browse("celery", 5)
    assert value_of(message) == expected(LENGTH - 2)
    _, other = consumer_of(broker)
    [delivery] = other.exchange((), 5).deliveries
    assert delivery.crashes == (1 if how in ("sweep", "crash") else 0)
    assert value_of(step_on(other, delivery).message) == expected(LENGTH - 3)


def test_a_peer_reads_what_is_in_the_list(broker: RedisBroker, server: RedisServer) -> None:
    _, consumer, delivery = begun(broker, 3)
    assert not consumer.exchange(ack(delivery, followups=[following(delivery)]), 0).deliveries
    [listed] = [key for key in (b"celery", b"pfx:celery") if server.send("LLEN", key) == b":1\r\n"]
    with redis.Redis.from_url(server.url) as client:
        envelope = json.loads(client.lrange(listed, 0, 0)[0])
    assert json.loads(base64.b64decode(envelope["body"], validate=True)) == expected(LENGTH - 4)
    assert envelope["headers"]["id"] == f"step-{LENGTH - 4}"
    assert envelope["properties"]["body_encoding"] == "base64"


@pytest.mark.parametrize("verdict", [REQUEUE, DEAD])
def test_other_verdicts(broker: RedisBroker, keys: Callable[[str], list[bytes]], verdict: Any) -> None:
    _, consumer, delivery = begun(broker)
    consumer.exchange([Settlement(delivery.queue, delivery.tag, verdict, "no")], 0)
    found = broker.browse("celery", 5) if verdict == REQUEUE else [broker.dead("celery")[0].message]
    assert [value_of(message) for message in found] == [expected(LENGTH - 2)]
    assert not keys("*:rest:*")


def test_an_end_that_sets_nothing_off(broker: RedisBroker, keys: Callable[[str], list[bytes]]) -> None:
    _, consumer, delivery = begun(broker)
    assert not consumer.exchange(ack(delivery), 5).deliveries
    assert not keys("*:rest:*")
    assert not keys("*:held:*")


def test_what_must_wait_waits_whole(broker: RedisBroker, keys: Callable[[str], list[bytes]]) -> None:
    _, consumer, delivery = begun(broker)
    broker.publish([out("between")])
    [other] = consumer.exchange(ack(delivery, followups=[following(delivery)]), 1).deliveries
    assert ids([other]) == ["between"]
    assert not keys("*:rest:*")
    assert [value_of(message) for message in broker.browse("celery", 5)] == [expected(LENGTH - 3)]
    [delivery] = consumer.exchange(ack(other), 5).deliveries
    for number in range(LENGTH - 4, LENGTH - 8, -1):  # sent whole once, as the last one had to wait
        delivery = step_on(consumer, delivery)
        assert value_of(delivery.message) == expected(number)
    assert keys("*:rest:*")


def test_it_goes_to_another_queue_whole(broker: RedisBroker, keys: Callable[[str], list[bytes]]) -> None:
    _, consumer, delivery = begun(broker, 2, "celery", "other")
    followup = following(delivery, queue="other")
    [delivery] = consumer.exchange(ack(delivery, followups=[followup]), 5).deliveries
    assert (delivery.queue, value_of(delivery.message)) == ("other", expected(LENGTH - 3))
    assert not keys("*:rest:*")
    delivery = step_on(consumer, delivery)
    assert keys("*{other}:rest:*")
    assert (delivery.queue, value_of(delivery.message)) == ("other", expected(LENGTH - 4))


def test_two_chains_side_by_side(broker: RedisBroker, keys: Callable[[str], list[bytes]]) -> None:
    _, consumer, one = begun(broker)
    broker.publish([first()])
    [two] = consumer.exchange((), 5).deliveries
    two = step_on(consumer, two)
    for number in range(3, 6):
        one, two = step_on(consumer, one), step_on(consumer, two)
        assert value_of(one.message) == expected(LENGTH - number)
        assert value_of(two.message) == expected(LENGTH - number + 1)
    # Both at once: each goes through the list.
    ends = [*ack(one, followups=[following(one)]), *ack(two, followups=[following(two)])]
    found = [*consumer.exchange(ends, 5).deliveries]
    found += consumer.exchange((), 5).deliveries
    assert [value_of(each.message) for each in found] == [expected(LENGTH - 6), expected(LENGTH - 5)]
    assert not keys("*:rest:*")


def test_results_are_stored_with_it(broker: RedisBroker, server: RedisServer) -> None:
    backend = RedisBackend(server.url, {})
    target = backend.target()
    assert target is not None
    assert broker.carries(target)
    consumer = broker.consumer(ConsumerSpec("with-results", ("celery",), ttl=60.0, results=target))
    broker.publish([first()])
    [delivery] = consumer.exchange((), 5).deliveries
    for number in range(3):
        end = ack(
            delivery,
            followups=[following(delivery)],
            results=[StoredResult(f"result-{number}", b"{}", 60.0)],
        )
        [delivery] = consumer.exchange(end, 5).deliveries
    assert len(backend.load([f"result-{number}" for number in range(3)])) == 3
    backend.close()


def test_a_refused_settlement_changes_nothing(
    broker: RedisBroker, keys: Callable[[str], list[bytes]]
) -> None:
    _, consumer, delivery = begun(broker)
    after = step_on(consumer, delivery)
    received = consumer.exchange(ack(delivery, followups=[following(delivery)]), 5)
    assert (received.stale, received.deliveries) == ([delivery.tag], [])
    assert value_of(step_on(consumer, after).message) == expected(LENGTH - 4)
    assert len(keys("*:rest:*")) == 1


def test_a_lost_reply(server: RedisServer, options: Mapping[str, Any]) -> None:
    with Proxy(server.port) as proxy:
        broker = RedisBroker(proxy.url, options)
        for steps in (0, 2):  # the steps come along; the server has them
            _, consumer, delivery = begun(broker, steps)
            proxy.drop_reply(b"EVALSHA")
            received = consumer.exchange(ack(delivery, followups=[following(delivery)]), 5)
            assert proxy.dropped.is_set()
            assert (received.stale, received.lost) == ([], False)
            [delivery] = received.deliveries
            assert value_of(delivery.message) == expected(LENGTH - steps - 1)
            for number in range(steps + 2, steps + 4):
                delivery = step_on(consumer, delivery)
                assert value_of(delivery.message) == expected(LENGTH - number)
            consumer.exchange(ack(delivery), 0)
        broker.close()


def test_a_consumer_that_joins_a_lease_may_settle(
    broker: RedisBroker, keys: Callable[[str], list[bytes]]
) -> None:
    name, _, delivery = begun(broker)
    other = broker.consumer(ConsumerSpec(name, ("celery",), ttl=60.0))
    assert not other.exchange(ack(delivery), 0).stale
    assert not keys("*:rest:*")


def test_steps_that_somebody_deleted_are_seen(
    broker: RedisBroker, server: RedisServer, keys: Callable[[str], list[bytes]]
) -> None:
    _, consumer, delivery = begun(broker)
    server.send("DEL", *keys("*:rest:*"))
    assert not consumer.exchange(ack(delivery, followups=[following(delivery)]), 5).deliveries
    [letter] = broker.dead("celery")
    assert "rest of its chain" in letter.reason


def test_what_has_lost_its_steps_is_not_run(
    broker: RedisBroker, server: RedisServer, keys: Callable[[str], list[bytes]]
) -> None:
    name, _, _ = begun(broker)
    server.send("DEL", *keys("*:rest:*"))
    broker.release(name, ["celery"])
    [message] = broker.browse("celery", 5)
    assert not isinstance(message, Message)


def test_short_chains_and_delays_go_as_ever(broker: RedisBroker, keys: Callable[[str], list[bytes]]) -> None:
    _, consumer, delivery = begun(broker, 0)
    later = following(delivery)._replace(countdown=60.0)
    assert not consumer.exchange(ack(delivery, followups=[later]), 5).deliveries
    assert broker.stats(["celery"])[0].delayed == 1
    short = Steps([json.dumps(step).encode() for step in STEPS[:3]])
    message = protocol.write(name="proj.add", id="short", chain=short, routing_key="celery")
    assert len(message.body) < SHORT
    broker.publish([out("a")])
    [delivery] = consumer.exchange((), 5).deliveries
    consumer.exchange(ack(delivery, followups=[Outgoing(message, "celery")]), 5)
    assert not keys("*:rest:*")


def test_a_process_dies_in_the_middle(server: RedisServer, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    env = environment(server.url, server.url, tmp_path / "journal", {})
    app = Celeriac("client", broker=server.url, backend=server.url, set_as_current=False)
    app.conf.task_default_queue = "faults"
    steps = [app.signature("add", (1, 2), immutable=True), *[app.signature("add", (1,))] * 30]
    halfway = app.signature("record", ("halfway", 1.0), immutable=True)
    with Node(env, "-c", "1", log=tmp_path / "log"):
        result = chain([*steps, halfway, *steps], app=app).apply_async()
        until(lambda: journal.count("start"), 20)
        os.kill(next(event.pid for event in journal.events() if event.what == "start"), signal.SIGKILL)
        assert result.get(timeout=30) == 33
    assert [event.what for event in journal.events()] == ["start", "start", "end"]
    app.close()
