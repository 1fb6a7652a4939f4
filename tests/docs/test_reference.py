"""docs/reference/cli.md says what the commands say (`tests/unit/app` has the settings)."""

from __future__ import annotations

import subprocess
import sys

from tests.docs.pages import ROOT


def test_the_command_line_reference_is_up_to_date() -> None:
    command = [sys.executable, "scripts/cli_reference.py"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert (ROOT / "docs/reference/cli.md").read_text() == printed, "run `make reference`"
