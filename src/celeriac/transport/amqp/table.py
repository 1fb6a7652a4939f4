"""Field tables: the headers of a message, the arguments of a declaration, what peers say of themselves.

1. `loads`, `dumps`: a table's bytes (without its length) to a dict and back.
2. `load_headers`, `dump_headers`: the same, several times as fast for headers like those of the messages
   before.
3. `Malformed`: bytes that are no table.

Text that is not UTF-8 stays `bytes`; it is written again as a byte array. Integers are written in 32 bits,
or in 64 where they need them, as Celery's client does.

How `load_headers` is fast: between the few fields that differ from message to message (`_VARYING`) lie runs
of fields that are the same again and again, byte for byte. What such a run means is remembered. A run was
taken apart field by field when it was first met, and a table can be read in one way only, so equal bytes
mean equal fields. `dump_headers` remembers likewise the bytes of what is the same in all calls of a task.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from celeriac.exceptions import EncodeError

__all__ = ["Malformed", "dump_headers", "dumps", "load_headers", "loads", "short_text"]

#: Tables in tables.
DEPTH: Final = 64
#: Remembered runs of headers, names, … and how long one may be.
_MANY: Final = 1024
_LONG: Final = 1024

_u32 = struct.Struct(">I").unpack_from
_pack_u32 = struct.Struct(">I").pack
_FIXED: Final = {
    code: (struct.Struct(form).unpack_from, struct.calcsize(form))
    for code, form in {
        b"b": ">b", b"B": ">B", b"s": ">h", b"U": ">h", b"u": ">H", b"I": ">i", b"i": ">I", b"l": ">q", b"L":
        ">q", b"f": ">f", b"d": ">d",
    }.items()
}  # fmt: skip
#: Each octet as bytes, which is faster than making it.
OCTETS: Final = {number: bytes([number]) for number in range(256)}
_FIXED_BY_NUMBER: Final = {code[0]: pair for code, pair in _FIXED.items()}
_S, _V, _T, _F, _A, _TIME, _BYTES, _DECIMAL, _I = b"SVtFATxDI"


class Malformed(ValueError):
    """Bytes that are not what AMQP says they should be."""


# -- reading ----------------------------------------------------------------------------------------------


def loads(data: bytes, at: int, end: int, depth: int = 0) -> dict[str, Any]:
    """The table in ``data[at:end]``.

    Raises:
        Malformed: it is none.

    Example:
        >>> loads(b"\\x04langS\\x00\\x00\\x00\\x02py", 0, 12)
        {'lang': 'py'}
    """
    table: dict[str, Any] = {}
    try:
        while at < end:
            start = at + 1
            at = start + data[at]
            name = data[start:at]
            table[_names.get(name) or _name(name)], at = _value(data, at, depth)
    except (IndexError, struct.error) as exc:
        raise Malformed(f"a header table breaks off ({exc})") from exc
    if at != end:
        raise Malformed("a header table is longer than it says")
    return table


def _value(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    """The typed value at `at`, and where the next thing begins. Lengths are believed here, and checked by
    `loads`: whatever reaches too far leaves it beyond its end."""
    kind = data[at]
    at += 1
    if kind == _S:
        start = at + 4
        at = start + _u32(data, at)[0]
        raw = data[start:at]
        try:
            return raw.decode(), at
        except UnicodeDecodeError:
            return raw, at
    if kind == _V:
        return None, at
    if kind == _T:
        return data[at] != 0, at + 1
    if kind in _FIXED_BY_NUMBER:
        unpack, size = _FIXED_BY_NUMBER[kind]
        return unpack(data, at)[0], at + size
    if kind in (_F, _A):
        if depth >= DEPTH:
            raise Malformed(f"header tables are nested more than {DEPTH} deep")
        start = at + 4
        at = start + _u32(data, at)[0]
        if at > len(data):
            raise Malformed("a table within the headers breaks off")
        return (loads if kind == _F else _array)(data, start, at, depth + 1), at
    if kind == _TIME:
        seconds = struct.unpack_from(">Q", data, at)[0]
        try:
            return datetime.fromtimestamp(seconds, UTC), at + 8
        except (ValueError, OverflowError, OSError) as exc:
            raise Malformed(f"a header holds the time {seconds}, which no calendar has") from exc
    if kind == _BYTES:
        start = at + 4
        at = start + _u32(data, at)[0]
        return data[start:at], at
    if kind == _DECIMAL:
        scale, number = struct.unpack_from(">Bi", data, at)
        return Decimal(f"{number}E-{scale}"), at + 5  # whatever the thread's decimal context
    raise Malformed(f"a header has a value of the unknown type {bytes([kind])!r}")


def _array(data: bytes, at: int, end: int, depth: int) -> list[Any]:
    values = []
    while at < end:
        value, at = _value(data, at, depth)
        values.append(value)
    if at != end:
        raise Malformed("an array in a header is longer than it says")
    return values


_names: dict[bytes, str] = {}


def _name(raw: bytes) -> str:
    """A field's name; names recur, so they are made once."""
    name = raw.decode("utf-8", "surrogateescape")
    if len(_names) >= _MANY:
        _names.clear()
    _names[raw] = name
    return name


