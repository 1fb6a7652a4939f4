"""Names that messages need of the process that writes them.

1. `uuid`: a random id in the form of a UUID 4, at a fifth of the standard library's price.
2. `origin`: the process that published.
"""

from __future__ import annotations

import os
import socket

__all__ = ["origin", "uuid"]

_VARIANT = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))
_urandom = os.urandom
_getpid = os.getpid

_origin = ""
_origin_pid = 0


def uuid() -> str:
    """Return a new random id, as ``str(uuid.uuid4())`` would.

    Example:
        >>> len(uuid()), uuid()[14]
        (36, '4')
    """
    digits = _urandom(16).hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{_VARIANT[digits[16]]}{digits[17:20]}-{digits[20:]}"


def origin() -> str:
    """Return ``gen<pid>@<host>`` for this process; a forked child gets its own."""
    global _origin, _origin_pid
    pid = _getpid()
    if pid != _origin_pid:
        _origin = f"gen{pid}@{socket.gethostname()}"
        _origin_pid = pid
    return _origin
