"""`celeriac worker`: parse, then hand everything over to `celeriac.worker.start`.

1. Celery's options with their names, short forms and environment variables.
2. Options that Celery needs and Celeriac does not are accepted, and the help says why they have no effect;
   those that are not built are refused with what to use instead.

Not here: anything that a worker does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from celeriac.bin.base import DaemonCommand, Option
from celeriac.bin.completion import queue_names
from celeriac.bin.context import CLIContext
from celeriac.bin.params import COMMA_SEPARATED_LIST, CONCURRENCY, LOG_LEVEL, WORKERS_POOL

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac
    from celeriac.worker.options import WorkerOptions

__all__ = ["worker"]

F = TypeVar("F", bound=Callable[..., Any])

WORKER: Final = "Worker Options"
POOL: Final = "Pool Options"
QUEUES: Final = "Queue Options"
FEATURES: Final = "Features"
BEAT: Final = "Embedded Beat Options"

EPILOG: Final = """
\b
Examples:
  celeriac -A proj worker -l info                  one process for each CPU
  celeriac -A proj worker -c 8 -Q mail,default     eight processes, two queues
  celeriac -A proj worker -P asyncio -c 200        200 `async def` tasks at a time in one process
  celeriac -A proj worker --log-format json -f /var/log/%n.log
  celeriac -A proj worker -- task_time_limit=60    settings for this worker alone

\b
Signals: TERM and INT finish what is running and stop; QUIT stops at once and gives the work back.
"""


def option(*names: str, group: str, help: str, **kwargs: Any) -> Callable[[F], F]:
    return click.option(*names, cls=Option, help_group=group, help=help, **kwargs)


@click.command("worker", cls=DaemonCommand, epilog=EPILOG, context_settings={"allow_extra_args": True})
@option("-n", "--hostname", group=WORKER, help="Name of the node; %h is the host. Default: celery@%h")
@option("-D", "--detach", group=WORKER, is_flag=True, default=False, help="Run in the background.")
@option(
    "-S",
    "--statedb",
    group=WORKER,
    type=click.Path(),
    help="No effect: revoked tasks are kept in the broker, for all workers.",
)
@option(
    "-l",
    "--loglevel",
    group=WORKER,
    type=LOG_LEVEL,
    default="WARNING",
    show_default=True,
    help="Least level of what is logged.",
)
@option(
    "--log-format",
    group=WORKER,
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How records are written: text, or one JSON object a line.",
)
@option(
    "--ready-file",
    group=WORKER,
    type=click.Path(),
    help="A file that exists, and is touched every second, while the worker is connected and takes tasks.",
)
@option(
    "-O",
    "--optimization",
    group=WORKER,
    type=click.Choice(["default", "fair"]),
    default="default",
    help="No effect: a process takes only what it can start soon.",
)
@option(
    "--prefetch-multiplier", group=WORKER, type=int, help="No effect: what is fetched is bounded by run time."
)
@option(
    "--disable-prefetch",
    group=WORKER,
    is_flag=True,
    default=None,
    help="No effect: what is fetched is bounded by run time.",
)
@option(
    "-c",
    "--concurrency",
    group=POOL,
    type=CONCURRENCY,
    help="Tasks at a time: a number, or 'auto'. Default: worker_concurrency, else the usable CPUs.",
)
@option("-P", "--pool", group=POOL, type=WORKERS_POOL, help="How tasks run. Default: worker_pool (prefork).")
@option(
    "-E",
    "--task-events",
    "--events",
    group=POOL,
    is_flag=True,
    default=None,
    help="Send events that monitors can follow; not part of this version.",
)
@option("--time-limit", group=POOL, type=float, help="Seconds after which a task is killed.")
@option("--soft-time-limit", group=POOL, type=float, help="Seconds after which a task is interrupted.")
@option("--max-tasks-per-child", group=POOL, type=int, help="Tasks after which a process is replaced.")
@option(
    "--max-memory-per-child", group=POOL, type=int, help="KiB of memory above which a process is replaced."
)
@option(
    "--pool-start-method",
    group=POOL,
    type=click.Choice(["fork", "spawn"]),
    help="How processes are made; fork from a clean template is the default.",
)
@option("--purge", "--discard", group=QUEUES, is_flag=True, help="Drop all waiting messages at the start.")
@option(
    "--queues",
    "-Q",
    group=QUEUES,
    type=COMMA_SEPARATED_LIST,
    shell_complete=queue_names,
    help="Queues to take from, separated by commas. Default: all of task_queues.",
)
@option(
    "--exclude-queues",
    "-X",
    group=QUEUES,
    type=COMMA_SEPARATED_LIST,
    shell_complete=queue_names,
    help="Queues not to take from.",
)
@option("--include", "-I", group=QUEUES, type=COMMA_SEPARATED_LIST, help="Further modules with tasks.")
@option("--without-gossip", group=FEATURES, is_flag=True, help="No effect: there is no gossip.")
@option("--without-mingle", group=FEATURES, is_flag=True, help="No effect: a start waits for nobody.")
@option("--without-heartbeat", group=FEATURES, is_flag=True, help="No effect: there are no heartbeat events.")
@option("--heartbeat-interval", group=FEATURES, type=int, help="No effect: there are no heartbeat events.")
@option("--autoscale", group=FEATURES, metavar="MAX,MIN", help="Not available: TTIN and TTOU resize.")
@option("-B", "--beat", group=BEAT, is_flag=True, help="Run the scheduler in this worker as well.")
@option("-s", "--schedule-filename", "--schedule", group=BEAT, help="File that keeps the schedule's state.")
@option("--scheduler", group=BEAT, help="Scheduler class to use.")
@click.pass_context
def worker(ctx: click.Context, /, **given: Any) -> None:
    """Start a worker: processes that take tasks from the queues and run them."""
    context: CLIContext = ctx.obj
    refuse_unbuilt(given)
    if given["detach"]:
        from celeriac.bin.daemon import detach

        detach(ctx, "worker")
        return

    from celeriac.bin.daemon import PidFile, become
    from celeriac.worker import start

    become(given["uid"], given["gid"], given["umask"])
    app = context.app
    apply_settings(app, given, ctx.args)
    options = options_from(given, context)
    with PidFile(options.pidfile):
        code = start(app, options)
    ctx.exit(code)


def refuse_unbuilt(given: Mapping[str, Any]) -> None:
    """Say no, with the replacement, to what would otherwise be ignored to the user's harm."""
    if given["autoscale"]:
        raise click.UsageError(
            "--autoscale is not available. Choose a size with -c; a running worker grows by one process "
            "on the signal TTIN and shrinks by one on TTOU."
        )


