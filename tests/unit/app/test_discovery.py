"""`-A`, and the modules that hold tasks."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from celeriac import Celeriac, _state
from celeriac.app.discovery import find_app

Project = Callable[..., None]

APP = "from celeriac import Celeriac\n{} = Celeriac({!r}, broker='memory://')\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Write files into a working directory from which nothing has been imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(tmp_path)])
    before = set(sys.modules)

    def write(**files: str) -> None:
        for name, text in files.items():
            path = tmp_path / f"{name.replace('__', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            if path.parent != tmp_path and not (path.parent / "__init__.py").exists():
                (path.parent / "__init__.py").write_text("")

    yield write  # type: ignore[misc]
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("files", "spec"),
    [
        ({"d1": APP.format("app", "d1")}, "d1"),
        ({"d2": APP.format("celery", "d2")}, "d2"),
        ({"d3": APP.format("celeriac", "d3")}, "d3"),
        ({"d4": APP.format("unusual", "d4")}, "d4"),
        ({"d5": APP.format("one", "no") + APP.format("two", "d5")}, "d5:two"),
        ({"d6": APP.format("one", "no") + APP.format("two", "d6")}, "d6.two"),
        ({"d7__celery": APP.format("app", "d7")}, "d7"),
        ({"d8__celeriac": APP.format("app", "d8")}, "d8"),
        ({"d9__celery": APP.format("app", "d9")}, "d9.celery"),
        ({"e1__celery": APP.format("app", "e1")}, "e1.celery:app"),
        ({"e2": "from celeriac import Celeriac\ndef make(): return Celeriac('e2')\n"}, "e2:make"),
        ({"e3__sub__tasks": APP.format("app", "e3")}, "e3.sub.tasks"),
        ({"e4": "import e4_inner as inner\n", "e4_inner": APP.format("app", "e4")}, "e4:inner"),
    ],
)
def test_where_apps_are_found(project: Project, files: dict[str, str], spec: str) -> None:
    project(**files)
    found = find_app(spec)
    assert isinstance(found, Celeriac)
    assert found.main == spec[:2]


def test_an_app_that_is_both_wins_over_the_submodule(project: Project) -> None:
    project(f1__celery=APP.format("app", "f1"))
    Path("f1/__init__.py").write_text("from .celery import app as celery_app\n")
    assert find_app("f1").main == "f1"


@pytest.mark.parametrize(
    ("spec", "error", "reason"),
    [
        ("nowhere", ModuleNotFoundError, "nowhere"),
        ("g1", AttributeError, "holds no application.*g1:attribute"),
        ("g1:missing", AttributeError, "no attribute 'missing'"),
        ("g1:number", AttributeError, "no Celeriac application but 3"),
        ("g1.missing", ModuleNotFoundError, "g1.missing"),
        ("g2", ModuleNotFoundError, "not_installed"),
        ("g3", ZeroDivisionError, "division"),
    ],
)
def test_errors_say_what_is_missing(project: Project, spec: str, error: type[Exception], reason: str) -> None:
    project(g1="number = 3\n", g2__celery="import not_installed\n", g3="1 / 0\n")
    with pytest.raises(error, match=reason):
        find_app(spec)


def test_two_apps_without_usual_names_must_be_told_apart(project: Project) -> None:
    project(h1=APP.format("one", "h1") + APP.format("two", "h1"))
    with pytest.raises(AttributeError, match="nor exactly one"):
        find_app("h1")


TASK = "from celeriac import shared_task\n@shared_task\ndef probe(): ...\n"


def test_autodiscovery_imports_the_tasks_of_every_package(app: Celeriac, project: Project) -> None:
    project(i1__tasks=TASK, i2__other=TASK, i3__tasks=TASK, i3__apps="class Config: ...\n")
    app.autodiscover_tasks(["i1", "i2"])
    app.autodiscover_tasks(lambda: ["i3.apps.Config"])
    app.autodiscover_tasks(["i2"], related_name="other")
    app.autodiscover_tasks(["i2.other"], related_name=None)
    assert "i1.tasks" not in sys.modules
    app.import_default_modules()
    assert {"i1.tasks.probe", "i3.tasks.probe", "i2.other.probe"} <= set(app.tasks)


def test_autodiscovery_can_be_at_once(app: Celeriac, project: Project) -> None:
    project(j1__tasks=TASK)
    app.autodiscover_tasks(["j1"], force=True)
    assert "j1.tasks" in sys.modules


def test_a_tasks_module_that_cannot_be_imported_is_an_error(app: Celeriac, project: Project) -> None:
    project(k1__tasks="import not_installed\n")
    app.autodiscover_tasks(["k1"])
    with pytest.raises(ModuleNotFoundError, match="not_installed"):
        app.import_default_modules()
    with pytest.raises(ModuleNotFoundError, match="k2"):
        app.autodiscover_tasks(["k2"], force=True)


def test_imports_and_include_are_imported(app: Celeriac, project: Project) -> None:
    project(l1=TASK, l2=TASK, l3=TASK)
    app.conf.update(imports=["l1"], include=("l2",))
    app.import_default_modules(["l3"])
    assert {"l1.probe", "l2.probe", "l3.probe"} <= set(app.tasks)
    assert app.loader.task_modules == {"l1", "l2", "l3"}


def test_autodiscovery_belongs_to_its_app(app: Celeriac, project: Project) -> None:
    project(m1__tasks=TASK)
    app.autodiscover_tasks(["m1"])
    Celeriac("other", broker="memory://").import_default_modules()
    assert "m1.tasks" not in sys.modules
    assert _state.get_current_app().main == "other"
