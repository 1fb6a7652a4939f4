"""`app.conf`: names, values, sources, order, reports."""

from __future__ import annotations

import copy
import pickle
import re
from datetime import timedelta
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from celeriac.app.settings import (
    EMBEDDED_URL,
    Settings,
    find,
    mask_url,
    read_assignments,
    read_envvar,
    read_mapping,
    read_object,
    reference,
)
from celeriac.app.settings_reading import BY_NAME, BY_OLD_NAME
from celeriac.app.settings_values import convert
from celeriac.exceptions import ImproperlyConfigured

ROOT = Path(__file__).parents[3]


@pytest.fixture
def conf() -> Settings:
    return Settings(environ={})


def module(**variables: Any) -> ModuleType:
    made = ModuleType("celeryconfig")
    vars(made).update(variables)
    return made


class TestTable:
    def test_no_name_twice(self) -> None:
        assert not set(BY_NAME) & set(BY_OLD_NAME)
        assert len(BY_OLD_NAME) == sum(len(row.old_names) for row in BY_NAME.values())

    def test_every_default_passes_its_own_check(self) -> None:
        for row in BY_NAME.values():
            assert convert(row, row.default) == row.default, row.name

    def test_what_has_no_effect_says_why(self) -> None:
        assert [row.name for row in BY_NAME.values() if row.status != "honoured" and not row.note] == []

    def test_no_private_or_mapping_name(self) -> None:
        assert [name for name in BY_NAME if name.startswith("_") or hasattr(Settings, name)] == []

    def test_the_reference_page_is_current(self) -> None:
        page = (ROOT / "docs" / "reference" / "settings.md").read_text()
        assert page == reference(), (
            "write it anew: python -m celeriac.app.settings > docs/reference/settings.md"
        )

    def test_defaults_that_differ_from_celery_on_purpose(self, conf: Settings) -> None:
        assert conf.task_acks_late is True
        assert conf.task_delivery_limit == 3
        assert conf.broker_publish_timeout == 5.0
        assert conf.task_unknown_deadline == 3600.0
        assert conf.worker_lease_ttl == 6.0


class TestAccess:
    def test_attribute_item_get_and_old_name_are_one(self, conf: Settings) -> None:
        conf.task_acks_late = False
        assert conf["task_acks_late"] is conf.get("task_acks_late") is conf.CELERY_ACKS_LATE is False
        assert conf["CELERY_ACKS_LATE"] is False
        assert "CELERY_ACKS_LATE" in conf
        conf["CELERY_TASK_SERIALIZER"] = "msgpack"
        assert conf.task_serializer == "msgpack"

    def test_a_missing_attribute_names_the_nearest(self, conf: Settings) -> None:
        with pytest.raises(AttributeError, match="task_acks_late"):
            _ = conf.task_ack_late
        with pytest.raises(KeyError):
            _ = conf["task_ack_late"]
        assert conf.get("task_ack_late", 7) == 7

    def test_update_takes_all_or_nothing(self, conf: Settings) -> None:
        with pytest.raises(ImproperlyConfigured, match="task_time_limit"):
            conf.update(task_serializer="yaml", task_time_limit="soon")
        assert conf.task_serializer == "json"
        conf.update({"task_serializer": "yaml"}, task_time_limit=3)
        assert (conf.task_serializer, conf.task_time_limit) == ("yaml", 3)
        assert conf.changes == {"task_serializer": "yaml", "task_time_limit": 3}

    def test_own_keys_stay_readable_but_misspelt_settings_do_not(self, conf: Settings) -> None:
        conf.my_answer = 42
        conf["ONCE"] = {"backend": "x"}
        conf.redbeat_redis_url = "redis://"
        assert (conf.my_answer, conf["ONCE"], conf.redbeat_redis_url) == (42, {"backend": "x"}, "redis://")
        for key in ("task_ack_late", "worker_anything", "acept_content", "CELERY_ACK_LATE"):
            with pytest.raises(ImproperlyConfigured, match=f"no setting '{key}'"):
                conf[key] = 1

    def test_deleting_takes_a_change_back(self, conf: Settings) -> None:
        conf.task_serializer = "yaml"
        conf.mine = 1
        del conf["task_serializer"], conf.mine
        assert conf.task_serializer == "json"
        assert "mine" not in conf

    def test_nested_values_belong_to_one_app(self, conf: Settings) -> None:
        conf.beat_schedule["x"] = {}
        conf.task_serializer = "yaml"
        assert conf.beat_schedule == {"x": {}}
        assert Settings(environ={}).beat_schedule == {}

    def test_copies_and_pickles(self, conf: Settings) -> None:
        conf.task_serializer = "yaml"
        for other in (conf.copy(), copy.copy(conf), copy.deepcopy(conf), pickle.loads(pickle.dumps(conf))):
            assert other.task_serializer == "yaml"
            other.task_serializer = "json"
        assert conf.task_serializer == "yaml"

    def test_lookups(self, conf: Settings) -> None:
        assert conf.find_option("concurrency", "worker").name == "worker_concurrency"
        assert conf.find_value_for_key("prefetch_multiplier", "worker") == 4
        assert conf.get_by_parts("task", "acks", "late") is True
        assert conf.first("task_time_limit", "task_serializer") == "json"
        assert find("BROKER_URL").name == "broker_url"
        with pytest.raises(KeyError):
            find("nothing")

    def test_setdefault_and_value_set_for(self, conf: Settings) -> None:
        assert not conf.value_set_for("task_acks_late")
        assert conf.setdefault("task_acks_late", False) is False
        assert conf.value_set_for("CELERY_ACKS_LATE")
        assert conf.setdefault("task_acks_late", True) is False