def apply_settings(app: Celeriac, given: Mapping[str, Any], assignments: list[str]) -> None:
    """Put options that are settings, and `name=value` arguments, into the application's configuration."""
    chosen = {
        "worker_prefetch_multiplier": given["prefetch_multiplier"],
        "worker_disable_prefetch": given["disable_prefetch"],
    }
    app.conf.update({name: value for name, value in chosen.items() if value is not None})
    if assignments:
        app.config_from_cmdline(assignments, namespace="worker")


def options_from(given: Mapping[str, Any], context: CLIContext) -> WorkerOptions:
    """The parsed options as the worker takes them."""
    from celeriac.utils.nodenames import default_nodename, host_format, node_format
    from celeriac.worker import WorkerOptions, usable_cpus

    hostname = host_format(default_nodename(given["hostname"]))
    pidfile = given["pidfile"]
    ready_file = given["ready_file"]
    concurrency = given["concurrency"]
    return WorkerOptions(
        app=context.spec,
        hostname=hostname,
        queues=tuple(given["queues"]) if given["queues"] else None,
        exclude_queues=tuple(given["exclude_queues"] or ()),
        concurrency=usable_cpus() if concurrency == "auto" else concurrency,
        pool=given["pool"],
        loglevel=given["loglevel"],
        logfile=given["logfile"],
        log_format=given["log_format"],
        color=False if context.no_color else None,
        quiet=context.quiet,
        time_limit=given["time_limit"],
        soft_time_limit=given["soft_time_limit"],
        max_tasks_per_child=given["max_tasks_per_child"],
        max_memory_per_child=given["max_memory_per_child"],
        task_events=given["task_events"],
        purge=given["purge"],
        beat=given["beat"],
        schedule=given["schedule_filename"],
        scheduler=given["scheduler"],
        include=tuple(given["include"] or ()),
        pidfile=node_format(pidfile, hostname) if pidfile else None,
        ready_file=node_format(ready_file, hostname) if ready_file else None,
        optimization=given["optimization"],
    )
