"""Starts real workers, kills them for real, and checks the journals.

1. `Node`: a worker process group started from the command line; its log goes to a file.
2. `until`: waits for an event with a deadline.
3. `Journal`, `Report`: what was run, against what was published, in Jepsen's words.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from tests.faults.lines import Event, events

from celeriac import Celeriac, uuid
from celeriac.canvas import Sending

ROOT = Path(__file__).resolve().parents[2]

#: How much longer than on a quiet machine everything may take on one that has other things to do, and for how
#: long that may go on. Limits are written for the quiet one.
PATIENCE = 3.0


def until(predicate: Callable[[], Any], timeout: float, what: str = "", every: float = 0.02) -> Any:
    """Poll across processes until `predicate` is true; return what it returned.

    Args:
        timeout: seconds on a quiet machine; `PATIENCE` times as long is waited.

    Raises:
        TimeoutError: it was not within that time.
    """
    timeout *= PATIENCE
    deadline = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout} s: {what or predicate}")
        time.sleep(every)


def alive(process: psutil.Process) -> bool:
    """True while it runs; a zombie that nobody reaps is dead."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Journal:
    """The lines that bodies leave."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def events(self) -> list[Event]:
        return list(events(self.path.read_text()))

    def latest(self) -> list[Event]:
        """The last thousand or so."""
        with self.path.open() as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 50_000))
            file.readline()  # a part of a line, or the empty one that is the first
            return list(events(file.read()))

    def count(self, what: str) -> Counter[str]:
        return Counter(event.key for event in self.events() if event.what == what)

    def ended(self) -> int:
        return len(self.count("end"))

    def ends(self) -> int:
        """How many lines say that a body ended; quick."""
        return self.path.read_bytes().count(b"end ")


class Report(NamedTuple):
    """`lost`: published, never ended. `unexpected`: run, never attempted. `duplicated`: ended twice.
    `recovered`: nobody knew whether it was published, and it ran."""

    lost: set[str]
    unexpected: set[str]
    duplicated: set[str]
    recovered: set[str] = set()


def check(published: Iterable[str], journal: Journal, unknown: Iterable[str] = ()) -> Report:
    """What became of the keys whose publish returned (`published`), or raised (`unknown`)."""
    keys, perhaps = set(published), set(unknown)
    ended = journal.count("end")
    again = {key for key, times in ended.items() if times > 1}
    return Report(keys - set(ended), set(ended) - keys - perhaps, again, perhaps & set(ended))


def publish_many(
    client: Celeriac, name: str, calls: Iterable[tuple[Any, ...]], *, results: bool = False
) -> None:
    """Publish calls by name in one batch; with `results`, under ids that are their first arguments."""
    client.producer.send(
        Sending(name, args, {}, {"task_id": args[0] if results else uuid(), "ignore_result": not results})
        for args in calls
    )


def environment(
    broker: str, backend: str | None, journal: Path, conf: Mapping[str, Any] | None = None
) -> dict[str, str]:
    env = {
        **os.environ,
        "FAULTS_BROKER": broker,
        "FAULTS_JOURNAL": str(journal),
        "FAULTS_CONF": repr(dict(conf or {})),
        "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
        "CELERIAC_RUN_DIR": str(journal.parent / "run"),
    }
    if backend:
        env["FAULTS_BACKEND"] = backend
    return env


class Node:
    """One worker. `kill` is SIGKILL to every process of it at once."""

    def __init__(
        self,
        env: Mapping[str, str],
        *arguments: str,
        name: str = "n1",
        log: Path,
        app: str = "tests.faults.proj",
        python: str = sys.executable,
        module: str = "celeriac",
        prepare: Callable[[], None] | None = None,
    ) -> None:
        self.command = [
            python,
            "-m",
            module,
            "-A",
            app,
            "worker",
            "-n",
            f"{name}@test",
            "-l",
            "info",
            *arguments,
        ]
        self.env = dict(env)
        self.log_path = log
        self.prepare = prepare
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, env=self.env, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, preexec_fn=self.prepare,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def family(self) -> list[psutil.Process]:
        """The supervisor and all that descend from it."""
        try:
            root = psutil.Process(self.pid)
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def children(self) -> list[psutil.Process]:
        """Processes that run bodies: the template's children."""
        found = []
        for process in self.family():
            with contextlib.suppress(psutil.NoSuchProcess):  # just now
                if process.pid != self.pid and process.ppid() != self.pid:
                    found.append(process)
        return found

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        for process in self.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        assert self.process is not None
        self.process.wait()

    def pause(self) -> None:
        for process in self.family():
            process.suspend()

    def resume(self) -> None:
        for process in self.family():
            with contextlib.suppress(psutil.NoSuchProcess):  # the supervisor goes on first, and may end it
                process.resume()

    def stop(self, timeout: float = 30.0) -> int:
        """Warm shutdown, within `timeout` seconds as in `until`; the exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout * PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def __enter__(self) -> Node:
        return self

    def __exit__(self, *exc: object) -> None:
        assert self.process is not None
        if self.process.poll() is None:
            self.kill()
