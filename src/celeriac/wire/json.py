"""JSON as Celery's peers write and read it. The only module that imports msgspec.

1. `dumps`: Celery's bytes (separators, ASCII escapes) and kombu's dialect: what JSON lacks becomes
   ``{"__type__": …, "__value__": …}``.
2. `loads`: msgspec on the fast path; the standard library for what msgspec refuses and Python accepts (NaN,
   lone surrogates). `revive` turns dialect objects back into values. Whatever the bytes are, the only
   exception is `DecodeError`.
3. `encode_envelope` and `decode_envelope`: the same for the envelope of the virtual transports.
4. `register_type`: types of the user's own, under the name that kombu gives this function.

| value                                            | written as                       | read back as      |
|--------------------------------------------------|----------------------------------|-------------------|
| datetime, date, time, Decimal, UUID              | dialect                          | the same type     |
| bytes, bytearray, memoryview                     | dialect, text or base64          | bytes             |
| tuple, named tuple, set, frozenset               | array (a Celery peer reads it)   | list              |
| enumeration that is also a str or a number       | its value                        | its value         |
| object with ``__json__()``; lazy text of Django  | what ``__json__`` returns; text  | that              |
| anything else (timedelta and plain Enum as well) | refused: `EncodeError`           |                   |

Not here: the choice of a serializer (`serialization.py`), what envelopes mean (`virtual.py`).
"""

from __future__ import annotations

import base64
import json
import json.encoder
import sys
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Final, TypeVar

import msgspec

from celeriac.exceptions import DecodeError, EncodeError

__all__ = [
    "Envelope",
    "PlainEnvelope",
    "compact",
    "decode_envelope",
    "decode_plain_envelope",
    "dumps",
    "dumps_text",
    "encode_envelope",
    "loads",
    "loads_plain",
    "plain",
    "quote",
    "register_type",
    "revive",
    "split_chain",
    "unregister_type",
]

T = TypeVar("T")

_MARK: Final = b'"__type__"'
_MARK_TEXT: Final = '"__type__"'
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
_DIALECT_KEYS: Final = {"__type__", "__value__"}


# -- the dialect ------------------------------------------------------------------------------------------


def _bytes_out(value: bytes | bytearray | memoryview) -> dict[str, Any]:
    raw = bytes(value)
    try:
        return {"__type__": "bytes", "__value__": raw.decode("utf-8")}
    except UnicodeDecodeError:
        return {"__type__": "base64", "__value__": base64.b64encode(raw).decode("ascii")}


def _uuid_in(value: dict[str, Any]) -> uuid.UUID:
    return uuid.UUID(hex=value["hex"])  # kombu once wrote a "version" beside it: it follows from the digits


def _decimal_in(value: str) -> Decimal:
    if not isinstance(value, str):
        raise TypeError("a decimal must be text")
    return Decimal(value)


#: type -> (marker, encoder); datetime stands before date, because a datetime is a date.
_encoders: dict[type, tuple[str, Callable[[Any], Any]]] = {
    datetime: ("datetime", datetime.isoformat),
    date: ("date", date.isoformat),
    time: ("time", time.isoformat),
    Decimal: ("decimal", str),
    uuid.UUID: ("uuid", lambda value: {"hex": value.hex}),
}
_decoders: dict[str, Callable[[Any], Any]] = {
    "datetime": datetime.fromisoformat,
    "date": lambda value: datetime.fromisoformat(value).date(),
    "time": time.fromisoformat,
    "decimal": _decimal_in,
    "uuid": _uuid_in,
    "bytes": lambda value: value.encode("utf-8"),
    "base64": lambda value: base64.b64decode(value, validate=True),
}


def register_type(t: type[T], marker: str, encoder: Callable[[T], Any], decoder: Callable[[Any], T]) -> None:
    """Teach the dialect a type; both ends of the wire must know it.

    Args:
        t: the type; its subclasses are written the same way.
        marker: the name under which values travel.
        encoder: returns what JSON can hold (or the dialect can write).
        decoder: the way back; whatever it raises is reported as a `DecodeError`.

    Example:
        >>> register_type(complex, "complex", lambda c: [c.real, c.imag], lambda v: complex(*v))
        >>> dumps(1j)
        b'{"__type__": "complex", "__value__": [0.0, 1.0]}'
        >>> loads(dumps(1j))
        1j
        >>> unregister_type(complex)
    """
    _encoders[t] = (marker, encoder)
    _decoders[marker] = decoder


def unregister_type(t: type) -> None:
    """Forget a type that `register_type` was given; unknown ones are ignored."""
    entry = _encoders.pop(t, None)
    if entry is not None:
        _decoders.pop(entry[0], None)


def _is_lazy_text(value: object) -> bool:
    """True for the lazy strings of Django, which is asked only when somebody else has imported it."""
    django = sys.modules.get("django.utils.functional")
    return django is not None and isinstance(value, django.Promise)


