"""Workers and schedulers as they are started from a shell."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.faults.harness import until

PROJECT = """
from celeriac import Celeriac
from celeriac.utils.log import get_task_logger

app = Celeriac("proj")
logger = get_task_logger(__name__)
app.conf.beat_schedule = {"often": {"task": "proj.greet", "schedule": 0.2, "args": ("beat",)}}


@app.task
def greet(name):
    logger.info("greeting %s", name)
    print("printed for", name)
    return f"hello {name}"


@app.task
def whoami():
    import os
    return [os.getuid(), os.getgid()]
"""

Run = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "proj.py").write_text(PROJECT)
    return tmp_path


@pytest.fixture
def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CELER", "DJANGO"))}
    return {**kept, "CELERIAC_APP": "proj"}


@pytest.fixture
def run(folder: Path, environment: dict[str, str]) -> Run:
    def run(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "celeriac", *words]
        return subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=90, **options
        )

    return run


@pytest.fixture
def start(folder: Path, environment: dict[str, str]) -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def start(*words: str, **options: Any) -> subprocess.Popen[str]:
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, **options}
        command = [sys.executable, "-m", "celeriac", *words]
        started.append(subprocess.Popen(command, cwd=folder, env=environment, **options))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def stopped(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> str:
    """End the program; its output. It has to end well."""
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    return output or ""


def test_a_task_runs_and_is_logged(run: Run, start: Start) -> None:
    worker = start("worker", "-l", "info", "-c", "1")
    assert run("call", "proj.greet", "-a", '["Ada"]', "--wait", "60").stdout == "hello Ada\n"
    output = stopped(worker)
    (greeting,) = [line for line in output.splitlines() if line.endswith("greeting Ada")]
    assert "INFO/" in greeting
    assert "proj.greet[" in greeting
    (printed,) = [line for line in output.splitlines() if line.endswith("printed for Ada")]
    assert "WARNING/" in printed


def test_json_logs_are_objects_with_the_tasks_fields(run: Run, start: Start) -> None:
    worker = start("worker", "-l", "info", "-c", "1", "--log-format", "json")
    run("call", "proj.greet", "-a", '["Ada"]', "--wait", "60")
    records = [json.loads(line) for line in stopped(worker).splitlines()]
    (greeting,) = [record for record in records if record["message"] == "greeting Ada"]
    assert (greeting["task_name"], greeting["queue"]) == ("proj.greet", "celery")
    assert {record["task_id"] for record in records if record.get("task_name")} == {greeting["task_id"]}


def test_a_log_file_takes_everything(run: Run, start: Start, folder: Path) -> None:
    worker = start("worker", "-l", "info", "-c", "1", "-n", "w1@box", "-f", "%n.log")
    run("call", "proj.greet", "-a", '["Ada"]', "--wait", "60")
    output = stopped(worker)
    assert "greeting Ada" in (folder / "w1.log").read_text()
    assert output.splitlines()[0].startswith("w1@box v")
    assert "greeting" not in output


def test_a_terminal_sees_the_banner(start: Start, run: Run) -> None:
    leader, follower = pty.openpty()
    worker = start("worker", "-l", "info", "-c", "1", stdout=follower, stderr=follower)
    os.close(follower)
    run("call", "proj.greet", "-a", '["Ada"]', "--wait", "60")
    worker.send_signal(signal.SIGTERM)
    seen = b""
    while True:
        try:
            data = os.read(leader, 65536)
        except OSError:  # Linux says so when the last writer is gone
            break
        if not data:
            break
        seen += data
    os.close(leader)
    assert worker.wait(60) == 0
    text = seen.decode()
    assert ".> transport:   sqlite://" in text
    assert "  . proj.greet" in text
    assert "\x1b[" in text


def test_the_pid_file_is_held_while_it_runs(start: Start, run: Run, folder: Path) -> None:
    worker = start("worker", "-c", "1", "--pidfile", "worker.pid")
    pidfile = folder / "worker.pid"
    until(lambda: pidfile.exists() and pidfile.read_text(), 20)
    assert pidfile.read_text() == f"{worker.pid}\n"
    second = run("worker", "-c", "1", "--pidfile", "worker.pid")
    assert second.returncode == 73
    assert f"belongs to process {worker.pid}" in second.stderr
    run("call", "proj.greet", "-a", '["Ada"]', "--wait", "60")
    stopped(worker)
    assert not pidfile.exists()


def test_a_detached_worker_lives_on_its_own(run: Run, folder: Path) -> None:
    done = run("worker", "--detach", "-c", "1", "--pidfile", "w.pid", "-f", "w.log", "-l", "info")
    assert done.returncode == 0, done.stderr
    pid = int(until(lambda: (folder / "w.pid").exists() and (folder / "w.pid").read_text(), 20))
    try:
        assert os.getsid(pid) == pid
        assert run("call", "proj.greet", "-a", '["Ada"]', "--wait", "60").stdout == "hello Ada\n"
    finally:
        os.kill(pid, signal.SIGTERM)
    until(lambda: not (folder / "w.pid").exists(), 20, "the pid file is removed")


def test_a_detached_worker_that_cannot_start_is_not_passed_over(run: Run) -> None:
    done = run("worker", "--detach", "-A", "nosuchmodule")
    assert done.returncode != 0
    assert "nosuchmodule" in done.stderr


def test_settings_behind_two_dashes_are_for_this_worker(run: Run, start: Start) -> None:
    worker = start("worker", "-c", "1", "-l", "info", "--", "task_log_format=x")
    output, _ = worker.communicate(timeout=60)
    assert worker.returncode == 1
    assert "task_log_format" in output
    assert "Traceback" not in output


def test_beat_sends_what_is_due(run: Run, start: Start) -> None:
    beat = start("beat", "-l", "info")
    until(lambda: json.loads(run("queues", "--json").stdout)[0]["depth"] > 1, 20)
    assert "proj.greet" in stopped(beat)


def test_only_root_chooses_user_and_group(run: Run, start: Start) -> None:
    worker = start("worker", "-c", "1", "--gid", "65534")
    if os.geteuid() == 0:
        output = run("call", "proj.whoami", "--wait", "60").stdout
        stopped(worker)
        assert json.loads(output) == [0, 65534]
    else:
        output, _ = worker.communicate(timeout=60)
        assert worker.returncode == 2
        assert "Only root" in output
