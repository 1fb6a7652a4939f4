"""`PerProcess`: what every process makes for itself, like a client with its connections.

A forked child must neither use nor close what its parent has open: both would speak on one connection, and a
good-bye would end it for the parent, too.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

__all__ = ["PerProcess"]

T = TypeVar("T")

#: What parents had open when this process was forked. It is kept because many objects close what they have
#: when they are collected.
_inherited: Final[list[Any]] = []


class PerProcess(Generic[T]):
    """A value that is made when it is first asked for, once in each process, and shared by its threads.

    Args:
        make: makes it. What it raises, the caller gets, and the next call tries again.
        close: ends it.
        keeps: what a parent made is kept aside in its children. False is for what knows whose it is, and is
            better collected there.

    Example:
        >>> numbers = PerProcess(list)
        >>> numbers().append(1)
        >>> numbers()
        [1]
    """

    def __init__(
        self, make: Callable[[], T], close: Callable[[T], object] | None = None, *, keeps: bool = True
    ) -> None:
        self._make = make
        self._close = close
        self._keeps = keeps
        self._made: tuple[int, T] | None = None  # with the process it belongs to
        self._making = threading.Lock()
        _all.add(self)

    def __call__(self) -> T:
        """This process's own."""
        made = self._made
        if made is not None and made[0] == os.getpid():
            return made[1]
        with self._making:
            made = self._made
            if made is None or made[0] != os.getpid():
                self._leave()
                made = self._made = (os.getpid(), self._make())
            return made[1]

    def close(self) -> None:
        """End this process's own, if there is one; whoever asks again gets a new one."""
        with self._making:
            made = self._leave()
        if made is not None and self._close is not None:
            self._close(made[1])

    def _leave(self) -> tuple[int, T] | None:
        """Forget what was made; this process's own is returned."""
        made, self._made = self._made, None
        if made is None or made[0] == os.getpid():
            return made
        if self._keeps:
            _inherited.append(made[1])
        return None


_all: weakref.WeakSet[PerProcess[Any]] = weakref.WeakSet()


def _after_fork() -> None:
    for each in list(_all):
        each._making = threading.Lock()  # a thread that is not here may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
