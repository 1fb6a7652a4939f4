"""How a log record looks, and loggers that know their task.

1. `get_task_logger`: the logger for task modules. Our loggers are called `celeriac.…`; their records pass
   through `celery.…`, too.
2. `ColorFormatter` and `TaskFormatter` (text), `JsonFormatter` (one object a line).
3. `LoggingProxy`: a stream that logs what is written to it.
4. What comes from messages cannot forge a record: control characters are written as escapes, and a line that
   continues a record is indented, so that no line starts like a record but a record.

Not here: handlers, levels and files (`app/log.py`). This module imports nothing of ours but `_state`.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from celeriac import _state

__all__ = [
    "ColorFormatter",
    "JsonFormatter",
    "LoggingProxy",
    "TaskFormatter",
    "get_logger",
    "get_task_logger",
    "name_process",
    "printable",
]

BASE_LOGGER: Final = "celeriac"
TASK_LOGGER: Final = "celeriac.task"
REDIRECTED_LOGGER: Final = "celeriac.redirected"
#: Loggers below `celeriac` for which configurations written for Celery have a name of their own.
_TWINS: Final = ("app", "beat", "redirected", "task", "worker")

_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_RESET: Final = "\x1b[0m"
_COLORS: Final = {
    logging.DEBUG: "\x1b[34m",
    logging.WARNING: "\x1b[33m",
    logging.ERROR: "\x1b[31m",
    logging.CRITICAL: "\x1b[1;31m",
}
#: Attributes that every record has: what is not among them was given as `extra`.
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

_process_name: str | None = None


def name_process(name: str) -> None:
    """Let the records of this process carry `name` as their process name (``ForkPoolWorker-1``)."""
    global _process_name
    _process_name = name


def _pass_through_celerys_loggers() -> None:
    """Let a configuration that names `celery`, `celery.task`, `celery.beat`, … count as it stands.

    Records go celeriac.task → celery.task → celery → celeriac → root: levels and handlers may be given under
    either name.
    """
    base = logging.getLogger(BASE_LOGGER)
    logging.getLogger("celery").parent = base
    for room in _TWINS:
        logging.getLogger(f"{BASE_LOGGER}.{room}").parent = logging.getLogger(f"celery.{room}")


_pass_through_celerys_loggers()


def get_logger(name: str) -> logging.Logger:
    """The logger `name`; below the logger `celeriac` when it stands nowhere else."""
    logger = logging.getLogger(name)
    base = logging.getLogger(BASE_LOGGER)
    if logger is not base and logger.parent is logging.root:
        logger.parent = base
    return logger


def get_task_logger(name: str) -> logging.Logger:
    """The logger for a module of tasks; its records carry the running task's id and name.

    Args:
        name: the module's name, ``__name__``.

    Raises:
        RuntimeError: `name` belongs to Celeriac itself.

    Example:
        >>> get_task_logger("proj.tasks").name
        'proj.tasks'
    """
    if name in (BASE_LOGGER, TASK_LOGGER):
        raise RuntimeError(f"The logger {name!r} is Celeriac's own; use get_task_logger(__name__).")
    logger = logging.getLogger(name)
    parent: logging.Logger | None = logger
    while parent is not None and parent.name != TASK_LOGGER:
        parent = parent.parent
    if parent is None:
        logger.parent = logging.getLogger(TASK_LOGGER)
    return logger


def printable(text: str) -> str:
    r"""`text` with control characters as escapes; line ends and tabs stay.

    Example:
        >>> printable("a\x1b[2Jb")
        'a\\x1b[2Jb'
    """
    return _CONTROL.sub(lambda match: repr(match[0])[1:-1], text)


def _is_ours(name: str) -> bool:
    """Does the logger's text come from this package, so that it is one line by intention?"""
    return name.startswith(f"{BASE_LOGGER}.") and name not in (TASK_LOGGER, REDIRECTED_LOGGER)


class ColorFormatter(logging.Formatter):
    """Text, coloured by level.

    Args:
        fmt: format of `logging`; None: its default.
        use_color: write colours.
        datefmt: format of ``%(asctime)s``.
    """

    def __init__(self, fmt: str | None = None, use_color: bool = True, datefmt: str | None = None) -> None:
        super().__init__(fmt, datefmt)
        self.use_color = use_color

    def format(self, record: logging.LogRecord) -> str:
        message = printable(record.getMessage())
        message = message.replace("\n", "\\n" if _is_ours(record.name) else "\n    ")
        color = _COLORS.get(record.levelno) if self.use_color else None
        record.message = f"{color}{message}{_RESET}" if color else message
        if _process_name is not None:
            record.processName = _process_name
        if self.usesTime():
            record.asctime = self.formatTime(record, self.datefmt)
        details = traceback_of(self, record)
        line = self.formatMessage(record)
        return f"{line}\n  " + printable(details).replace("\n", "\n  ") if details else line


