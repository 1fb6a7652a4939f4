"""`celeriac queues`: what waits where, for how long, and whether anybody takes it.

Everything comes from the broker alone; no worker has to answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from json import dumps
from typing import Final

import click

from celeriac.bin.base import Command, Option
from celeriac.bin.completion import queue_names
from celeriac.bin.context import CLIContext
from celeriac.bin.params import COMMA_SEPARATED_LIST
from celeriac.bin.tables import age, table
from celeriac.brokers.base import QueueStats

__all__ = ["queues_"]

HEADINGS: Final = ("queue", "ready", "oldest", "in flight", "delayed", "dead", "consumers", "")


@click.command("queues", cls=Command)
@click.option(
    "-Q",
    "--queues",
    cls=Option,
    type=COMMA_SEPARATED_LIST,
    shell_complete=queue_names,
    help="Queues to show, separated by commas. Default: those of the application and of the broker.",
)
@click.option("-j", "--json", cls=Option, is_flag=True, help="Print a JSON array.")
@click.pass_context
def queues_(ctx: click.Context, queues: list[str] | None, json: bool) -> None:
    """Show every queue: messages ready, age of the oldest, in flight, delayed, dead, and consumers.

    A queue that holds work while no worker takes from it is marked.
    """
    context: CLIContext = ctx.obj
    app = context.app
    shown = list(queues) if queues else sorted({*app.broker.queues(), *app.queues.consumed})
    found = app.broker.stats(shown)
    if json:
        context.echo(dumps([{**stats._asdict(), "unattended": unattended(stats)} for stats in found]))
        return
    context.echo(rendered(context, found))


def unattended(stats: QueueStats) -> bool:
    """Is there work that nobody will do?"""
    return stats.consumers == 0 and (stats.depth + stats.delayed + stats.in_flight) > 0


def rendered(context: CLIContext, found: Sequence[QueueStats]) -> str:
    """The table for people."""
    if not found:
        return "There are no queues yet."
    rows = [
        (
            stats.queue,
            str(stats.depth),
            age(stats.oldest_age),
            str(stats.in_flight),
            str(stats.delayed),
            str(stats.dead),
            str(stats.consumers),
            "NO WORKER" if unattended(stats) else "",
        )
        for stats in found
    ]
    lines = table(HEADINGS, rows, right=range(1, 7), style=lambda text: context.style(text, bold=True))
    return lines.replace("NO WORKER", context.style("NO WORKER", fg="red", bold=True))
