"""The same trees on Celery 5.7 and Redis: `CeleryStage`, which is played like `run.Stage`.

Celery leaves some calls open for ever, so the end is when nothing moves any more.
"""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.canvas.evaluate import Failed, Many, Outcome, Value
from tests.canvas.run import Seen
from tests.canvas.tree import Tree, dump
from tests.faults.control import celery_python
from tests.faults.harness import ROOT, Journal, Node, environment
from tests.servers import RedisServer

__all__ = ["CeleryStage"]


class CeleryStage:
    """A private Redis, one worker of Celery, and a client of Celery for each `play`."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        server = RedisServer()
        stack.callback(server.stop)
        self.journal = Journal(folder / "journal")
        self.env = environment(server.url, server.url, self.journal.path)
        self.env |= {"FAULTS_LIBRARY": "celery", "PYTHONPATH": str(ROOT)}
        self.python = celery_python()
        stack.enter_context(
            Node(
                self.env, "-c", "3", "-Q", "faults", "--without-mingle", "--without-gossip", name="theirs",
                log=folder / "theirs.log", python=self.python, module="celery", app="tests.canvas.proj",
            )
        )  # fmt: skip
        self._numbers = itertools.count(1)

    def play(self, trees: Sequence[Tree], quiet: float = 3.0) -> list[Seen]:
        """Send all of `trees`; wait until all results are there, or nothing has run for `quiet` seconds."""
        runs = {f"c{next(self._numbers)}": tree for tree in trees}
        given = {"runs": [[run, dump(tree)] for run, tree in runs.items()], "quiet": quiet}
        done = subprocess.run(
            [self.python, "-m", "tests.canvas.peer"], input=json.dumps(given), env=self.env, cwd=ROOT,
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found = {run: Seen(_outcome(told)) for run, told in json.loads(done.stdout).items()}
        for event in self.journal.events():
            run, label, id_, *own = event.key.split(":")
            if run in found and event.what == "start":
                found[run].starts[label].append(id_)
            elif run in found and event.what == "errback":
                found[run].errbacks.append((label, id_, own[0]))
        return [found[run] for run in runs]


def _outcome(told: list[Any]) -> Outcome | str:
    kind, *rest = told
    if kind == "group":
        return Many(tuple(_outcome(one) for one in rest[0]))  # type: ignore[misc]  # a text compares as such
    if kind == "value":
        return Value(rest[0])
    if kind == "failed":
        return Failed(rest[0], frozenset({rest[1]}))
    return "PENDING" if kind == "pending" else f"{rest[0]}: {rest[1]}"
