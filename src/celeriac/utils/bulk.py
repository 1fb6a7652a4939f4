"""What makes large batches cheap.

1. `collector_paused`: no garbage collection while many objects are made that are all still needed. It would
   go through all of them again and again and find nothing: half the time of a batch of 20,000 messages.
2. `uuids`: many ids from one read of the system's randomness.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["collector_paused", "uuids"]

_VARIANT = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))
_AT_ONCE = 4096


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pause the garbage collector, unless somebody else has; whoever paused it lets it run again.

    Example:
        >>> with collector_paused():
        ...     gc.isenabled()
        False
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def uuids(n: int) -> Iterator[str]:
    """Yield `n` new random ids, as `celeriac.utils.uuid` makes them.

    Example:
        >>> [len(id) for id in uuids(2)]
        [36, 36]
    """
    for start in range(0, n, _AT_ONCE):
        some = min(_AT_ONCE, n - start)
        digits = os.urandom(16 * some).hex()
        for at in range(0, 32 * some, 32):
            yield (
                f"{digits[at : at + 8]}-{digits[at + 8 : at + 12]}-4{digits[at + 13 : at + 16]}-"
                f"{_VARIANT[digits[at + 16]]}{digits[at + 17 : at + 20]}-{digits[at + 20 : at + 32]}"
            )
