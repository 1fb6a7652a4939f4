"""`celeriac result`: wait for a task's result and print it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from celeriac.bin.base import Command, Failure, Option, Unavailable
from celeriac.bin.completion import task_names
from celeriac.bin.context import CLIContext

if TYPE_CHECKING:
    from celeriac.result import AsyncResult

__all__ = ["result", "show"]


@click.command("result", cls=Command)
@click.argument("task_id")
@click.option(
    "-t",
    "--task",
    cls=Option,
    help_group="Result Options",
    shell_complete=task_names,
    help="Name of the task, if it has a result store of its own.",
)
@click.option(
    "--traceback",
    cls=Option,
    help_group="Result Options",
    is_flag=True,
    default=None,
    help="Print the traceback in place of the result.",
)
@click.option(
    "--timeout",
    cls=Option,
    help_group="Result Options",
    type=float,
    metavar="SECONDS",
    help="Give up after so many seconds. Default: wait for ever.",
)
@click.pass_context
def result(
    ctx: click.Context, task_id: str, task: str | None, traceback: bool | None, timeout: float | None
) -> None:
    """Wait for the task TASK_ID and print its result."""
    context: CLIContext = ctx.obj
    app = context.app
    found = app.tasks[task].AsyncResult(task_id) if task else app.AsyncResult(task_id)
    show(context, found, timeout, traceback=bool(traceback))


def show(context: CLIContext, found: AsyncResult[Any], timeout: float | None, *, traceback: bool) -> None:
    """Wait for `found`, print what it came to; a failed task ends the command with exit code 1."""
    from celeriac.exceptions import TimeoutError

    try:
        value = found.get(timeout=timeout, propagate=False)
    except TimeoutError as exc:
        raise Unavailable(
            f"No result of {found.id} within {timeout:g} s; its state is {found.state}. Is a worker running "
            "that takes from its queue? `celeriac queues` tells."
        ) from exc
    if found.failed():
        if traceback and found.traceback:
            context.tell(str(found.traceback).rstrip(), err=True)
        raise Failure(f"Task {found.id} failed: {value!r}")
    if traceback and found.traceback:
        value = found.traceback
    context.tell(value)
