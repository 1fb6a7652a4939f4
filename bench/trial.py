"""One trial: one contender, one measure, a store and processes of its own, all gone afterwards.

1. A fresh folder and a fresh store.
2. `client()`: run a verb of `bench.client` in the contender's environment.
3. `start_worker()`, `wait_for()`: the contender's worker, and its executions as counted in shared memory.
4. Everything that was started is ended by its pid.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from bench import machine, pages
from bench.contender import Contender, Shape
from bench.environments import ROOT
from bench.stores import opened

POLL = 0.01
PATIENCE = 60.0


class TrialFailed(RuntimeError):
    """The contender did not do what was measured; the message says what is missing."""


class Counts(NamedTuple):
    """How much work each measure does."""

    single: int = 5_000
    bulk: int = 10_000
    drain: int = 20_000
    trips: int = 1_000
    due: int = 10_000
    due_after: float = 14.0
    delayed: int = 100_000
    delayed_soon: int = 10_000
    delayed_after: float = 30.0
    delayed_span: float = 30.0
    claims: int = 1_000
    backlog: int = 5_000_000
    io: int = 10_000
    nap: int = 1_000
    waiting: int = 10_000
    chord: int = 10_000
    chain: int = 1_000


QUICK = Counts(
    single=100,
    bulk=200,
    drain=300,
    trips=20,
    due=100,
    due_after=8.0,
    delayed=400,
    delayed_soon=200,
    delayed_after=8.0,
    delayed_span=1.0,
    claims=30,
    backlog=2_000,
    io=200,
    nap=50,
    waiting=300,
    chord=300,
    chain=30,
)


class Trial:
    """A contender at work; use it as a context manager."""

    def __init__(self, contender: Contender, python: Path, counts: Counts) -> None:
        self.contender = contender
        self.counts = counts
        self.broker_pids: Callable[[], list[int]] = list
        self.worker: subprocess.Popen[bytes] | None = None
        self.worker_started = 0.0
        self._python = python
        self._environment: dict[str, str] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Trial:
        self.folder = Path(tempfile.mkdtemp(prefix=f"bench-{self.contender.name}-"))
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        shared = "/dev/shm" if Path("/dev/shm").is_dir() else None
        counted = Path(tempfile.mkdtemp(prefix="bench-pages-", dir=shared))
        self._stack.callback(shutil.rmtree, counted, ignore_errors=True)
        self.pages = pages.Pages(counted)
        store = self._stack.enter_context(opened(self.contender.store, self.folder))
        self.broker_pids = store.pids
        self._environment = {
            **_plain_environment(),
            **dict(self.contender.variables),
            "BENCH_BROKER": store.broker,
            "BENCH_BACKEND": store.results,
            "PYTHONPATH": str(ROOT),
            pages.FOLDER_VARIABLE: str(counted),
        }
        if self.contender.prepared:
            self.client("prepare")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop_worker()
        finally:
            self._stack.__exit__(kind, error, trace)

    def switch_on(self, *, results: bool = False, waited: bool = False, backend: str = "") -> None:
        """Have results stored (in `backend`, if one is named), and say that somebody waits for each; before
        anything is started."""
        self._environment |= {"BENCH_RESULTS": str(int(results)), "BENCH_WAITED": str(int(waited))}
        if backend:
            self._environment["BENCH_BACKEND"] = backend

    def client(self, verb: str, *arguments: object, patience: float = PATIENCE) -> Any:
        """Run `verb` of `bench.client` in the contender's environment; what it found.

        Raises:
            TrialFailed: it ended with an error, or not within `patience` seconds.
        """
        words = [str(self._python), "-m", "bench.client", self.contender.app, verb]
        words += [json.dumps(argument) for argument in arguments]
        try:
            done = subprocess.run(
                words,
                env=self._environment,
                cwd=self.folder,
                capture_output=True,
                text=True,
                timeout=patience,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise TrialFailed(f"the client's {verb!r} was not done after {patience:.0f} s") from None
        if done.returncode:
            raise TrialFailed(f"the client's {verb!r} failed:\n{tail(done.stderr)}")
        return json.loads(done.stdout)

    def start_worker(self, shape: Shape) -> None:
        """Start the contender's worker; it need not be ready yet."""
        words = self.contender.worker(self._python, shape)
        with (self.folder / "worker.log").open("wb") as log:
            self.worker_started = time.monotonic()
            self.worker = subprocess.Popen(
                words, env=self._environment, cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )

    def worker_tree(self) -> list[int]:
        """The pids of the worker and everything under it."""
        return machine.tree(self.worker.pid) if self.worker else []

    def wait_for(self, count: int, patience: float = PATIENCE) -> pages.Totals:
        """Wait until `count` executions have been counted.

        Raises:
            TrialFailed: they were not within `patience` seconds, or the worker has ended.
        """
        return self.wait_until(lambda totals: totals.executions >= count, f"{count} executions", patience)

    def wait_until(
        self, met: Callable[[pages.Totals], bool], wish: str, patience: float = PATIENCE
    ) -> pages.Totals:
        """Wait until `met(totals)`; `wish` says in words what that is."""
        deadline = time.monotonic() + patience
        while not met(totals := self.pages.totals()):
            if self.worker and self.worker.poll() is not None:
                raise TrialFailed(f"the worker ended with {self.worker.returncode}:\n{self.worker_log()}")
            if time.monotonic() > deadline:
                seen = f"{totals.executions} instead of {wish} after {patience:.0f} s"
                raise TrialFailed(f"{seen}:\n{self.worker_log()}")
            time.sleep(POLL)
        return totals

    def worker_log(self) -> str:
        """The last lines that the worker printed."""
        return tail((self.folder / "worker.log").read_text(errors="replace"))

    def stop_worker(self) -> None:
        """Ask the worker to stop, wait, then end what is left of it."""
        if self.worker is None:
            return
        members = {pid: machine.started(pid) for pid in self.worker_tree()}
        self.worker.send_signal(signal.SIGTERM)
        try:
            self.worker.wait(timeout=5)
        except subprocess.TimeoutExpired:
            members |= {pid: machine.started(pid) for pid in self.worker_tree()}
        for pid, start in members.items():
            if start is not None and machine.started(pid) == start:  # still the process that we started
                os.kill(pid, signal.SIGKILL)
        self.worker.wait()
        self.worker = None


def _plain_environment() -> dict[str, str]:
    """This process's environment without settings of any contender."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("CELERY", "CELERIAC"))}


def tail(text: str, lines: int = 15) -> str:
    """The last lines of `text`, indented."""
    return "\n".join(f"    {line}" for line in text.strip().splitlines()[-lines:])