class TaskFormatter(ColorFormatter):
    """As `ColorFormatter`, for formats that name ``%(task_id)s`` and ``%(task_name)s``."""

    def format(self, record: logging.LogRecord) -> str:
        for name, value in task_fields(record).items():
            setattr(record, name, value)
        for name in ("task_id", "task_name"):
            if name not in vars(record):
                setattr(record, name, "???")
        return super().format(record)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, process, the task's fields, every `extra`,
    and the traceback, if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC)
        fields: dict[str, Any] = {
            "time": when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": _process_name or record.processName,
            "pid": record.process,
            **task_fields(record),
        }
        for name, value in vars(record).items():
            if name not in _STANDARD and name not in fields:
                fields[name] = value
        details = traceback_of(self, record)
        if details:
            fields["traceback"] = details
        return json.dumps(fields, default=str)


def traceback_of(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    """Traceback and stack of a record: of its `exc_info`, or the text given as ``extra={"traceback": …}``."""
    parts = [formatter.formatException(record.exc_info)] if record.exc_info else []
    text = vars(record).get("traceback")
    if not parts and text:
        parts.append(str(text).rstrip())
    if record.stack_info:
        parts.append(formatter.formatStack(record.stack_info))
    return "\n".join(parts)


def task_fields(record: logging.LogRecord) -> dict[str, Any]:
    """task_id, task_name and queue: what the record carries, else those of the task that is running here."""
    given = vars(record)
    if given.get("task_id"):
        return {name: given[name] for name in ("task_id", "task_name", "queue") if given.get(name)}
    pair = _state.running.get()
    if pair is None:
        return {}
    task, request = pair
    fields = {"task_id": getattr(request, "id", None), "task_name": getattr(task, "name", None)}
    delivery = getattr(request, "delivery_info", None) or {}
    fields["queue"] = delivery.get("queue") or delivery.get("routing_key")
    return {name: value for name, value in fields.items() if value}


class LoggingProxy:
    """A text stream whose lines become log records.

    Args:
        logger: where they go.
        loglevel: their level, a number or a name.
    """

    encoding = "utf-8"
    mode = "w"
    name: str | None = None
    closed = False

    def __init__(self, logger: logging.Logger, loglevel: int | str | None = None) -> None:
        self.logger = logger
        self.loglevel = level_number(loglevel, logger.level or logging.WARNING)
        self._thread = threading.local()  # `busy`: inside a handler; `begun`: the line that is not ended yet

    def write(self, data: str | bytes) -> int:
        """Log the lines that `data` ends. What a handler writes meanwhile goes to the real stderr."""
        text = data.decode("utf-8", "replace") if isinstance(data, bytes) else str(data)
        if getattr(self._thread, "busy", False):
            if sys.__stderr__ is not None:
                sys.__stderr__.write(text)
            return len(data)
        *lines, self._thread.begun = (getattr(self._thread, "begun", "") + text).split("\n")
        self._log(lines)
        return len(data)

    def _log(self, lines: Iterable[str]) -> None:
        self._thread.busy = True
        try:
            for line in lines:
                if line.strip() and not self.closed:
                    self.logger.log(self.loglevel, "%s", line.rstrip())
        finally:
            self._thread.busy = False

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Log the line that was begun in this thread."""
        begun, self._thread.begun = getattr(self._thread, "begun", ""), ""
        if begun and not getattr(self._thread, "busy", False):
            self._log([begun])

    def close(self) -> None:
        self.closed = True

    def isatty(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False


def level_number(level: int | str | None, default: int) -> int:
    """The number of a level given by number or name; `default` for None.

    Raises:
        ValueError: no level has that name.
    """
    if level is None:
        return default
    if isinstance(level, int):
        return level
    number = logging.getLevelNamesMapping().get(level.strip().upper())
    if number is None:
        known = "DEBUG, INFO, WARNING, ERROR, CRITICAL"
        raise ValueError(f"There is no log level {level!r}; choose one of {known}.")
    return number


def is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except (AttributeError, ValueError):  # a closed or foreign stream is no terminal
        return False
