"""What a worker is started with: the command line's choices, parsed; None means 'ask the settings'."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["POOLS", "WorkerOptions"]

#: Lane names by what the command line accepts (Celery's spellings included).
POOLS = {
    "prefork": "prefork",
    "processes": "prefork",
    "solo": "solo",
    "threads": "threads",
    "asyncio": "asyncio",
}


class WorkerOptions(NamedTuple):
    """Options of one worker node.

    Attributes:
        app: what `-A` named, so that a spawned child can find the same application.
        hostname: node name; ``%h``, ``%n``, ``%d`` already expanded.
        queues: names to consume from; None: all of `task_queues`, or the default queue.
        concurrency: lanes' slots; None: `worker_concurrency`, else the number of usable CPUs.
        pool: a key of `POOLS`.
        loglevel: a `logging` level number.
        time_limit, soft_time_limit: seconds.
        max_memory_per_child: KiB of resident memory.
        ready_file: exists, and is touched every second, while the node is at work.
        beat: run the scheduler beside the children.
    """

    app: str | None = None
    hostname: str | None = None
    queues: tuple[str, ...] | None = None
    exclude_queues: tuple[str, ...] = ()
    concurrency: int | None = None
    pool: str | None = None
    loglevel: int = 30
    logfile: str | None = None
    log_format: str = "text"
    color: bool | None = None
    quiet: bool = False
    time_limit: float | None = None
    soft_time_limit: float | None = None
    max_tasks_per_child: int | None = None
    max_memory_per_child: int | None = None
    task_events: bool | None = None
    purge: bool = False
    beat: bool = False
    schedule: str | None = None
    scheduler: str | None = None
    include: tuple[str, ...] = ()
    pidfile: str | None = None
    ready_file: str | None = None
    optimization: str | None = None
