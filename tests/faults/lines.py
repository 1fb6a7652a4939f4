"""The lines that bodies leave in a journal: each written at once, and read only if it is whole.

A write is not all or nothing: SIGKILL may cut it where a page ends, and a reader may see a part of it.
So each line begins with a line break, whatever stands before, and ends with a mark.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["Event", "events", "whole", "written"]

_END = "."


class Event(NamedTuple):
    what: str
    key: str
    pid: int
    at: float


def written(*words: object) -> bytes:
    """One line, for one write with O_APPEND. Of an event: what, key, pid, epoch seconds."""
    return f"\n{' '.join(map(str, words))} {_END}\n".encode()


def whole(text: str) -> Iterator[list[str]]:
    """The words of the lines of `text` that are whole.

    Example:
        >>> list(whole(written("end", "k1", 12, 0.5).decode() + "end k2 1"))
        [['end', 'k1', '12', '0.5']]
    """
    for line in text.splitlines():
        match line.split():
            case *words, end if end == _END:
                yield words


def events(text: str) -> Iterator[Event]:
    """The events of `text`."""
    for what, key, pid, at in whole(text):
        yield Event(what, key, int(pid), float(at))
