"""What importing costs: modules, third parties, cycles. The numbers may only fall."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import celeriac

#: Modules of ours that each of these loads.
OURS = {
    "import celeriac": 1,
    "from celeriac import Celeriac; Celeriac('x')": 60,
}

#: Libraries that a client must not pay for.
HEAVY = {
    "redis",
    "hiredis",
    "sqlite3",
    "click",
    "pydantic",
    "multiprocessing",
    "asyncio",
    "yaml",
    "msgpack",
    "ssl",
}


def loaded(code: str) -> set[str]:
    """Names of all modules that a fresh interpreter has after running `code`."""
    program = f"{code}\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(run.stdout))


def test_modules_of_ours() -> None:
    for code, most in OURS.items():
        ours = sorted(name for name in loaded(code) if name.split(".")[0] == "celeriac")
        assert len(ours) <= most, (code, ours)


def test_a_client_pays_for_no_library_it_does_not_use() -> None:
    names = loaded("from celeriac import Celeriac; app = Celeriac('x')\n@app.task\ndef f(): ...")
    assert not HEAVY & {name.split(".")[0] for name in names}


def imports(path: Path, known: set[str]) -> set[str]:
    """The modules of ours that the file imports when it is imported itself."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:  # what stands in functions or under TYPE_CHECKING is later
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            found |= {module if module in known else node.module for module in inner.values()}
    return found & known


def test_no_import_cycles() -> None:
    root = Path(celeriac.__file__).parent
    names = {
        ".".join(path.relative_to(root.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in root.rglob("*.py")
    }
    graph = {name: imports(path, set(names)) - {name} for name, path in names.items()}
    while graph:  # peel off what imports nothing that is left; a cycle is what cannot be peeled
        free = {name for name, needs in graph.items() if not needs & graph.keys()}
        if not free:
            break
        graph = {name: needs for name, needs in graph.items() if name not in free}
    while True:  # and what nobody in it needs
        needed = set().union(*graph.values()) if graph else set()
        kept = {name: needs for name, needs in graph.items() if name in needed}
        if kept == graph:
            break
        graph = kept
    assert sorted(graph) == []


def test_every_public_name_is_there_once() -> None:
    """Their order is ruff's business (RUF022)."""
    assert len(set(celeriac.__all__)) == len(celeriac.__all__)
    for name in celeriac.__all__:
        assert getattr(celeriac, name) is not None
    assert set(celeriac.__all__) <= set(dir(celeriac))


def test_the_front_door() -> None:
    assert celeriac.Celeriac is celeriac.Celery
    assert ".".join(map(str, celeriac.VERSION)) == celeriac.__version__
    assert celeriac.signals.task_prerun.name == "task_prerun"
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = celeriac.no_such_name
