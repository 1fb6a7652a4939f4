"""Task messages: what is refused and how it is said; what follows from a delivered message; what it costs."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import zstandard
from tests.budget.tracing import called

from celeriac.exceptions import (
    ContentDisallowed,
    DecodeError,
    EncodeError,
    ImproperlyConfigured,
    InvalidTaskError,
)
from celeriac.wire import protocol, virtual
from celeriac.wire.message import Message, Unreadable

ACCEPT = frozenset({"application/json"})
CYCLE = {"task": "t", "args": [], "kwargs": {}, "options": {}}


def message(body: Any = None, **headers: Any) -> Message:
    """A good message with some headers (and perhaps the body) replaced."""
    good = protocol.write(name="proj.add", id="a-1", args=(1, 2), routing_key="celery", reply_to="me")
    raw = good.body if body is None else json.dumps(body).encode()
    return good._replace(body=raw, headers={**good.headers, **headers})


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ({"task": None}, "'task'"),
        ({"task": ["t"]}, "'task'"),
        ({"task": ""}, "'task'"),
        ({"task": "\ud800"}, "surrogates"),
        ({"task": "t" * 2000}, "1024"),
        ({"id": None}, "'id'"),
        ({"id": [1]}, "'id'"),
        ({"id": 7}, "'id'"),
        ({"id": "x" * 10_240}, "'id'"),
        ({"eta": "soon"}, "'eta'"),
        ({"eta": [1]}, "'eta'"),
        ({"eta": {"a": 1}}, "'eta'"),
        ({"eta": True}, "'eta'"),
        ({"eta": "9999-12-31T23:59:59+00:00"}, "9998"),
        ({"eta": "9999-12-31T23:59:59-12:00"}, "9998"),
        ({"eta": "1969-12-31T23:59:59+00:00"}, "1970"),
        ({"eta": "0001-01-01T00:00:00+14:00"}, "1970"),
        ({"eta": 1e300}, "9998"),
        ({"eta": 10**400}, "9998"),
        ({"eta": -1}, "1970"),
        ({"eta": float("nan")}, "1970"),
        ({"expires": "never"}, "'expires'"),
        ({"expires": -5}, "'expires'"),
        ({"timelimit": "soon"}, "'timelimit'"),
        ({"timelimit": [1]}, "'timelimit'"),
        ({"timelimit": 5}, "'timelimit'"),
        ({"timelimit": [-1, None]}, "'timelimit'"),
        ({"timelimit": ["1", None]}, "'timelimit'"),
        ({"timelimit": [True, None]}, "'timelimit'"),
        ({"timelimit": [float("inf"), 1]}, "'timelimit'"),
        ({"timelimit": [float("nan"), 1]}, "'timelimit'"),
        ({"timelimit": [10**400, 1]}, "'timelimit'"),
        ({"retries": "2"}, "'retries'"),
        ({"retries": -1}, "'retries'"),
        ({"retries": 10**9}, "'retries'"),
        ({"retries": True}, "'retries'"),
        ({"retries": 1.5}, "'retries'"),
        ({"root_id": 7}, "'root_id'"),
        ({"parent_id": ["x"]}, "'parent_id'"),
        ({"group": {}}, "'group'"),
        ({"group_index": "1"}, "'group_index'"),
        ({"ignore_result": "yes"}, "'ignore_result'"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, str) else None,
)
def test_a_wrong_header_is_named(headers: dict[str, Any], named: str) -> None:
    with pytest.raises(protocol.ProtocolError, match=named):
        protocol.read(message(**headers), ACCEPT)


@pytest.mark.parametrize(
    "body",
    [
        7,
        "text",
        None,
        {},
        {"a": 1},
        [],
        [[], {}],
        [[], {}, {}, {}],
        [7, {}, {}],
        ["ab", {}, {}],
        [[], [], {}],
        [[], None, {}],
        [[], {}, []],
        [[], {}, None],
        [[], {}, {"callbacks": 7}],
        [[], {}, {"errbacks": ["x"]}],
        [[], {}, {"chain": [CYCLE, 7]}],
        [[], {}, {"chain": [{"task": 7}]}],
        [[], {}, {"chord": "x"}],
        [[], {}, {"chord": [CYCLE]}],
    ],
    ids=str,
)
def test_a_wrong_body_is_refused(body: Any) -> None:
    with pytest.raises(protocol.ProtocolError):
        protocol.read(message()._replace(body=json.dumps(body).encode()), ACCEPT)


@pytest.mark.parametrize("body", [7, [], {}, {"id": "i"}, {"task": None, "id": "i"}, {"task": "t"}, None])
def test_neither_protocol_is_refused(body: Any) -> None:
    with pytest.raises(protocol.ProtocolError):
        protocol.read(message(body)._replace(headers={}), ACCEPT)


@pytest.mark.parametrize(
    "part",
    [
        {"args": 7},
        {"kwargs": []},
        {"eta": "x"},
        {"expires": [1]},
        {"timelimit": "x"},
        {"retries": -1},
        {"taskset": 7},
        {"group_index": "x"},
        {"callbacks": 7},
        {"chord": "x"},
    ],
)
def test_a_wrong_part_of_protocol_1_is_refused(part: dict[str, Any]) -> None:
    body = {"task": "t", "id": "i", "args": [], "kwargs": {}, **part}
    with pytest.raises(protocol.ProtocolError):
        protocol.read(message(body)._replace(headers={}), ACCEPT)


def test_protocol_errors_are_invalid_task_errors() -> None:
    assert issubclass(protocol.ProtocolError, InvalidTaskError)


@pytest.mark.parametrize(
    ("headers", "field", "value"),
    [
        ({"eta": "2030-01-01T00:00:00+01:00"}, "eta", 1893452400.0),
        ({"eta": "2030-01-01T00:00:00"}, "eta", 1893456000.0),
        ({"eta": "2030-01-01T00:00:00Z"}, "eta", 1893456000.0),
        ({"eta": 1893456000}, "eta", 1893456000.0),
        ({"eta": ""}, "eta", None),
        ({"expires": 1893456000.5}, "expires", 1893456000.5),
        ({"timelimit": None}, "hard", None),
        ({"timelimit": [0, 0]}, "hard", None),
        ({"timelimit": [2.5, 1]}, "hard", 2.5),
        ({"timelimit": [1, 2]}, "soft", 2),
        ({"retries": None}, "retries", 0),
        ({"root_id": None}, "root_id", None),
    ],
)
def test_what_others_may_write_is_read(headers: dict[str, Any], field: str, value: Any) -> None:
    assert getattr(protocol.read(message(**headers), ACCEPT), field) == value


def test_the_least_that_a_message_must_have() -> None:
    least = message()._replace(headers={"task": "t", "id": "i"}, properties={})
    call = protocol.read(least, ACCEPT)
    assert (call.name, call.id, call.retries, call.ignore_result, call.reply_to) == ("t", "i", 0, None, None)


def test_content_that_is_not_accepted_is_neither_unpacked_nor_read() -> None:
    bomb = message(compression="no-such-method")._replace(content_type="application/x-python-serialize")
    with pytest.raises(ContentDisallowed, match="add 'pickle' to accept_content"):
        protocol.read(bomb, ACCEPT)
    with pytest.raises(ContentDisallowed):
        protocol.read(message(), frozenset())


def test_damaged_and_endless_bodies_are_decode_errors() -> None:
    for raw in (b"\xff", b"[" * 100_000, b""):
        with pytest.raises(DecodeError):
            protocol.read(message()._replace(body=raw), ACCEPT)
    with pytest.raises(DecodeError, match="klingon"):
        protocol.read(message()._replace(content_encoding="klingon"), ACCEPT)
    bomb = message(compression="zstd")._replace(body=zstandard.compress(bytes(300 << 20)))
    with pytest.raises(DecodeError, match="limit"):
        protocol.read(bomb, ACCEPT)


# -- writing ----------------------------------------------------------------------------------------------


def test_wrong_calls_are_refused_where_they_are_made() -> None:
    with pytest.raises(TypeError, match="list or tuple, not str"):
        protocol.write(name="t", id="i", args="ab")
    with pytest.raises(TypeError, match="mapping, not list"):
        protocol.write(name="t", id="i", kwargs=[])  # type: ignore[arg-type]
    with pytest.raises(EncodeError, match="object"):
        protocol.write(name="t", id="i", args=(object(),))
    with pytest.raises(ImproperlyConfigured, match="registered are"):
        protocol.write(name="t", id="i", serializer="xml")
    with pytest.raises(ImproperlyConfigured, match="compression"):
        protocol.write(name="t", id="i", compression="rar")


@pytest.mark.parametrize(
    "times",
    [
        {"eta": "soon"},
        {"eta": datetime.max},
        {"eta": datetime(1960, 1, 1)},
        {"countdown": 1e300},
        {"countdown": float("nan")},
        {"expires": "later"},
        {"expires": datetime.max.replace(tzinfo=UTC)},
    ],
)
def test_times_that_no_worker_could_read_are_refused(times: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the text is datetime's own for some of them
        protocol.write(name="t", id="i", **times)


def test_the_users_headers_arrive_with_their_types() -> None:
    when = datetime(2030, 1, 1, tzinfo=UTC)
    sent = protocol.write(
        name="t",
        id="i",
        headers={"x-when": when, "x-id": UUID(int=1), "x": 1},
        stamps={"batch": {"b"}},
        stamped_headers=["batch"],
    )
    arrived = virtual.decode(virtual.encode(sent))
    assert not isinstance(arrived, Unreadable)
    headers = protocol.read(arrived, ACCEPT).headers
    assert (headers["x-when"], headers["x-id"], headers["x"]) == (when, UUID(int=1), 1)
    assert (headers["stamped_headers"], headers["stamps"]) == (["batch"], {"batch": ["b"]})
    assert virtual.decode(virtual.encode(arrived)) == arrived


def test_long_arguments_are_shown_short() -> None:
    headers = protocol.write(name="t", id="i", args=("x" * 5000,), kwargs={"k": [0] * 5000}).headers
    assert len(headers["argsrepr"]) == len(headers["kwargsrepr"]) == 1024


# -- what follows -----------------------------------------------------------------------------------------


def test_with_headers_changes_only_headers_and_tag() -> None:
    first = message()
    again = protocol.with_headers(first, **{"celeriac-parked": 1.5})
    assert again.headers == {**first.headers, "celeriac-parked": 1.5}
    assert again.body is first.body
    assert again.properties.pop("delivery_tag") != first.properties.pop("delivery_tag")
    assert again.properties == first.properties


def test_a_retry_keeps_what_it_is_not_told_to_change() -> None:
    first = protocol.write(
        name="t",
        id="i",
        args=(1,),
        kwargs={"k": 2},
        callbacks=[CYCLE],
        errbacks=[CYCLE],
        chain=[CYCLE],
        chord=CYCLE,
        headers={"x": "y"},
        compression="gzip",
        serializer="json",
        group="g",
        group_index=3,
        root_id="r",
        priority=3,
    )
    call = protocol.read(first, ACCEPT)
    again = protocol.retry(call, first, args=(9,), priority=6, time_limit=5, headers={"z": 1})
    back = protocol.read(again, ACCEPT)
    assert (back.args, back.kwargs, back.retries) == ([9], {"k": 2}, 1)
    assert (back.callbacks, back.errbacks, back.chain, back.chord) == ([CYCLE], [CYCLE], [CYCLE], CYCLE)
    assert (back.group, back.group_index, back.root_id, back.parent_id) == ("g", 3, "r", "i")
    assert (back.hard, back.soft, back.headers["x"], back.headers["z"]) == (5, None, "y", 1)
    assert back.headers["argsrepr"] == "(9,)"
    assert again.properties["priority"] == 6
    assert first.headers["retries"] == 0


def test_a_retry_may_be_given_time_and_place() -> None:
    first = message()
    due = datetime.now(UTC) + timedelta(seconds=30)
    again = protocol.retry(
        protocol.read(first, ACCEPT),
        first,
        eta=due.timestamp(),
        expires=60,
        exchange="e",
        routing_key="k",
        retries=7,
    )
    call = protocol.read(again, ACCEPT)
    assert call.eta == pytest.approx(due.timestamp())
    assert call.expires == pytest.approx(datetime.now(UTC).timestamp() + 60, abs=5)
    assert call.retries == 7
    assert again.properties["delivery_info"] == {"exchange": "e", "routing_key": "k"}
    assert int(again.properties["expiration"]) == 60_000


# -- cost -------------------------------------------------------------------------------------------------


def calls(function: Any) -> int:
    """Python-level calls of our own that `function` makes."""
    function()
    return sum("celeriac" in code.co_filename for code in called(function))


def test_the_hot_paths_stay_short() -> None:
    """Numbers that may only fall: they are on the path of every `delay()` and of every task."""

    def write() -> Message:
        return protocol.write(name="t", id="i", args=(2, 3), routing_key="q", reply_to="r")

    sent = write()
    raw = virtual.encode(sent)
    assert calls(write) <= 6
    assert calls(lambda: virtual.encode(sent)) <= 3
    assert calls(lambda: virtual.decode(raw)) <= 3
    assert calls(lambda: protocol.read(sent, ACCEPT)) <= 7
