"""Whatever bytes arrive: decoding never raises, and reading raises only what it says."""

from __future__ import annotations

import base64
import builtins
import contextlib
import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.wire import samples

from celeriac.exceptions import ContentDisallowed, DecodeError, RemoteError
from celeriac.wire import compression, control, protocol, results, saferepr, serialization, virtual
from celeriac.wire import json as wire_json
from celeriac.wire.message import Message, Unreadable

ITEMS = [item for items in samples.envelopes().values() for item in items]
RAW = [samples.celery_envelope(item) for item in ITEMS]
ACCEPT = serialization.content_types(["json", "msgpack", "yaml"])
REFUSALS = (protocol.ProtocolError, ContentDisallowed, DecodeError)
THOROUGH = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**20, -(10**400), 2**63, -1, 0])
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        ["\ud800", "2030-01-01", "9999-12-31T23:59:59-12:00", "0001-01-01", "__type__", "x" * 2000, "base64"]
    )
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=6) | st.sampled_from(["task", "args"]), inner, max_size=4)
        | st.fixed_dictionaries(
            {
                "__type__": st.sampled_from(["date", "uuid", "decimal", "bytes", "base64", "x"]),
                "__value__": inner,
            }
        )
    ),
    max_leaves=12,
)


def survives(raw: bytes) -> None:
    """The invariant of every transport's receiving side."""
    message = virtual.decode(raw)
    if isinstance(message, Unreadable):
        assert message.reason
        assert message.raw == raw
        return
    assert isinstance(message.body, bytes)
    virtual.encode(message)
    call = None
    with contextlib.suppress(*REFUSALS):
        call = protocol.read(message, ACCEPT)
    if call is not None:
        assert type(call.name) is str
        assert type(call.id) is str
        assert isinstance(call.kwargs, dict)
        if call.content_type == "application/json":
            protocol.read(protocol.retry(call, message), ACCEPT)
    for reader in (control.read_request, control.read_reply, control.read_events):
        with contextlib.suppress(*REFUSALS):
            reader(message, ACCEPT)


@THOROUGH
@given(st.binary(max_size=400))
def test_any_bytes(raw: bytes) -> None:
    survives(raw)


@THOROUGH
@given(values)
def test_any_json(value: Any) -> None:
    survives(json.dumps(value).encode())


@THOROUGH
@given(st.sampled_from(RAW), st.data())
def test_damaged_bytes_of_real_messages(raw: bytes, data: st.DataObject) -> None:
    damaged = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(damaged)))
        end = data.draw(st.integers(start, min(len(damaged), start + 20)))
        damaged[start:end] = data.draw(st.binary(max_size=10))
    survives(bytes(damaged))


@THOROUGH
@given(st.sampled_from(ITEMS), st.data())
def test_wrong_values_in_real_messages(item: dict[str, Any], data: st.DataObject) -> None:
    body = base64.b64encode(samples.celery_body(item)).decode()
    envelope = json.loads(json.dumps({**item, "body": body}))
    for _ in range(data.draw(st.integers(1, 3))):
        part = data.draw(st.sampled_from([envelope, envelope["headers"], envelope["properties"]]))
        if not isinstance(part, dict) or not part:
            continue
        key = data.draw(st.sampled_from(sorted(part)))
        part[key] = data.draw(values)
        if not isinstance(envelope.get("headers"), dict) or not isinstance(envelope.get("properties"), dict):
            break
    survives(json.dumps(envelope).encode())


@THOROUGH
@given(st.sampled_from(ITEMS), values, values, values)
def test_wrong_bodies_in_real_messages(item: dict[str, Any], args: Any, kwargs: Any, follows: Any) -> None:
    links = {"callbacks": follows, "errbacks": args, "chain": kwargs, "chord": follows}
    for body in (
        [args, kwargs, follows],
        [[], {}, links],
        args,
        {**links, "task": "t", "id": "i", "args": args},
    ):
        survives(samples.celery_envelope(item, json.dumps(body).encode()))


@THOROUGH
@given(st.binary(max_size=200), st.sampled_from(sorted(ACCEPT)), st.sampled_from(["", *compression.names()]))
def test_any_bytes_as_a_body(raw: bytes, content_type: str, method: str) -> None:
    headers = {"task": "t", "id": "i", "compression": method}
    with contextlib.suppress(*REFUSALS):
        protocol.read(Message(raw, content_type, "utf-8", headers, {}), ACCEPT)


@THOROUGH
@given(st.binary(max_size=200) | values.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_as_a_result(raw: bytes) -> None:
    for serializer in ("json", "msgpack", "yaml"):
        with contextlib.suppress(DecodeError):
            results.decode_result(raw, serializer)


@THOROUGH
@given(values, values, values, values)
def test_any_description_of_an_exception(document: Any, kind: Any, module: Any, message: Any) -> None:
    for found in (document, {"exc_type": kind, "exc_module": module, "exc_message": message}):
        assert isinstance(results.rebuild_exception(found), RemoteError)


@THOROUGH
@given(
    st.sampled_from(sorted(vars(builtins))),
    values,
)
def test_no_builtin_is_called_for_a_document(name: str, message: Any) -> None:
    exc = results.rebuild_exception({"exc_type": name, "exc_module": "builtins", "exc_message": message})
    assert isinstance(exc, Exception)


@THOROUGH
@given(values, st.integers(5, 200))
def test_saferepr_is_bounded_and_can_be_sent(value: Any, limit: int) -> None:
    text = saferepr.saferepr(value, limit)
    assert len(text) <= limit
    text.encode("utf-8")


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
rich = st.datetimes() | st.dates() | st.times() | st.decimals(allow_nan=False) | st.uuids() | st.binary()


@THOROUGH
@given(st.lists(plain | rich, max_size=4), st.dictionaries(st.text(max_size=5), plain | rich, max_size=3))
def test_arguments_arrive_as_they_were_sent(args: list[Any], kwargs: dict[str, Any]) -> None:
    message = virtual.decode(virtual.encode(protocol.write(name="t", id="i", args=args, kwargs=kwargs)))
    assert isinstance(message, Message)
    call = protocol.read(message, ACCEPT)
    assert (call.args, call.kwargs) == (args, kwargs)


@THOROUGH
@given(plain)
def test_json_is_kombus(value: Any) -> None:
    assert wire_json.dumps(value) == json.dumps(value).encode()
    assert wire_json.loads(wire_json.dumps(value)) == value
