"""How a log record looks."""

from __future__ import annotations

import io
import json
import logging
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from celeriac import _state
from celeriac.utils.log import (
    ColorFormatter,
    JsonFormatter,
    LoggingProxy,
    TaskFormatter,
    get_task_logger,
    level_number,
    name_process,
    printable,
)


def record(
    message: str = "hello", *args: Any, name: str = "proj", level: int = logging.INFO, **extra: Any
) -> Any:
    made = logging.LogRecord(name, level, __file__, 1, message, args, None)
    vars(made).update(extra)
    return made


@pytest.fixture
def running_task() -> Any:
    task = SimpleNamespace(name="proj.add")
    request = SimpleNamespace(id="abc", delivery_info={"routing_key": "mail"})
    token = _state.running.set((task, request))
    yield
    _state.running.reset(token)


class TestText:
    def test_a_message_cannot_start_a_line_of_its_own(self) -> None:
        line = ColorFormatter("[%(levelname)s] %(message)s", use_color=False).format(
            record("a\n[INFO] forged")
        )
        assert line == "[INFO] a\n    [INFO] forged"

    def test_our_own_records_are_one_line(self) -> None:
        made = record("Task %s done", "x\n[INFO] forged", name="celeriac.worker")
        assert ColorFormatter("%(message)s", use_color=False).format(made) == "Task x\\n[INFO] forged done"

    def test_terminal_controls_are_shown_not_obeyed(self) -> None:
        made = record("name=%s", "\x1b]0;pwned\x07\r\x9b2J")
        assert ColorFormatter("%(message)s", use_color=False).format(made) == r"name=\x1b]0;pwned\x07\r\x9b2J"

    def test_color_follows_the_level(self) -> None:
        formatter = ColorFormatter("%(message)s")
        assert formatter.format(record("bad", level=logging.ERROR)) == "\x1b[31mbad\x1b[0m"
        assert formatter.format(record("fine")) == "fine"

    def test_tracebacks_are_indented_and_escaped(self) -> None:
        made = record("failed")
        try:
            raise ValueError("x\n[INFO] forged \x1b[2J")
        except ValueError:
            made.exc_info = sys.exc_info()
        lines = ColorFormatter("%(message)s", use_color=False).format(made).splitlines()
        assert lines[0] == "failed"
        assert all(line.startswith("  ") for line in lines[1:])
        assert lines[-1] == "  [INFO] forged \\x1b[2J"

    def test_a_traceback_of_another_process_is_given_as_text(self) -> None:
        made = record("failed", traceback="Traceback …\nValueError: x\n")
        assert ColorFormatter("%(message)s", False).format(made) == "failed\n  Traceback …\n  ValueError: x"

    def test_unicode_is_left_alone(self) -> None:
        assert printable("café ☕\t✓") == "café ☕\t✓"


class TestTaskFields:
    FORMAT = "%(task_name)s[%(task_id)s]: %(message)s"

    def test_of_the_running_task(self, running_task: None) -> None:
        assert TaskFormatter(self.FORMAT, False).format(record()) == "proj.add[abc]: hello"

    def test_given_fields_win(self, running_task: None) -> None:
        made = record(task_id="other", task_name="proj.mul")
        assert TaskFormatter(self.FORMAT, False).format(made) == "proj.mul[other]: hello"

    def test_outside_a_task(self) -> None:
        assert TaskFormatter(self.FORMAT, False).format(record()) == "???[???]: hello"


class TestJson:
    def test_one_object_a_line(self) -> None:
        line = JsonFormatter().format(record("a\nb \x1b[2J", level=logging.WARNING))
        assert "\n" not in line
        assert "\x1b" not in line
        fields = json.loads(line)
        assert fields["message"] == "a\nb \x1b[2J"
        assert (fields["level"], fields["logger"]) == ("WARNING", "proj")
        assert fields["time"].endswith("Z")

    def test_task_fields_and_extras(self, running_task: None) -> None:
        fields = json.loads(JsonFormatter().format(record(customer=7, thing=object)))
        assert (fields["task_id"], fields["task_name"], fields["queue"]) == ("abc", "proj.add", "mail")
        assert fields["customer"] == 7
        assert fields["thing"] == str(object)

    def test_traceback_is_a_field(self) -> None:
        made = record("failed")
        try:
            raise ValueError("x")
        except ValueError:
            made.exc_info = sys.exc_info()
        assert json.loads(JsonFormatter().format(made))["traceback"].endswith("ValueError: x")


def test_a_process_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celeriac.utils.log._process_name", None)
    name_process("ForkPoolWorker-3")
    assert ColorFormatter("%(processName)s", False).format(record()) == "ForkPoolWorker-3"
    assert json.loads(JsonFormatter().format(record()))["process"] == "ForkPoolWorker-3"


class TestTaskLogger:
    def test_hangs_below_the_task_logger(self) -> None:
        assert get_task_logger("a.module.of.tasks").parent is logging.getLogger("celeriac.task")

    def test_refuses_our_own_names(self) -> None:
        with pytest.raises(RuntimeError, match="__name__"):
            get_task_logger("celeriac")


class TestProxy:
    @pytest.fixture
    def logger(self) -> Any:
        logger = logging.getLogger("test.proxy")
        logger.propagate = False
        logger.setLevel(logging.DEBUG)
        yield logger
        logger.handlers = []

    def test_lines_become_records(self, logger: logging.Logger) -> None:
        out = io.StringIO()
        logger.addHandler(logging.StreamHandler(out))
        print("one\n\ntwo %s", file=LoggingProxy(logger, "WARNING"))
        assert out.getvalue() == "one\ntwo %s\n"

    def test_the_pieces_of_a_line_are_one_record(self, logger: logging.Logger) -> None:
        out = io.StringIO()
        logger.addHandler(logging.StreamHandler(out))
        proxy = LoggingProxy(logger)
        print("one", 2, end=" ", file=proxy)
        print("three", file=proxy)
        print("begun", end="", file=proxy, flush=True)
        assert out.getvalue() == "one 2 three\nbegun\n"

    def test_a_handler_that_prints_does_not_recurse(
        self, logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        proxy = LoggingProxy(logger)
        real = io.StringIO()
        monkeypatch.setattr(sys, "__stderr__", real)

        class Printing(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                print("inside", file=proxy)

        logger.addHandler(Printing())
        print("outside", file=proxy)
        assert real.getvalue() == "inside\n"

    def test_nothing_is_logged_after_close(self, logger: logging.Logger) -> None:
        out = io.StringIO()
        logger.addHandler(logging.StreamHandler(out))
        proxy = LoggingProxy(logger)
        proxy.close()
        print("late", file=proxy)
        assert out.getvalue() == ""


def test_level_names_and_numbers() -> None:
    assert level_number("info", 0) == level_number(20, 0) == level_number(None, 20) == 20
    with pytest.raises(ValueError, match="choose one of"):
        level_number("loud", 0)
