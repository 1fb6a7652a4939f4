"""`celeriac db`: the tables of a broker or result store in a database that others look after.

1. `status`: which version is there; exit status 1 when it is not the wanted one.
2. `migrate`: brings them to the wanted one.
3. `sql`: prints the SQL instead, for whoever applies it by hand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from celeriac.bin.base import Command, Failure, Group, Option
from celeriac.bin.context import CLIContext

if TYPE_CHECKING:
    from celeriac.brokers.base import Tables, TablesStatus

__all__ = ["db"]


@click.group("db", cls=Group)
def db() -> None:
    """The tables of the broker (and result store) in a database: their version, and how to change it."""


@db.command("status", cls=Command)
@click.pass_context
def status(ctx: click.Context) -> None:
    """Show which version of the tables is there; exits with 1 when it is not the wanted one."""
    context: CLIContext = ctx.obj
    fit = True
    for tables in _tables(context):
        found = tables.status()
        context.echo(_told(found))
        fit = fit and found.version == found.wanted
    if not fit:
        ctx.exit(1)


@db.command("migrate", cls=Command)
@click.pass_context
def migrate(ctx: click.Context) -> None:
    """Make the tables, or bring them to this program's version, in one transaction."""
    context: CLIContext = ctx.obj
    for tables in _tables(context):
        before = tables.status()
        after = tables.migrate()
        if before.version == after.version:
            context.echo(_told(after))
        else:
            context.echo(f"{after.where}: version {before.version} became {after.version}.")


@db.command("sql", cls=Command)
@click.option(
    "--since", cls=Option, type=click.IntRange(0), default=0, show_default=True,
    help="The version that is there (`celeriac db status` says which).",
)  # fmt: skip
@click.pass_context
def sql(ctx: click.Context, since: int) -> None:
    """Print the SQL of the migration; nothing is connected. Apply it as one transaction: psql -1 -f FILE."""
    context: CLIContext = ctx.obj
    for tables in _tables(context):
        context.echo(tables.script(since))


def _told(found: TablesStatus) -> str:
    if found.version == found.wanted:
        return f"{found.where}: version {found.version}, as wanted."
    if found.version == 0:
        return f"{found.where}: no tables yet; version {found.wanted} is wanted."
    advice = "run `celeriac db migrate`" if found.version < found.wanted else "upgrade celeriac here"
    return f"{found.where}: version {found.version}, but {found.wanted} is wanted: {advice}."


def _tables(context: CLIContext) -> list[Tables]:
    """Of the broker and the result store; once, when they share them."""
    app = context.app
    found = [each.tables for each in (app.broker, app.backend) if hasattr(each, "tables")]
    if not found:
        raise Failure("Neither broker nor result store keeps tables in a database that has to be migrated.")
    return list({str(tables): tables for tables in found}.values())
