"""Serializers and compression: the gate, the errors, the bombs."""

from __future__ import annotations

import bz2
import gzip
import lzma
import pickle
import sys
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import brotli
import pytest
import zstandard

from celeriac.exceptions import ContentDisallowed, DecodeError, EncodeError, ImproperlyConfigured
from celeriac.wire import compression, serialization

TYPES = {
    "json": "application/json",
    "msgpack": "application/x-msgpack",
    "pickle": "application/x-python-serialize",
    "yaml": "application/x-yaml",
}
METHODS = ["gzip", "bzip2", "lzma", "zstd", "brotli"]


def loads(raw: bytes, name: str) -> Any:
    return serialization.loads(raw, TYPES[name], "", frozenset({TYPES[name]}))


@pytest.mark.parametrize("name", TYPES)
def test_round_trip(name: str) -> None:
    value = {"a": [1, 2.5, None, True, "é"], "b": {"c": []}}
    content_type, _, raw = serialization.dumps(value, name)
    assert content_type == TYPES[name]
    assert loads(raw, name) == value


@pytest.mark.parametrize("name", TYPES)
def test_what_accept_does_not_name_is_refused_with_the_remedy(name: str) -> None:
    _, encoding, raw = serialization.dumps([1], name)
    others = frozenset(TYPES.values()) - {TYPES[name]}
    with pytest.raises(ContentDisallowed, match=f"add '{name}' to accept_content"):
        serialization.loads(raw, TYPES[name], encoding, others)


def test_pickle_runs_nothing_unless_accepted() -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return pytest.fail, ("unpickled",)

    with pytest.raises(ContentDisallowed):
        serialization.loads(pickle.dumps(Trap()), TYPES["pickle"], "binary", frozenset({"application/json"}))


def test_accept_holds_names_and_content_types() -> None:
    assert serialization.content_types(["json", "text/x-mine"]) == {"application/json", "text/x-mine"}
    with pytest.raises(ImproperlyConfigured, match=r"jsno.*registered are json, msgpack"):
        serialization.content_types(["jsno"])


class Reduces:
    def __reduce__(self) -> tuple[Any, ...]:
        raise SystemError("cannot")


@pytest.mark.parametrize("name", TYPES)
def test_what_cannot_be_written_is_an_encode_error(name: str) -> None:
    with pytest.raises(EncodeError):
        serialization.dumps([Reduces()], name)


ENDLESS = b"&a [*a]"
LAUGHS = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (98 + n, 98 + n, b",".join([b"*%c" % (97 + n)] * 9)) for n in range(9)
)


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("yaml", ENDLESS),
        ("yaml", LAUGHS),
        ("yaml", b"[" * 3000),
        ("yaml", b"- " * 3000),
        ("yaml", b"!!python/object/apply:os.system ['true']"),
        ("yaml", b"a: &a {x: 1}\nb: {<<: [*a, *a]}"),
        ("yaml", b"\x00"),
        ("yaml", b"2001-99-99"),
        ("msgpack", b""),
        ("msgpack", b"\xc1"),
        ("msgpack", b"\xdd\xff\xff\xff\xff"),
        ("msgpack", b"\x91" * 200_000),
        ("msgpack", b"\xc6\xff\xff\xff\xff"),
        ("msgpack", b"\x81\xa1\xff\x01"),
        ("pickle", b""),
        ("pickle", b"garbage"),
        ("json", b"nope"),
    ],
    ids=lambda value: str(value[:20]),
)
def test_bad_bytes_are_decode_errors_and_quick(name: str, raw: bytes) -> None:
    start = time.process_time()
    with pytest.raises(DecodeError):
        loads(raw, name)
    assert time.process_time() - start < 5


def test_aliases_within_reason_are_read() -> None:
    shared = [1, 2]
    raw = serialization.dumps([shared, shared], "yaml")[2]
    assert b"*" in raw
    assert loads(raw, "yaml") == [[1, 2], [1, 2]]


def test_registered_serializers() -> None:
    serialization.register(
        "upper", lambda value: value.upper(), lambda raw: raw.decode(), "text/x-upper", "ascii"
    )
    try:
        assert serialization.dumps("a", "upper") == ("text/x-upper", "ascii", b"A")
        assert (
            serialization.loads(b"A", "text/x-upper", "ascii", serialization.content_types(["upper"])) == "A"
        )
        assert "upper" in serialization.names()
        with pytest.raises(EncodeError, match="upper"):
            serialization.dumps(7, "upper")
        with pytest.raises(DecodeError, match="upper"):
            serialization.loads(b"\xff", "text/x-upper", "ascii", frozenset({"text/x-upper"}))
    finally:
        serialization.unregister("upper")
    with pytest.raises(ImproperlyConfigured, match="no serializer 'upper'"):
        serialization.unregister("upper")


