"""When and from where an app is configured; what it makes of it."""

from __future__ import annotations

import sys
import types
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from celeriac import Celeriac
from celeriac.app.loading import Loader
from celeriac.exceptions import ImproperlyConfigured


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A configuration module that can be imported as `its_config`."""
    found = types.ModuleType("its_config")
    found.__dict__.update(task_time_limit=11, broker_url="memory://configured")
    monkeypatch.setitem(sys.modules, "its_config", found)
    return found


def test_nothing_is_read_before_a_setting_is_needed() -> None:
    app = Celeriac("proj", broker="memory://")
    app.config_from_object("no.such.module")
    app.conf.update(task_time_limit=3)
    app.conf.task_soft_time_limit = 2
    assert not app.configured
    with pytest.raises(ImproperlyConfigured, match=r"no\.such\.module"):
        _ = app.conf.task_acks_late


def test_what_the_program_says_outranks_the_configuration(module: Any) -> None:
    app = Celeriac("proj", broker="memory://given", task_serializer="json", changes={"task_time_limit": 5})
    app.config_from_object("its_config")
    assert (app.conf.broker_url, app.conf.task_time_limit) == ("memory://given", 5)
    app = Celeriac("proj")
    app.config_from_object("its_config")
    assert (app.conf.broker_url, app.conf["task_time_limit"]) == ("memory://configured", 11)


def test_a_later_configuration_replaces_the_earlier_one(module: Any) -> None:
    app = Celeriac("proj", config_source={"task_soft_time_limit": 4})
    assert app.conf.task_soft_time_limit == 4
    app.config_from_object(module)
    assert (app.conf.task_soft_time_limit, app.conf.task_time_limit) == (None, 11)


def test_namespaces() -> None:
    app = Celeriac("proj")
    app.config_from_object({"CELERY_TASK_TIME_LIMIT": 7, "OTHER": 1}, namespace="CELERY")
    assert app.conf.task_time_limit == 7


def test_the_environment_may_name_the_module(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERY_CONFIG_MODULE", "its_config")
    assert Celeriac("proj").conf.task_time_limit == 11
    monkeypatch.setenv("MINE", "its_config")
    app = Celeriac("proj")
    assert app.config_from_envvar("MINE")
    assert app.conf.task_time_limit == 11
    with pytest.raises(ImproperlyConfigured):
        app.config_from_envvar("NOT_SET_ANYWHERE")
    assert not app.config_from_envvar("NOT_SET_ANYWHERE", silent=True)


def test_the_command_line_may_set_settings() -> None:
    app = Celeriac("proj")
    app.config_from_cmdline(["worker.concurrency=3"], namespace="worker")
    assert app.conf.worker_concurrency == 3


def test_missing_sources_may_be_ignored_wrong_ones_not(module: Any) -> None:
    app = Celeriac("proj", config_source="no.such.module", config_source_silent=True)
    assert app.conf.task_time_limit is None
    module.task_time_limit = "soon"
    app.config_from_object("its_config", silent=True) if not app.configured else None
    with pytest.raises(ImproperlyConfigured, match="soon"):
        Celeriac("proj", config_source="its_config", config_source_silent=True).conf.task_time_limit  # noqa: B018


def test_defaults_of_libraries_are_outranked() -> None:
    app = Celeriac("proj", config_source={"task_time_limit": 7})
    app.add_defaults({"task_time_limit": 1, "task_soft_time_limit": 2})
    app.add_defaults(lambda: {"task_default_queue": "theirs"})
    conf = app.conf
    assert (conf.task_time_limit, conf.task_soft_time_limit, conf.task_default_queue) == (7, 2, "theirs")
    app.add_defaults({"task_default_priority": 3})
    assert conf.task_default_priority == 3


def test_configuration_is_announced_once() -> None:
    app = Celeriac("proj", config_source={"task_time_limit": 7})
    seen: list[Any] = []

    @app.on_configure.connect
    def configuring(sender: Any, **named: Any) -> None:
        seen.append("configuring")
        sender.conf.task_soft_time_limit = 3

    @app.on_after_configure.connect
    def configured(sender: Any, source: Any, **named: Any) -> None:
        seen.append((sender.conf.task_time_limit, source.task_soft_time_limit))

    assert app.conf.get("task_time_limit") == 7
    assert "task_time_limit" in app.conf
    app.finalize()
    assert seen == ["configuring", (7, 3)]


def test_each_way_of_reading_configures() -> None:
    for read in (
        lambda conf: conf.task_time_limit,
        lambda conf: conf["task_time_limit"],
        lambda conf: conf.get("task_time_limit"),
        lambda conf: "task_time_limit" in conf,
        lambda conf: list(conf),
        lambda conf: conf.value_set_for("task_time_limit"),
        lambda conf: conf.humanize(),
        lambda conf: conf.copy().task_time_limit,
    ):
        app = Celeriac("proj", config_source={"task_time_limit": 7})
        read(app.conf)
        assert app.configured


def test_parts_follow_their_settings() -> None:
    app = Celeriac("proj", broker="memory://one", backend="memory://one")
    broker, backend, queues, producer = app.broker, app.backend, app.queues, app.producer
    app.conf.task_time_limit = 3
    assert (app.broker, app.backend, app.queues) == (broker, backend, queues)
    assert app.producer is not producer
    app.conf.broker_url = "memory://two"
    assert app.broker is not broker
    assert app.backend is backend
    app.conf.task_default_queue = "q"
    assert app.queues is not queues
    assert app.queues_to_consume() == ["q"]


class Recorder:
    """A broker or result store, as far as its making is concerned."""

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        self.options = options


def test_connection_settings_become_options() -> None:
    path = f"{__name__}:Recorder://"
    app = Celeriac(
        "proj",
        broker=path,
        backend=path,
        broker_use_ssl={"ca_certs": "x"},
        broker_connection_timeout=2,
        broker_transport_options={"priority_steps": [0]},
        redis_socket_timeout=3,
        result_backend_transport_options={"socket_timeout": 9},
    )
    made: Any = app.broker
    assert made.options == {"ssl": {"ca_certs": "x"}, "socket_connect_timeout": 2, "priority_steps": [0]}
    made = app.backend
    assert made.options["socket_timeout"] == 9
    assert "ssl" not in made.options


def test_without_any_configuration_the_store_is_embedded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    conf = Celeriac("proj").conf
    assert conf.broker_url == conf.result_backend == "sqlite:///.celeriac/celeriac.db"


def test_a_result_store_may_be_given_ready_made() -> None:
    store = Celeriac("one", broker="memory://", backend="memory://").backend
    assert Celeriac("two", broker="memory://", backend=store).backend is store


def test_periodic_tasks_reach_the_schedule(app: Celeriac) -> None:
    @app.task(name="x")
    def probe(*args: int) -> None: ...

    @app.on_after_configure.connect
    def setup(sender: Any, **named: Any) -> None:
        sender.add_periodic_task(30.0, probe.s(2), name="late one", queue="q")

    assert app.add_periodic_task(10.0, probe.s(1)) == "x(1)"
    assert app.add_periodic_task(timedelta(minutes=1), probe, (3,), name="named") == "named"
    assert not app.configured
    schedule = app.conf.beat_schedule
    assert set(schedule) == {"x(1)", "named", "late one"}
    assert schedule["late one"] == {
        "schedule": 30.0, "task": "x", "args": (2,), "kwargs": {}, "options": {"queue": "q"},
    }  # fmt: skip
    assert schedule["named"]["args"] == (3,)
    with pytest.warns(UserWarning, match="takes the place of another"):
        app.add_periodic_task(20.0, probe.s(1))


def test_periodic_tasks_after_finalisation(app: Celeriac) -> None:
    @app.on_after_finalize.connect
    def setup(sender: Any, **named: Any) -> None:
        sender.add_periodic_task(5.0, sender.tasks["x"].s())

    @app.task(name="x")
    def probe() -> None: ...

    app.finalize()
    assert list(app.conf.beat_schedule) == ["x()"]


def test_time_zones() -> None:
    app = Celeriac("proj", broker="memory://")
    assert app.timezone is UTC
    assert abs(app.now() - datetime.now(UTC)) < timedelta(seconds=5)
    app.conf.timezone = "Europe/Vienna"
    assert str(app.timezone) == "Europe/Vienna"
    assert app.now().utcoffset() in (timedelta(hours=1), timedelta(hours=2))
    local = Celeriac("proj", broker="memory://", enable_utc=False)
    assert local.now().utcoffset() == datetime.now().astimezone().utcoffset()


def test_loaders_may_be_replaced(module: Any) -> None:
    class Mine(Loader):
        pass

    assert type(Celeriac("proj", loader=Mine).loader) is Mine
    assert type(Celeriac("proj", loader=f"{__name__}:Loader").loader) is Loader


def test_fixups_are_called_with_the_app() -> None:
    seen: list[Any] = []
    app = Celeriac("proj", fixups=[seen.append])
    assert seen == [app]


def test_result_ttl(app: Celeriac) -> None:
    assert app.result_ttl == 86400
    app.conf.result_expires = timedelta(minutes=2)
    assert app.result_ttl == 120
    app.conf.result_expires = 0
    assert app.result_ttl is None


def test_revoke_and_purge_need_no_worker(app: Celeriac) -> None:
    app.control.revoke("a")
    app.control.revoke(["b", "c"])
    assert set(app.broker.revoked()) == {"a", "b", "c"}
    with pytest.raises(ImproperlyConfigured, match="terminate"):
        app.control.revoke("a", terminate=True)
    app.send_task("x")
    assert app.control.purge() == 1


def test_reports_hold_no_secrets() -> None:
    app = Celeriac("proj", broker="redis://user:hunter2@localhost/0")
    assert "hunter2" not in app.bugreport()
    assert "software -> celeriac:" in app.bugreport()


def test_closing_and_leaving(app: Celeriac) -> None:
    with app as entered:
        assert entered is app
        entered.send_task("x")
    assert repr(app).startswith("<Celeriac proj at 0x")
