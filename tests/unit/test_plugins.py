"""URL schemes: what they load, and what is said when they cannot."""

from __future__ import annotations

from typing import Any

import pytest

from celeriac import plugins
from celeriac.exceptions import ImproperlyConfigured


class Recorder:
    """A broker class of somebody else, as far as `plugins` is concerned."""

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        self.url = url
        self.options = options


@pytest.mark.parametrize(
    ("url", "scheme"),
    [
        ("redis://h/0", "redis"),
        ("REDIS://h", "redis"),
        ("sqlite:///a.db", "sqlite"),
        ("disabled", "disabled"),
    ],
)
def test_scheme(url: str, scheme: str) -> None:
    assert plugins.scheme_of(url) == scheme


def test_a_class_path_stands_for_a_scheme() -> None:
    made: Any = plugins.broker_from_url(f"{__name__}:Recorder://place", {"a": 1})
    assert type(made).__name__ == "Recorder"
    assert made.options == {"a": 1}


def test_an_unknown_scheme_names_the_nearest_one() -> None:
    with pytest.raises(ImproperlyConfigured, match="Did you mean 'redis://'"):
        plugins.broker_from_url("reddis://localhost")
    with pytest.raises(ImproperlyConfigured, match="no result backend"):
        plugins.backend_from_url("qqqqqq://localhost")


def test_a_class_path_that_does_not_exist_says_how_to_write_one() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"package\.module:Class"):
        plugins.broker_from_url("no.such.module:Thing://")


def test_a_missing_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> Any:
        raise ModuleNotFoundError("No module named 'redis'", name="redis")

    monkeypatch.setattr(plugins, "load_class", refuse)
    with pytest.raises(ImproperlyConfigured, match=r"pip install 'celeriac\[redis\]'"):
        plugins.broker_from_url("redis://localhost")


@pytest.mark.parametrize(
    "url",
    [
        "db+sqlite:///r.db",
        "db+postgresql://h/n",
        "db+postgresql+psycopg://h/n",
        "db+mysql+pymysql://h/n",
        "db+oracle://h/n",
        "database+sqlite:///r.db",
        "database",
        "db",
    ],
)
def test_sql_databases(url: str) -> None:
    plugin = plugins._listed(plugins.BACKENDS, plugins.scheme_of(url))
    assert plugin is not None
    assert plugin.path == "celeriac.backends.database:DatabaseBackend"
    assert "database_engine_options" in plugins.backend_settings(url)


def test_postgresql_is_a_store_of_its_own() -> None:
    for scheme in ("postgresql", "postgres"):
        assert plugins.BACKENDS[scheme].path.endswith(":PostgresBackend")
    assert plugins.backend_settings("postgresql://h/n") == ()
