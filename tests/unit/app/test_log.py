"""`app.log`: handlers, levels, formats, signals, redirection."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from celeriac import Celeriac
from celeriac.app.log import Logging
from celeriac.signals import after_setup_logger, after_setup_task_logger, setup_logging
from celeriac.utils.log import LoggingProxy, get_task_logger

NAMES = ("", "celeriac", "celeriac.task", "celeriac.redirected")


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """The real stderr; afterwards logging is as it was before."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "__stderr__", stream)
    monkeypatch.setattr(Logging, "already_setup", False)
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    loggers = [logging.getLogger(name) for name in NAMES]
    before = [(logger, logger.handlers, logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers = []
    yield stream
    for logger, handlers, level, propagate in before:
        for handler in logger.handlers:
            handler.close()
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.fixture
def app() -> Iterator[Celeriac]:
    with Celeriac("proj", set_as_current=False) as app:
        yield app


def test_levels_and_formats(app: Celeriac, terminal: io.StringIO) -> None:
    assert app.log.setup("INFO") is False
    logging.getLogger("proj").info("hello")
    logging.getLogger("proj").debug("not this")
    get_task_logger("proj.tasks").info("from a task")
    first, second = terminal.getvalue().splitlines()
    assert first.endswith(": INFO/MainProcess] hello")
    assert second.endswith(": INFO/MainProcess] ???[???]: from a task")


def test_it_is_set_up_once(app: Celeriac, terminal: io.StringIO) -> None:
    app.log.setup("INFO")
    app.log.setup("DEBUG")
    logging.getLogger("proj").info("once")
    assert terminal.getvalue().count("once") == 1


def test_json_lines(app: Celeriac, terminal: io.StringIO) -> None:
    app.log.setup("INFO", log_format="json", colorize=True)
    logging.getLogger("proj").info("hello")
    assert json.loads(terminal.getvalue())["message"] == "hello"


def test_a_file_that_is_rotated_away_is_opened_again(app: Celeriac, tmp_path: Path) -> None:
    app.log.setup("INFO", str(tmp_path / "%n.log"), hostname="w1@box")
    path = tmp_path / "w1.log"
    logging.getLogger("proj").info("one")
    path.rename(tmp_path / "old.log")
    logging.getLogger("proj").info("two")
    assert path.read_text().endswith("two\n")
    assert (tmp_path / "old.log").read_text().endswith("one\n")


def test_foreign_handlers_are_replaced_unless_told_otherwise(app: Celeriac) -> None:
    mine = logging.NullHandler()
    foreign = logging.StreamHandler(io.StringIO())
    logging.getLogger().handlers = [mine, foreign]
    app.log.setup("INFO")
    assert foreign not in logging.getLogger().handlers


def test_a_root_logger_that_is_not_ours_to_hijack(app: Celeriac, terminal: io.StringIO) -> None:
    foreign = logging.StreamHandler(io.StringIO())
    logging.getLogger().handlers = [foreign]
    app.conf.worker_hijack_root_logger = False
    app.log.setup("INFO")
    assert logging.getLogger().handlers == [foreign]


def test_a_receiver_of_setup_logging_takes_over(app: Celeriac) -> None:
    told: dict[str, Any] = {}

    def receiver(**named: Any) -> None:
        told.update(named)

    before = list(logging.getLogger().handlers)
    setup_logging.connect(receiver)
    try:
        assert app.log.setup("INFO", redirect_stdouts=True) is True
    finally:
        setup_logging.disconnect(receiver)
    assert told["loglevel"] == logging.INFO
    assert logging.getLogger().handlers == before
    assert not isinstance(sys.stdout, LoggingProxy)


def test_the_signals_after_setup_carry_the_loggers(app: Celeriac) -> None:
    seen = []

    def receiver(logger: logging.Logger, **named: Any) -> None:
        seen.append(logger.name)

    after_setup_logger.connect(receiver)
    after_setup_task_logger.connect(receiver)
    try:
        app.log.setup("INFO")
    finally:
        after_setup_logger.disconnect(receiver)
        after_setup_task_logger.disconnect(receiver)
    assert seen == ["root", "celeriac.task"]


def test_what_is_printed_becomes_a_record(app: Celeriac, terminal: io.StringIO) -> None:
    app.log.setup("INFO", redirect_stdouts=True, redirect_level="ERROR")
    print("printed")
    print("complained", file=sys.stderr)
    lines = terminal.getvalue().splitlines()
    assert [line.rpartition("] ")[2] for line in lines] == ["printed", "complained"]
    assert all("ERROR" in line for line in lines)


@pytest.mark.parametrize(
    ("asked", "setting", "logfile", "colored"),
    [
        (None, None, None, False),
        (True, None, None, True),
        (None, True, None, True),
        (False, True, None, False),
        (True, True, "file", False),
    ],
)
def test_when_records_are_colored(
    app: Celeriac, asked: bool | None, setting: bool | None, logfile: str | None, colored: bool
) -> None:
    app.conf.worker_log_color = setting
    assert app.log.supports_color(asked, logfile) is colored
