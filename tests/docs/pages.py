"""Runs a page of documentation as a reader would: its code blocks, in order, in an empty folder.

1. A ``python`` block whose first line is a comment with a file's name is that file. Other ``python`` blocks
   are typed into one Python session that lasts for the page; ``print(…)  # 5`` states what is printed. A file
   may be added to: ``# settings.py, below what is there``.
2. In a ``console`` block, ``$ `` begins a command. Workers and schedulers run until the page ends and then
   have to stop cleanly; other commands have to succeed, and to print the lines that follow them, if any.
3. Installing is not repeated: that what is named exists is checked instead.
4. Comments direct: ``<!-- docs: redis -->``, ``rabbitmq``, ``postgresql``, ``mongodb`` (a server takes the
   place of the address in `SERVERS`), ``<!-- docs: wait COMMAND -->`` (until COMMAND succeeds).
"""

from __future__ import annotations

import configparser
import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["PAGES", "ROOT", "SERVERS", "Page", "Step", "steps_of"]

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
#: How pages write the addresses of servers.
SERVERS = {
    "redis": "redis://localhost:6379/0",
    "rabbitmq": "amqp://guest:guest@localhost:5672//",
    "postgresql": "postgresql://localhost/tasks",
    "mongodb": "mongodb://localhost:27017/tasks",
}

