"""`celeriac`: the root command.

1. The global options, with Celery's names and environment variables.
2. The table of subcommands. A module is imported when its command is called, so that a worker's start pays
   for nothing else; entry points of the group ``celeriac.commands`` are looked up for unknown names only.
3. A name that does not exist is answered with the nearest ones.

Not here: how options behave (`base.py`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from celeriac.bin.base import Group, Option, write_options
from celeriac.bin.context import CLIContext

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac as Application

__all__ = ["COMMANDS", "Root", "celeriac", "main", "run"]

COMMANDS: Final = {
    "beat": "celeriac.bin.beat:beat",
    "call": "celeriac.bin.call:call",
    "completion": "celeriac.bin.completion:completion",
    "db": "celeriac.bin.db:db",
    "dead": "celeriac.bin.dead:dead",
    "help": "celeriac.bin.help:help_",
    "list": "celeriac.bin.list:list_",
    "purge": "celeriac.bin.purge:purge",
    "queues": "celeriac.bin.queues:queues_",
    "report": "celeriac.bin.report:report",
    "result": "celeriac.bin.result:result",
    "worker": "celeriac.bin.worker:worker",
}

#: Commands of Celery that are not here, and what to use.
REFUSED: Final = {
    "amqp": "`celeriac queues`, `purge` and `dead` work on every broker",
    "graph": "there is no start-up graph; docs/internals.md has the picture",
    "logtool": "`celeriac worker --log-format json` writes logs that any tool can read",
    "upgrade": "both spellings of every setting are read as they are",
}

PLUGINS: Final = "celeriac.commands"


class Root(Group):
    """The group of subcommands, each imported on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*COMMANDS, *self.commands, *plugins()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        added = super().get_command(ctx, cmd_name)
        if added is not None:
            return added
        path = COMMANDS.get(cmd_name)
        if path is not None:
            module, _, name = path.partition(":")
            found: click.Command = getattr(import_module(module), name)
            return found
        plugin = plugins().get(cmd_name)
        return plugin.load() if plugin is not None else None

    def unknown(self, ctx: click.Context, name: str) -> str:
        if name in REFUSED:
            return f"Celeriac has no command {name!r}: {REFUSED[name]}."
        return super().unknown(ctx, name)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_options(self, ctx, formatter)
        self.format_commands(ctx, formatter)


def plugins() -> dict[str, Any]:
    """Commands of other packages: name → entry point."""
    from importlib.metadata import entry_points

    return {entry.name: entry for entry in entry_points(group=PLUGINS)}


def show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from celeriac import __version__

        click.echo(f"celeriac {__version__}")
        ctx.exit()


GLOBAL: Final = "Global Options"
EPILOG: Final = """
\b
Examples:
  celeriac -A proj worker -l info -c 4
  celeriac -A proj call proj.tasks.add -a '[2, 2]'
  celeriac -A proj queues
  celeriac -A proj dead list

Every option can be set by the environment variable that its help names, and by Celery's: CELERY_ in place of
CELERIAC_. 'celeriac help COMMAND' tells what a command takes.
"""


@click.group(
    "celeriac",
    cls=Root,
    invoke_without_command=True,
    epilog=EPILOG,
    context_settings={
        "auto_envvar_prefix": "CELERIAC",
        "help_option_names": ["-h", "--help"],
        "max_content_width": 110,
    },
)
@click.option(
    "-A",
    "--app",
    cls=Option,
    help_group=GLOBAL,
    also_env=("APP",),
    help="The application: package, package.module or package.module:attribute.",
)
@click.option(
    "-b",
    "--broker",
    cls=Option,
    help_group=GLOBAL,
    also_env=("CELERIAC_BROKER_URL", "CELERY_BROKER_URL", "BROKER_URL"),
    help="URL of the broker, in place of the setting broker_url.",
)
@click.option(
    "--result-backend",
    cls=Option,
    help_group=GLOBAL,
    also_env=("RESULT_BACKEND",),
    help="URL of the result store, in place of the setting result_backend.",
)
@click.option(
    "--loader", cls=Option, help_group=GLOBAL, also_env=("LOADER",), help="Path of a loader class to use."
)
@click.option(
    "--config",
    cls=Option,
    help_group=GLOBAL,
    also_env=("CONFIG_MODULE",),
    help="Module to read the settings from.",
)
@click.option(
    "--workdir",
    cls=Option,
    help_group=GLOBAL,
    type=click.Path(path_type=Path),
    is_eager=True,
    help="Folder to change to before anything is imported.",
)
@click.option("-C", "--no-color", cls=Option, help_group=GLOBAL, is_flag=True, help="Never use colours.")
@click.option("-q", "--quiet", cls=Option, help_group=GLOBAL, is_flag=True, help="Print results only.")
@click.option(
    "--version",
    cls=Option,
    help_group=GLOBAL,
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=show_version,
    help="Print the version and exit.",
)
@click.option(
    "--skip-checks",
    cls=Option,
    help_group=GLOBAL,
    is_flag=True,
    also_env=("SKIP_CHECKS",),
    help="Skip Django's system checks.",
)
@click.pass_context
def celeriac(
    ctx: click.Context,
    app: str | None,
    broker: str | None,
    result_backend: str | None,
    loader: str | None,
    config: str | None,
    workdir: Path | None,
    no_color: bool,
    quiet: bool,
    skip_checks: bool,
) -> None:
    """Background tasks for Python and Django: workers, queues, results."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
        return
    no_color = no_color or bool(os.environ.get("NO_COLOR"))
    context: CLIContext = ctx.obj or CLIContext()
    context.no_color, context.quiet = no_color, quiet
    chosen = {
        "workdir": workdir,
        "app": app,
        "broker": broker,
        "result_backend": result_backend,
        "loader": loader,
        "config": config,
    }
    for option, value in chosen.items():
        if value is not None:
            context.choose(option, value)
    if skip_checks:
        os.environ["CELERY_SKIP_CHECKS"] = "true"
    if no_color:
        ctx.color = False
    ctx.obj = context


def main() -> None:
    """Run the command line of this process, and exit."""
    celeriac(prog_name="celeriac")


def run(app: Application, argv: Sequence[str]) -> Any:
    """Run one command for `app` (`app.start()`, `app.worker_main()`); return its exit code.

    Raises:
        click.ClickException: as the command does.
    """
    return celeriac.main(list(argv), "celeriac", standalone_mode=False, obj=CLIContext(app)) or 0
