"""What makes large batches cheap.

1. `collector_paused`: no garbage collection while many objects are made that are all still needed. It would
   go through all of them again and again and find nothing: half the time of a batch of 20,000 messages.
2. `uuids`: many ids from one read of the system's randomness.
3. `Composed`: a sequence whose parts are made when they are asked for.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, TypeVar, overload

__all__ = ["Composed", "collector_paused", "uuids"]

T = TypeVar("T")

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


class Composed(Sequence[T], Generic[T]):
    """A sequence of `length`, parts of which `make` makes each time that they are asked for.

    Example:
        >>> squares = Composed(5, lambda part: [n * n for n in range(5)[part]])
        >>> squares[1:3], squares[-1], list(squares)
        ([1, 4], 16, [0, 1, 4, 9, 16])
    """

    __slots__ = ("_length", "_make")

    def __init__(self, length: int, make: Callable[[slice], list[T]]) -> None:
        self._length = length
        self._make = make

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, at: int) -> T: ...

    @overload
    def __getitem__(self, at: slice) -> list[T]: ...

    def __getitem__(self, at: int | slice) -> T | list[T]:
        if isinstance(at, slice):
            return self._make(at)
        if not -self._length <= at < self._length:
            raise IndexError(at)
        at %= self._length
        return self._make(slice(at, at + 1))[0]

    def __iter__(self) -> Iterator[T]:
        return iter(self._make(slice(None)))