#: Headers of a task's message that differ between messages of one task, in the order in which they are
#: written.
_VARYING: Final = ("id", "root_id", "argsrepr", "kwargsrepr")
_MARKS: Final = tuple((name, bytes([len(name)]) + name.encode() + b"S", len(name) + 6) for name in _VARYING)
#: The meaning of a run of fields: the fields, and which of them are lists or dicts, to be made anew each
#: time.
_runs: dict[bytes, tuple[dict[str, Any], tuple[tuple[str, Any], ...]]] = {b"": ({}, ())}


def load_headers(data: bytes, at: int, end: int) -> dict[str, Any]:
    """As `loads`. Hot."""
    headers: dict[str, Any] = {}
    for name, mark, skip in _MARKS:
        found = data.find(mark, at, end)
        if found < 0:
            continue
        run = data[at:found]
        known = _runs.get(run)
        if known is None:
            known = _learn(data, at, found)
            if known is None:  # the mark's bytes were not where a field begins, or the run cannot be kept
                headers.update(loads(data, at, end))
                return headers
        headers.update(known[0])
        for key, value in known[1]:
            headers[key] = value.copy()
        at = found + skip
        if at > end:
            raise Malformed("a header breaks off")
        length = _u32(data, at - 4)[0]
        value = data[at : at + length]
        at += length
        if at > end:
            raise Malformed("a header is longer than the table")
        try:
            headers[name] = value.decode()
        except UnicodeDecodeError:
            headers[name] = value
    run = data[at:end]
    known = _runs.get(run) or _learn(data, at, end)
    if known is None:
        headers.update(loads(data, at, end))
        return headers
    headers.update(known[0])
    for key, value in known[1]:
        headers[key] = value.copy()
    return headers


def _learn(data: bytes, at: int, end: int) -> tuple[dict[str, Any], tuple[tuple[str, Any], ...]] | None:
    """Take a run apart and remember it; None when it is not whole, or too long or too deep to be kept."""
    try:
        fields = loads(data, at, end)
    except Malformed:
        return None
    mutable = tuple((name, value) for name, value in fields.items() if type(value) in (list, dict))
    if any(_is_deep(value) for _, value in mutable):
        return None
    if len(_runs) >= _MANY:  # what recurs is soon learnt again
        _runs.clear()
        _runs[b""] = ({}, ())
    known = fields, mutable
    if end - at <= _LONG:
        _runs[data[at:end]] = known
    return known


def _is_deep(value: list[Any] | dict[str, Any]) -> bool:
    inner: Iterable[Any] = value.values() if isinstance(value, dict) else value
    return any(type(item) in (list, dict) for item in inner)


# -- writing ----------------------------------------------------------------------------------------------


