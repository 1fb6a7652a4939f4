"""`app.failover`: a list of broker URLs in the order to be tried."""

from __future__ import annotations

import itertools

import pytest

from celeriac import Celeriac
from celeriac.app.failover import arranged, split
from celeriac.exceptions import ImproperlyConfigured

THREE = "redis://a;redis://b/1;redis://:p@c"


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        (THREE, ["redis://a", "redis://b/1", "redis://:p@c"]),
        ("redis://a; redis://b;", ["redis://a", "redis://b"]),
        ("sqlite:///odd;name.db", ["sqlite:///odd;name.db"]),
        ("my.module:Broker://x;my.module:Broker://y", ["my.module:Broker://x", "my.module:Broker://y"]),
    ],
)
def test_lists_are_split_at_urls(url: str, parts: list[str]) -> None:
    assert split(url) == parts


@pytest.mark.parametrize("strategy", [None, "round-robin"])
def test_the_order_is_that_of_the_list(strategy: str | None) -> None:
    assert arranged(THREE, strategy) == THREE


def test_shuffle_keeps_all() -> None:
    found = {arranged(THREE, "shuffle") for _ in range(200)}
    assert len(found) == 6
    assert {tuple(sorted(split(each))) for each in found} == {tuple(sorted(split(THREE)))}


def test_a_function_may_give_urls_for_ever() -> None:
    assert (
        arranged(THREE, lambda urls: itertools.cycle(reversed(urls))) == "redis://:p@c;redis://b/1;redis://a"
    )


@pytest.mark.parametrize(
    ("url", "strategy", "says"),
    [
        ("redis://a;amqp://b", None, "amqp, redis"),
        ("sqlite:///a;sqlite:///b", None, "Name one"),
        (THREE, "random", "round-robin"),
        (THREE, lambda urls: [], "gave no URL"),
        (THREE, lambda urls: ["redis://elsewhere"], "not in broker_url"),
    ],
)
def test_what_makes_no_sense_is_refused(url: str, strategy: object, says: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=says):
        arranged(url, strategy)  # type: ignore[arg-type]


def test_the_setting_reaches_the_transport() -> None:
    app = Celeriac("x", set_as_current=False)
    app.conf.broker_url = ["redis://a", "redis://b"]
    assert app.broker.server.addresses == (("a", 6379), ("b", 6379))  # type: ignore[attr-defined]
    app.conf.broker_failover_strategy = lambda urls: urls[::-1]
    assert app.broker.server.addresses == (("b", 6379), ("a", 6379))  # type: ignore[attr-defined]
