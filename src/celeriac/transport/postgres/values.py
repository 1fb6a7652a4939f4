"""Python values as parameters of statements, and back from binary results.

1. `Param`: bytes, the type's number, the format. `int8`, `text`, `bytea`, `float8`, and arrays of them.
2. `integer`, `number`: a binary value of a result.
3. `name_key`: a name of any length and content as a key of a table.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final, NamedTuple

__all__ = [
    "NULL", "Param", "boolean", "bytea", "byteas", "float8", "float8s", "int8", "int8s", "integer",
    "name_key", "number", "text", "texts_of",
]  # fmt: skip

_TEXT, _BINARY = 0, 1
_BOOLEAN, _BYTEA, _INT8, _TEXT_OID, _FLOAT8 = 16, 17, 20, 25, 701
_BYTEAS, _INT8S, _FLOAT8S = 1001, 1016, 1022
_HEAD: Final = struct.Struct(">iiIii")  # dimensions, has nulls, type, length, first index
_LENGTH: Final = struct.Struct(">i")
_INTEGER: Final = struct.Struct(">q")
_NUMBER: Final = struct.Struct(">d")
_NULL: Final = b"\xff\xff\xff\xff"
#: Bytes of a name that is its own key; an index entry may take some 2,700.
_LONGEST_KEY: Final = 200


class Param(NamedTuple):
    """One parameter as libpq takes it."""

    value: bytes | None
    type: int
    format: int = _BINARY


NULL: Final = Param(None, 0)


def int8(value: int) -> Param:
    return Param(_INTEGER.pack(value), _INT8)


def float8(value: float | None) -> Param:
    return Param(None if value is None else _NUMBER.pack(value), _FLOAT8)


def text(value: str) -> Param:
    return Param(value.encode(), _TEXT_OID, _TEXT)


def bytea(value: bytes | None) -> Param:
    return Param(value, _BYTEA)


def int8s(values: Iterable[int]) -> Param:
    """An array of integers.

    Example:
        >>> int8s([3, 4]).value
        b'{3,4}'
    """
    return Param(f"{{{','.join(map(str, values))}}}".encode(), _INT8S, _TEXT)


def float8s(values: Sequence[float | None]) -> Param:
    """An array of numbers; None becomes NULL."""
    return Param(
        f"{{{','.join('NULL' if each is None else repr(float(each)) for each in values)}}}".encode(),
        _FLOAT8S,
        _TEXT,
    )


def byteas(values: Sequence[bytes | None]) -> Param:
    """An array of byte strings; None becomes NULL."""
    if not values:
        return Param(_HEAD.pack(0, 0, _BYTEA, 0, 0)[:12], _BYTEAS)
    parts = [_HEAD.pack(1, 1, _BYTEA, len(values), 1)]
    pack = _LENGTH.pack
    for each in values:
        if each is None:
            parts.append(_NULL)
        else:
            parts += (pack(len(each)), each)
    return Param(b"".join(parts), _BYTEAS)


def texts_of(param: Param) -> str:
    """What `byteas` made, as the text of an array."""
    raw, at, parts = param.value or b"", _HEAD.size, []
    while at < len(raw):
        (length,) = _LENGTH.unpack_from(raw, at)
        at += 4
        parts.append("NULL" if length < 0 else f'"\\\\x{raw[at : at + length].hex()}"')
        at += max(length, 0)
    return f"{{{','.join(parts)}}}"


def boolean(value: bool) -> Param:
    return Param(b"t" if value else b"f", _BOOLEAN, _TEXT)


def integer(value: bytes | None) -> int:
    """A binary int2, int4, int8 or boolean; 0 for NULL.

    Example:
        >>> integer(b"\\x00\\x00\\x00\\x05")
        5
    """
    return int.from_bytes(value, "big", signed=True) if value else 0


def number(value: bytes | None) -> float | None:
    """A binary float8; None for NULL."""
    return None if value is None else float(_NUMBER.unpack(value)[0])


def name_key(name: str) -> bytes:
    """The key under which `name` is stored: itself, or its digest when it is long. Any text will do.

    Example:
        >>> name_key("celery")
        b'celery'
    """
    raw = name.encode("utf-8", "surrogatepass")
    return raw if len(raw) <= _LONGEST_KEY else b"\xff" + sha256(raw).digest()
