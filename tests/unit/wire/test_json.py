"""JSON: the dialect, the refusals, the bombs."""

from __future__ import annotations

import enum
import json as stdlib
import math
import uuid
from collections import OrderedDict, namedtuple
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest

from celeriac.exceptions import DecodeError, EncodeError
from celeriac.wire import json

Point = namedtuple("Point", "x y")


class Colour(enum.StrEnum):
    RED = "red"


class Plain(enum.Enum):
    ONE = 1


class Model:
    def __json__(self) -> Any:
        return {"id": 7, "at": date(2030, 1, 1)}


class Broken:
    def __json__(self) -> Any:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "value",
    [
        datetime(2030, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
        datetime(2030, 1, 2),
        date(2030, 1, 2),
        time(3, 4, 5),
        Decimal("1.50"),
        Decimal("NaN"),
        uuid.UUID(int=7),
        b"text",
        b"\xff\x00",
        b"",
    ],
)
def test_dialect_values_come_back_as_they_were(value: Any) -> None:
    back = json.loads(json.dumps({"x": [value]}))["x"][0]
    assert type(back) is type(value)
    assert str(back) == str(value)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ((1, 2), "[1, 2]"),
        (Point(1, 2), "[1, 2]"),
        ({3}, "[3]"),
        (frozenset({3}), "[3]"),
        (OrderedDict(a=1), '{"a": 1}'),
        (Colour.RED, '"red"'),
        ("é", '"\\u00e9"'),
        ({1: 2, None: 3}, '{"1": 2, "null": 3}'),
        (Model(), '{"id": 7, "at": {"__type__": "date", "__value__": "2030-01-01"}}'),
        (bytearray(b"a"), '{"__type__": "bytes", "__value__": "a"}'),
        (memoryview(b"a"), '{"__type__": "bytes", "__value__": "a"}'),
        (math.inf, "Infinity"),
    ],
)
def test_written_as(value: Any, written: str) -> None:
    assert json.dumps(value).decode() == written


def test_lazy_text_of_django_is_text() -> None:
    from django.utils.functional import lazystr

    assert json.dumps([lazystr("later")]) == b'["later"]'


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (object(), "builtins.object"),
        (timedelta(1), "datetime.timedelta"),
        (Plain.ONE, "Plain"),
        ({"deep": [1j]}, "builtins.complex"),
        (Broken(), "no"),
        ({b"key": 1}, "bytes"),
        pytest.param(10**5000, "4300", id="huge"),
    ],
)
def test_refusals_name_the_type(value: Any, named: str) -> None:
    with pytest.raises(EncodeError, match=named):
        json.dumps(value)


def test_a_value_that_contains_itself_is_refused() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    with pytest.raises(EncodeError, match="contains itself"):
        json.dumps(cycle)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"nope",
        b"[1",
        b"\xff",
        b"\xef\xbb\xbf1",
        b'"\\x"',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[" * 50_000 + b"]" * 50_000,
        b"1" + b"0" * 5000,
        "nope",
        b'{"__type__": "date", "__value__": "x"}',
        b'{"__type__": "date", "__value__": null}',
        b'{"__type__": "uuid", "__value__": {"int": 7}}',
        b'{"__type__": "uuid", "__value__": "x"}',
        b'{"__type__": "decimal", "__value__": [1]}',
        b'{"__type__": "decimal", "__value__": "x"}',
        b'{"__type__": "base64", "__value__": "%%"}',
        b'{"__type__": ["date"], "__value__": 1}',
        b'{"__type__": "os.system", "__value__": "true"}',
        b'[{"__type__":' * 20_000,
    ],
    ids=lambda raw: str(raw[:40]),
)
def test_bad_bytes_are_decode_errors(raw: bytes) -> None:
    with pytest.raises(DecodeError):
        json.loads(raw)


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"[NaN]", [math.nan]),
        (b'"\\ud800"', "\ud800"),
        pytest.param(b"1" + b"0" * 400, 10**400, id="large"),
        (b"1e999", math.inf),
        (b'{"a": 1, "a": 2}', {"a": 2}),
        (b'{"__type__": "date"}', {"__type__": "date"}),
        (b'{"__type__": "x", "__value__": 1, "more": 2}', {"__type__": "x", "__value__": 1, "more": 2}),
        ("[1]", [1]),
        (bytearray(b"[1]"), [1]),
        (memoryview(b"[1]"), [1]),
    ],
)
def test_what_python_reads_is_read(raw: bytes, value: Any) -> None:
    assert repr(json.loads(raw)) == repr(value)


def test_a_uuid_with_a_version_is_read() -> None:
    raw = stdlib.dumps({"__type__": "uuid", "__value__": {"hex": "0" * 32, "version": 4}})
    assert json.loads(raw) == uuid.UUID(int=0)


def test_revive_does_what_loads_does() -> None:
    raw = json.dumps({"a": [date(2030, 1, 1), {"b": b"\xff"}], "c": None})
    assert json.revive(json.loads_plain(raw)) == json.loads(raw)


def test_registered_types_travel_and_subclasses_with_them() -> None:
    class Money:
        def __init__(self, cents: int) -> None:
            self.cents = cents

    class Euro(Money):
        pass

    json.register_type(Money, "money", lambda money: money.cents, Money)
    try:
        back = json.loads(json.dumps(Euro(7)))
        assert (type(back), back.cents) == (Money, 7)
    finally:
        json.unregister_type(Money)
    with pytest.raises(EncodeError, match="Money"):
        json.dumps(Money(7))
    with pytest.raises(DecodeError, match="money"):
        json.loads(b'{"__type__": "money", "__value__": 7}')


def test_plain_is_a_copy_without_dialect_types() -> None:
    values = {"a": 1, "at": datetime(2030, 1, 1, tzinfo=UTC), "t": (1, 2)}
    plain = json.plain(values)
    assert plain["at"] == {"__type__": "datetime", "__value__": "2030-01-01T00:00:00+00:00"}
    assert plain["t"] == [1, 2]
    assert json.revive(plain)["at"] == values["at"]
    assert json.plain({"a": 1}) == {"a": 1}
