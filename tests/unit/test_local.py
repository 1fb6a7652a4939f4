"""A proxy behaves as what it stands for."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from celeriac.local import Proxy, resolve


class Thing:
    def __init__(self) -> None:
        self.value = 1

    def __call__(self, n: int) -> int:
        return n + 1

    def __repr__(self) -> str:
        return "<thing>"


def test_attributes_and_calls_are_forwarded() -> None:
    thing = Thing()
    proxy: Any = Proxy(lambda: thing)
    proxy.value = 5
    assert (thing.value, proxy.value, proxy(1), repr(proxy), str(proxy)) == (5, 5, 2, "<thing>", "<thing>")
    del proxy.value
    assert not hasattr(thing, "value")
    assert isinstance(proxy, Thing)
    assert proxy == thing
    assert hash(proxy) == hash(thing)
    assert resolve(proxy) is proxy._get_current_object() is thing
    assert resolve(thing) is thing
    assert "value" not in dir(proxy)


def test_containers_and_contexts() -> None:
    items = {"a": 1}
    proxy: Any = Proxy(lambda: items)
    proxy["b"] = 2
    del proxy["a"]
    assert (items, len(proxy), list(proxy), "b" in proxy, proxy["b"]) == ({"b": 2}, 1, ["b"], True, 2)
    assert proxy | {"c": 3} == {"b": 2, "c": 3}
    with pytest.raises(AttributeError):
        proxy.__enter__()
    assert not Proxy(lambda: None)


def test_it_looks_every_time() -> None:
    found = iter([1, 2])
    proxy: Any = Proxy(lambda: next(found))
    assert [proxy == 1, proxy == 2] == [True, True]


def test_it_is_pickled_as_what_it_stands_for() -> None:
    value = pickle.loads(pickle.dumps(Proxy(lambda: Thing())))
    assert type(value) is Thing
