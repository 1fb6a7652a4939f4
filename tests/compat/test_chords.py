"""Chords whose client, members and bodies are Celery's and ours, on one Redis."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from tests.compat.conftest import Place
from tests.faults.harness import Journal, Node, until

from celeriac import Celeriac, Signature, chain, chord, group
from celeriac.exceptions import ChordError

Peer = Callable[..., Any]

EXPECTED = [list(range(1, 21)), [2, 12], [[2, 4], 6], [2, 4, 6], [3, 4]]
#: What Celery's own worker makes of its client's: members of a group in a header come in another order.
THEIRS = [list(range(1, 21)), [2, 12], [[2, 4], 6], [4, 2, 6], [3, 4]]


@pytest.fixture
def place(redis_server: Any) -> Place:
    redis_server.flush()
    return Place("redis", redis_server.url, redis_server.url, {}, 0, 9)


def signature(client: Celeriac, name: str, *args: Any) -> Signature[Any]:
    made: Signature[Any] = client.signature(name, args)
    return made


def shapes(client: Celeriac) -> list[Any]:
    """The same as the peer's."""
    add, echo = partial(signature, client, "add"), partial(signature, client, "echo")
    return [
        chord([add(number, 1) for number in range(20)], echo()),
        chord([add(1, 1), chain(add(1, 1), add(10))], echo()),
        chord([chord([add(1, 1), add(2, 2)], echo()), add(3, 3)], echo()),
        chord([group([add(1, 1), add(2, 2)]), add(3, 3)], echo()),
        chain(add(1, 1), group([add(1), add(2)]), echo()),
    ]


def run(client: Celeriac) -> list[Any]:
    results = [shape.apply_async() for shape in shapes(client)]
    return [result.get(timeout=30) for result in results]


def test_their_chords_on_our_worker(peer: Peer, ours: Node) -> None:
    assert peer("chords") == THEIRS


def test_their_uneven_chord_is_the_same_on_both(
    peer: Peer, ours: Node, start_theirs: Callable[..., Node]
) -> None:
    mine = peer("uneven")
    ours.stop()
    with start_theirs():
        assert peer("uneven") == mine


def test_their_broken_chord_on_our_worker(peer: Peer, ours: Node, journal: Journal) -> None:
    state, kind, first, _ = peer("broken_chord")
    assert (state, kind, first) == ("FAILURE", "ChordError", "Dependency")
    until(lambda: journal.count("errback"), 20)
    assert journal.count("errback").total() == 1


def test_our_chords_on_their_worker(client: Celeriac, theirs: Node) -> None:
    assert run(client) == EXPECTED


def test_our_broken_chord_on_their_worker(client: Celeriac, theirs: Node) -> None:
    header = [signature(client, "add", 1, 1), signature(client, "fail", "no way")]
    result = chord(header, signature(client, "echo")).apply_async()
    with pytest.raises(ChordError, match="no way"):
        result.get(timeout=30, follow_parents=False)


def test_members_on_both_sides_count_together(
    client: Celeriac, peer: Peer, ours: Node, theirs: Node, redis_server: Any
) -> None:
    for _ in range(3):
        assert run(client) == EXPECTED
    assert peer("chords") == THEIRS
    header = [signature(client, "add", number, 1) for number in range(600)]
    assert chord(header, signature(client, "echo")).apply_async().get(timeout=60) == list(range(1, 601))
