"""Compression of bodies, by kombu's names and content types.

1. `compress(body, name)`: gzip (also zlib), bzip2, lzma (also xz), zstd, brotli.
2. `decompress(body, content_type)`: with a bound on the output, so that a kilobyte which stands for a
   gigabyte is a `DecodeError` and costs no more than the bound.
3. `register`: methods of the user's own (the arguments are kombu's).

As in kombu, ``application/x-gzip`` is written as a bare zlib stream; both that and real gzip are read.
"""

from __future__ import annotations

import bz2
import functools
import lzma
import zlib
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from celeriac.exceptions import DecodeError, EncodeError, ImproperlyConfigured

__all__ = ["LIMIT", "compress", "decompress", "names", "register"]

#: Bytes that a body may have after decompression, unless the caller says otherwise.
LIMIT: Final = 256 * 1024 * 1024

_LZMA_MEMORY: Final = 256 * 1024 * 1024


class _Method(NamedTuple):
    content_type: str
    encode: Callable[[bytes], bytes]
    decode: Callable[[bytes, int], bytes]


_methods: dict[str, _Method] = {}


def _add(
    content_type: str,
    names: Iterable[str],
    encode: Callable[[bytes], bytes],
    decode: Callable[[bytes, int], bytes],
) -> None:
    method = _Method(content_type, encode, decode)
    for name in (content_type, *names):
        _methods[name] = method


def register(
    encoder: Callable[[bytes], bytes],
    decoder: Callable[[bytes], bytes],
    content_type: str,
    aliases: Iterable[str] = (),
) -> None:
    """Add a compression method.

    Args:
        encoder: bytes → compressed bytes.
        decoder: the way back; bounding its output is its own duty.
        content_type: MIME type under which it travels.
        aliases: names for `task_compression` and `compression=`.
    """
    _add(content_type, aliases, encoder, lambda body, limit: decoder(body))


def names() -> list[str]:
    """All names and content types, sorted."""
    return sorted(_methods)


def compress(body: bytes, name: str) -> tuple[bytes, str]:
    """Return the compressed body and the content type of the method.

    Raises:
        ImproperlyConfigured: there is no such method, or its library is missing.
        EncodeError: the method failed.

    Example:
        >>> compress(b"spam" * 100, "gzip")[1]
        'application/x-gzip'
    """
    method = _methods.get(name)
    if method is None:
        raise ImproperlyConfigured(f"there is no compression {name!r}; there are {', '.join(names())}")
    try:
        return method.encode(body), method.content_type
    except ImproperlyConfigured:
        raise
    except Exception as exc:  # a registered method may raise anything
        raise EncodeError(f"the compression {name!r} failed: {exc}") from exc


def decompress(body: bytes, content_type: object, limit: int = LIMIT) -> bytes:
    """Return the body as it was before `compress`.

    Args:
        body: compressed bytes.
        content_type: what the message's ``compression`` header says.
        limit: bytes that may come out.

    Raises:
        DecodeError: the method is unknown here, the bytes are damaged, or more than `limit` would come out.
    """
    method = _methods.get(content_type) if isinstance(content_type, str) else None
    if method is None:
        raise DecodeError(
            f"the body is compressed with {content_type!r:.80}, which is not known here; known are "
            f"{', '.join(names())}"
        )
    try:
        return method.decode(body, limit)
    except DecodeError:
        raise
    except Exception as exc:  # libraries raise their own errors; so does a missing one
        raise DecodeError(f"the {method.content_type} body cannot be decompressed: {exc}") from exc


def _checked(out: bytes, limit: int, *, complete: bool) -> bytes:
    if len(out) > limit:
        raise DecodeError(f"the body decompresses to more than {limit:,} bytes, which is the limit")
    if not complete:
        raise DecodeError("the compressed body is cut short")
    return out


def _gunzip(body: bytes, limit: int) -> bytes:
    stream = zlib.decompressobj(wbits=47)  # 32 + 15: zlib and gzip headers
    out = stream.decompress(body, limit + 1)
    return _checked(out, limit, complete=stream.eof)


def _bunzip(body: bytes, limit: int) -> bytes:
    stream = bz2.BZ2Decompressor()
    out = stream.decompress(body, limit + 1)
    return _checked(out, limit, complete=stream.eof)


def _unxz(body: bytes, limit: int) -> bytes:
    stream = lzma.LZMADecompressor(memlimit=_LZMA_MEMORY)
    out = stream.decompress(body, limit + 1)
    return _checked(out, limit, complete=stream.eof)


@functools.cache
def _zstandard() -> Any:
    try:
        import zstandard
    except ImportError as exc:
        raise ImproperlyConfigured(
            "the compression 'zstd' needs the zstandard package: pip install 'celeriac[zstd]'"
        ) from exc
    return zstandard


def _zstd(body: bytes) -> bytes:
    out: bytes = _zstandard().ZstdCompressor().compress(body)
    return out


def _unzstd(body: bytes, limit: int) -> bytes:
    library = _zstandard()
    size = library.frame_content_size(body)
    if size > limit:  # what a frame states it must keep to; -1: it states nothing
        raise DecodeError(f"the body decompresses to {size:,} bytes, the limit is {limit:,}")
    out: bytes = library.ZstdDecompressor(max_window_size=2**27).decompress(body, max_output_size=limit)
    return out


@functools.cache
def _brotli() -> Any:
    try:
        import brotli  # type: ignore[import-untyped]
    except ImportError as exc:
        raise ImproperlyConfigured(
            "the compression 'brotli' needs the brotli package: pip install 'celeriac[brotli]'"
        ) from exc
    if not hasattr(brotli.Decompressor, "can_accept_more_data"):
        raise ImproperlyConfigured(
            "the installed brotli cannot bound what it decompresses: pip install -U 'brotli>=1.2'"
        )
    return brotli


def _brotli_out(body: bytes) -> bytes:
    out: bytes = _brotli().compress(body)
    return out


def _brotli_in(body: bytes, limit: int) -> bytes:
    stream = _brotli().Decompressor()
    out = bytearray(stream.process(body, output_buffer_limit=limit + 1))
    while len(out) <= limit and not stream.is_finished() and not stream.can_accept_more_data():
        out += stream.process(b"", output_buffer_limit=limit + 1 - len(out))
    return _checked(bytes(out), limit, complete=stream.is_finished())


_add("application/x-gzip", ("gzip", "zlib"), zlib.compress, _gunzip)
_add("application/x-bz2", ("bzip2", "bzip", "bz2"), bz2.compress, _bunzip)
_add("application/x-lzma", ("lzma", "xz"), lzma.compress, _unxz)
_add("application/zstd", ("zstd", "zstandard"), _zstd, _unzstd)
_add("application/x-brotli", ("brotli",), _brotli_out, _brotli_in)
