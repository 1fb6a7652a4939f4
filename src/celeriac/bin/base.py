"""How every command and every option of `celeriac` behaves.

1. `Option`: its group in the help, and the environment variables that can set it:
   ``CELERIAC_<COMMAND>_<OPTION>``, Celery's ``CELERY_<COMMAND>_<OPTION>``, and where Celery reads a bare name
   (``APP``, ``BROKER_URL``) that one too, in this order.
2. `Command`: options in groups; the global options are also understood behind the subcommand
   (``celeriac worker -A proj``); options that the application adds (`app.user_options`); our errors
   end as one line and an exit code, never as a traceback.
3. `DaemonCommand`: the options of long-running programs.

Not here: the types of values (`params.py`), the application (`context.py`).
"""

from __future__ import annotations

import difflib
import os
import sys
from pathlib import Path
from typing import IO, Any, Final

import click

from celeriac import signals
from celeriac.bin.context import CLIContext
from celeriac.bin.params import (
    COMMA_SEPARATED_LIST,
    ISO8601,
    ISO8601_OR_FLOAT,
    JSON_ARRAY,
    JSON_OBJECT,
    LOG_LEVEL,
    CommaSeparatedList,
    ISO8601DateTime,
    ISO8601DateTimeOrFloat,
    JsonArray,
    JsonObject,
    LogLevel,
)
from celeriac.exceptions import CeleriacError, OperationalError

__all__ = [
    "COMMA_SEPARATED_LIST",
    "EX_CANTCREAT",
    "EX_FAILURE",
    "EX_OK",
    "EX_UNAVAILABLE",
    "EX_USAGE",
    "ISO8601",
    "ISO8601_OR_FLOAT",
    "JSON_ARRAY",
    "JSON_OBJECT",
    "LOG_LEVEL",
    "USER_OPTIONS",
    "CLIContext",
    "CannotCreate",
    "CeleryCommand",
    "CeleryDaemonCommand",
    "CeleryOption",
    "CommaSeparatedList",
    "Command",
    "DaemonCommand",
    "Failure",
    "Group",
    "ISO8601DateTime",
    "ISO8601DateTimeOrFloat",
    "JsonArray",
    "JsonObject",
    "LogLevel",
    "Option",
    "Unavailable",
    "write_options",
]

EX_OK: Final = 0
EX_FAILURE: Final = 1
EX_USAGE: Final = 64
EX_UNAVAILABLE: Final = 69
EX_CANTCREAT: Final = 73

PREFIX: Final = "CELERIAC"
CELERY_PREFIX: Final = "CELERY"

#: Key in `click.Context.meta` under which the values of `app.user_options` are found.
USER_OPTIONS: Final = "celeriac.user_options"


class Failure(click.ClickException):
    """Ends the command with one line on standard error and exit code 1."""

    exit_code = EX_FAILURE

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the line; also where stderr has become the log, whose level might swallow it."""
        from celeriac.utils.log import LoggingProxy

        super().show(file or (sys.__stderr__ if isinstance(sys.stderr, LoggingProxy) else None))


class Unavailable(Failure):
    """As `Failure`, because something did not answer: exit code 69."""

    exit_code = EX_UNAVAILABLE


class CannotCreate(Failure):
    """As `Failure`, because a file could not be made: exit code 73."""

    exit_code = EX_CANTCREAT


class Option(click.Option):
    """An option with a heading in the help and the environment names of its command.

    Args:
        help_group: heading under which the help lists it.
        also_env: further environment variables that Celery reads for it.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.help_group: str | None = kwargs.pop("help_group", None)
        self.also_env: tuple[str, ...] = kwargs.pop("also_env", ())
        kwargs.pop("default_value_from_context", None)
        super().__init__(*args, **kwargs)

    def environment_names(self, ctx: click.Context) -> tuple[str, ...]:
        prefix = ctx.auto_envvar_prefix
        if prefix is None or self.name is None:
            return self.also_env
        own = f"{prefix}_{self.name.upper()}"
        celery = (CELERY_PREFIX + own.removeprefix(PREFIX),) if own.startswith(f"{PREFIX}_") else ()
        return (own, *celery, *self.also_env)

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        found = super().resolve_envvar_value(ctx)
        if found is not None:
            return found
        values = (os.environ.get(name) for name in self.environment_names(ctx))
        return next((value for value in values if value), None)

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        record = super().get_help_record(ctx)
        names = self.environment_names(ctx)
        if record is None or not names or self.name in ("help", "version"):
            return record
        return record[0], f"{record[1]}  [env: {names[0]}]"


