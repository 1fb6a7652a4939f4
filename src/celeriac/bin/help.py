"""`celeriac help [COMMAND …]`."""

from __future__ import annotations

import click

from celeriac.bin.base import Command

__all__ = ["help_"]


@click.command("help", cls=Command)
@click.argument("command", nargs=-1)
@click.pass_context
def help_(ctx: click.Context, command: tuple[str, ...]) -> None:
    """Show the help of COMMAND (of `celeriac` itself without one)."""
    here = ctx.find_root()
    for name in command:
        group = here.command
        if not isinstance(group, click.Group):
            raise click.UsageError(f"'{here.command_path}' has no subcommands.", here)
        _, found, _ = group.resolve_command(here, [name])
        if found is None:
            raise click.UsageError(f"'{here.command_path}' has no command {name!r}.", here)
        here = click.Context(found, info_name=name, parent=here)
    click.echo(here.command.get_help(here))
