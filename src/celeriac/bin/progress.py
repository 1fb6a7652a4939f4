"""Progress of long operations: a bar on a terminal, silence elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import click

from celeriac.bin.context import CLIContext

__all__ = ["bar"]


def bar(
    context: CLIContext, items: Sequence[Any] | None, label: str, *, length: int | None = None
) -> AbstractContextManager[Any]:
    """A progress bar over `items`, or over `length` steps that the caller counts with ``update``.

    It is drawn on standard error, so that standard output holds results only.
    """
    if context.quiet or not sys.stderr.isatty():
        return _Silent(items or ())
    return click.progressbar(items, length=length, label=label, file=sys.stderr, show_pos=True, width=30)


class _Silent:
    """Stands for a bar where nobody looks at it."""

    def __init__(self, items: Sequence[Any]) -> None:
        self._items = items

    def __enter__(self) -> _Silent:
        return self

    def __exit__(self, *exc_info: object) -> None:
        return None

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def update(self, steps: int) -> None:
        """Nothing is shown."""
