"""Serializers by name and by content type: what turns a body into bytes and back.

1. The registry: json, msgpack, yaml, pickle, and what `register` adds (the arguments are kombu's).
2. `dumps(value, name)` and `loads(raw, content_type, …, accept)`. What `accept` does not name is not read;
   whatever bytes or a foreign codec do, the errors are `EncodeError`, `DecodeError`, `ContentDisallowed`.
3. `content_types`: the setting `accept_content` as content types.

pickle runs code of the sender's choice when it is read. It is here for those who ask for it on both ends:
nothing accepts it unless `accept` says so.

Not here: JSON itself (`json.py`), compression (`compression.py`).
"""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from celeriac.exceptions import ContentDisallowed, DecodeError, EncodeError, ImproperlyConfigured
from celeriac.wire import json

__all__ = [
    "JSON",
    "Serializer",
    "content_types",
    "dumps",
    "find",
    "loads",
    "names",
    "register",
    "unregister",
]

#: The content type of JSON.
JSON: Final = "application/json"

#: The most elements that a YAML document may stand for once its aliases are written out.
YAML_LIMIT: Final = 1_000_000


#: Content encodings that peers state. A fixed list: looking a codec up by a foreign name would import it.
_ENCODINGS: Final = frozenset(
    {"utf-8", "utf8", "ascii", "us-ascii", "latin-1", "iso-8859-1", "binary", "ascii-8bit", "base64"}
)


class Serializer(NamedTuple):
    """One entry of the registry. `encode` returns bytes or text; `decode` is given bytes."""

    name: str
    content_type: str
    content_encoding: str
    encode: Callable[[Any], bytes | str] | None
    decode: Callable[[bytes], Any] | None


_by_name: dict[str, Serializer] = {}
_by_type: dict[str, Serializer] = {}


def register(
    name: str,
    encoder: Callable[[Any], bytes | str] | None,
    decoder: Callable[[bytes], Any] | None,
    content_type: str,
    content_encoding: str = "utf-8",
) -> None:
    """Add or replace a serializer. Consumers read it only when `accept_content` names it.

    Args:
        name: what `task_serializer`, `result_serializer` and `serializer=` call it.
        encoder: value → bytes or text; None if this process only reads it.
        decoder: bytes → value; None if this process only writes it.
        content_type: MIME type under which it travels.
        content_encoding: ``utf-8`` or ``binary``.

    Example:
        >>> register("lines", "\\n".join, lambda raw: raw.decode().split("\\n"), "text/x-lines")
        >>> dumps(["a", "b"], "lines")
        ('text/x-lines', 'utf-8', b'a\\nb')
        >>> unregister("lines")
    """
    serializer = Serializer(name, content_type, content_encoding, encoder, decoder)
    _by_name[name] = serializer
    _by_type[content_type] = serializer


def unregister(name: str) -> None:
    """Remove a serializer.

    Raises:
        ImproperlyConfigured: there is none of that name.
    """
    serializer = find(name)
    del _by_name[serializer.name]
    _by_type.pop(serializer.content_type, None)


def names() -> list[str]:
    """All registered names, sorted."""
    return sorted(_by_name)


def find(name: str) -> Serializer:
    """Return the serializer called `name` (a content type will do as well).

    Raises:
        ImproperlyConfigured: there is none; the message lists those there are.
    """
    serializer = _by_name.get(name) or _by_type.get(name)
    if serializer is None:
        raise ImproperlyConfigured(
            f"there is no serializer {name!r}; registered are {', '.join(names())}. Choose one of them, or "
            "register yours with celeriac.wire.serialization.register()"
        )
    return serializer


def content_types(accept: Iterable[str]) -> frozenset[str]:
    """Return the content types of `accept`, which may hold names as well as content types.

    Raises:
        ImproperlyConfigured: a name is not registered.

    Example:
        >>> sorted(content_types(["json", "application/x-yaml"]))
        ['application/json', 'application/x-yaml']
    """
    return frozenset(entry if "/" in entry else find(entry).content_type for entry in accept)


def dumps(value: Any, name: str = "json") -> tuple[str, str, bytes]:
    """Return `(content_type, content_encoding, bytes)`.

    Raises:
        EncodeError: the serializer cannot write the value.
        ImproperlyConfigured: there is no such serializer, or its library is missing.
    """
    if name == "json":
        return JSON, "utf-8", json.dumps(value)
    serializer = find(name)
    if serializer.encode is None:
        raise EncodeError(f"the serializer {name!r} was registered for reading only (no encoder)")
    try:
        raw = serializer.encode(value)
        if isinstance(raw, str):
            raw = raw.encode("utf-8")
    except (EncodeError, ImproperlyConfigured):
        raise
    except Exception as exc:  # codecs and the values' own hooks raise anything
        raise EncodeError(f"{name} cannot write the value: {type(exc).__name__}: {exc}") from exc
    return serializer.content_type, serializer.content_encoding, raw


