"""The marks of result documents that are not written plainly.

A compressed one is Celery's: `MARK`, the method's content type, NUL, the bytes. An encrypted one is ours:
`ENCRYPTED`, or `ENCRYPTED_OPEN` when more states of the task will follow, and what the user's codec made.

1. `packed(document, method)`: compressed, if that makes it smaller.
2. `unpacked(document)`: the way back, of any method; what has no mark stays as it is. So results that were
   stored before `result_compression` was set, or are stored by others, are read.
"""

from __future__ import annotations

from typing import Final

from celeriac.exceptions import DecodeError
from celeriac.wire import compression

__all__ = ["ENCRYPTED", "ENCRYPTED_OPEN", "MARK", "packed", "unpacked"]

#: No serializer's bytes begin so.
MARK: Final = b"\0celery-compressed\0"
ENCRYPTED: Final = b"\0celeriac-encrypted\0"
ENCRYPTED_OPEN: Final = b"\0celeriac-encrypted-open\0"


def packed(document: bytes, method: str | None) -> bytes:
    """Raises `ImproperlyConfigured`: there is no such method, or its library is missing.

    Example:
        >>> packed(b"spam" * 100, "gzip")[1:37]
        b'celery-compressed\\x00application/x-gzip'
        >>> packed(b"spam", "gzip"), packed(b"spam", None)
        (b'spam', b'spam')
    """
    if not method or document.startswith(MARK):
        return document
    body, content_type = compression.compress(document, method)
    small = b"".join((MARK, content_type.encode(), b"\0", body))
    return small if len(small) < len(document) else document


def unpacked(document: bytes) -> bytes:
    """Raises `DecodeError`: the method is unknown here, or the bytes are damaged.

    Example:
        >>> unpacked(packed(b"spam" * 100, "gzip")) == b"spam" * 100
        True
    """
    if not document.startswith(MARK):
        return document
    kind, found, body = document[len(MARK) :].partition(b"\0")
    if not found:
        raise DecodeError("a compressed result has no content type")
    return compression.decompress(body, kind.decode("ascii", "replace"))
