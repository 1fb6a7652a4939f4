"""Pid files, and who a program runs as."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from celeriac.bin.base import CannotCreate
from celeriac.bin.daemon import PidFile, become


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "worker.pid"


class TestPidFile:
    def test_holds_the_process_id_while_the_program_runs(self, path: Path) -> None:
        with PidFile(str(path)):
            assert path.read_text() == f"{os.getpid()}\n"
        assert list(path.parent.iterdir()) == []

    def test_a_running_owner_is_not_disturbed(self, path: Path) -> None:
        path.write_text(f"{os.getppid()}\n")
        with pytest.raises(CannotCreate, match=f"belongs to process {os.getppid()}"), PidFile(str(path)):
            pass
        assert path.read_text() == f"{os.getppid()}\n"
        assert CannotCreate.exit_code == 73

    def test_a_dead_owner_is_replaced(self, path: Path) -> None:
        dead = subprocess.Popen([sys.executable, "-c", ""])
        dead.wait()
        path.write_text(f"{dead.pid}\n")
        with PidFile(str(path)):
            assert path.read_text() == f"{os.getpid()}\n"

    @pytest.mark.parametrize("text", ["", "not a number"])
    def test_a_damaged_file_is_replaced(self, path: Path, text: str) -> None:
        path.write_text(text)
        with PidFile(str(path)):
            assert path.read_text() == f"{os.getpid()}\n"

    def test_a_restarted_program_keeps_its_file(self, path: Path) -> None:
        path.write_text(f"{os.getpid()}\n")
        with PidFile(str(path)):
            assert path.read_text() == f"{os.getpid()}\n"

    def test_a_folder_that_is_missing_is_named(self, path: Path) -> None:
        with pytest.raises(CannotCreate, match="No such file"), PidFile(str(path.parent / "no" / "file")):
            pass

    def test_without_a_path_nothing_is_written(self) -> None:
        with PidFile(None):
            pass


class TestBecome:
    def test_umask_is_octal(self) -> None:
        before = os.umask(0)
        os.umask(before)
        try:
            become(None, None, "027")
            assert os.umask(before) == 0o027
        finally:
            os.umask(before)

    def test_a_bad_umask_is_refused(self) -> None:
        with pytest.raises(click.UsageError, match="octal"):
            become(None, None, "9")

    def test_an_unknown_user_is_named(self) -> None:
        with pytest.raises(click.UsageError, match="nobody-of-that-name"):
            become("nobody-of-that-name", None, None)

    def test_user_and_group_change_together(self) -> None:
        script = (
            "import os; from celeriac.bin.daemon import become; become('65534', None, None);"
            "print(os.getuid(), os.getgid())"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        if os.geteuid() == 0:
            assert done.stdout.split()[0] == "65534"
        else:
            assert "Only root" in done.stderr
