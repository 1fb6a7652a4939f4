"""The demo of `make demo`, on few files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

DEMO = Path(__file__).parents[2] / "examples" / "codebase" / "run.py"


def test_the_demo_does_what_it_says(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CELER")}
    command = [sys.executable, str(DEMO), "--limit", "60", "--concurrency", "2"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "60 files" in done.stdout
    assert "succeeded after 1 retry" in done.stdout
    assert "stopped" in done.stdout
