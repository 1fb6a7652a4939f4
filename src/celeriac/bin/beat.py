"""`celeriac beat`: parse, then run `apps/beat.py`."""

from __future__ import annotations

from typing import Any, Final

import click

from celeriac.bin.base import DaemonCommand, Option
from celeriac.bin.context import CLIContext
from celeriac.bin.params import LOG_LEVEL

__all__ = ["beat"]

BEAT: Final = "Beat Options"


@click.command("beat", cls=DaemonCommand, context_settings={"allow_extra_args": True})
@click.option(
    "--detach", cls=Option, help_group=BEAT, is_flag=True, default=False, help="Run in the background."
)
@click.option(
    "-s",
    "--schedule",
    cls=Option,
    help_group=BEAT,
    help="File that keeps when each entry last ran. Default: beat_schedule_filename.",
)
@click.option("-S", "--scheduler", cls=Option, help_group=BEAT, help="Scheduler class to use.")
@click.option(
    "--max-interval", cls=Option, help_group=BEAT, type=int, help="Most seconds to sleep between two looks."
)
@click.option(
    "--enable-remote-control/--no-enable-remote-control",
    "remote_control",
    cls=Option,
    help_group=BEAT,
    default=None,
    help="No effect: the scheduler answers no remote control.",
)
@click.option("-n", "--hostname", cls=Option, help_group=BEAT, help="Name for logs. Default: celery@%h")
@click.option(
    "-l",
    "--loglevel",
    cls=Option,
    help_group=BEAT,
    type=LOG_LEVEL,
    default="WARNING",
    show_default=True,
    help="Least level of what is logged.",
)
@click.option(
    "--log-format",
    cls=Option,
    help_group=BEAT,
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How records are written: text, or one JSON object a line.",
)
@click.pass_context
def beat(ctx: click.Context, /, **given: Any) -> None:
    """Start the scheduler: sends the tasks of beat_schedule when they are due."""
    context: CLIContext = ctx.obj
    if given["detach"]:
        from celeriac.bin.daemon import detach

        detach(ctx, "beat")
        return

    from celeriac.apps.beat import Beat
    from celeriac.bin.daemon import PidFile, become
    from celeriac.utils.nodenames import default_nodename, host_format

    become(given["uid"], given["gid"], given["umask"])
    app = context.app
    if ctx.args:
        app.config_from_cmdline(ctx.args, namespace="beat")
    with PidFile(given["pidfile"]):
        Beat(
            given["max_interval"],
            app,
            no_color=context.no_color,
            loglevel=given["loglevel"],
            logfile=given["logfile"],
            schedule=given["schedule"],
            scheduler=given["scheduler"],
            quiet=context.quiet,
            hostname=host_format(default_nodename(given["hostname"])),
            log_format=given["log_format"],
        ).run()