def write_options(command: click.Command, ctx: click.Context, formatter: click.HelpFormatter) -> None:
    """Write the options of `command` under the headings of their groups."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for param in command.get_params(ctx):
        record = param.get_help_record(ctx)
        if record is not None:
            groups.setdefault(getattr(param, "help_group", None) or "Options", []).append(record)
    for heading, records in groups.items():
        with formatter.section(heading):
            formatter.write_dl(records)


def _take_late(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """A global option that stood behind the subcommand."""
    context = ctx.find_object(CLIContext)
    if value and context is not None:
        context.choose(str(param.name), value)


def global_options() -> list[click.Option]:
    """The global options as they are understood behind a subcommand: hidden there, without environment."""

    def late(*names: str, **kwargs: Any) -> click.Option:
        return click.Option(
            names, hidden=True, expose_value=False, allow_from_autoenv=False, callback=_take_late, **kwargs
        )

    return [
        late("-A", "--app", is_eager=True),
        late("-b", "--broker", is_eager=True),
        late("--result-backend", is_eager=True),
        late("--loader", is_eager=True),
        late("--config", is_eager=True),
        late("--workdir", type=click.Path(path_type=Path), is_eager=True),
        late("-C", "--no-color", is_flag=True, is_eager=True),
        late("-q", "--quiet", is_flag=True, is_eager=True),
    ]


class Command(click.Command):
    """A subcommand: grouped help, late global options, options of the application, errors as one line."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        own = [*super().get_params(ctx), *self._added_by_application(ctx)]
        taken = {name for param in own for name in param.opts}
        return own + [option for option in global_options() if not taken.intersection(option.opts)]

    def _added_by_application(self, ctx: click.Context) -> list[click.Parameter]:
        """Options that `app.user_options` holds for this command (``preload``: for every command)."""
        context = ctx.find_object(CLIContext)
        if context is None or not context.names_app or ctx.resilient_parsing:
            return []
        try:
            added = context.app.user_options
        except click.UsageError:
            if {"--help", "-h"}.intersection(sys.argv):
                return []  # the help of a command must not depend on a sound project
            raise
        found: list[click.Parameter] = [*added.get("preload", ()), *added.get(self.name or "", ())]
        return found

    def invoke(self, ctx: click.Context) -> Any:
        self._take_user_options(ctx)
        try:
            return super().invoke(ctx)
        except OperationalError as exc:
            raise Unavailable(f"{exc}{_advice(ctx)}") from exc
        except CeleriacError as exc:
            raise Failure(str(exc) or type(exc).__name__) from exc

    def _take_user_options(self, ctx: click.Context) -> None:
        """Take the values of added options out of what the command's function gets; tell those who asked."""
        own = {param.name for param in self.params}
        values = {name: ctx.params.pop(name) for name in list(ctx.params) if name not in own}
        ctx.meta[USER_OPTIONS] = values
        context = ctx.find_object(CLIContext)
        if context is None or not context.names_app:
            return
        preload = {param.name for param in context.app.user_options.get("preload", ())}
        if preload:
            chosen = {name: value for name, value in values.items() if name in preload}
            signals.user_preload_options.send(sender=self, app=context.app, options=chosen)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_options(self, ctx, formatter)


class Group(click.Group):
    """A group of subcommands that answers an unknown name with the nearest ones."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            raise click.UsageError(self.unknown(ctx, args[0]), ctx)
        return super().resolve_command(ctx, args)

    def unknown(self, ctx: click.Context, name: str) -> str:
        """The answer to a subcommand that does not exist."""
        near = difflib.get_close_matches(name, self.list_commands(ctx), n=3)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        return f"There is no command {name!r}.{hint}"


def _advice(ctx: click.Context) -> str:
    """What to do when the broker is out of reach: where its address comes from."""
    context = ctx.find_object(CLIContext)
    app = context.app_if_loaded if context else None
    if app is None:
        return ""
    from celeriac.app.settings_values import mask_url

    broker = mask_url(str(app.conf.broker_url or "sqlite://"))
    return f"\nThe broker is {broker}; -b, CELERIAC_BROKER_URL or broker_url name another."


class DaemonCommand(Command):
    """A long-running program: log file, pid file, user, group, umask."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += daemon_options()


def daemon_options() -> list[click.Parameter]:
    group = "Daemonization Options"
    return [
        Option(["--logfile", "-f"], help_group=group, help="File to log to; the terminal when left out."),
        Option(["--pidfile"], help_group=group, help="File for the process id; refuses to start twice."),
        Option(["--uid"], help_group=group, help="User, by name or number, to run as."),
        Option(["--gid"], help_group=group, help="Group, by name or number, to run as."),
        Option(["--umask"], help_group=group, help="Octal mask for the files that are created, e.g. 022."),
        Option(["--executable"], help_group=group, help="Python to use when the program is detached."),
    ]


CeleryOption = Option
CeleryCommand = Command
CeleryDaemonCommand = DaemonCommand