class TestOrder:
    def test_environment_beats_changes_beat_configuration_beat_added_defaults(self) -> None:
        environ: dict[str, str] = {}
        conf = Settings({"broker_url": "redis://config"}, environ=environ)
        conf.add_defaults({"broker_url": "redis://added", "task_default_queue": "added"})
        assert (conf.broker_url, conf.task_default_queue) == ("redis://config", "added")
        conf.broker_url = "redis://changed"
        assert conf.broker_url == "redis://changed"
        environ["CELERY_BROKER_URL"] = "redis://celery"
        conf.refresh()
        assert conf.broker_url == "redis://celery"
        environ["CELERIAC_BROKER_URL"] = "redis://ours"
        conf.refresh()
        assert conf.broker_url == "redis://ours"

    def test_a_new_configuration_replaces_the_old_one(self, conf: Settings) -> None:
        conf.load({"task_serializer": "yaml", "task_acks_late": False})
        conf.load({"task_serializer": "msgpack"})
        assert (conf.task_serializer, conf.task_acks_late) == ("msgpack", True)

    def test_the_embedded_store_is_the_default_for_both(self, conf: Settings) -> None:
        assert conf.broker_url == conf.result_backend == conf.broker_read_url == EMBEDDED_URL
        assert Settings(environ={"CELERY_BROKER_URL": ""}).broker_url == EMBEDDED_URL

    def test_results_follow_an_sqlite_broker_and_no_other(self, conf: Settings) -> None:
        conf.broker_url = "sqlite:///other.db"
        assert conf.result_backend == "sqlite:///other.db"
        conf.broker_url = "redis://"
        assert conf.result_backend is None
        conf.result_backend = "sqlite://"
        assert conf.result_backend == EMBEDDED_URL

    def test_one_may_read_here_and_write_there(self, conf: Settings) -> None:
        conf.broker_url = "redis://both"
        assert conf.broker_read_url == conf.broker_write_url == "redis://both"
        conf.broker_read_url = "redis://here"
        assert (conf.broker_read_url, conf.broker_write_url) == ("redis://here", "redis://both")

    def test_exchange_and_routing_key_follow_the_queue(self, conf: Settings) -> None:
        conf.task_default_queue = "mine"
        assert (conf.task_default_exchange, conf.task_default_routing_key) == ("mine", "mine")
        conf.task_default_exchange = "other"
        assert (conf.task_default_exchange, conf.task_default_routing_key) == ("other", "mine")

    def test_several_broker_urls_become_one(self, conf: Settings) -> None:
        conf.broker_url = ["redis://a", "redis://b"]
        assert conf.broker_url == "redis://a;redis://b"


