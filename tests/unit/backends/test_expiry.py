"""`result_expires` of None or 0 keeps results for ever, and `celery.backend_cleanup` runs on every store."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from celeriac import Celeriac
from celeriac.backends.base import StoredResult
from celeriac.wire.results import encode_result

STORES = {
    "memory": "memory://{name}",
    "sqlite": "sqlite:///{folder}/results.db",
    "db": "db+sqlite:///{folder}/rows.db",
    "file": "file://{folder}/files",
}


@pytest.mark.parametrize("expires", [None, 0])
@pytest.mark.parametrize("store", STORES)
def test_without_an_expiry_everything_stays(store: str, expires: int | None, tmp_path: Path) -> None:
    if store == "db":
        pytest.importorskip("sqlalchemy")
    url = STORES[store].format(name=uuid.uuid4().hex, folder=tmp_path)
    app = Celeriac("kept", broker=f"memory://{uuid.uuid4().hex}", backend=url, set_as_current=False)
    app.conf.result_expires = expires
    app.backend.store([StoredResult("a", encode_result("a", "SUCCESS", 1), app.result_ttl)])
    app.GroupResult("g", [app.AsyncResult("a")]).save()
    assert app.tasks["celery.backend_cleanup"]() == 0
    assert app.AsyncResult("a").get(timeout=20) == 1
    assert app.GroupResult.restore("g") is not None
    app.close()


@pytest.mark.parametrize("hook", ["result_compression", "result_large_backend"])
def test_cleaning_up_reaches_through_what_stands_around_a_store(hook: str, tmp_path: Path) -> None:
    app = Celeriac(
        "cleaned", broker="memory://", backend=f"sqlite:///{tmp_path}/first.db", set_as_current=False
    )
    app.conf.update({hook: {"result_compression": "gzip"}.get(hook, f"sqlite:///{tmp_path}/second.db")})
    app.conf.result_large_size = 10
    app.backend.store([StoredResult("a", encode_result("a", "SUCCESS", "x" * 500), -1.0)])
    assert app.tasks["celery.backend_cleanup"]() == (2 if hook == "result_large_backend" else 1)
    assert app.backend.load(["a"]) == {}
    app.close()
