"""`celeriac beat`: parse, set up logging and signals, run the scheduler (`beat/`)."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import click

from celeriac.bin.base import DaemonCommand, Option
from celeriac.bin.context import CLIContext
from celeriac.bin.params import LOG_LEVEL

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac

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

    from celeriac.bin.daemon import PidFile, become

    become(given["uid"], given["gid"], given["umask"])
    app = context.app
    if ctx.args:
        app.config_from_cmdline(ctx.args, namespace="beat")
    with PidFile(given["pidfile"]):
        run(app, given, context)


def run(app: Celeriac, given: Mapping[str, Any], context: CLIContext) -> None:
    """Schedule until the signal TERM or INT."""
    from celeriac.app.settings import mask_url
    from celeriac.beat import Service
    from celeriac.utils.nodenames import default_nodename, host_format

    hostname = host_format(default_nodename(given["hostname"]))
    conf = app.conf
    app.log.setup(
        given["loglevel"],
        given["logfile"],
        redirect_stdouts=conf.worker_redirect_stdouts,
        redirect_level=conf.worker_redirect_stdouts_level,
        colorize=False if context.no_color else None,
        hostname=hostname,
        log_format=given["log_format"],
    )
    app.import_default_modules()
    app.finalize(auto=True)
    service = Service(
        app,
        max_interval=given["max_interval"],
        schedule_filename=given["schedule"],
        scheduler_cls=given["scheduler"],
        hostname=hostname,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: service.stop())
    if not context.quiet:
        scheduler = service.scheduler
        print(
            f"beat {hostname}: app={app.main or '__main__'} transport={mask_url(conf.broker_url or '')} "
            f"scheduler={type(scheduler).__name__} entries={len(scheduler.schedule)}",
            file=sys.__stdout__,
            flush=True,
        )
    service.start()
