"""`celeriac call`: send one task by name."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import click

from celeriac.bin.base import Command, Option
from celeriac.bin.completion import queue_names, task_names
from celeriac.bin.context import CLIContext
from celeriac.bin.params import ISO8601, ISO8601_OR_FLOAT, JSON_ARRAY, JSON_OBJECT

__all__ = ["call"]

CALLING: Final = "Calling Options"
ROUTING: Final = "Routing Options"


@click.command("call", cls=Command, epilog="\b\nExample:\n  celeriac -A proj call proj.tasks.add -a '[2, 2]'")
@click.argument("name", shell_complete=task_names)
@click.option(
    "-a",
    "--args",
    cls=Option,
    help_group=CALLING,
    type=JSON_ARRAY,
    default="[]",
    help="Positional arguments, a JSON array.",
)
@click.option(
    "-k",
    "--kwargs",
    cls=Option,
    help_group=CALLING,
    type=JSON_OBJECT,
    default="{}",
    help="Keyword arguments, a JSON object.",
)
@click.option("--eta", cls=Option, help_group=CALLING, type=ISO8601, help="When to run, as an ISO 8601 date.")
@click.option("--countdown", cls=Option, help_group=CALLING, type=float, help="Seconds to wait first.")
@click.option(
    "--expires",
    cls=Option,
    help_group=CALLING,
    type=ISO8601_OR_FLOAT,
    help="Seconds, or a date, after which it must not start any more.",
)
@click.option(
    "--serializer",
    cls=Option,
    help_group=CALLING,
    default="json",
    show_default=True,
    help="Serializer to use.",
)
@click.option("--queue", cls=Option, help_group=ROUTING, shell_complete=queue_names, help="Queue to send to.")
@click.option("--exchange", cls=Option, help_group=ROUTING, help="Exchange to send to.")
@click.option("--routing-key", cls=Option, help_group=ROUTING, help="Routing key to send with.")
@click.option(
    "--wait",
    cls=Option,
    help_group=CALLING,
    type=float,
    metavar="SECONDS",
    help="Wait for the result and print it in place of the id.",
)
@click.pass_context
def call(
    ctx: click.Context,
    name: str,
    args: list[Any],
    kwargs: dict[str, Any],
    eta: datetime | None,
    countdown: float | None,
    expires: datetime | float | None,
    serializer: str,
    queue: str | None,
    exchange: str | None,
    routing_key: str | None,
    wait: float | None,
) -> None:
    """Send the task NAME and print its id."""
    context: CLIContext = ctx.obj
    sent = context.app.send_task(
        name,
        args=args,
        kwargs=kwargs,
        countdown=countdown,
        eta=eta,
        expires=expires,
        serializer=serializer,
        queue=queue,
        exchange=exchange,
        routing_key=routing_key,
    )
    if wait is None:
        context.echo(sent.id)
        return
    from celeriac.bin.result import show

    show(context, sent, wait, traceback=True)
