"""Database connections and caches of a worker, by the rules that Django keeps between requests.

1. `before_task`, `after_task`: a task is a request. Connections older than `CONN_MAX_AGE` and those that have
   failed are closed; all others are kept, so a worker opens no more than it has lanes. One that lay idle for
   a while is tried before a task gets it, so that a restarted database fails no task.
2. `before_fork`, `after_fork`: no connection and no pool is shared between processes.

Each thread has its own connections, so all of this runs in the thread that runs the task. Coroutines share
the one thread in which Django runs their database calls; there it is done when no other coroutine is at work.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from typing import Any, Final

from asgiref.sync import SyncToAsync
from django.core.cache import caches  # type: ignore[import-untyped]
from django.db import connections  # type: ignore[import-untyped]

__all__ = ["after_fork", "after_task", "before_fork", "before_task"]

logger = logging.getLogger("celeriac.contrib.django")

#: Seconds for which what was tidied after a task is still tidy before the next.
_FRESH: Final = 0.1
#: Seconds of rest after which a connection is tried before it is used.
_IDLE: Final = 2.0


class _Lane(threading.local):
    """What is remembered per thread: when its last task ended."""

    rested_since: float = 0.0


_lane = _Lane()
#: Ids of the coroutine tasks at work in this process.
_coroutines: set[str] = set()
#: This process runs nothing but tasks, so a transaction that is open between them is a task's left-over.
_worker_process = False


def _open() -> Any:
    return connections.all(initialized_only=True)


def before_task(task_id: str) -> None:
    """Get the connections of this thread ready for a task."""
    if _in_loop():
        _coroutines.add(task_id)
        SyncToAsync.single_thread_executor.submit(_renew, only_failed=len(_coroutines) > 1)
    else:
        _renew()


def after_task(task_id: str) -> None:
    """Close what must not be kept after a task."""
    if task_id in _coroutines:
        _coroutines.discard(task_id)
        SyncToAsync.single_thread_executor.submit(_tidy, only_failed=bool(_coroutines))
    else:
        _tidy()


def _in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _renew(*, only_failed: bool = False) -> None:
    rested = time.monotonic() - _lane.rested_since
    if rested < _FRESH:
        return
    for connection in _open():
        connection.queries_log.clear()
        _close_if_unfit(connection, only_failed=only_failed)
        if rested > _IDLE and connection.connection is not None and not connection.in_atomic_block:
            _close_if_dead(connection)


def _tidy(*, only_failed: bool = False) -> None:
    for connection in _open():
        connection.queries_log.clear()
        if connection.in_atomic_block and _worker_process and not only_failed:
            _drop(connection)
        else:
            _close_if_unfit(connection, only_failed=only_failed)
    for cache in caches.all(initialized_only=True):
        cache.close()
    _lane.rested_since = time.monotonic()


def _close_if_unfit(connection: Any, *, only_failed: bool) -> None:
    # Others may be reading through a connection that is merely old.
    if not only_failed or connection.errors_occurred:
        connection.close_if_unusable_or_obsolete()


def _close_if_dead(connection: Any) -> None:
    if not connection.is_usable():
        logger.info("The database connection %r was lost while idle; it is opened anew.", connection.alias)
        connection.close()


def _drop(connection: Any) -> None:
    """Roll back and forget a connection whose task ended inside a transaction."""
    logger.warning(
        "A task ended inside a transaction on the database %r; it is rolled back.", connection.alias
    )
    with contextlib.suppress(Exception):  # it is being thrown away: whatever it says is of no use
        connection.close()
    del connections[connection.alias]


def before_fork() -> None:
    """Close every connection and pool of this thread: what is open in a child must be the child's."""
    for connection in _open():
        connection.close()
        if hasattr(connection, "close_pool"):
            connection.close_pool()
    for cache in caches.all(initialized_only=True):
        cache.close()


def after_fork() -> None:
    """Begin with no connections. Should one have come across the fork, it is left to the parent."""
    global _worker_process
    _coroutines.clear()
    _worker_process = True
    for connection in list(_open()):
        if connection.connection is not None:
            _abandon(connection)
        del connections[connection.alias]


def _abandon(connection: Any) -> None:
    """Let go of a connection that the parent uses, without saying goodbye to the server over its socket."""
    logger.warning(
        "The database connection %r was open when this process was forked; it is not used here. Close "
        "connections that are opened while modules are imported.",
        connection.alias,
    )
    with contextlib.suppress(Exception):  # SQLite's and others have no socket
        os.close(connection.connection.fileno())
    connection.connection = None
