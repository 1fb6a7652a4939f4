"""The rest of a long chain travels as it came."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from celeriac.exceptions import DecodeError
from celeriac.execution.call import context_of
from celeriac.wire import json, protocol, serialization, virtual
from celeriac.wire.message import Message
from celeriac.wire.steps import Chained, Steps

JSON = serialization.content_types(["json"])


def step(number: int, **more: Any) -> dict[str, Any]:
    options = {"task_id": f"id-{number}", "reply_to": "p" * 36}
    plain = {"task": "proj.add", "args": [number, "ß\u2028"], "kwargs": {}, "options": options}
    return {**plain, "subtask_type": None, "immutable": False, **more}


CHAIN = [step(number) for number in range(100)]


def written(chain: Any = CHAIN, **more: Any) -> Message:
    return protocol.write(name="proj.add", id="a", args=(1,), chain=chain, **more)


def body_of(chain: Any, **more: Any) -> Message:
    text = {"callbacks": None, "errbacks": None, "chain": chain, "chord": None, **more}
    return written()._replace(body=json.dumps([[1], {}, text]))


def test_a_long_chain_is_not_read() -> None:
    links = {"callbacks": [step(1)], "errbacks": [step(2)], "chord": step(3)}
    call = protocol.read(written(kwargs={"k": 1}, **links), JSON)
    assert type(call.chain) is Steps
    assert (call.args, call.kwargs) == ([1], {"k": 1})
    assert {"callbacks": call.callbacks, "errbacks": call.errbacks, "chord": call.chord} == links
    assert len(call.chain) == 100
    assert call.chain[-1] == CHAIN[-1]
    assert call.chain[:2] == CHAIN[:2]
    assert list(call.chain) == CHAIN


def test_a_short_chain_is_a_list() -> None:
    assert protocol.read(written(CHAIN[:3]), JSON).chain == CHAIN[:3]


@pytest.mark.parametrize("links", [{}, {"callbacks": [step(1)], "errbacks": [step(2)], "chord": step(3)}])
def test_the_next_message_is_the_same_byte_for_byte(links: dict[str, Any]) -> None:
    steps = protocol.read(written(), JSON).chain
    assert type(steps) is Steps
    assert written(steps.before(), **links).body == written(CHAIN[:-1], **links).body


@pytest.mark.parametrize("serializer", ["pickle", "yaml", "msgpack"])
def test_other_serializers_write_a_list(serializer: str) -> None:
    if serializer != "pickle":
        pytest.importorskip(serializer)
    message = written(Steps([json.dumps(one) for one in CHAIN[:2]]), serializer=serializer)
    assert protocol.read(message, serialization.content_types([serializer])).chain == CHAIN[:2]


def test_copies_and_json_of_it_are_lists() -> None:
    steps = Steps([json.dumps(one) for one in CHAIN[:2]])
    assert pickle.loads(pickle.dumps(steps)) == CHAIN[:2]
    assert json.loads(json.dumps({"chain": steps})) == {"chain": CHAIN[:2]}
    assert repr(steps) == repr(CHAIN[:2])


def test_a_task_sees_a_list() -> None:
    context = context_of(protocol.read(written(), JSON), "")
    assert type(context.chain) is list
    assert context.chain == CHAIN
    assert context.chain is context.chain
    context.chain = None
    assert context.chain is None
    assert context.as_execution_options()["chain"] is None


def test_a_compressed_one() -> None:
    assert type(protocol.read(written(compression="zlib"), JSON).chain) is Steps


def test_the_next_step_must_be_a_signature() -> None:
    with pytest.raises(protocol.ProtocolError, match="chain"):
        protocol.read(body_of([*CHAIN, {"args": []}]), JSON)


def test_chains_that_are_read_at_once() -> None:
    dialect = step(1, args=[{"__type__": "bytes", "__value__": "x"}])
    assert protocol.read(body_of([dialect, *CHAIN]), JSON).chain[0]["args"] == [b"x"]  # type: ignore[index]
    unknown = step(1, args=[{"__type__": "unheard-of", "__value__": "x"}])
    with pytest.raises(DecodeError, match="unheard-of"):
        protocol.read(body_of([unknown, *CHAIN]), JSON)
    surrogate = step(1, args=["\ud800"])
    assert protocol.read(body_of([surrogate, *CHAIN]), JSON).chain == [surrogate, *CHAIN]


@pytest.mark.parametrize(
    "spoil", [(b'"id-3"', b'"id-3'), (b'"id-3"', b"01"), (b"[[1]", b"[[1],[]"), (b"]", b"")]
)
def test_damage_anywhere_is_found_at_once(spoil: tuple[bytes, bytes]) -> None:
    message = written()
    with pytest.raises((DecodeError, protocol.ProtocolError)):
        protocol.read(message._replace(body=message.body.replace(*spoil, 1)), JSON)


# -- messages made here, which are not read again -----------------------------------------------------------


def chained(**more: Any) -> Chained:
    steps = protocol.read(written(), JSON).chain
    assert type(steps) is Steps
    message = written(steps.before(), kwargs={"k": "ß"}, **more)
    assert type(message) is Chained
    return message


@pytest.mark.parametrize("links", [{}, {"callbacks": [step(1)], "errbacks": [step(2)], "chord": step(3)}])
def test_it_means_what_its_bytes_say(links: dict[str, Any]) -> None:
    message = chained(**links)
    plain = protocol.read(Message(*message), JSON)
    for same in (message, virtual.reread(message)):
        assert type(same) is Chained
        call = protocol.read(same, JSON)
        assert call._replace(chain=None) == plain._replace(chain=None)
        assert list(call.chain or ()) == list(plain.chain or ()) == CHAIN[:-1]


def test_what_it_was_made_around_is_not_its_copies() -> None:
    message = chained()
    for other in (message._replace(body=written(CHAIN[:2]).body), pickle.loads(pickle.dumps(message))):
        assert getattr(other, "steps", None) is None
    assert protocol.read(message._replace(body=written(CHAIN[:2]).body), JSON).chain == CHAIN[:2]


def test_content_that_is_not_accepted_is_not_read() -> None:
    with pytest.raises(serialization.ContentDisallowed):
        protocol.read(chained(), frozenset())


def test_a_compressed_one_is_a_plain_message() -> None:
    steps = protocol.read(written(), JSON).chain
    assert type(written(steps, compression="zlib")) is Message


def test_values_that_json_lacks_are_read_again() -> None:
    steps = protocol.read(written(), JSON).chain
    message = protocol.write(name="proj.add", id="a", args=(b"\xff",), chain=steps)
    assert type(message) is Chained
    assert protocol.read(message, JSON).args == [b"\xff"]


@pytest.mark.parametrize("number", [1, 2, 50, 99])
def test_the_steps_travel_apart(number: int) -> None:
    whole = protocol.read(written(), JSON).chain
    assert type(whole) is Steps
    steps, rest = whole, whole.rest()
    while len(steps) > number:
        steps = steps.before()
    for text in ("a", "ab", "abc"):  # whatever the place of the gap
        message = protocol.write(name="n", id="x", args=(text,), chain=steps, callbacks=[step(7)])
        assert type(message) is Chained
        apart = virtual.encode_apart(message)
        assert apart is not None
        assert len(apart.text) < 1500
        assert steps.rest() is rest
        assert not isinstance(virtual.decode(apart.text), Message)
        found = virtual.decode(virtual.whole(apart, rest.text))
        assert isinstance(found, Message)
        assert json.loads(found.body) == json.loads(message.body)
        assert (found.headers, found.properties) == (message.headers, message.properties)