def dumps(table: Mapping[str, Any]) -> bytes:
    """The bytes of `table`, without its length. Hot.

    Raises:
        EncodeError: a name is longer than 255 bytes, or a value has a type that AMQP has not.
    """
    out: list[bytes] = []
    add = out.append
    for name, value in table.items():
        add(_prefixes.get(name) or _prefix(name))
        kind = type(value)
        if value is None:
            add(b"V")
        elif kind is str:
            try:
                raw = value.encode()
            except UnicodeEncodeError:
                raw = _utf8(value)
            add(b"S" + _pack_u32(len(raw)))
            add(raw)
        elif kind is bool:
            add(b"t\x01" if value else b"t\x00")
        elif kind is int and value in _SMALL:
            add(_SMALL[value])
        else:
            add(_typed(value, 0))
    return b"".join(out)


#: The headers that `wire.protocol.write` makes, in its order.
_TASK: Final = (
    "lang", "task", "id", "shadow", "eta", "expires", "group", "group_index", "retries", "timelimit",
    "root_id", "parent_id", "argsrepr", "kwargsrepr", "origin", "ignore_result", "replaced_task_nesting",
    "stamped_headers", "stamps",
)  # fmt: skip
_NO_LIMITS: Final = [None, None]
_Run = tuple[bytes, bytes, bytes, bytes, bytes]
#: What lies before, between and behind the fields that differ from call to call: `_runs_of`.
_written: dict[tuple[str | None, ...], _Run] = {}


def dump_headers(headers: Mapping[str, Any]) -> bytes:
    """As `dumps`, for the headers of a message. Hot."""
    if len(headers) != len(_TASK) or tuple(headers) != _TASK:
        return dumps(headers)
    (
        lang, task, id, shadow, eta, expires, group, group_index, retries, limits, root_id, parent_id, args,
        kwargs, origin, ignored, nesting, stamped, stamps,
    ) = headers.values()  # fmt: skip
    if (
        retries.__class__ is not int or retries or nesting.__class__ is not int or nesting
        or limits != _NO_LIMITS or stamped is not None or stamps.__class__ is not dict or stamps
        or ignored.__class__ is not bool
        or not (id.__class__ is root_id.__class__ is args.__class__ is kwargs.__class__ is str)
    ):  # fmt: skip
        return dumps(headers)
    same = (lang, task, shadow, eta, expires, group, parent_id, origin, "true" if ignored else None)
    try:
        runs = _written.get(same) or _runs_of(same, headers)
        raw_id, raw_root, raw_args, raw_kwargs = id.encode(), root_id.encode(), args.encode(), kwargs.encode()
    except (TypeError, UnicodeEncodeError):
        return dumps(headers)
    first, second, third, fourth, last = runs
    return b"".join((
        first, _pack_u32(len(raw_id)), raw_id, second,
        b"V" if group_index is None else _typed(group_index, 0), third,
        _pack_u32(len(raw_root)), raw_root, fourth,
        _pack_u32(len(raw_args)), raw_args, _KWARGSREPR,
        _pack_u32(len(raw_kwargs)), raw_kwargs, last,
    ))  # fmt: skip


def _runs_of(same: tuple[Any, ...], headers: Mapping[str, Any]) -> _Run:
    """The bytes between the fields that differ.

    Raises:
        TypeError: some of the others are not what they are as a rule.
    """
    if not all(value is None or type(value) is str for value in same):
        raise TypeError

    def run(begin: int, end: int, after: str) -> bytes:
        return dumps({name: headers[name] for name in _TASK[begin:end]}) + _prefix(after)

    if len(_written) >= _MANY:
        _written.clear()
    known = _written[same] = (
        run(0, 2, "id") + b"S",
        run(3, 7, "group_index"),
        run(8, 10, "root_id") + b"S",
        run(11, 12, "argsrepr") + b"S",
        dumps({name: headers[name] for name in _TASK[14:]}),
    )
    return known


