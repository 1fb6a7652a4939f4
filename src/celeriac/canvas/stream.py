"""`Stream`: members of a group that are made when they are needed.

``group(add.s(n) for n in range(1_000_000))`` holds the generator. Whoever sends it may take the members in
parts and keep none (`parts`); everybody else sees a sequence that fills up as far as it is read.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, overload

__all__ = ["Stream", "at_least"]


class Stream(Sequence[Any]):
    """An iterable that is read once and remembered.

    Args:
        source: read from when somebody wants an item that was not read yet.
        make: what an item is turned into.

    Example:
        >>> numbers = Stream(iter([1, 2, 3]), make=str)
        >>> numbers[0], numbers
        ('1', <Stream: '1', …>)
        >>> list(numbers)
        ['1', '2', '3']
    """

    def __init__(self, source: Iterable[Any], make: Callable[[Any], Any]) -> None:
        self._rest = map(make, source)
        self._read: list[Any] = []
        self._open = True

    @property
    def untouched(self) -> bool:
        """Nothing was read yet."""
        return self._open and not self._read

    def _pull(self) -> bool:
        """Read one more item; False at the end."""
        for item in self._rest:
            self._read.append(item)
            return True
        self._open = False
        return False

    def _all(self) -> list[Any]:
        if self._open:
            self._read.extend(self._rest)
            self._open = False
        return self._read

    def clone(self) -> Sequence[Any]:
        """Copies of the items; of one that nobody has read from, a stream of them."""
        if self.untouched:
            return Stream(self, lambda item: item.clone())
        return [item.clone() for item in self]

    def parts(self, size: int) -> Iterator[list[Any]]:
        """All items in lists of at most `size`. What was not read yet is not kept: the stream is empty
        afterwards."""
        items = itertools.chain(self._read, self._rest)
        self._read, self._open = [], False
        while part := list(itertools.islice(items, size)):
            yield part

    def __iter__(self) -> Iterator[Any]:
        index = 0
        while index < len(self._read) or (self._open and self._pull()):
            yield self._read[index]
            index += 1

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, int) and index >= 0:
            while index >= len(self._read) and self._open and self._pull():
                pass
            return self._read[index]
        return self._all()[index]

    def __len__(self) -> int:
        return len(self._all())

    def __bool__(self) -> bool:
        return bool(self._read) or (self._open and self._pull())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Stream):
            return self._all() == other._all()
        return self._all() == list(other) if isinstance(other, list | tuple) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __json__(self) -> list[Any]:
        return self._all()

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (self._all(),)

    def __repr__(self) -> str:
        shown = [*map(repr, self._read), *(["…"] if self._open else [])]
        return f"<Stream: {', '.join(shown)}>"


def at_least(tasks: Iterable[Any], count: int) -> bool:
    """Whether there are as many; of a `Stream` no more is read than that."""
    return len(tuple(itertools.islice(tasks, count))) == count
