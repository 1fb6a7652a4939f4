"""The schedule file: kept across kills, one scheduler at a time, nothing destroyed."""

from __future__ import annotations

import logging
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from celeriac.beat.store import Ran, ScheduleFile, ScheduleFileError, ScheduleFileInUse
from celeriac.exceptions import ImproperlyConfigured

AT = datetime(2024, 5, 15, 10, 20, 30, 123456, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "celerybeat-schedule"


@pytest.fixture
def file(path: Path) -> Iterator[ScheduleFile]:
    opened = ScheduleFile(path, patience=0.1)
    opened.open()
    yield opened
    opened.close()


def reopened(path: Path) -> dict[str, Ran]:
    again = ScheduleFile(path, patience=0.1)
    again.open()
    try:
        return again.load()
    finally:
        again.close()


def asides(path: Path) -> list[Path]:
    return [found for found in path.parent.glob("*.aside-*") if not found.name.endswith(("-wal", "-shm"))]


def test_what_is_saved_is_loaded_to_the_microsecond(file: ScheduleFile, path: Path) -> None:
    file.save({"a": Ran(AT, 3), "b": Ran(AT + timedelta(days=1), 0)})
    file.save({"a": Ran(AT + timedelta(seconds=1), 4)})
    file.close()
    assert reopened(path) == {"a": Ran(AT + timedelta(seconds=1), 4), "b": Ran(AT + timedelta(days=1), 0)}


def test_what_is_forgotten_is_gone(file: ScheduleFile, path: Path) -> None:
    file.save({"a": Ran(AT, 3), "b": Ran(AT, 1)})
    file.forget(["a", "never there"])
    assert file.load() == {"b": Ran(AT, 1)}


def test_times_of_other_zones_are_the_same_instant(file: ScheduleFile) -> None:
    from zoneinfo import ZoneInfo

    file.save({"a": Ran(AT.astimezone(ZoneInfo("Asia/Tokyo")), 1)})
    assert file.load()["a"].last_run_at == AT


def test_a_killed_process_loses_nothing_it_had_written(path: Path) -> None:
    code = f"""
import os, signal
from datetime import UTC, datetime
from celeriac.beat.store import Ran, ScheduleFile
file = ScheduleFile({str(path)!r}); file.open()
for number in range(50):
    file.save({{"a": Ran(datetime(2024, 5, 15, tzinfo=UTC), number)}})
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL
    assert reopened(path)["a"].total_run_count == 49
    assert not asides(path)


def test_a_second_scheduler_is_refused_while_the_first_lives(file: ScheduleFile, path: Path) -> None:
    code = f"from celeriac.beat.store import ScheduleFile; ScheduleFile({str(path)!r}, patience=0.1).open()"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert "ScheduleFileInUse" in done.stderr
    assert "another scheduler is running" in done.stderr
    with pytest.raises(ScheduleFileInUse):
        ScheduleFile(path, patience=0.1).open()
    file.close()
    assert reopened(path) == {}


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"\0" * 4096, os.urandom(9000)])
def test_a_damaged_file_is_moved_aside(path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    path.write_bytes(content)
    with caplog.at_level(logging.ERROR):
        assert reopened(path) == {}
    (aside,) = asides(path)
    assert aside.read_bytes() == content
    assert "was moved to" in caplog.text
    assert str(aside) in caplog.text


def test_a_file_cut_short_is_moved_aside(file: ScheduleFile, path: Path) -> None:
    file.save({f"entry {number}" * 10: Ran(AT, number) for number in range(500)})
    file.close()
    size = path.stat().st_size
    with path.open("r+b") as stream:
        stream.seek(size // 2)
        stream.write(os.urandom(size - size // 2))
    assert reopened(path) == {}
    assert len(asides(path)) == 1


def test_an_unreadable_time_is_damage(file: ScheduleFile, path: Path) -> None:
    file.save({"a": Ran(AT, 1)})
    file.close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE entries SET last_run_at = 'yesterday'")
    db.close()
    assert reopened(path) == {}
    assert len(asides(path)) == 1


def test_a_database_of_another_program_is_left_as_it_was(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE Dict (key BLOB, value BLOB)")
    db.close()
    before = path.read_bytes()
    assert reopened(path) == {}
    (aside,) = asides(path)
    assert aside.read_bytes() == before


def test_an_empty_file_is_a_new_one(path: Path) -> None:
    path.touch()
    assert reopened(path) == {}
    assert not asides(path)


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(ImproperlyConfigured, match="folder must exist"):
        ScheduleFile(tmp_path / "nowhere" / "file").open()


def test_writing_to_a_closed_file_is_an_error(file: ScheduleFile) -> None:
    file.close()
    file.close()
    with pytest.raises(ScheduleFileError, match="not open"):
        file.save({"a": Ran(AT, 1)})
