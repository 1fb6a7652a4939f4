"""Result stores that were written against Celery's interface keep the contract of ours."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from typing import Any

import pytest
from tests.conformance.foreign_stores import Drawer

from celeriac import Celeriac, chord, group, plugins, states
from celeriac.app.foreign.adapter import ForeignBackend
from celeriac.backends.base import BaseDictBackend, DisabledBackend, KeyValueStoreBackend, StoredResult
from celeriac.conformance import ResultBackendContract
from celeriac.contrib.testing.worker import start_worker
from celeriac.exceptions import EncodeError, ImproperlyConfigured

HERE = "tests.conformance.foreign_stores"


def drawer(url: str, options: Mapping[str, Any]) -> Any:
    return plugins.backend_from_url(url, options, Celeriac("proj", broker="memory://", set_as_current=False))


class ForeignContract(ResultBackendContract):
    backend_class = staticmethod(drawer)

    def test_a_backend_is_usable_again_in_a_forked_child(self) -> None:  # type: ignore[override]
        """These two are in the memory of one process."""


class TestKeyValueStore(ForeignContract):
    @pytest.fixture
    def url(self) -> str:
        return f"{HERE}:Drawer://{uuid.uuid4().hex}"

    def test_the_last_document_of_an_id_counts(self) -> None:  # type: ignore[override]
        """As Celery's, it keeps a success that is there."""


class TestBaseBackend(ForeignContract):
    @pytest.fixture
    def url(self) -> str:
        return f"{HERE}:Ledger://{uuid.uuid4().hex}"


@pytest.fixture(params=["Drawer", "Ledger"])
def app(request: pytest.FixtureRequest) -> Celeriac:
    url = f"{HERE}:{request.param}://{uuid.uuid4().hex}"
    return Celeriac("proj", broker="memory://", backend=url, set_as_current=False)


def test_tasks_groups_and_chords_run_on_it(app: Celeriac) -> None:
    @app.task
    def add(x: int, y: int) -> int:
        return x + y

    @app.task(bind=True)
    def spawn(self: Any) -> None:
        add.delay(1, 1)
        raise LookupError("gone", 3)

    app.conf.result_chord_retry_interval = 0.1
    with start_worker(app, perform_ping_check=False):
        failed = spawn.delay()
        with pytest.raises(LookupError, match="gone"):
            failed.get(timeout=20, interval=0.05)
        assert "Traceback" in failed.traceback
        assert [child.get(timeout=20, interval=0.05) for child in failed.children] == [2]
        several = group(add.s(n, n) for n in range(3)).apply_async()
        several.save()
        assert app.GroupResult.restore(several.id).get(timeout=20, interval=0.05) == [0, 2, 4]
        total = app.signature("celery.accumulate")
        assert chord([add.s(1, 1), add.s(2, 2)], total).apply_async().get(timeout=30) == [[2, 4]]
    app.tasks["celery.backend_cleanup"]()
    app.close()


def test_what_it_never_takes_becomes_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    app = Celeriac("proj", broker="memory://", backend=f"{HERE}:Drawer://x", set_as_current=False)
    app.backend.store([StoredResult("a", b'{"status": "SUCCESS", "result": "unbearable"}')])
    assert app.AsyncResult("a").state == states.FAILURE
    assert "The result of task a is not stored" in caplog.text
    with pytest.raises(EncodeError, match="cannot be stored"):
        app.AsyncResult("a").get(timeout=5)


def test_a_store_is_found_by_celerys_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    def entries(group: str) -> list[EntryPoint]:
        known = {"celery.result_backends": [EntryPoint("drawer", f"{HERE}:Drawer", group)]}
        return known.get(group, [])

    monkeypatch.setattr("importlib.metadata.entry_points", entries)
    for url, own in (("drawer", None), ("drawer://place", "drawer://place"), ("drawer+x://p", "x://p")):
        app = Celeriac("proj", broker="memory://", backend=url, set_as_current=False)
        assert isinstance(app.backend, ForeignBackend)
        assert app.backend._foreign().url == own
        assert app.backend._foreign().app is app


def test_keys_and_settings_are_celerys() -> None:
    app = Celeriac("proj", broker="memory://", set_as_current=False)
    app.conf.result_expires = 60
    store: Any = Drawer(app, url="x")
    assert (
        store.get_key_for_task("a"),
        store.get_key_for_group("g"),
        store.get_key_for_chord("c", ".j"),
    ) == (
        b"celery-task-meta-a",
        b"celery-taskset-meta-g",
        b"chord-unlock-c.j",
    )
    assert store.expires == 60
    app.conf.result_backend_transport_options = {"global_keyprefix": "shop"}

    class Text(Drawer):  # `key_t` is a plain function, as others have it, and no method
        def key_t(key: Any) -> str:
            return key.decode() if isinstance(key, bytes) else key

    assert Text(app, url="x").get_key_for_task("a") == "shop_celery-task-meta-a"


def test_the_names_are_where_celery_has_them() -> None:
    assert issubclass(KeyValueStoreBackend, BaseDictBackend.__mro__[1])
    off = Celeriac("proj", broker="memory://", backend="disabled://", set_as_current=False)
    assert isinstance(off.backend, DisabledBackend)
    with pytest.raises(AttributeError, match="Nonsense"):
        getattr(__import__("celeriac.backends.base", fromlist=["base"]), "Nonsense")  # noqa: B009


def test_stores_that_only_celery_has_are_named() -> None:
    says = r"'celery\.backends\.cassandra:CassandraBackend\+cassandra://host'"
    with pytest.raises(ImproperlyConfigured, match=says):
        plugins.backend_from_url("cassandra://host")


def test_a_result_can_be_marked_and_waited_for(app: Celeriac) -> None:
    store: Any = app.backend._foreign()
    store.mark_as_started("a", pid=1)
    assert store.get_result("a") == {"pid": 1}
    store.mark_as_failure("a", KeyError("x"), store_result=False)
    assert store.get_state("a") == states.STARTED
    store.mark_as_retry("a", KeyError("x"), traceback="text")
    assert (store.get_status("a"), store.get_traceback("a")) == (states.RETRY, "text")
    store.mark_as_done("a", [1])
    assert store.wait_for("a", timeout=5)["result"] == [1]
    assert store.wait_for_pending(app.AsyncResult("a"), timeout=5) == [1]
    store.mark_as_revoked("b", "why")
    with pytest.raises(store.TimeoutError):
        store.wait_for("c", timeout=0)
    assert store.task_result_exists("b")
    assert not store.task_result_exists("c")
    assert app.AsyncResult("b").state == states.REVOKED
