"""Short texts, names of this process, points in time."""

from __future__ import annotations

import os
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from celeriac.utils import identity
from celeriac.wire import moments
from celeriac.wire.saferepr import saferepr


class Mute:
    def __repr__(self) -> str:
        raise SystemExit(3)


class Verbose:
    def __repr__(self) -> str:
        return "v" * 10_000


class Sneaky(str):
    def __len__(self) -> int:
        raise ZeroDivisionError

    __getitem__ = __str__ = __format__ = __len__  # type: ignore[assignment]


class ReturnsSneaky:
    def __repr__(self) -> str:
        return Sneaky("\ud800")


CYCLE: list[Any] = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ((2, 3), "(2, 3)"),
        ((1,), "(1,)"),
        ((), "()"),
        ([], "[]"),
        ({}, "{}"),
        (set(), "set()"),
        ({1}, "{1}"),
        ({"a": (1, "é")}, "{'a': (1, 'é')}"),
        (frozenset({1}), "frozenset({1})"),
        (None, "None"),
        ([Mute()], "[<Mute whose repr() raised SystemExit>]"),
        (ReturnsSneaky(), "\\ud800"),
        (CYCLE, "[[[[[...]]]]]"),
        ([("\ud800",)], "[('\\ud800',)]"),
    ],
)
def test_saferepr(value: Any, text: str) -> None:
    assert saferepr(value) == text


@pytest.mark.parametrize(
    "value",
    [
        "x" * 10**6,
        b"x" * 10**6,
        [0] * 10**6,
        {n: n for n in range(10**5)},
        Verbose(),
        [[Verbose()]],
        ("x" * 200,) * 20,
        ("x" * 10**6,),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("limit", [5, 100, 1024])
def test_saferepr_stops_at_the_limit(value: Any, limit: int) -> None:
    text = saferepr(value, limit)
    assert len(text) == limit
    assert text.endswith("...")


def test_uuids_are_random_uuids_of_version_4() -> None:
    made = {identity.uuid() for _ in range(1000)}
    assert len(made) == 1000
    for text in made:
        parsed = uuid.UUID(text)
        assert (str(parsed), parsed.version, parsed.variant) == (text, 4, uuid.RFC_4122)


def test_a_forked_child_has_its_own_origin() -> None:
    mine = identity.origin()
    assert mine.startswith(f"gen{os.getpid()}@")
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.write(writer, identity.origin().encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    theirs = os.read(reader, 200).decode()
    os.close(reader)
    assert theirs == mine.replace(str(os.getpid()), str(child), 1)


NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        (60, NOW + timedelta(seconds=60)),
        (-1.5, NOW - timedelta(seconds=1.5)),
        (NOW, NOW),
        (datetime(2030, 1, 1), NOW),
        ("2030-01-01", NOW),
        ("2030-01-01T01:00:00+01:00", NOW),
    ],
)
def test_moments(value: Any, moment: datetime) -> None:
    assert moments.moment(value, NOW) == moment


@pytest.mark.parametrize(
    "value",
    ["x", "", 1e300, float("nan"), float("inf"), None, [1], datetime.max, datetime.min, -(10**10), 10**400],
    ids=lambda value: str(value)[:12],
)
def test_no_moments(value: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - some of the texts are datetime's own
        moments.moment(value, NOW)


def test_naive_text_of_protocol_1_may_be_local() -> None:
    text = "2030-01-01T00:00:00"
    assert moments.epoch(text) == NOW.timestamp()
    assert moments.epoch(text, local=True) == datetime(2030, 1, 1).timestamp()
    assert moments.epoch(datetime(2030, 1, 1)) == NOW.timestamp()