def _utf8(value: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogateescape" if _escaped(value) else "surrogatepass")


def _escaped(value: str) -> bool:
    """True when the lone surrogates stand for bytes that were not UTF-8 (they came in that way)."""
    return all("\udc80" <= char <= "\udcff" for char in value if "\ud800" <= char <= "\udfff")


_EMPTY_TABLE: Final = b"F\x00\x00\x00\x00"
_SMALL: Final = {number: b"I" + struct.pack(">i", number) for number in range(-1, 256)}


def _typed(value: Any, depth: int) -> bytes:
    """A value with its type before it."""
    kind = type(value)
    if kind is bool:
        return b"t\x01" if value else b"t\x00"
    if kind is int:
        if (small := _SMALL.get(value)) is not None:
            return small
        if -0x8000_0000 <= value < 0x8000_0000:
            return b"I" + int.to_bytes(value, 4, "big", signed=True)
        if not -(1 << 63) <= value < 1 << 63:
            raise EncodeError(f"a header holds the number {value}, which does not fit into 64 bits")
        return b"L" + int.to_bytes(value, 8, "big", signed=True)
    if kind is dict:
        return _with_length(b"F", _inner(value, depth)) if value else _EMPTY_TABLE
    if kind is list or kind is tuple:
        if depth >= DEPTH:
            raise EncodeError(f"headers are nested more than {DEPTH} deep")
        inner = [b"V" if item is None else _typed(item, depth + 1) for item in value]
        return _with_length(b"A", b"".join(inner))
    return _rare(value, depth)


def _rare(value: Any, depth: int) -> bytes:
    """By what a value is, not by its exact type: subclasses come here too."""
    if value is None:
        return b"V"
    if isinstance(value, str):
        return _with_length(b"S", _utf8(value))
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _with_length(b"x", bytes(value))
    if isinstance(value, float):
        return b"d" + struct.pack(">d", value)
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=UTC)
        return b"T" + max(0, int(moment.timestamp())).to_bytes(8, "big")
    if isinstance(value, Decimal):
        return b"D" + _decimal(value)
    if isinstance(value, int):
        return _typed(int(value), depth)
    if isinstance(value, Mapping):
        return _with_length(b"F", _inner(value, depth))
    if isinstance(value, (list, tuple, set, frozenset)):
        return _typed(list(value), depth)
    raise EncodeError(
        f"a header holds a {type(value).__name__}, which AMQP has no type for. Use text, numbers, "
        "None, lists or dicts."
    )


def _inner(table: Mapping[str, Any], depth: int) -> bytes:
    if depth >= DEPTH:
        raise EncodeError(f"headers are nested more than {DEPTH} deep")
    return b"".join([_prefix(str(name)) + _typed(value, depth + 1) for name, value in table.items()])


def _with_length(kind: bytes, raw: bytes) -> bytes:
    return kind + _pack_u32(len(raw)) + raw


def _decimal(value: Decimal) -> bytes:
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise EncodeError(f"a header holds {value}, which AMQP cannot write")
    number = int("".join(map(str, digits)) or "0") * (-1 if sign else 1) * 10 ** max(0, exponent)
    try:
        return struct.pack(">Bi", max(0, -exponent), number)
    except struct.error as exc:
        raise EncodeError(f"a header holds the decimal {value}, which has too many digits for AMQP") from exc


_prefixes: dict[str, bytes] = {}


def _prefix(name: str) -> bytes:
    """A field's name with its length; names recur, so they are made once."""
    prefix = short_text(name, "the name of a header")
    if len(_prefixes) >= _MANY:
        _prefixes.clear()
    _prefixes[name] = prefix
    return prefix


def short_text(text: str, what: str) -> bytes:
    """A short string: at most 255 bytes, its length before it.

    Raises:
        EncodeError: it is longer; `what` says what it is.
    """
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        raw = _utf8(text)
    if len(raw) > 255:
        raise EncodeError(f"{what} is longer than the 255 bytes that AMQP allows: {text[:40]!r}…")
    return OCTETS[len(raw)] + raw


_KWARGSREPR: Final = _prefix("kwargsrepr") + b"S"
