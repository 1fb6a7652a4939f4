"""`app.log`: the logging of worker and scheduler, set up from the settings and the command line.

1. Root and task loggers get one handler: the terminal or a log file, as text or as JSON.
2. The signals `setup_logging` (whoever receives it configures logging, we then touch nothing),
   `after_setup_logger`, `after_setup_task_logger`.
3. stdout and stderr become log records (`worker_redirect_stdouts`).

A client never sets up logging: nothing here runs unless worker or scheduler call `setup`.
Not here: how a record looks (`utils/log.py`).
"""

from __future__ import annotations

import logging
import os
import sys
from logging.handlers import WatchedFileHandler
from typing import TYPE_CHECKING, Any, Literal

from celeriac import signals
from celeriac.utils.log import (
    BASE_LOGGER,
    REDIRECTED_LOGGER,
    TASK_LOGGER,
    ColorFormatter,
    JsonFormatter,
    LoggingProxy,
    TaskFormatter,
    get_logger,
    is_terminal,
    level_number,
)
from celeriac.utils.nodenames import node_format

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac

__all__ = ["Logging", "TaskFormatter"]

LogFormat = Literal["text", "json"]


class Logging:
    """Sets up logging for one process; once, however often it is asked.

    Args:
        app: the application whose `worker_log_…`, `worker_hijack_root_logger` and `worker_redirect_stdouts…`
            settings count.
    """

    #: Logging has been set up in this process.
    already_setup = False

    def __init__(self, app: Celeriac) -> None:
        self.app = app
        self.loglevel = logging.WARNING
        self.log_format: LogFormat = "text"

    @property
    def format(self) -> str:
        return str(self.app.conf.worker_log_format)

    @property
    def task_format(self) -> str:
        return str(self.app.conf.worker_task_log_format)

    @property
    def colorize(self) -> bool | None:
        color: bool | None = self.app.conf.worker_log_color
        return color

    def setup(
        self,
        loglevel: int | str | None = None,
        logfile: str | None = None,
        redirect_stdouts: bool = False,
        redirect_level: int | str = "WARNING",
        colorize: bool | None = None,
        hostname: str | None = None,
        log_format: LogFormat = "text",
    ) -> bool:
        """Set up everything a long-running program needs.

        Args:
            loglevel: a level's number or name; None: WARNING.
            logfile: path; None: the terminal (stderr).
            redirect_stdouts: turn what is printed into log records of `redirect_level`.
            colorize: True, False, or None: only on a terminal.
            hostname: the node's name, which ``%n`` and ``%h`` in `logfile` stand for.
            log_format: text, or JSON lines.

        Returns:
            True when a receiver of `setup_logging` has taken over the configuration.
        """
        self.log_format = log_format
        handled = self.setup_logging_subsystem(loglevel, logfile, colorize=colorize, hostname=hostname)
        if redirect_stdouts and not handled:
            self.redirect_stdouts(redirect_level)
        return handled

    def setup_logging_subsystem(
        self,
        loglevel: int | str | None = None,
        logfile: str | None = None,
        format: str | None = None,
        colorize: bool | None = None,
        hostname: str | None = None,
        datefmt: str | None = None,
        **kwargs: Any,
    ) -> bool:
        """Root logger and task logger; True when a receiver of `setup_logging` did it instead."""
        if Logging.already_setup:
            return True
        Logging.already_setup = True
        self.loglevel = level_number(loglevel, logging.WARNING)
        if logfile and hostname:
            logfile = node_format(logfile, hostname, i="0", I="")
        format = format or self.format
        colorize = self.supports_color(colorize, logfile)
        told = {"loglevel": self.loglevel, "logfile": logfile, "format": format, "colorize": colorize}
        if signals.setup_logging.send(sender=None, **told):
            return True

        root = logging.getLogger()
        if self.app.conf.worker_hijack_root_logger:
            for logger in (root, *map(logging.getLogger, (BASE_LOGGER, TASK_LOGGER, REDIRECTED_LOGGER))):
                logger.handlers = []
        datefmt = datefmt or self.app.conf.worker_log_datefmt
        self.setup_handlers(root, logfile, format, colorize, datefmt=datefmt)
        root.setLevel(self.loglevel)
        signals.after_setup_logger.send(sender=None, logger=root, **told)
        self.setup_task_loggers(self.loglevel, logfile, colorize=colorize)
        return False

    def setup_task_loggers(
        self,
        loglevel: int | str | None = None,
        logfile: str | None = None,
        format: str | None = None,
        colorize: bool | None = None,
        propagate: bool = False,
        datefmt: str | None = None,
        **kwargs: Any,
    ) -> logging.Logger:
        """The logger behind `get_task_logger`: its records name the running task."""
        level = level_number(loglevel, self.loglevel)
        format = format or self.task_format
        colorize = self.supports_color(colorize, logfile)
        logger = get_logger(TASK_LOGGER)
        datefmt = datefmt or self.app.conf.worker_task_log_datefmt
        self.setup_handlers(logger, logfile, format, colorize, formatter=TaskFormatter, datefmt=datefmt)
        logger.setLevel(level)
        logger.propagate = propagate
        signals.after_setup_task_logger.send(
            sender=None, logger=logger, loglevel=level, logfile=logfile, format=format, colorize=colorize
        )
        return logger

    def setup_handlers(
        self,
        logger: logging.Logger,
        logfile: str | None,
        format: str,
        colorize: bool,
        formatter: type[ColorFormatter] = ColorFormatter,
        datefmt: str | None = None,
        **kwargs: Any,
    ) -> logging.Logger:
        """Give `logger` one handler, unless it has one already."""
        if not any(type(handler) is not logging.NullHandler for handler in logger.handlers):
            handler = handler_for(logfile)
            json_lines = self.log_format == "json"
            look = JsonFormatter() if json_lines else formatter(format, use_color=colorize, datefmt=datefmt)
            handler.setFormatter(look)
            logger.addHandler(handler)
        return logger

    def supports_color(self, colorize: bool | None = None, logfile: Any = None) -> bool:
        """Should records be coloured: as asked here, else as `worker_log_color` says, else on terminals."""
        if self.log_format == "json" or logfile:
            return False
        colorize = self.colorize if colorize is None else colorize
        if colorize is None:
            return is_terminal(sys.__stderr__) and not os.environ.get("NO_COLOR")
        return colorize

    def redirect_stdouts(self, loglevel: int | str | None = None, name: str = REDIRECTED_LOGGER) -> None:
        """Turn what this process prints into log records."""
        self.redirect_stdouts_to_logger(get_logger(name), loglevel)

    def redirect_stdouts_to_logger(
        self,
        logger: logging.Logger,
        loglevel: int | str | None = None,
        stdout: bool = True,
        stderr: bool = True,
    ) -> LoggingProxy:
        proxy = LoggingProxy(logger, loglevel)
        if stdout:
            sys.stdout = proxy
        if stderr:
            sys.stderr = proxy
        return proxy

    def get_default_logger(self, name: str = BASE_LOGGER, **kwargs: Any) -> logging.Logger:
        return get_logger(name)


def handler_for(logfile: str | None) -> logging.Handler:
    """A handler for the file (reopened when it is rotated away), or for the terminal."""
    if logfile:
        return WatchedFileHandler(logfile, encoding="utf-8")
    return logging.StreamHandler(sys.__stderr__)
