"""`celeriac list`: what the application defines."""

from __future__ import annotations

import click

from celeriac.bin.base import Command, Group
from celeriac.bin.context import CLIContext
from celeriac.bin.tables import table

__all__ = ["bindings", "list_", "tasks"]


@click.group("list", cls=Group)
def list_() -> None:
    """List the application's bindings or tasks."""


@list_.command("bindings", cls=Command)
@click.pass_context
def bindings(ctx: click.Context) -> None:
    """List queues with the exchange and routing key that feed each."""
    from celeriac.app.queues import declarations

    context: CLIContext = ctx.obj
    declared = [each for queue in context.app.queues.values() for each in declarations(queue)]
    rows = [(each.name, f"{each.exchange}({each.exchange_type})", each.routing_key) for each in declared]
    context.echo(table(("queue", "exchange", "routing key"), rows))


@list_.command("tasks", cls=Command)
@click.pass_context
def tasks(ctx: click.Context) -> None:
    """List the registered tasks."""
    context: CLIContext = ctx.obj
    app = context.app
    app.import_default_modules()
    app.finalize(auto=True)
    for name in sorted(app.tasks):
        if not name.startswith(("celery.", "celeriac.")):
            context.echo(name)
