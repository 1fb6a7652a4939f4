"""`celeriac dead`: look at dead letters, send them again, drop them.

1. `list` and `show`: what was given up, and why.
2. `retry` and `drop`: some by id, or all; thousands go in pages, with a progress bar.

Not here: when a message is dead-lettered (`execution/`, the worker).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from json import dumps
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import click

from celeriac.bin.base import Command, Failure, Group, Option
from celeriac.bin.completion import queue_names
from celeriac.bin.context import CLIContext
from celeriac.bin.params import COMMA_SEPARATED_LIST
from celeriac.bin.progress import bar
from celeriac.bin.tables import table
from celeriac.brokers.base import DeadLetter
from celeriac.utils.log import printable
from celeriac.wire.message import Unreadable

if TYPE_CHECKING:
    from celeriac.brokers.base import Broker

__all__ = ["dead"]

F = TypeVar("F", bound=Callable[..., Any])

#: Dead letters fetched, revived or dropped in one trip.
PAGE: Final = 500


class Described(NamedTuple):
    """A dead letter as people read it."""

    id: str
    queue: str
    task: str
    task_id: str
    reason: str
    died: str
    crashes: int
    args: str
    kwargs: str


def queues_option(function: F) -> F:
    return click.option(
        "-Q",
        "--queues",
        cls=Option,
        type=COMMA_SEPARATED_LIST,
        shell_complete=queue_names,
        help="Queues to look into, separated by commas. Default: all.",
    )(function)


@click.group("dead", cls=Group)
def dead() -> None:
    """Dead letters: messages that were given up, with the reason."""


@dead.command("list", cls=Command)
@queues_option
@click.option("-n", "--limit", cls=Option, type=int, default=100, show_default=True, help="How many to show.")
@click.option("-j", "--json", cls=Option, is_flag=True, help="Print a JSON array.")
@click.pass_context
def list_(ctx: click.Context, queues: list[str] | None, limit: int, json: bool) -> None:
    """List dead letters, the oldest of each queue first."""
    context: CLIContext = ctx.obj
    broker = context.app.broker
    found = [describe(context, letter) for letter in letters(broker, chosen(broker, queues), limit)]
    if json:
        context.echo(dumps([letter._asdict() for letter in found]))
    elif not found:
        context.echo("There are no dead letters.")
    else:
        rows = [(d.id, d.queue, _short(d.task), d.died, str(d.crashes), _short(d.reason)) for d in found]
        headings = ("id", "queue", "task", "died", "crashes", "reason")
        context.echo(table(headings, rows, right=[4], style=lambda text: context.style(text, bold=True)))


@dead.command("show", cls=Command)
@click.argument("letter_id", metavar="ID")
@queues_option
@click.pass_context
def show(ctx: click.Context, letter_id: str, queues: list[str] | None) -> None:
    """Show all that is known of the dead letter ID."""
    context: CLIContext = ctx.obj
    broker = context.app.broker
    for letter in letters(broker, chosen(broker, queues)):
        if letter.id == letter_id:
            for name, value in describe(context, letter)._asdict().items():
                context.tell(f"{name + ':':<9} {value}")
            context.tell(raw(letter))
            return
    raise Failure(f"There is no dead letter {letter_id!r}. `celeriac dead list` shows those there are.")


@dead.command("retry", cls=Command)
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", is_flag=True, cls=Option, help="All of the chosen queues.")
@queues_option
@click.pass_context
def retry(ctx: click.Context, ids: tuple[str, ...], all: bool, queues: list[str] | None) -> None:
    """Put dead letters back into their queues, with their crashes forgotten."""
    context: CLIContext = ctx.obj
    broker = context.app.broker
    done = settle(context, "Sending again", broker.revive, ids, all, queues)
    context.echo(f"{done} sent again.")


@dead.command("drop", cls=Command)
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", is_flag=True, cls=Option, help="All of the chosen queues.")
@click.option("-f", "--force", is_flag=True, cls=Option, help="Do not ask first.")
@queues_option
@click.pass_context
def drop(ctx: click.Context, ids: tuple[str, ...], all: bool, force: bool, queues: list[str] | None) -> None:
    """Delete dead letters. They cannot be brought back."""
    context: CLIContext = ctx.obj
    if all and not force:
        click.confirm("This deletes every dead letter of the chosen queues. Go on?", abort=True)
    done = settle(context, "Deleting", context.app.broker.drop, ids, all, queues)
    context.echo(f"{done} deleted.")


def settle(
    context: CLIContext,
    label: str,
    act: Callable[[str, Sequence[str]], int],
    ids: Sequence[str],
    everything: bool,
    queues: list[str] | None,
) -> int:
    """Apply `act(queue, ids)` to the chosen letters; return how many it was done to."""
    if bool(ids) == everything:
        raise click.UsageError("Name the dead letters by id, or say --all.")
    broker = context.app.broker
    names = chosen(broker, queues)
    if everything:
        return _settle_all(context, label, act, broker, names)
    done = sum(act(name, list(ids)) for name in names)
    if done < len(set(ids)):
        missing = len(set(ids)) - done
        context.error(f"{missing} of the {len(set(ids))} ids are no dead letters (any more).", fg="yellow")
        if not done:
            raise Failure("Nothing was done. `celeriac dead list` shows the dead letters there are.")
    return done


def _settle_all(
    context: CLIContext,
    label: str,
    act: Callable[[str, Sequence[str]], int],
    broker: Broker,
    names: Sequence[str],
) -> int:
    total = sum(stats.dead for stats in broker.stats(names))
    done = 0
    with bar(context, None, label, length=total) as progress:
        for name in names:
            # A page is gone when it is done, so the next one is again the first.
            while page := broker.dead(name, PAGE):
                moved = act(name, [letter.id for letter in page])
                done += moved
                progress.update(len(page))
                if not moved:
                    break  # others are working on the same letters
    return done


def chosen(broker: Broker, queues: Sequence[str] | None) -> list[str]:
    return list(queues) if queues else sorted(broker.queues())


def letters(broker: Broker, queues: Sequence[str], limit: int | None = None) -> Iterator[DeadLetter]:
    """The dead letters of `queues`, fetched in pages; at most `limit` of each queue."""
    for queue in queues:
        offset = 0
        while limit is None or offset < limit:
            size = PAGE if limit is None else min(PAGE, limit - offset)
            page = broker.dead(queue, size, offset)
            yield from page
            offset += len(page)
            if len(page) < size:
                break


def describe(context: CLIContext, letter: DeadLetter) -> Described:
    """`letter` in words; what cannot be read is said to be so."""
    headers: dict[str, Any] = {} if isinstance(letter.message, Unreadable) else letter.message.headers
    when = datetime.fromtimestamp(letter.at).astimezone().isoformat(sep=" ", timespec="seconds")
    return Described(
        letter.id,
        letter.queue,
        str(headers.get("task") or "?"),
        str(headers.get("id") or "?"),
        letter.reason,
        when,
        letter.crashes,
        str(headers.get("argsrepr") or ""),
        str(headers.get("kwargsrepr") or ""),
    )


def raw(letter: DeadLetter) -> str:
    """The message itself: its headers and body, or the bytes that are no message."""
    if isinstance(letter.message, Unreadable):
        return f"unreadable: {letter.message.reason}\n{letter.message.raw[:4096]!r}"
    headers = dumps(letter.message.headers, indent=2, default=str)
    body = letter.message.body[:4096].decode("utf-8", "backslashreplace")
    return f"headers: {headers}\nbody ({letter.message.content_type}): {body}"


def _short(text: str, width: int = 60) -> str:
    first = printable(text.strip().splitlines()[0]) if text.strip() else ""
    return first if len(first) <= width else first[: width - 1] + "…"
