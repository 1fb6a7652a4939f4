"""Celery, in an interpreter of its own: one scenario of one script, and what it saw."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from typing import Any

from tests.faults.harness import ROOT

BARE = {"PYTHONPATH": "", "TZ": "UTC"}


def ask(
    python: str, script: str, *words: object, env: Mapping[str, str] | None = None, timeout: float = 90
) -> Any:
    """Run ``tests/compat/<script>`` with `words`; the last line that it prints, which is JSON.

    `env`: of that process, which has nothing of ours.
    """
    command = [python, "-W", "ignore", str(ROOT / "tests" / "compat" / script), *map(str, words)]
    done = subprocess.run(
        command, env=BARE if env is None else env, capture_output=True, text=True, timeout=timeout,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
