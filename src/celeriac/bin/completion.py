"""`celeriac completion SHELL`: the script that teaches a shell our commands, options, tasks and queues.

1. The script itself, as click makes it.
2. `task_names` and `queue_names`: completions that ask the application (`shell_complete=` of an option).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem, get_completion_class

from celeriac.bin.base import Command
from celeriac.bin.context import CLIContext, load_app
from celeriac.exceptions import CeleriacError

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac

__all__ = ["completion", "queue_names", "task_names"]

VARIABLE = "_CELERIAC_COMPLETE"
INSTALL = {
    "bash": 'eval "$(celeriac completion bash)"   in ~/.bashrc',
    "zsh": 'eval "$(celeriac completion zsh)"   in ~/.zshrc',
    "fish": "celeriac completion fish | source   in ~/.config/fish/config.fish",
}


@click.command(
    "completion",
    cls=Command,
    epilog="\b\nTo switch it on:\n  " + "\n  ".join(INSTALL.values()),
)
@click.argument("shell", type=click.Choice(list(INSTALL)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script for SHELL."""
    maker = get_completion_class(shell)
    if maker is None:
        raise click.UsageError(f"There is no completion for {shell!r}.")
    root = ctx.find_root()
    click.echo(maker(root.command, {}, "celeriac", VARIABLE).source())


def task_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of the application's tasks that begin with `incomplete`."""

    def names(app: Celeriac) -> Iterable[str]:
        app.import_default_modules()
        return sorted(app.tasks)

    return [CompletionItem(name) for name in _asked(ctx, names) if name.startswith(incomplete)]


def queue_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of queues; the part behind the last comma is completed."""
    done, comma, last = incomplete.rpartition(",")
    names = _asked(ctx, lambda app: app.broker.queues())
    return [CompletionItem(f"{done}{comma}{name}") for name in names if name.startswith(last)]


def _asked(ctx: click.Context, names: Callable[[Celeriac], Iterable[str]]) -> Iterable[str]:
    """What `names` says of the application; nothing when it cannot be asked: no errors at a key press."""
    context = ctx.find_object(CLIContext)
    spec = context.spec if context is not None else ctx.find_root().params.get("app")
    try:
        return names(load_app(spec))
    except (click.ClickException, CeleriacError):
        return ()