def _default(value: Any) -> Any:
    """What the C encoder calls for a value that JSON does not know."""
    entry = _encoders.get(type(value))
    if entry is None:
        reduce = getattr(value, "__json__", None)
        if reduce is not None:
            return reduce()
        if isinstance(value, (set, frozenset)):
            return list(value)
        if isinstance(value, (bytes, bytearray, memoryview)):
            return _bytes_out(value)
        if _is_lazy_text(value):
            return str(value)
        entry = next((entry for kind, entry in _encoders.items() if isinstance(value, kind)), None)
    if entry is None:
        kind = type(value)
        raise EncodeError(
            f"JSON cannot hold an object of type {kind.__module__}.{kind.__qualname__}. Pass plain values "
            "(text, numbers, lists, dicts, datetime, Decimal, UUID, bytes), give the class a __json__() "
            "method, call celeriac.wire.json.register_type(), or choose another serializer."
        )
    return {"__type__": entry[0], "__value__": entry[1](value)}


# -- writing ----------------------------------------------------------------------------------------------

#: A text as a JSON string literal, ASCII only.
quote: Final[Callable[[str], str]] = json.encoder.encode_basestring_ascii


def _make_chunks() -> Callable[[Any, int], Iterable[str]]:
    """The C encoder, made once: `json.dumps` makes one per call. Cycles end as RecursionError."""
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:  # an interpreter without the accelerator
        encode = json.JSONEncoder(default=_default, check_circular=False).encode
        return lambda value, _level: (encode(value),)
    chunks: Callable[[Any, int], Iterable[str]] = make(
        None, _default, quote, None, ": ", ", ", False, False, True
    )
    return chunks


_chunks: Final = _make_chunks()


def dumps_text(value: Any) -> str:
    """`dumps` as text (ASCII only), for callers that put documents together.

    Raises:
        EncodeError: a value cannot be written; the message names its type.
    """
    try:
        return "".join(_chunks(value, 0))
    except EncodeError:
        raise
    except RecursionError as exc:
        raise EncodeError(
            "the value contains itself, or is nested too deeply for JSON; pass a flat value"
        ) from exc
    except Exception as exc:  # a foreign __json__ or encoder may raise anything
        raise EncodeError(f"the value cannot be written as JSON: {exc}") from exc


def dumps(value: Any) -> bytes:
    """Write `value` as Celery's JSON.

    Raises:
        EncodeError: a value cannot be written; the message names its type.

    Example:
        >>> dumps([1, {"day": date(2030, 1, 1)}])
        b'[1, {"day": {"__type__": "date", "__value__": "2030-01-01"}}]'
    """
    return dumps_text(value).encode("ascii")


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy that every transport can carry: what JSON lacks is put into its dialect.

    Raises:
        EncodeError: a value cannot be written.

    Example:
        >>> plain({"day": date(2030, 1, 1)})
        {'day': {'__type__': 'date', '__value__': '2030-01-01'}}
    """
    if all(type(value) in _SCALARS for value in values.values()):
        return dict(values)
    copy: dict[str, Any] = loads_plain(dumps(dict(values)))
    return copy


# -- reading ----------------------------------------------------------------------------------------------

_decode: Final[Callable[[Any], Any]] = msgspec.json.Decoder().decode


def _too_deep(exc: RecursionError) -> DecodeError:
    return DecodeError(f"the JSON is nested too deeply: {exc}")


def _revive_object(value: dict[str, Any]) -> Any:
    if len(value) != 2 or value.keys() != _DIALECT_KEYS:
        return value
    marker = value["__type__"]
    decoder = _decoders.get(marker) if isinstance(marker, str) else None
    if decoder is None:
        raise DecodeError(
            f"the JSON holds an object of the unknown type {marker!r:.80}; register it in this process with "
            "celeriac.wire.json.register_type()"
        )
    try:
        return decoder(value["__value__"])
    except Exception as exc:  # the decoder may be the user's, and the value is anybody's
        raise DecodeError(f"the JSON holds a {marker} that cannot be read: {exc}") from exc


_decode_reviving: Final = json.JSONDecoder(object_hook=_revive_object).decode


def _standard(raw: bytes | bytearray | memoryview | str, decode: Callable[[str], Any]) -> Any:
    """The standard library's reading; any failure is a DecodeError."""
    try:
        return decode(raw if isinstance(raw, str) else str(raw, "utf-8"))
    except DecodeError:
        raise
    except RecursionError as exc:
        raise _too_deep(exc) from exc
    except ValueError as exc:  # not JSON, not UTF-8, or an integer of more digits than Python converts
        raise DecodeError(f"not JSON: {exc}") from exc


def loads_plain(raw: bytes | bytearray | memoryview | str) -> Any:
    """Read JSON and leave dialect objects as they stand.

    Raises:
        DecodeError: for anything that is not JSON, and for nesting beyond Python's recursion limit.
    """
    try:
        return _decode(raw)
    except RecursionError as exc:
        raise _too_deep(exc) from exc
    except ValueError:  # msgspec's errors are ValueErrors
        return _standard(raw, json.loads)


