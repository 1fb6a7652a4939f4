"""Celery 5.7 in an environment of its own, and both sides of one Redis."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.faults import control
from tests.faults.harness import ROOT, Journal, Node, environment

from celeriac import Celeriac


@pytest.fixture(scope="session")
def celery_python() -> str:
    """The interpreter of a virtual environment with Celery 5.7, made on first use."""
    return control.celery_python()


@pytest.fixture
def env(redis_server: Any, tmp_path: Path) -> dict[str, str]:
    redis_server.flush()
    Journal(tmp_path / "journal")
    return environment(redis_server.url, redis_server.url, tmp_path / "journal")


@pytest.fixture
def journal(tmp_path: Path, env: dict[str, str]) -> Journal:
    return Journal(tmp_path / "journal")


@pytest.fixture
def peer(celery_python: str, env: dict[str, str]) -> Callable[..., Any]:
    """Runs one scenario of Celery's client and returns what it saw."""

    def run(scenario: str, *arguments: object) -> Any:
        done = subprocess.run(
            [celery_python, str(ROOT / "tests" / "compat" / "peer.py"), scenario, *map(str, arguments)],
            env={**env, "PYTHONPATH": ""}, capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.fixture
def client(redis_server: Any) -> Iterator[Celeriac]:
    app = Celeriac("client", broker=redis_server.url, backend=redis_server.url, set_as_current=False)
    app.conf.update(task_default_queue="faults")
    yield app
    app.close()


@pytest.fixture
def ours(env: dict[str, str], tmp_path: Path) -> Iterator[Node]:
    """Our worker."""
    with Node(env, "-c", "2", name="ours", log=tmp_path / "ours.log") as node:
        yield node


@pytest.fixture
def theirs(env: dict[str, str], tmp_path: Path, celery_python: str) -> Iterator[Node]:
    """Celery's worker, running the same application."""
    theirs_env = {**env, "FAULTS_LIBRARY": "celery", "PYTHONPATH": str(ROOT)}
    with Node(
        theirs_env, "-c", "2", "-Q", "faults", name="theirs", log=tmp_path / "theirs.log",
        python=celery_python, module="celery",
    ) as node:  # fmt: skip
        yield node
