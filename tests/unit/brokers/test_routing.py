"""Exchanges and bindings."""

from __future__ import annotations

import pytest

from celeriac.brokers.base import Outgoing, Queue
from celeriac.brokers.routing import Bindings, unroutable
from celeriac.conformance.kit import message
from celeriac.exceptions import ImproperlyConfigured


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("a.b", ["a.b"], ["a", "a.b.c", "a.x"]),
        ("*.b", ["a.b"], ["b", "a.a.b", "a.c"]),
        ("a.*", ["a.b"], ["a", "a.b.c"]),
        ("#", ["", "a", "a.b.c"], []),
        ("a.#", ["a", "a.b", "a.b.c"], ["b", "ab", "b.a"]),
        ("#.z", ["z", "a.z", "a.b.z"], ["az", "z.a"]),
        ("a.#.z", ["a.z", "a.b.z", "a.b.c.z"], ["a", "z", "a.z.b"]),
        ("a.#.#", ["a", "a.b"], ["b"]),
        ("x+y", ["x+y"], ["xxy"]),
        ("", [""], ["a"]),
    ],
)
def test_topic_patterns(pattern: str, matching: list[str], others: list[str]) -> None:
    bindings = Bindings()
    bindings.declare([Queue("q", "e", pattern, "topic")])
    for key in matching:
        assert bindings.match("e", key) == ("q",), key
    for key in others:
        assert bindings.match("e", key) == (), key


def test_direct_wants_the_very_key() -> None:
    bindings = Bindings()
    bindings.declare([Queue("q", "e", "a.*"), Queue("r", "e", "a.b")])
    assert bindings.match("e", "a.b") == ("r",)
    assert bindings.match("e", "a.*") == ("q",)
    assert bindings.match("unknown", "a.b") == ()


def test_a_queue_bound_twice_gets_a_message_once() -> None:
    bindings = Bindings()
    bindings.declare([Queue("q", "e", "a.#", "topic"), Queue("q", "e", "#.b", "topic")])
    assert bindings.match("e", "a.b") == ("q",)


def test_the_default_exchange_takes_the_key_for_the_queue() -> None:
    assert Bindings().match("", "q") == ("q",)
    assert Bindings().match("", "") == ()


def test_a_named_queue_needs_no_binding() -> None:
    out = Outgoing(message("a"), queue="q", exchange="e", routing_key="k")
    assert Bindings().route(out) == ("q",)


def test_errors_say_what_to_do() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"'q' has exchange type 'headers'.*direct, fanout, topic"):
        Bindings().declare([Queue("q", "e", "k", "headers")])
    text = str(unroutable(Outgoing(message("a"), exchange="e", routing_key="k")))
    assert "'e'" in text
    assert "task_queues" in text