_STEP = re.compile(
    r"<!-- docs: (?P<order>.*?) -->|^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)
_FILE = re.compile(r"# (?P<name>[\w./-]+\.\w+)(?P<below>, below what is there)?\n")
_PRINTS = re.compile(r"^print\(.*\)  # (?P<printed>.*)$", re.MULTILINE)
_BACKGROUND = re.compile(r"\bceleriac\b.*\s(worker|beat)\b")

#: Executes the blocks it is sent, one JSON line each, in one namespace.
_SESSION = """
import contextlib, io, json, sys, traceback
space = {"__name__": "__main__"}
for line in sys.stdin:
    block = json.loads(line)
    out, error = io.StringIO(), ""
    with contextlib.redirect_stdout(out):
        try:
            exec(compile(block["code"], block["name"], "exec"), space)
        except BaseException:
            error = traceback.format_exc()
    print(json.dumps({"out": out.getvalue(), "error": error}), flush=True)
"""


class Step(NamedTuple):
    """One thing to do: a block in `language`, or an order (`language` is then ``order``)."""

    line: int
    language: str
    text: str


def steps_of(page: Path) -> list[Step]:
    """The code blocks and orders of `page`, in order."""
    source = page.read_text()
    found = []
    for match in _STEP.finditer(source):
        line = source.count("\n", 0, match.start()) + 1
        if match["order"] is not None:
            found.append(Step(line, "order", match["order"]))
        else:
            found.append(Step(line, match["language"], match["text"]))
    return found


class Page:
    """One reader: a folder, an environment, a Python session, and programs in the background.

    `servers`: real addresses by the names in `SERVERS`.
    """

    def __init__(self, path: Path, folder: Path, servers: Mapping[str, str] | None = None) -> None:
        self.path = path
        self.folder = folder
        self.servers = dict(servers or {})
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("CELER", "DJANGO"))}
        tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**kept, "PATH": tools, "PYTHONPATH": str(folder), "NO_COLOR": "1"}
        self.background: list[tuple[str, subprocess.Popen[bytes], Path]] = []
        self._session: subprocess.Popen[str] | None = None

    def run(self) -> None:
        """Take every step of the page."""
        try:
            for step in steps_of(self.path):
                self._take(step)
        finally:
            self._end_session()
            stopped = [self._stop(*program) for program in self.background]
        assert not any(stopped), "\n".join(filter(None, stopped))

    def _take(self, step: Step) -> None:
        name = f"{self.path.relative_to(ROOT)}:{step.line}"
        text = step.text
        for server, address in self.servers.items():
            text = text.replace(SERVERS[server], address)
        if step.language == "python":
            self._python(name, text)
        elif step.language == "console":
            self._console(name, text)
        elif step.language == "toml":
            tomllib.loads(text)
        elif step.language == "ini":
            configparser.ConfigParser(strict=False, interpolation=None).read_string(text)
        elif step.language == "order" and step.text.startswith("wait "):
            self._wait(name, text.removeprefix("wait "))
        else:
            assert step.language in ("order", "text"), f"{name}: a block in {step.language!r} is not tested"

    # -- Python ---------------------------------------------------------------------------------------------

    def _python(self, name: str, text: str) -> None:
        file = _FILE.match(text)
        if file is not None:
            compile(text, name, "exec")
            target = self.folder / file["name"]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text((target.read_text() if file["below"] else "") + text)
            return
        answer = self._typed(name, text)
        assert not answer["error"], f"{name} raised\n{answer['error']}\n{self._logs()}"
        printed = _PRINTS.findall(text)
        if printed:
            assert answer["out"].splitlines() == printed, name

    def _typed(self, name: str, text: str) -> dict[str, Any]:
        if self._session is None:
            self._session = subprocess.Popen(
                [sys.executable, "-c", _SESSION],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=self.folder,
                env=self.environment,
            )
        assert self._session.stdin is not None
        assert self._session.stdout is not None
        self._session.stdin.write(json.dumps({"name": name, "code": text}) + "\n")
        self._session.stdin.flush()
        answer: dict[str, Any] = json.loads(self._session.stdout.readline())
        return answer

    def _end_session(self) -> None:
        if self._session is not None:
            self._session.communicate(timeout=20)

    # -- console --------------------------------------------------------------------------------------------

    def _console(self, name: str, text: str) -> None:
        for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            command, _, expected = part.partition("\n")
            if command.startswith("pip install "):
                self._can_be_installed(name, command)
            elif command.startswith("make "):
                assert re.search(rf"^{command.split()[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), (
                    name
                )
            elif _BACKGROUND.search(command):
                self._start(command)
            else:
                self._command(name, command, expected)

    def _can_be_installed(self, name: str, command: str) -> None:
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        for extra in re.findall(r"\[(\w+)\]", command):
            assert extra in extras, f"{name}: there is no extra {extra!r}"

    def _start(self, command: str) -> None:
        log = self.folder / f"background-{len(self.background)}.log"
        with log.open("wb") as out:
            program = subprocess.Popen(
                f"exec {command}", shell=True, cwd=self.folder, env=self.environment, stdout=out, stderr=out
            )
        self.background.append((command, program, log))

    def _command(self, name: str, command: str, expected: str) -> None:
        done = subprocess.run(
            command,
            shell=True,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, f"{name}: {command}\n{done.stdout}{done.stderr}\n{self._logs()}"
        if expected.strip():
            assert done.stdout.strip() == expected.strip(), f"{name}: {command}"

    def _wait(self, name: str, command: str) -> None:
        deadline = time.monotonic() + 60
        while True:
            done = subprocess.run(
                command, shell=True, cwd=self.folder, env=self.environment, capture_output=True
            )
            if done.returncode == 0:
                return
            assert time.monotonic() < deadline, f"{name}: in vain waited for {command}\n{self._logs()}"

    def _await_start(self, command: str, log: Path) -> None:
        """Until the program has got as far as taking messages, or sending them."""
        worker, is_worker, _ = command.partition(" worker")
        if is_worker:
            self._wait(command, f"{worker} queues --json | grep -q '\"consumers\": [1-9]'")
        else:
            self._wait(command, f"grep -q Starting {log}")

    def _stop(self, command: str, program: subprocess.Popen[bytes], log: Path) -> str:
        """End a program; what was wrong with it, or nothing."""
        problem = ""
        if program.poll() is None:
            try:
                self._await_start(command, log)
            except AssertionError as exc:  # told below; the program has to be ended all the same
                problem = str(exc)
            program.send_signal(signal.SIGTERM)
        try:
            code = program.wait(timeout=60)
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait()
            code = None
        if code != 0:
            problem += f"\n{command}: exit code {code}\n{log.read_text()[-4000:]}"
        return problem

    def _logs(self) -> str:
        return "\n".join(f"--- {command}\n{log.read_text()[-4000:]}" for command, _, log in self.background)