def loads(raw: bytes | bytearray | memoryview | str) -> Any:
    """Read JSON; dialect objects come back as values.

    Raises:
        DecodeError: for anything that is not JSON, for nesting beyond Python's recursion limit, and for
            dialect objects of an unknown type.

    Example:
        >>> loads(b'{"day": {"__type__": "date", "__value__": "2030-01-01"}}')
        {'day': datetime.date(2030, 1, 1)}
    """
    if isinstance(raw, str):
        marked = _MARK_TEXT in raw
    else:
        marked = _MARK in (raw if type(raw) is bytes else bytes(raw))
    if marked:
        return _standard(raw, _decode_reviving)
    try:
        return _decode(raw)
    except (ValueError, RecursionError):
        return loads_plain(raw)  # says what is wrong with it, or reads it more leniently


class _Chained(msgspec.Struct, gc=False):
    """What follows a call, not read; other keys are nobody's."""

    chain: list[msgspec.Raw]
    callbacks: msgspec.Raw = msgspec.Raw(b"null")
    errbacks: msgspec.Raw = msgspec.Raw(b"null")
    chord: msgspec.Raw = msgspec.Raw(b"null")


_decode_chained: Final = msgspec.json.Decoder(tuple[msgspec.Raw, msgspec.Raw, _Chained]).decode


def split_chain(raw: bytes) -> tuple[Any, Any, dict[str, Any], Sequence[Any]] | None:
    """Read a task's body (``[args, kwargs, {"chain": […], …}]``) but for its chain.

    Returns args, kwargs, callbacks and errbacks and chord, and the JSON of each step. None: it has to be read
    as a whole, because it is none, or the dialect is in it, so that steps may turn out to be unreadable.
    """
    if _MARK in raw or not raw.isascii():
        return None
    try:
        args, kwargs, follows = _decode_chained(raw)
        rest = {name: _decode(getattr(follows, name)) for name in ("callbacks", "errbacks", "chord")}
        return _decode(args), _decode(kwargs), rest, follows.chain
    except (ValueError, RecursionError):
        return None


def revive(value: Any) -> Any:
    """Return `value` (plain, as `loads_plain` gives it) with dialect objects turned into values.

    Raises:
        DecodeError: a dialect object of an unknown type, or nesting beyond Python's recursion limit.
    """
    try:
        return _revive(value)
    except RecursionError as exc:
        raise _too_deep(exc) from exc


def _revive(value: Any) -> Any:
    if isinstance(value, dict):
        return _revive_object({key: _revive(item) for key, item in value.items()})
    if isinstance(value, list):
        return [_revive(item) for item in value]
    return value


# -- envelopes --------------------------------------------------------------------------------------------


class Envelope(msgspec.Struct, gc=False):
    """The virtual transports' envelope; `body` travels as base64."""

    body: bytes
    content_encoding: str = msgspec.field(name="content-encoding")
    content_type: str = msgspec.field(name="content-type")
    headers: dict[str, Any] | None
    properties: dict[str, Any]


class PlainEnvelope(msgspec.Struct, gc=False):
    """The same with a body that is not base64, or not yet known to be."""

    body: str
    content_encoding: str = msgspec.field(name="content-encoding")
    content_type: str = msgspec.field(name="content-type")
    properties: dict[str, Any]
    headers: dict[str, Any] | None = None


#: A plain value as envelopes hold it: no spaces, UTF-8. Raises ValueError and the like beyond its limits.
compact: Final[Callable[[Any], bytes]] = msgspec.json.Encoder().encode
_decode_envelope: Final = msgspec.json.Decoder(Envelope).decode
_decode_plain_envelope: Final = msgspec.json.Decoder(PlainEnvelope).decode


def encode_envelope(
    body: bytes, content_type: str, content_encoding: str, headers: dict[str, Any], properties: dict[str, Any]
) -> bytes:
    """Write an envelope with the body in base64. Headers and properties hold plain JSON values.

    Raises:
        EncodeError: a header or property cannot be written.
    """
    try:
        return compact(Envelope(body, content_encoding, content_type, headers, properties))
    except (TypeError, ValueError, OverflowError, RecursionError):
        # msgspec's limits are narrower than JSON's: integers beyond 64 bits, lone surrogates, own types
        return dumps(
            {
                "body": base64.b64encode(body).decode("ascii"),
                "content-encoding": content_encoding,
                "content-type": content_type,
                "headers": headers,
                "properties": properties,
            }
        )


def decode_envelope(raw: bytes) -> Envelope:
    """Read an envelope whose body is base64, the common case, in one pass.

    Raises:
        ValueError, RecursionError: it is no such envelope; `decode_plain_envelope` says what is wrong.
    """
    return _decode_envelope(raw)


def decode_plain_envelope(raw: bytes) -> PlainEnvelope:
    """Read an envelope and leave the body as the text it is.

    Raises:
        DecodeError: not an envelope; the message says why.
    """
    try:
        return _decode_plain_envelope(raw)
    except RecursionError as exc:
        raise _too_deep(exc) from exc
    except ValueError:
        value = _standard(raw, json.loads)
    try:
        return msgspec.convert(value, PlainEnvelope)
    except (ValueError, RecursionError) as exc:
        raise DecodeError(f"not a message envelope: {exc}") from exc
