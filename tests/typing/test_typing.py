"""The public API as users type it, under mypy and pyright.

Every file in `snippets/` is checked by both, once. A line that ends in ``# expect: text`` (or ``reveals``)
must be reported with that text; every other line must not be reported at all.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

SNIPPETS = Path(__file__).with_name("snippets")
SOURCE = Path(__file__).parents[2] / "src"
FILES = sorted(SNIPPETS.glob("*.py"))

Reports = dict[tuple[str, int], list[str]]


@cache
def mypy() -> Reports:
    """What mypy reports: (file, line) → texts."""
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-context"]
    run = subprocess.run(
        [*command, "--config-file=", "--no-incremental", *map(str, FILES)],
        capture_output=True,
        text=True,
        env={"MYPYPATH": str(SOURCE), "PATH": "/usr/bin:/bin"},
        timeout=300,
    )
    assert run.returncode in (0, 1), run.stderr
    found: Reports = {}
    for line in run.stdout.splitlines():
        match = re.match(r"(.+?):(\d+): (error|note): (.*)", line)
        if match:
            found.setdefault((Path(match[1]).name, int(match[2])), []).append(match[4])
    return found


@cache
def pyright() -> Reports:
    """What pyright reports, in the same form."""
    settings = {"include": [str(SNIPPETS)], "extraPaths": [str(SOURCE)], "typeCheckingMode": "standard"}
    project = SNIPPETS / "pyrightconfig.json"
    project.write_text(json.dumps(settings))
    try:
        run = subprocess.run(
            [sys.executable, "-m", "pyright", "--outputjson", "-p", str(project)],
            capture_output=True,
            text=True,
            timeout=300,
        )
    finally:
        project.unlink()
    found: Reports = {}
    for report in json.loads(run.stdout)["generalDiagnostics"]:
        place = (Path(report["file"]).name, report["range"]["start"]["line"] + 1)
        found.setdefault(place, []).append(report["message"])
    return found


@pytest.mark.timeout(600)
@pytest.mark.parametrize("checker", [mypy, pyright], ids=["mypy", "pyright"])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_snippet(path: Path, checker: object) -> None:
    reports = mypy() if checker is mypy else pyright()
    wrong = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        said = reports.get((path.name, number), [])
        expected = re.search(r"# (reveals|expect): (.*)", line)
        if expected is None:
            if said:
                wrong.append(f"{path.name}:{number}: nothing was expected, but: {said}")
        elif not any(re.search(expected[2], text) for text in said):
            wrong.append(f"{path.name}:{number}: {expected[2]!r} was expected, but: {said}")
    assert wrong == []
