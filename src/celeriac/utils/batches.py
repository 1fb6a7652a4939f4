"""Long sequences in parts that one request, statement or transaction can carry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

__all__ = ["batches", "sized_batches"]

T = TypeVar("T")


def batches(items: Sequence[T], most: int) -> Iterator[Sequence[T]]:
    """Parts of `most` items; the last may have fewer.

    Example:
        >>> list(batches("abcde", 2))
        ['ab', 'cd', 'e']
    """
    return (items[start : start + most] for start in range(0, len(items), most))


def sized_batches(
    items: Iterable[T], size_of: Callable[[T], int], *, most: int, most_bytes: int
) -> Iterator[list[T]]:
    """Parts of at most `most` items and `most_bytes` bytes; what is larger by itself is a part of its own.

    Example:
        >>> list(sized_batches([b"aa", b"b", b"cccc", b"d"], len, most=10, most_bytes=3))
        [[b'aa', b'b'], [b'cccc'], [b'd']]
    """
    part: list[T] = []
    size = 0
    for item in items:
        length = size_of(item)
        if part and (len(part) >= most or size + length > most_bytes):
            yield part
            part, size = [], 0
        part.append(item)
        size += length
    if part:
        yield part
