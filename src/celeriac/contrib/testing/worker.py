"""A worker inside the test's own process.

1. `start_worker`: a context manager with Celery's signature.

Not here: how it runs (`worker/inprocess.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac
    from celeriac.worker.inprocess import InProcessWorker

__all__ = ["start_worker"]


@contextmanager
def start_worker(
    app: Celeriac,
    concurrency: int = 1,
    pool: str = "solo",
    loglevel: int | str | None = None,
    logfile: str | None = None,
    perform_ping_check: bool = True,
    ping_task_timeout: float = 10.0,
    shutdown_timeout: float = 10.0,
    **kwargs: Any,
) -> Iterator[InProcessWorker]:
    """Run `app`'s tasks in threads of this process while the context lasts.

    Args:
        concurrency: threads.
        pool, loglevel, logfile, perform_ping_check, ping_task_timeout, shutdown_timeout: not needed; the
            worker is consuming when the context begins, and has finished what runs when it ends.
        kwargs: `queues` (names) and `hostname`; others are ignored.

    Example:
        >>> from celeriac import Celeriac
        >>> app = Celeriac("demo", broker="memory://", backend="memory://", set_as_current=False)
        >>> @app.task(name="double")
        ... def double(x):
        ...     return 2 * x
        >>> with start_worker(app):
        ...     double.delay(21).get(timeout=5)
        42
    """
    from celeriac.worker.inprocess import InProcessWorker

    with InProcessWorker(
        app, queues=kwargs.get("queues"), concurrency=concurrency, hostname=kwargs.get("hostname")
    ) as worker:
        yield worker
