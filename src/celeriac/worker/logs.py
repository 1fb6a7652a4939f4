"""Logging of a worker's processes, from the options it was started with.

1. `setup`: once in the supervisor before it forks, so that children inherit handlers and redirection; a
   spawned child calls it itself.
2. `name_process`: what records call this process.

Not here: how (`app/log.py`), how a record looks (`utils/log.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from celeriac.utils.log import name_process

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac
    from celeriac.worker.options import WorkerOptions

__all__ = ["name_process", "setup"]


def setup(app: Celeriac, options: WorkerOptions) -> bool:
    """Set up logging as `options` and the settings say.

    Returns:
        True when a receiver of the signal `setup_logging` has taken over the configuration.
    """
    return app.log.setup(
        options.loglevel,
        options.logfile,
        redirect_stdouts=app.conf.worker_redirect_stdouts,
        redirect_level=app.conf.worker_redirect_stdouts_level,
        colorize=options.color,
        hostname=options.hostname,
        log_format="json" if options.log_format == "json" else "text",
    )
