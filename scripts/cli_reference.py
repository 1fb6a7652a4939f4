#!/usr/bin/env python3
"""Print docs/reference/cli.md, made from the commands and options as they are."""

from __future__ import annotations

import click

from celeriac.bin.main import celeriac

HEAD = """# Command line

<!-- Written by `make reference` from the commands themselves. -->

`celeriac [GLOBAL OPTIONS] COMMAND [OPTIONS]`. The global options are understood behind the command as well.
Every option can be set by the environment variable in the last column, and by Celery's, which has `CELERY_`
in place of `CELERIAC_`. Exit codes are in [Deploying](../howto/deploy.md#signals-and-exit-codes).
"""


def command_page() -> str:
    root = click.Context(celeriac, info_name="celeriac", auto_envvar_prefix="CELERIAC")
    return "\n".join([HEAD, *sections(celeriac, root)])


def sections(command: click.Command, ctx: click.Context) -> list[str]:
    """The part of the page that is about `command`, and those of its subcommands."""
    lines = [f"## {ctx.command_path}", "", (command.help or "").replace("\b", "").strip(), ""]
    arguments = [param for param in command.params if isinstance(param, click.Argument)]
    if arguments:
        words = [command.name or "", *(param.make_metavar(ctx) for param in arguments)]
        lines += [f"`{ctx.command_path} {' '.join(words[1:])}`", ""]
    rows = [
        row(param, ctx) for param in command.params if isinstance(param, click.Option) and not param.hidden
    ]
    if rows:
        lines += ["| option | | environment |", "|---|---|---|", *rows, ""]
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            found = command.get_command(ctx, name)
            if found is not None:
                lines += sections(found, click.Context(found, info_name=name, parent=ctx))
    return lines


def row(option: click.Option, ctx: click.Context) -> str:
    names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    value = "" if option.is_flag else f" {option.make_metavar(ctx)}".replace("|", "\\|")
    text = (option.help or "").replace("|", "\\|")
    default = option.default if option.show_default else None
    known = getattr(option, "environment_names", None)
    variable = known(ctx)[0] if known and option.name not in ("help", "version") else ""
    told = f" Default: `{default}`." if default else ""
    return f"| {names}{value} | {text}{told} | {f'`{variable}`' if variable else ''} |"


if __name__ == "__main__":
    print(command_page())
