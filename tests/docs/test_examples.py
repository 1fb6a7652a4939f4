"""The examples in docstrings come to what they say."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.docs.pages import ROOT


@pytest.mark.timeout(300)
def test_examples_in_docstrings() -> None:
    """In a process of its own: it imports every module there is, which others look that nobody does."""
    words = ["--doctest-modules", "src/celeriac", "--doctest-ignore-import-errors", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *words], cwd=ROOT, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout
