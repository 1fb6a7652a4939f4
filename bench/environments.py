"""A virtual environment for each contender, under `.venvs/` of the repository, made on first use.

The requirements it was made from are written beside it; when they change it is made anew.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import venv
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
    folder = FOLDER / f"bench-{contender.environment}"
    stamp = folder / "requirements.json"
    wanted = json.dumps([sys.version, *contender.requirements])
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"making the environment of {contender.environment} …", file=sys.stderr, flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True, symlinks=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        done = subprocess.run([*pip, *contender.requirements], capture_output=True, text=True, check=False)
        if done.returncode:
            wish = " ".join(contender.requirements)
            raise EnvironmentFailed(
                f"pip could not install {wish} for {contender.name}:\n{done.stderr.strip()}"
            )
        stamp.write_text(wanted)
    return folder / "bin" / "python"


def versions(python: Path, contender: Contender) -> dict[str, str]:
    """Installed versions of the distributions that matter for this contender."""
    command = [str(python), "-c", VERSIONS, *contender.distributions]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found
