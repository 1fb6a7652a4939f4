"""Progress of long operations: a bar on a terminal, silence elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence
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
    hidden = context.quiet or not sys.stderr.isatty()
    return click.progressbar(
        items, length=length, label=label, file=sys.stderr, hidden=hidden, show_pos=True, width=30
    )