class TestValues:
    @pytest.mark.parametrize(
        ("name", "written", "value"),
        [
            ("task_time_limit", timedelta(minutes=2), 120.0),
            ("task_time_limit", "1.5", 1.5),
            ("task_time_limit", None, None),
            ("result_expires", timedelta(days=2), 172800.0),
            ("task_acks_late", "no", False),
            ("task_acks_late", 0, False),
            ("task_acks_late", "True", True),
            ("worker_max_tasks_per_child", "7", 7),
            ("worker_max_tasks_per_child", 7.0, 7),
            ("worker_concurrency", "auto", "auto"),
            ("worker_concurrency", "4", 4),
            ("imports", "a, b", ("a", "b")),
            ("include", ["a"], ["a"]),
            ("accept_content", {"json"}, {"json"}),
            ("worker_state_db", Path("x"), "x"),
            ("timezone", "Europe/Vienna", "Europe/Vienna"),
            ("broker_use_ssl", {"ca": "x"}, {"ca": "x"}),
            ("worker_redirect_stdouts_level", "INFO", "INFO"),
        ],
    )
    def test_converted(self, conf: Settings, name: str, written: Any, value: Any) -> None:
        conf[name] = written
        assert conf[name] == value
        assert type(conf[name]) is type(value)

    @pytest.mark.parametrize(
        ("name", "written", "expected"),
        [
            ("task_time_limit", "soon", "a number of seconds or a timedelta or None"),
            ("task_time_limit", True, "a number of seconds"),
            ("task_acks_late", "perhaps", "true or false"),
            ("task_acks_late", None, "true or false"),
            ("worker_max_tasks_per_child", 1.5, "a whole number or None"),
            ("worker_concurrency", "many", "'auto'"),
            ("task_serializer", 3, "a string"),
            ("beat_schedule", [], "a dict"),
            ("imports", 3, "a tuple"),
            ("timezone", "Mars/Olympus", "time zone"),
            ("task_protocol", 1, "2; protocol 1 is read"),
            ("task_delivery_limit", 0, "at least 1"),
        ],
    )
    def test_refused(self, conf: Settings, name: str, written: Any, expected: str) -> None:
        with pytest.raises(ImproperlyConfigured, match=re.escape(expected)) as caught:
            conf[name] = written
        assert repr(written) in str(caught.value)
        assert repr(name) in str(caught.value)

    def test_a_secret_is_not_shown_in_an_error(self, conf: Settings) -> None:
        with pytest.raises(ImproperlyConfigured) as caught:
            conf.s3_secret_access_key = ["hush"]
        assert "hush" not in str(caught.value)

    def test_a_refused_setting_names_its_replacement(self, conf: Settings) -> None:
        conf.broker_host = None
        with pytest.raises(ImproperlyConfigured, match=r"'broker_host' is not supported\. Write broker_url"):
            conf.broker_host = "localhost"
        with pytest.raises(ImproperlyConfigured, match="'CELERYD_CONSUMER' is not supported"):
            conf.update(CELERYD_CONSUMER="x:Y")


