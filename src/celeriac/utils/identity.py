"""Names that messages need: of calls, of deliveries, and of the process that writes them.

1. `uuid`: a random id in the form of a UUID 4, at a fifth of the standard library's price; `uuids`: many,
   from one read of the system's randomness.
2. `delivery_tag`, `tagged_at`: the id of one message, which tells when it was made; `delivery_tags`: of many;
   `successor`: of its copy.
3. `origin`: the process that published.
"""

from __future__ import annotations

import itertools
import os
import socket
import time
from collections.abc import Iterator
from hashlib import blake2b

__all__ = ["delivery_tag", "delivery_tags", "origin", "successor", "tagged_at", "uuid", "uuids"]

_VARIANT = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))
#: Ids of one read.
_AT_ONCE = 4096
#: The form of an id and where its digits stand; what version and variant make of a random byte.
_FORM = b"00000000-0000-0000-0000-000000000000 "
_DIGITS = [place for place, char in enumerate(_FORM) if char == ord("0")]
_TO_VERSION = bytes(0x40 | (byte & 0x0F) for byte in range(256))
_TO_VARIANT = bytes(0x80 | (byte & 0x3F) for byte in range(256))
_urandom = os.urandom
_getpid = os.getpid

_time_ns = time.time_ns
_counter = itertools.count()
_salt = ""
_salt_pid = 0
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


def uuids(n: int) -> Iterator[str]:
    """Yield `n` new random ids, as `uuid` makes them.

    Example:
        >>> [len(id) for id in uuids(2)]
        [36, 36]
    """
    for start in range(0, n, _AT_ONCE):
        some = min(_AT_ONCE, n - start)
        raw = bytearray(_urandom(16 * some))
        raw[6::16] = raw[6::16].translate(_TO_VERSION)
        raw[8::16] = raw[8::16].translate(_TO_VARIANT)
        digits = raw.hex().encode()
        text = bytearray(_FORM * some)
        for at, place in enumerate(_DIGITS):  # one digit of all ids at a time
            text[place :: len(_FORM)] = digits[at::32]
        yield from text.decode("ascii").split()


def delivery_tag() -> str:
    """Return a new id (UUID version 7) that tells when it was made: see `tagged_at`.

    Cheaper than `uuid`: random once per process, then counted.

    Example:
        >>> abs(tagged_at(delivery_tag()) - time.time()) < 1
        True
    """
    global _salt, _salt_pid
    pid = _getpid()
    if pid != _salt_pid:
        _salt = _urandom(6).hex()[:11]
        _salt_pid = pid
    ms = f"{_time_ns() // 1_000_000:012x}"
    count = f"{next(_counter) & 0xFFFFFFF:07x}"
    return f"{ms[:8]}-{ms[8:]}-7{count[:3]}-8{count[3:6]}-{count[6]}{_salt}"


def delivery_tags(n: int) -> list[str]:
    """Return `n` new ids of messages that are made now, as `delivery_tag` makes them.

    Example:
        >>> first, second = delivery_tags(2)
        >>> first < second, tagged_at(first) == tagged_at(second)
        (True, True)
    """
    if not n:
        return []
    first = delivery_tag()
    head, tail = first[:15], first[25:]
    counts = (f"{next(_counter) & 0xFFFFFFF:07x}" for _ in range(n - 1))
    return [first, *(f"{head}{count[:3]}-8{count[3:6]}-{count[6]}{tail}" for count in counts)]


def tagged_at(tag: object) -> float | None:
    """Epoch seconds at which a `delivery_tag` was made; None for a tag of somebody else's."""
    if type(tag) is not str or len(tag) != 36 or tag[14] != "7":
        return None
    try:
        return int(tag[:8] + tag[9:13], 16) / 1000
    except ValueError:
        return None


def successor(tag: object) -> str:
    """Return the `delivery_tag` of the copy that takes the place of the message `tag`: whoever knows the one
    knows the other. A new one where `tag` is somebody else's.

    Example:
        >>> tag = delivery_tag()
        >>> successor(tag) == successor(tag) != tag, tagged_at(successor(tag)) == tagged_at(tag)
        (True, True)
    """
    if tagged_at(tag) is None:
        return delivery_tag()
    digits = blake2b(str(tag).encode(), digest_size=9).hexdigest()
    return f"{str(tag)[:15]}{digits[:3]}-8{digits[3:6]}-{digits[6:18]}"


def origin() -> str:
    """Return ``gen<pid>@<host>`` for this process; a forked child gets its own."""
    global _origin, _origin_pid
    pid = _getpid()
    if pid != _origin_pid:
        _origin = f"gen{pid}@{socket.gethostname()}"
        _origin_pid = pid
    return _origin
