"""docs/reference says what the code says (`tests/unit/app` has the settings)."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.docs.pages import ROOT


@pytest.mark.parametrize("page", ["cli", "brokers", "stores"])
def test_the_reference_is_up_to_date(page: str) -> None:
    command = [sys.executable, f"scripts/{page}_reference.py"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert (ROOT / f"docs/reference/{page}.md").read_text() == printed, "run `make reference`"
