"""`celeriac report`: versions and settings, for a bug report; secrets are masked."""

from __future__ import annotations

import click

from celeriac.bin.base import Command
from celeriac.bin.context import CLIContext

__all__ = ["report"]


@click.command("report", cls=Command)
@click.pass_context
def report(ctx: click.Context) -> None:
    """Show versions, platform and settings, as a bug report needs them."""
    context: CLIContext = ctx.obj
    context.echo(context.app.bugreport())
