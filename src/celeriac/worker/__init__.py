"""The worker: owns every process, thread and loop.

    supervisor.py  one loop: children, signals, hard limits       heart.py     leases, sweeps, burials
    template.py    the process that forks children                child.py     lane + courier, put together
    courier.py     broker ↔ lane                                  lanes.py     where bodies run
    request.py     one delivery → one settlement                  ledger.py    shared page: what runs, what is done
    banner.py, logs.py  what a person sees                        inprocess.py a worker inside a test

`start` is the composition root: settings and options become a running node.
"""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import sys
from typing import TYPE_CHECKING

from celeriac.exceptions import ImproperlyConfigured, OperationalError
from celeriac.worker.options import POOLS, WorkerOptions

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac

__all__ = ["WorkerOptions", "complete", "start"]

logger = logging.getLogger("celeriac.worker")


def start(app: Celeriac, options: WorkerOptions) -> int:
    """Run one worker node until it is told to stop; return its exit status.

    Raises:
        ImproperlyConfigured: an option or setting is wrong.
    """
    from celeriac import signals
    from celeriac.worker import banner, logs
    from celeriac.worker.supervisor import Supervisor

    options = complete(app, options)
    signals.celeryd_init.send(sender=options.hostname, instance=None, conf=app.conf, options=options._asdict())
    logs.setup(app, options)
    signals.celeryd_after_setup.send(sender=options.hostname, instance=None, conf=app.conf)
    if not options.quiet:
        print(banner.render(app, options), flush=True)
    _prepare_queues(app, options)
    signals.worker_init.send(sender=None)
    app.broker.close()  # nothing connected may cross the fork
    app.backend.close()
    supervisor = Supervisor(app, options, store_name(app))
    code = supervisor.run()
    if supervisor.restart:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    return code


def complete(app: Celeriac, options: WorkerOptions) -> WorkerOptions:
    """Options with every question answered, from the settings where the command line is silent."""
    app.import_default_modules(options.include)
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
            "celeriac.contrib.testing.worker.start_worker inside that process, or leave broker_url unset: the "
            "embedded store needs no configuration."
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
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def store_name(app: Celeriac) -> str:
    """Names the broker's store, so that ledgers of workers of another store are left alone."""
    return hashlib.sha256(f"{app.conf.broker_url} {os.getcwd()}".encode()).hexdigest()[:16]


def _prepare_queues(app: Celeriac, options: WorkerOptions) -> None:
    """Declare, purge if asked, and warn of what the store cannot promise. A broker that is down is waited for."""
    try:
        app.broker.declare([app.queues[name] for name in options.queues or ()])
        if options.purge:
            for name in options.queues or ():
                logger.warning("Purged %d messages from %s.", app.broker.purge(name), name)
        for warning in app.broker.warnings():
            logger.warning("%s", warning)
    except OperationalError as exc:
        logger.error("Cannot reach the broker yet: %s", exc)
