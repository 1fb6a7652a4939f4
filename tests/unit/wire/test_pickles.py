"""Pickles of older Celery: plain values come back, everything else is kept from running."""

from __future__ import annotations

import contextlib
import os
import pickle
import uuid
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac.exceptions import DecodeError
from celeriac.wire import pickles

PLAIN = [
    None, True, 5, -(10**40), 1.5, "text ü", b"bytes", [1, [2]], (1, (2,)), {"a": {"b": 1}}, {1, 2},
    frozenset({3}), 1 + 2j, bytearray(b"x"), datetime(2030, 1, 2, 3, tzinfo=UTC), date(2030, 1, 2),
    time(1, 2), timedelta(1, 2), Decimal("1.10"), uuid.UUID(int=7),
]  # fmt: skip


class Evil:
    """Runs a command when it is unpickled by the ordinary reader."""

    def __init__(self, call: Callable[..., Any], *args: Any) -> None:
        self.call = call
        self.args = args

    def __reduce__(self) -> Any:
        return self.call, self.args


class Odd(Exception):
    pass


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_plain_values_come_back(value: Any, protocol: int) -> None:
    data = pickle.dumps(value, protocol)
    assert pickles.is_pickle(data)
    found = pickles.loads(data)
    assert (found, type(found)) == (value, type(value))


def test_collections_come_back_as_plain_ones() -> None:
    value = [OrderedDict(a=1), defaultdict(list, b=[2]), deque([3], 5)]
    assert pickles.loads(pickle.dumps(value)) == [{"a": 1}, {"b": [2]}, [3]]


@pytest.mark.parametrize(
    "evil",
    [
        Evil(os.system, "touch made-by-a-pickle"),
        Evil(eval, "1 + 1"),
        Evil(getattr, "", "join"),
        Evil(__import__, "os"),
        Evil(bytearray, 10**12),
        Evil(list, "abc"),
        Evil(open, "made-by-a-pickle", "w"),
    ],
    ids=lambda evil: evil.call.__name__,
)
@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: [x], lambda x: {"k": (x,)}])
def test_nothing_runs(
    evil: Evil, wrap: Callable[[Any], Any], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        value = pickles.loads(pickle.dumps(wrap(evil)))
    except DecodeError:
        pass
    else:
        assert isinstance(value, pickles.Stranger)  # a name and arguments, at the top only
    assert not list(tmp_path.iterdir())


def test_the_refusal_names_the_class_and_the_way_out() -> None:
    with pytest.raises(DecodeError, match=r"posix\.system.*result_serializer = 'pickle'"):
        pickles.loads(pickle.dumps([Evil(os.system, "true")]))


def test_exceptions_become_descriptions() -> None:
    for exc in (ValueError("a", 3), Odd("b")):
        for protocol in (2, 4):
            found = pickles.described(pickles.loads(pickle.dumps(exc, protocol)))
            assert found == {
                "exc_type": type(exc).__name__,
                "exc_message": list(exc.args),
                "exc_module": type(exc).__module__,
            }
    nested = pickles.described(pickles.loads(pickle.dumps(ValueError("a", Odd("b")))))
    assert nested["exc_message"][0] == "a"
    assert "Odd" in nested["exc_message"][1]


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x04",
        b"\x80\x04.",
        b"\x80\x04K\x01",
        b"\x80\x02r\xff\xff\xff\x7f.",
        b"\x80\x02N\x72\xff\xff\xff\x7f.",
        b"\x80\x04\x82\x01.",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
    ],
)
def test_damaged_pickles_are_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        pickles.loads(data)


@given(st.binary(max_size=60))
def test_any_bytes_end_in_a_value_or_a_decode_error(tail: bytes) -> None:
    with contextlib.suppress(DecodeError):
        pickles.loads(b"\x80\x04" + tail)
