"""Parameters of PostgreSQL statements, and the names of any text."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac.transport.postgres.foreign import literal
from celeriac.transport.postgres.values import byteas, float8s, int8s, integer, name_key, number


def elements(raw: bytes) -> list[bytes | None]:
    """A binary array as the server reads it."""
    dimensions, _, kind = struct.unpack_from(">iiI", raw)
    assert kind == 17
    if dimensions == 0:
        return []
    count, first = struct.unpack_from(">ii", raw, 12)
    assert (dimensions, first) == (1, 1)
    found: list[bytes | None] = []
    at = 20
    for _ in range(count):
        (length,) = struct.unpack_from(">i", raw, at)
        at += 4
        found.append(None if length < 0 else raw[at : at + length])
        at += max(length, 0)
    assert at == len(raw)
    return found


@given(st.lists(st.none() | st.binary()))
def test_byte_strings_as_an_array(values: list[bytes | None]) -> None:
    assert elements(byteas(values).value or b"") == values


@given(st.lists(st.none() | st.binary()))
def test_the_same_as_text_for_other_drivers(values: list[bytes | None]) -> None:
    body = literal(byteas(values)).removeprefix("{").removesuffix("}")
    words = body.split(",") if body else []
    decoded = [None if word == "NULL" else bytes.fromhex(word[1:-1].removeprefix("\\\\x")) for word in words]
    assert decoded == values


def test_numbers_as_arrays() -> None:
    assert int8s([1, -2]).value == b"{1,-2}"
    assert float8s([1.5, None, 1e11]).value == b"{1.5,NULL,100000000000.0}"


def test_binary_values_of_results() -> None:
    assert [integer(b"\xff" * 4), integer(b"\x01"), integer(None)] == [-1, 1, 0]
    assert (number(struct.pack(">d", 0.25)), number(None)) == (0.25, None)


@pytest.mark.parametrize("name", ["celery", "", "nul\0", "lone \udc80", "x" * 10_000])
def test_every_name_is_a_key_that_an_index_takes(name: str) -> None:
    assert len(name_key(name)) <= 200
    assert name_key(name) != name_key(f"{name}y")
