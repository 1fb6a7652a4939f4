"""A virtual environment for each contender, under `.venvs/` of the repository, made on first use.

The requirements it was made from are written beside it; when they change it is made anew. Processes that want
the same one wait for each other.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

from bench.contender import Contender

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".venvs"

VERSIONS = """
import importlib.metadata, json, sys
print(json.dumps({name: importlib.metadata.version(name) for name in sys.argv[1:]}))
"""


class EnvironmentFailed(RuntimeError):
    """A contender's environment could not be made."""


def python_of(contender: Contender) -> Path:
    """The contender's own interpreter; its environment is made when it is not there yet."""
    return python_with(contender.environment, contender.requirements)


def python_with(name: str, requirements: Sequence[str]) -> Path:
    """The interpreter of the environment `name`; it is made when it is not there yet.

    Raises:
        EnvironmentFailed: pip could not install the requirements.
    """
    folder = FOLDER / f"bench-{name}"
    stamp = folder / "requirements.json"
    wanted = json.dumps([sys.version, *requirements])
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / f"bench-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != wanted:
            print(f"making the environment of {name} …", file=sys.stderr, flush=True)
            _make(folder, requirements)
            stamp.write_text(wanted)
    return folder / "bin" / "python"


def _make(folder: Path, requirements: Sequence[str]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True, symlinks=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    done = subprocess.run([*pip, *requirements], capture_output=True, text=True, check=False)
    if done.returncode:
        wish = " ".join(requirements)
        raise EnvironmentFailed(f"pip could not install {wish} in {folder}:\n{done.stderr.strip()}")


def versions(python: Path, contender: Contender) -> dict[str, str]:
    """Installed versions of the distributions that matter for this contender."""
    command = [str(python), "-c", VERSIONS, *contender.distributions]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found
