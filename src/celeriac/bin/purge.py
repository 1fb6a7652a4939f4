"""`celeriac purge`: drop all waiting messages."""

from __future__ import annotations

from typing import Final

import click

from celeriac.bin.base import Command, Failure, Option
from celeriac.bin.completion import queue_names
from celeriac.bin.context import CLIContext
from celeriac.bin.params import COMMA_SEPARATED_LIST
from celeriac.bin.progress import bar

__all__ = ["purge"]

PURGING: Final = "Purging Options"


@click.command("purge", cls=Command)
@click.option("-f", "--force", cls=Option, help_group=PURGING, is_flag=True, help="Do not ask first.")
@click.option(
    "-Q",
    "--queues",
    cls=Option,
    help_group=PURGING,
    type=COMMA_SEPARATED_LIST,
    shell_complete=queue_names,
    help="Queues to purge, separated by commas. Default: all of task_queues.",
)
@click.option(
    "-X",
    "--exclude-queues",
    cls=Option,
    help_group=PURGING,
    type=COMMA_SEPARATED_LIST,
    shell_complete=queue_names,
    help="Queues to leave as they are.",
)
@click.pass_context
def purge(
    ctx: click.Context, force: bool, queues: list[str] | None, exclude_queues: list[str] | None
) -> None:
    """Drop all waiting and delayed messages. They cannot be brought back.

    What is running goes on; dead letters stay (`celeriac dead drop`).
    """
    context: CLIContext = ctx.obj
    chosen = list(queues) if queues else context.app.queues.consumed
    names = [name for name in chosen if name not in (exclude_queues or ())]
    if not names:
        raise Failure("No queue is left to purge: all were excluded.")
    if not force:
        listed = ", ".join(names)
        click.confirm(f"This drops every waiting message of: {listed}. Go on?", abort=True)
    broker = context.app.broker
    dropped = 0
    with bar(context, names, "Purging") as progress:
        for name in progress:
            dropped += broker.purge(name)
    messages, in_queues = _counted(dropped, "message"), _counted(len(names), "queue")
    if dropped:
        context.echo(f"Purged {messages} from {in_queues}.")
    else:
        context.echo(f"No messages purged from {in_queues}.")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
