"""The worker: owns every process, thread and loop.

    supervisor.py  one loop: children, signals, hard limits       heart.py     leases, sweeps, burials
    children.py, signalling.py  what the supervisor sees and hears
    slots.py       which processes are wanted, and when           shutdown.py  warm, soft, cold
    template.py    the process that forks children                child.py     lane + courier, put together
    courier.py     broker ↔ lane                                  lanes/       where bodies run
    request.py     one delivery → one settlement                  ledger.py    shared page: what runs and did
    job.py         a delivery that is to run                      telling.py   handlers, signals, logs
    roster.py      who is idle                                    inprocess.py a worker inside a test
    whereabouts.py, trail.py, lifelines.py, suspects.py  where the broker has no leases
    banner.py, logs.py  what a person sees

`start` is the composition root: settings and options become a running node.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import platform
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from celeriac import __version__
from celeriac.app.queues import declarations
from celeriac.exceptions import ImproperlyConfigured, OperationalError
from celeriac.worker.banner import Facts, banner, headline
from celeriac.worker.options import POOLS, WorkerOptions

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac

__all__ = ["WorkerOptions", "complete", "start", "usable_cpus"]

logger = logging.getLogger("celeriac.worker")


def start(app: Celeriac, options: WorkerOptions) -> int:
    """Run one worker node until it is told to stop; return its exit status.

    Raises:
        ImproperlyConfigured: an option or setting is wrong.
    """
    from celeriac import signals
    from celeriac.worker import logs
    from celeriac.worker.supervisor import Supervisor

    options = complete(app, options)
    signals.celeryd_init.send(
        sender=options.hostname, instance=None, conf=app.conf, options=options._asdict()
    )
    logs.setup(app, options)
    signals.celeryd_after_setup.send(sender=options.hostname, instance=None, conf=app.conf)
    warnings = _prepare_queues(app, options)
    if not options.quiet:
        _introduce(
            _facts(app, options, warnings), options, app.log.supports_color(options.color, options.logfile)
        )
    signals.worker_init.send(sender=None)
    app.broker.close()  # nothing connected may cross the fork
    app.backend.close()
    supervisor = Supervisor(app, options, store_name(app))
    code = supervisor.run()
    if supervisor.shutdown.restart:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    return code


def complete(app: Celeriac, options: WorkerOptions) -> WorkerOptions:
    """Options with every question answered, from the settings where the command line is silent."""
    app.loader.import_default_modules()
    for module in options.include:
        app.loader.import_task_module(module)
    app.finalize(auto=True)
    conf = app.conf
    pool = POOLS.get(options.pool or conf.worker_pool)
    if pool is None:
        raise ImproperlyConfigured(
            f"Unknown pool {options.pool or conf.worker_pool!r}: use one of {', '.join(sorted(POOLS))}. "
            "(gevent and eventlet: use 'asyncio' or 'threads'.)"
        )
    if not app.broker.capabilities.processes:
        raise ImproperlyConfigured(
            "The broker memory:// lives inside one process, so a worker process cannot reach it. Use "
            "celeriac.contrib.testing.worker.start_worker inside that process, or leave broker_url unset: "
            "the embedded store needs no configuration."
        )
    concurrency = options.concurrency or conf.worker_concurrency or usable_cpus()
    return options._replace(
        pool=pool,
        hostname=options.hostname or f"celery@{socket.gethostname()}",
        concurrency=1 if pool == "solo" else concurrency,
        queues=tuple(app.queues_to_consume(options.queues, options.exclude_queues)),
        max_tasks_per_child=options.max_tasks_per_child or conf.worker_max_tasks_per_child,
        max_memory_per_child=options.max_memory_per_child or conf.worker_max_memory_per_child,
        task_events=conf.worker_send_task_events if options.task_events is None else options.task_events,
    )


def usable_cpus() -> int:
    """Processors that this process may use: its affinity, and the quota of its control group."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()[:2]
    except (OSError, ValueError):  # no control groups here, or of the first version: affinity alone counts
        return cpus
    return cpus if quota == "max" else max(1, min(cpus, math.ceil(int(quota) / int(period))))


def store_name(app: Celeriac) -> str:
    """Names the broker's store, so that ledgers of workers of another store are left alone."""
    return hashlib.sha256(f"{app.conf.broker_read_url} {os.getcwd()}".encode()).hexdigest()[:16]


def _prepare_queues(app: Celeriac, options: WorkerOptions) -> Sequence[str]:
    """Declare, purge if asked; return what the store cannot promise. A broker that is down is waited for,
    unless the settings say otherwise."""
    conf = app.conf
    on_startup = conf.broker_connection_retry_on_startup
    patient = conf.broker_connection_retry if on_startup is None else on_startup
    try:
        app.broker.declare(declarations([app.queues[name] for name in options.queues or ()]))
        if options.purge:
            for name in options.queues or ():
                logger.warning("Purged %d messages from %s.", app.broker.purge(name), name)
        warnings = app.broker.warnings()
    except OperationalError as exc:
        if not patient:
            raise
        logger.error("Cannot reach the broker yet: %s", exc)
        return ()
    for warning in warnings:
        logger.warning("%s", warning)
    return warnings


def _introduce(facts: Facts, options: WorkerOptions, color: bool) -> None:
    """Say what this worker is: the banner on a terminal, else one line. `sys.stdout` may be the log."""
    out = sys.__stdout__
    if options.log_format == "json" or out is None:
        logger.info("%s", headline(facts))
    elif out.isatty():
        print(banner(facts, color=color, show_tasks=options.loglevel <= logging.INFO), file=out, flush=True)
    else:
        print(headline(facts), file=out, flush=True)


def _facts(app: Celeriac, options: WorkerOptions, warnings: Sequence[str]) -> Facts:
    conf = app.conf
    try:
        server = app.broker.describe()
    except OperationalError:
        server = "not reachable yet"
    return Facts(
        hostname=str(options.hostname),
        version=__version__,
        platform=f"{platform.system()} Python {platform.python_version()}",
        app=app.main or "__main__",
        transport=conf.broker_read_url or "",
        server=server,
        results=conf.result_backend or "disabled",
        concurrency=options.concurrency or 1,
        pool=options.pool or "",
        task_events=bool(options.task_events),
        acks_late=conf.task_acks_late,
        time_limit=options.time_limit or conf.task_time_limit,
        soft_time_limit=options.soft_time_limit or conf.task_soft_time_limit,
        queues=declarations([app.queues[name] for name in options.queues or ()]),
        tasks=sorted(app.tasks),
        warnings=warnings,
    )
