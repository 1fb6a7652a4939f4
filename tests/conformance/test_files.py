"""`file://` keeps the contract of result stores."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from celeriac import Celeriac
from celeriac.backends.base import StoredResult
from celeriac.backends.objects import ObjectBackend
from celeriac.conformance import ChordContract, ResultBackendContract
from celeriac.exceptions import ImproperlyConfigured, OperationalError


class TestFiles(ResultBackendContract):
    backend_class = ObjectBackend

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"file://{tmp_path}/results"


class TestFileChords(ChordContract):
    backend_class = ObjectBackend

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"file://{tmp_path}/results"


def test_files_are_named_and_dated_as_celery_does(tmp_path: Path) -> None:
    app = Celeriac("proj", broker="memory://", backend=f"file://{tmp_path}", set_as_current=False)
    app.conf.update(result_expires=60, result_backend_transport_options={"global_keyprefix": "shop"})
    app.backend.store([StoredResult("a", b"{}", 60)])
    app.backend.save_group("g", b"[]", 60)
    names = {"shop_celery-task-meta-a", "shop_celery-taskset-meta-g"}
    assert {path.name for path in tmp_path.iterdir()} == names
    (tmp_path / "mine.txt").write_text("not a result")
    for path in tmp_path.iterdir():
        os.utime(path, (0, path.stat().st_mtime - 61))
    assert app.backend.load(["a"]) == {}
    assert app.tasks["celery.backend_cleanup"]() == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    app.close()


def test_without_result_expires_nothing_expires(tmp_path: Path) -> None:
    backend = ObjectBackend(f"file://{tmp_path}", {"result_expires": None})
    backend.store([StoredResult("a", b"{}", None)])
    os.utime(tmp_path / "celery-task-meta-a", (0, 0))
    assert backend.expire() == 0
    assert backend.load(["a"]) == {"a": b"{}"}


def test_what_a_dead_writer_left_is_no_result_and_is_cleared_away(tmp_path: Path) -> None:
    backend = ObjectBackend(f"file://{tmp_path}", {})
    half, fresh = tmp_path / ".celeriac-0123", tmp_path / ".celeriac-4567"
    half.write_bytes(b'{"status"')
    fresh.write_bytes(b'{"status"')
    os.utime(half, (0, half.stat().st_mtime - 7200))
    assert backend.expire() == 0
    assert list(tmp_path.iterdir()) == [fresh]


@pytest.mark.parametrize("task_id", ["../a", "a/b", "x" * 400, "h\u00e9", ".", "nul\0", "\ud800"])
def test_any_id_is_a_file_in_the_folder(tmp_path: Path, task_id: str) -> None:
    backend = ObjectBackend(f"file://{tmp_path}/results", {})
    backend.store([StoredResult(task_id, b"1", 60)])
    assert backend.load([task_id]) == {task_id: b"1"}
    assert len(list((tmp_path / "results").iterdir())) == 1


def test_only_the_folder_itself_is_made(tmp_path: Path) -> None:
    backend = ObjectBackend(f"file://{tmp_path}/not-mounted/results", {})
    assert backend.load(["a"]) == {}
    with pytest.raises(OperationalError, match="parent folder"):
        backend.store([StoredResult("a", b"1", 60)])
    with pytest.raises(ImproperlyConfigured, match="does not say where"):
        ObjectBackend("file://", {})
