"""The root command: subcommands, names, environment, start-up."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from celeriac.bin.main import COMMANDS, celeriac


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(celeriac, list(arguments), env=environment, prog_name="celeriac")


def test_without_a_command_the_help_is_shown() -> None:
    result = run()
    assert result.exit_code == 0
    assert all(f"  {name} " in result.output for name in COMMANDS)


def test_version() -> None:
    assert run("--version").output.startswith("celeriac ")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    asked = run("help", command)
    assert asked.exit_code == 0
    assert asked.output == run(command, "--help").output


def test_help_of_a_nested_command() -> None:
    assert "Usage: celeriac dead retry" in run("help", "dead", "retry").output


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["wroker"], "There is no command 'wroker'. Did you mean 'worker'?"),
        (["dead", "lits"], "There is no command 'lits'. Did you mean 'list'?"),
        (["help", "purg"], "Did you mean 'purge'?"),
        (["graph"], "Celeriac has no command 'graph'"),
        (["worker", "--autoscale", "10,3"], "TTIN"),
        (["worker", "-P", "eventlet"], "-P asyncio"),
    ],
)
def test_what_does_not_exist_is_answered_with_what_does(arguments: list[str], answer: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert answer in " ".join(result.output.split())


def test_the_environment_names_are_in_the_help() -> None:
    assert "CELERIAC_WORKER_MAX_TASKS_PER_CHILD" in run("worker", "--help").output


@pytest.mark.parametrize("name", ["CELERIAC_WORKER_POOL", "CELERY_WORKER_POOL"])
def test_options_come_from_the_environment(name: str) -> None:
    result = run("worker", **{name: "gevent"})
    assert result.exit_code == 2
    assert "-P asyncio" in " ".join(result.output.split())


def test_our_variable_wins_over_celerys() -> None:
    result = run("worker", CELERIAC_WORKER_CONCURRENCY="none", CELERY_WORKER_CONCURRENCY="2")
    assert "'none' is neither" in result.output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str) -> None:
    result = run("completion", shell)
    assert result.exit_code == 0
    assert "_CELERIAC_COMPLETE" in result.output


def test_bash_is_told_the_commands(tmp_path: Path) -> None:
    asked = {"_CELERIAC_COMPLETE": "bash_complete", "COMP_WORDS": "celeriac wor", "COMP_CWORD": "1"}
    command = [sys.executable, "-m", "celeriac"]
    environment = {**os.environ, **asked}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.split() == ["plain,worker"]


def test_a_broken_application_does_not_disturb_completion(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("1 / 0\n")
    words = "celeriac -A broken call t"
    asked = {"_CELERIAC_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": "4"}
    command = [sys.executable, "-m", "celeriac"]
    environment = {**os.environ, **asked}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert (done.stdout.strip(), done.stderr) == ("", "")


def test_task_names_are_completed(tmp_path: Path) -> None:
    (tmp_path / "proj.py").write_text(
        "from celeriac import Celeriac\napp = Celeriac('proj')\n@app.task\ndef tidy(): pass\n"
    )
    asked = {
        "_CELERIAC_COMPLETE": "bash_complete",
        "COMP_WORDS": "celeriac -A proj call proj.t",
        "COMP_CWORD": "4",
    }
    command = [sys.executable, "-m", "celeriac"]
    environment = {**os.environ, **asked}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.split() == ["plain,proj.tidy"]


def test_parsing_a_worker_imports_little() -> None:
    script = (
        "import sys; from celeriac.bin.main import celeriac; celeriac.get_command(None, 'worker');"
        "print(*[name for name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {name for name in loaded if name.startswith("celeriac.bin.")} == {
        "celeriac.bin.base",
        "celeriac.bin.completion",
        "celeriac.bin.context",
        "celeriac.bin.main",
        "celeriac.bin.params",
        "celeriac.bin.worker",
    }
    assert not loaded & {"asyncio", "importlib.metadata", "msgspec", "sqlite3", "celeriac.app.base"}


def test_a_missing_folder_is_refused() -> None:
    result = run("--workdir", "/no/such/folder", "queues")
    assert result.exit_code == 2
    assert "No such file or directory" in result.output
