"""Watching results come in: on a terminal with and without rich, and where there is none."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest

from celeriac.exceptions import TimeoutError
from celeriac.result import AsyncResult, EagerResult, GroupResult, Progress, Update
from celeriac.result import watching as module
from celeriac.result.watching import Meter, watch

LEAVES: list[AsyncResult[Any]] = [AsyncResult(name) for name in "abc"]
ENDS = [Update("a", "SUCCESS", 1), Update("b", "FAILURE", ValueError("x")), Update("c", "SUCCESS", 3)]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture
def no_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "celeriac.result.bars", raising=False)
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.delattr("celeriac.result.bars", raising=False)


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "JPY_PARENT_PID"):
        monkeypatch.delenv(name, raising=False)


def test_what_a_meter_says_of_many() -> None:
    meter = Meter(4, "files")
    meter.take(Update("a", "STARTED"))
    meter.take(Update("b", "PROGRESS", None, Progress(1, 2)))
    assert (meter.position, meter.fraction, meter.over) == ("0/4", 0.125, False)
    meter.take(Update("b", "REVOKED"))
    meter.take(Update("a", "SUCCESS"))
    assert (meter.position, meter.fraction, meter.failed) == ("2/4", 0.5, 1)
    assert "1 failed" in meter.remark
    for name in "cd":
        meter.take(Update(name, "SUCCESS"))
    assert (meter.over, meter.fraction) == (True, 1.0)


def test_what_a_meter_says_of_one() -> None:
    meter = Meter(1, "import")
    assert (meter.position, meter.fraction, meter.remark) == ("", None, "PENDING")
    meter.take(Update("a", "STARTED"))
    assert (meter.fraction, meter.remark) == (None, "STARTED")
    meter.take(Update("a", "PROGRESS", None, Progress(1200, 4800, "reading")))
    assert (meter.position, meter.fraction, meter.remark) == ("1,200/4,800", 0.25, "reading")
    meter.take(Update("a", "PROGRESS", None, Progress(1300)))
    assert (meter.position, meter.fraction, meter.remark) == ("1,300", None, "PROGRESS")
    meter.take(Update("a", "SUCCESS"))
    assert (meter.position, meter.fraction, meter.remark) == ("", 1.0, "SUCCESS")


def test_without_a_terminal_there_are_lines() -> None:
    stream = io.StringIO()
    watch(LEAVES, ENDS, "files", stream)
    assert stream.getvalue() == "  files  3/3  1 failed\n"


def test_lines_come_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.Log, "pause", 0.0)
    stream = io.StringIO()
    watch(LEAVES, ENDS, "files", stream)
    assert [line.split()[1] for line in stream.getvalue().splitlines()] == ["1/3", "2/3", "3/3"]


def test_an_end_before_the_end_is_told() -> None:
    def updates() -> object:
        yield ENDS[0]
        raise TimeoutError("too late")

    stream = io.StringIO()
    with pytest.raises(TimeoutError):
        watch(LEAVES, updates(), "files", stream)  # type: ignore[arg-type]
    assert stream.getvalue() == "  files  1/3\n"


@pytest.mark.usefixtures("no_rich")
@pytest.mark.parametrize(("encoding", "full"), [("utf-8", "█"), ("ascii", "#")])
def test_without_rich_a_line_is_redrawn(encoding: str, full: str) -> None:
    stream = Terminal()
    stream.encoding = encoding
    watch(LEAVES, ENDS, "files", stream)
    last = stream.getvalue().splitlines()[-1].split("\x1b[2K")[-1]
    assert last == f"  [{full * 40}] files  3/3  1 failed"
    assert stream.getvalue().endswith("\n")


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    watch(LEAVES, ENDS, "files", stream)
    assert stream.getvalue() == "  files  3/3  1 failed\n"


def test_with_rich_there_is_its_bar() -> None:
    pytest.importorskip("rich")
    stream = Terminal()
    watch(LEAVES, ENDS, "[files]", stream)
    shown = stream.getvalue()
    assert "\x1b[" in shown
    assert "━" in shown
    for text in ("[files]", "3/3", "1 failed"):
        assert text in shown


def test_watching_what_is_there() -> None:
    group = GroupResult("g", [EagerResult("a", 1, "SUCCESS"), EagerResult("b", 2, "SUCCESS")])
    stream = io.StringIO()
    assert group.watch(file=stream, label="calls") == [1, 2]
    assert stream.getvalue() == "  calls  2/2\n"
    assert EagerResult("a", 1, "SUCCESS").watch() == 1
    assert GroupResult("g", []).watch(file=stream) == []


def test_watch_raises_what_get_raises() -> None:
    group = GroupResult("g", [EagerResult("a", ValueError("x"), "FAILURE"), EagerResult("b", 2, "SUCCESS")])
    stream = io.StringIO()
    with pytest.raises(ValueError, match="x"):
        group.watch(file=stream)
    assert "2/2  1 failed" in stream.getvalue()
    first, second = group.watch(propagate=False, file=stream)
    assert (str(first), second) == ("x", 2)