class TestSources:
    def test_old_and_new_names_in_a_mapping(self) -> None:
        assert read_mapping(
            {"CELERYD_CONCURRENCY": 3, "task_acks_late": False, "BROKER_URL": "redis://"}
        ) == {
            "worker_concurrency": 3,
            "task_acks_late": False,
            "broker_url": "redis://",
        }

    def test_two_names_of_one_setting(self) -> None:
        with pytest.raises(
            ImproperlyConfigured, match="'CELERY_ACKS_LATE' and 'task_acks_late' are two names"
        ):
            read_mapping({"CELERY_ACKS_LATE": True, "task_acks_late": True})

    def test_everything_wrong_is_listed_at_once(self) -> None:
        with pytest.raises(ImproperlyConfigured) as caught:
            read_object({"task_ack_late": True, "worker_prefetch_multiplyer": 1, "task_time_limit": "x"})
        text = str(caught.value)
        assert "Did you mean 'task_acks_late'?" in text
        assert "Did you mean 'worker_prefetch_multiplier'?" in text
        assert "'task_time_limit' is 'x' (str)" in text

    def test_a_namespace(self) -> None:
        django = module(
            CELERY_TASK_ACKS_LATE=False,
            CELERY_BROKER_URL="redis://",
            CELERY_QUEUES=[],
            CELERY_REDBEAT_LOCK_KEY="k",
            DEBUG=True,
            task_serializer="yaml",
        )
        assert read_object(django, "CELERY") == {
            "task_acks_late": False,
            "broker_url": "redis://",
            "task_queues": [],
            "redbeat_lock_key": "k",
        }

    def test_an_unknown_name_in_a_namespace(self) -> None:
        with pytest.raises(ImproperlyConfigured, match="Did you mean 'CELERY_TASK_ACKS_LATE'"):
            read_object(module(CELERY_TASK_ACK_LATE=True), "CELERY")
        with pytest.raises(ImproperlyConfigured, match="'CELERY_FROBNICATE'"):
            read_object(module(CELERY_FROBNICATE=True), "CELERY_")
        with pytest.raises(ImproperlyConfigured, match="are two names of one setting"):
            read_object(module(CELERY_TASK_QUEUES=[], CELERY_QUEUES=[]), "CELERY")

    def test_a_lower_case_namespace(self) -> None:
        assert read_mapping({"celery_task_acks_late": False, "other": 1}, "celery") == {
            "task_acks_late": False
        }

    def test_a_module_may_hold_other_variables(self) -> None:
        config = module(
            task_acks_late=False,
            CELERY_ENABLED=1,
            SECRET_KEY="x",
            hostname="h",
            task_router=lambda name: None,
            os=re,
            _worker_hidden=1,
        )
        assert read_object(config) == {"task_acks_late": False}

    @pytest.mark.parametrize(
        "name", ["task_ack_late", "worker_concurency", "beat_shedule", "CELERYD_CONCURENCY"]
    )
    def test_a_misspelt_variable_of_a_module(self, name: str) -> None:
        with pytest.raises(ImproperlyConfigured, match=f"no setting '{name}'. Did you mean"):
            read_object(module(**{name: 1}))

    def test_djangos_time_zone_counts_without_a_namespace(self) -> None:
        assert read_object(module(TIME_ZONE="Asia/Tokyo")) == {"timezone": "Asia/Tokyo"}
        assert read_object(module(TIME_ZONE="Asia/Tokyo", timezone="UTC")) == {"timezone": "UTC"}

    def test_objects_and_classes(self) -> None:
        class Config:
            task_serializer = "yaml"

        assert read_object(Config) == read_object(Config()) == {"task_serializer": "yaml"}
        assert read_object(SimpleNamespace(task_serializer="yaml")) == {"task_serializer": "yaml"}

    def test_dotted_paths_and_the_working_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "settings_of_a_test.py").write_text(
            "task_serializer = 'yaml'\nclass Inner:\n    task_serializer = 'msgpack'\n"
        )
        monkeypatch.chdir(tmp_path)
        assert read_object("settings_of_a_test") == {"task_serializer": "yaml"}
        assert read_object("settings_of_a_test:Inner") == {"task_serializer": "msgpack"}
        assert read_object("settings_of_a_test.Inner") == {"task_serializer": "msgpack"}
        for path in ("settings_of_no_test", "settings_of_a_test:Nothing", "settings_of_a_test.Nothing"):
            with pytest.raises(ImproperlyConfigured, match=re.escape(path)):
                read_object(path)
        monkeypatch.setenv("A_CONFIG", "settings_of_a_test")
        assert read_envvar("A_CONFIG") == {"task_serializer": "yaml"}

    def test_an_envvar_that_is_not_set(self) -> None:
        assert read_envvar("NO_SUCH_CONFIG", silent=True) == {}
        with pytest.raises(ImproperlyConfigured, match="NO_SUCH_CONFIG"):
            read_envvar("NO_SUCH_CONFIG")

    def test_assignments_of_a_command_line(self) -> None:
        assert read_assignments(["worker.concurrency=10", ".pool=solo", "task_acks_late=no"]) == {
            "worker_concurrency": 10,
            "worker_pool": "solo",
            "task_acks_late": False,
        }
        with pytest.raises(ImproperlyConfigured, match="name=value"):
            read_assignments(["worker.concurrency"])


class TestReports:
    def test_only_what_was_set_and_no_secret(self, conf: Settings) -> None:
        conf.update(
            broker_url="redis://me:hush@host:1/0;redis://:hush@other/1",
            s3_secret_access_key="hush",
            broker_transport_options={"password": "hush", "master_name": "m"},
        )
        text = conf.humanize()
        assert "hush" not in text
        assert "redis://me:********@host:1/0;redis://:********@other/1" in text
        assert "'master_name': 'm'" in text
        assert "task_serializer" not in text
        assert "hush" not in repr(conf)
        assert "hush" in conf.humanize(censored=False)
        assert "task_serializer" in conf.humanize(with_defaults=True)
        assert set(conf.table()) == set(conf.without_defaults())

    def test_urls_without_a_password_stay(self) -> None:
        for url in ("redis://host:6379/0", "sqlite:///a:b@c", "redis://user@host"):
            assert mask_url(url) == url
        assert mask_url("amqp://u:p@ss@h//") == "amqp://u:********@h//"
