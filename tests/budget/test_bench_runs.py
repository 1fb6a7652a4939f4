"""The benchmarks run, tiny, so that they never rot. Such figures mean nothing and are not judged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def bench(report: Path, *arguments: str) -> dict[str, Any]:
    """Run `python -m bench`; its JSON report."""
    words = [sys.executable, "-m", "bench", "--quick", "--rounds", "1", "--json", str(report), *arguments]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(report.read_text())
    return found


def figures(report: dict[str, Any]) -> dict[tuple[str, str], dict[str, float]]:
    return {(trial["contender"], trial["measure"]): trial["figures"] for trial in report["trials"]}


@pytest.mark.timeout(300)
def test_every_measure_runs_with_ours_and_the_raw_loop(tmp_path: Path) -> None:
    found = figures(bench(tmp_path / "report.json", "--here", "--contenders", "celeriac,celeriac-sqlite,raw"))
    assert {measure for contender, measure in found if contender == "celeriac"} >= {
        *("enqueue-one", "calls", "enqueue-bulk", "drain-off-2", "drain-on-2", "round-trip"),
        *("memory", "start-up", "due", "delayed", "io-asyncio", "io-threads", "sleep"),
    }
    assert {measure for contender, measure in found if contender == "celeriac-sqlite"} == {
        *("sqlite-enqueue", "sqlite-drain-off", "sqlite-drain-on"),
    }
    assert all(values for values in found.values())
    assert found["celeriac", "due"]["early"] == found["celeriac", "delayed"]["early"] == 0


PEERS = {
    "drain-on-2": {"celery", "dramatiq", "huey", "potatoq"},
    "rabbitmq-drain-off": {"celeriac-rabbitmq", "celery-rabbitmq", "dramatiq-rabbitmq", "raw-rabbitmq"},
    "postgres-drain-off": {"celeriac-postgres", "pgqueuer", "procrastinate", "raw-postgres"},
}


@pytest.mark.timeout(600)  # the first time it makes virtual environments
@pytest.mark.parametrize("measure", PEERS)
def test_every_peer_runs(measure: str, tmp_path: Path) -> None:
    arguments = ("--contenders", ",".join(PEERS[measure]), "--only", measure)
    found = figures(bench(tmp_path / "report.json", *arguments))
    assert {contender for contender, _ in found} == PEERS[measure]
    assert all(values["tasks/s"] > 0 for values in found.values())