def test_one_way_serializers_say_so() -> None:
    serialization.register("out", lambda value: b"", None, "text/x-out")
    serialization.register("in", None, lambda raw: 1, "text/x-in")
    try:
        with pytest.raises(EncodeError, match="reading only"):
            serialization.dumps(1, "in")
        with pytest.raises(DecodeError, match="no decoder"):
            serialization.loads(b"", "text/x-out", "utf-8", frozenset({"text/x-out"}))
    finally:
        serialization.unregister("out")
        serialization.unregister("in")


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Make a library look as if it were not installed."""
    cached = [serialization._msgpack, serialization._yaml, compression._zstandard, compression._brotli]

    def hide(library: str) -> None:
        monkeypatch.setitem(sys.modules, library, None)
        for function in cached:
            function.cache_clear()

    yield hide
    for function in cached:
        function.cache_clear()


@pytest.mark.parametrize(
    ("library", "extra", "write"),
    [
        ("msgpack", "msgpack", lambda: serialization.dumps(1, "msgpack")),
        ("yaml", "yaml", lambda: serialization.dumps(1, "yaml")),
        ("zstandard", "zstd", lambda: compression.compress(b"", "zstd")),
        ("brotli", "brotli", lambda: compression.compress(b"", "brotli")),
    ],
)
def test_a_missing_library_names_the_extra(
    without: Callable[[str], None], library: str, extra: str, write: Callable[[], Any]
) -> None:
    without(library)
    with pytest.raises(ImproperlyConfigured, match=rf"celeriac\[{extra}\]"):
        write()


def test_a_missing_library_is_a_decode_error_for_who_reads(without: Callable[[str], None]) -> None:
    without("msgpack")
    without("zstandard")
    with pytest.raises(DecodeError, match=r"celeriac\[msgpack\]"):
        loads(b"\x01", "msgpack")
    with pytest.raises(DecodeError, match=r"celeriac\[zstd\]"):
        compression.decompress(b"x", "application/zstd")


# -- compression ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("body", [b"", b"x", b"spam" * 10_000], ids=["empty", "short", "long"])
def test_compression_round_trip(name: str, body: bytes) -> None:
    packed, content_type = compression.compress(body, name)
    assert content_type.startswith("application/")
    assert compression.decompress(packed, content_type) == body
    assert compression.decompress(packed, name, limit=len(body)) == body


@pytest.mark.parametrize("name", METHODS)
def test_damaged_bodies_are_decode_errors(name: str) -> None:
    packed, content_type = compression.compress(bytes(range(256)) * 40, name)
    for damaged in (b"", packed[:-5], packed[:5], b"junk" + packed):
        with pytest.raises(DecodeError):
            compression.decompress(damaged, content_type)


BOMBS = {
    "gzip": zlib.compress(bytes(8 << 20)),
    "bzip2": bz2.compress(bytes(8 << 20)),
    "lzma": lzma.compress(bytes(8 << 20), preset=0),
    "zstd": zstandard.compress(bytes(8 << 20)),
    "brotli": brotli.compress(bytes(8 << 20), quality=1),
}


@pytest.mark.parametrize("name", METHODS)
def test_bombs_are_refused_at_the_limit(name: str) -> None:
    with pytest.raises(DecodeError, match="1,048,576"):
        compression.decompress(BOMBS[name], name, limit=1 << 20)
    assert len(compression.decompress(BOMBS[name], name, limit=8 << 20)) == 8 << 20


def test_a_zstd_frame_without_a_size_is_bounded_too() -> None:
    packed = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1 << 20))
    assert compression.decompress(packed, "zstd") == bytes(1 << 20)
    with pytest.raises(DecodeError):
        compression.decompress(packed, "zstd", limit=1000)


def test_a_bomb_costs_no_more_than_the_limit() -> None:
    stream = zlib.compressobj()
    zeros = bytes(1 << 20)
    packed = b"".join([*(stream.compress(zeros) for _ in range(256)), stream.flush()])
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError, match="limit"):
            compression.decompress(packed, "gzip", limit=8 << 20)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 32 << 20


def test_real_gzip_is_read_under_kombus_name() -> None:
    assert compression.decompress(gzip.compress(b"spam"), "application/x-gzip") == b"spam"


def test_unknown_methods() -> None:
    with pytest.raises(ImproperlyConfigured, match="gzip"):
        compression.compress(b"", "rar")
    for name in ("rar", None, ["gzip"], 7):
        with pytest.raises(DecodeError, match="not known"):
            compression.decompress(b"", name)


def test_registered_methods() -> None:
    compression.register(lambda body: body[::-1], lambda body: body[::-1], "application/x-back", ["back"])
    try:
        assert compression.compress(b"ab", "back") == (b"ba", "application/x-back")
        assert compression.decompress(b"ba", "application/x-back") == b"ab"
    finally:
        for name in ("back", "application/x-back"):
            del compression._methods[name]