def loads(raw: bytes, content_type: str, content_encoding: str, accept: frozenset[str]) -> Any:
    """Return the value that `raw` holds.

    Args:
        raw: the bytes, decompressed.
        content_type: MIME type, as the message states it.
        content_encoding: as the message states it; it must be a known one; the codecs know theirs.
        accept: the content types that may be read.

    Raises:
        ContentDisallowed: `accept` does not name `content_type`.
        DecodeError: the bytes are not what they claim to be, or cannot be read here.
    """
    if content_type not in accept:
        known = _by_type.get(content_type)
        name = known.name if known else content_type
        raise ContentDisallowed(
            f"refusing to read content of type {content_type!r:.80}: accept_content allows "
            f"{', '.join(sorted(accept)) or 'nothing'}. To read it, add {name!r:.80} to accept_content"
        )
    if content_encoding != "utf-8" and content_encoding:
        _check_encoding(content_encoding, content_type)
    if content_type == JSON:
        return json.loads(raw)
    serializer = _by_type.get(content_type)
    if serializer is None or serializer.decode is None:
        raise DecodeError(
            f"no decoder is registered for content of type {content_type!r:.80}; register one with "
            "celeriac.wire.serialization.register()"
        )
    try:
        return serializer.decode(raw)
    except DecodeError:
        raise
    except Exception as exc:  # codecs raise anything; so does unpickling, and a missing library
        raise DecodeError(f"{serializer.name} cannot read the bytes: {type(exc).__name__}: {exc}") from exc


def _check_encoding(content_encoding: str, content_type: str) -> None:
    if content_encoding.lower() in _ENCODINGS:
        return
    serializer = _by_type.get(content_type)
    if serializer is None or content_encoding != serializer.content_encoding:
        raise DecodeError(f"the content encoding {content_encoding!r:.80} is not known")


# -- msgpack ----------------------------------------------------------------------------------------------


@functools.cache
def _msgpack() -> Any:
    try:
        import msgpack  # type: ignore[import-untyped]
    except ImportError as exc:
        raise ImproperlyConfigured(
            "the serializer 'msgpack' needs the msgpack package: pip install 'celeriac[msgpack]'"
        ) from exc
    return msgpack


def _msgpack_out(value: Any) -> bytes:
    packed: bytes = _msgpack().packb(value, use_bin_type=True)
    return packed


def _msgpack_in(raw: bytes) -> Any:
    # unpackb bounds every claimed length by the bytes that are there, and the nesting by a fixed stack
    return _msgpack().unpackb(raw, raw=False)


# -- yaml -------------------------------------------------------------------------------------------------


@functools.cache
def _yaml() -> Any:
    try:
        import yaml  # type: ignore[import-untyped]
    except ImportError as exc:
        raise ImproperlyConfigured(
            "the serializer 'yaml' needs the PyYAML package: pip install 'celeriac[yaml]'"
        ) from exc
    return yaml


@functools.cache
def _yaml_loader() -> Any:
    """PyYAML's safe loader without merge keys: nested, they multiply, and no serializer writes them."""
    base: Any = _yaml().SafeLoader

    class Loader(base):  # type: ignore[misc]
        def flatten_mapping(self, node: Any) -> None:
            if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
                raise DecodeError("the YAML holds a merge key (<<), which a task message may not")
            super().flatten_mapping(node)

    return Loader


def _yaml_out(value: Any) -> str:
    text: str = _yaml().safe_dump(value)
    return text


def _yaml_in(raw: bytes) -> Any:
    value = _yaml().load(raw, Loader=_yaml_loader())
    if b"*" in raw:
        _refuse_expansion(value)
    return value


def _refuse_expansion(value: Any) -> None:
    """Raise when aliases make `value` endless or huge: a few lines can stand for billions of elements."""
    seen = 0
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            pending.extend(item.values())
            seen += len(item)
        elif isinstance(item, (list, tuple)):
            pending.extend(item)
            seen += len(item)
        if seen > YAML_LIMIT:
            raise DecodeError(f"the YAML's aliases stand for more than {YAML_LIMIT:,} elements")


# -- pickle -----------------------------------------------------------------------------------------------


def _pickle_out(value: Any) -> bytes:
    return pickle.dumps(value, protocol=4)


register("json", json.dumps, json.loads, JSON, "utf-8")
register("msgpack", _msgpack_out, _msgpack_in, "application/x-msgpack", "binary")
register("yaml", _yaml_out, _yaml_in, "application/x-yaml", "utf-8")
register("pickle", _pickle_out, pickle.loads, "application/x-python-serialize", "binary")
