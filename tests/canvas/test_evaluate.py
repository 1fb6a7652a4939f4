"""The evaluator's rules, one by one; what Celery 5.7 was seen to do, where nothing else is said."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from tests.canvas.evaluate import Failed, Many, Value, evaluate
from tests.canvas.generate import DEPTH, FAULTS, LEAVES, faulty, sample, trees
from tests.canvas.tree import Chain, Chord, Errback, Group, Leaf, Tree, depth, dump, leaves, load, show

a, b, c, d, e, f = (Leaf(label) for label in "abcdef")
bad, worse = Leaf("bad", "fail"), Leaf("worse", "fail")
X, Y = (Errback("X"),), (Errback("Y", "new"),)


def becomes(tree: Tree, **options: Any) -> Leaf:
    return Leaf("r", "replace", becomes=tree, **options)


VALUES = [
    (Chain((a, b, c)), "c(b(a()))"),
    (Chain((a, Leaf("i", immutable=True), b)), "b(i())"),
    (Chord((a, b), Leaf("o", own=True)), "o([a(),b()],x)"),
    (Chain((a, Group((b, c)), d)), "d([b(a()),c(a())])"),
    (Chord((a,), b), "b([a()])"),
    (Chain((Group((a,)), b), piped=True), "b([a()])"),
    (Chain((Group((a,)), b)), "b(a())"),
    (Chain((a, Group((b,)), c)), "c(b(a()))"),
    (Chord((), c), "c([])"),
    (Chord((a, Group((b, c))), d), "d([a(),b(),c()])"),  # Celery: not in this order
    (Chord((a, Chain((b, Group((c, d))))), e), "e([a(),[c(b()),d(b())]])"),
    (Chord((a, Chord((b, c), d)), e), "e([a(),d([b(),c()])])"),
    (Chain((Chord((a, b), c), Chord((d, e), f))), "f([d(c([a(),b()])),e(c([a(),b()]))])"),
    (Chord((a, b), Chord((c, d), e)), "e([c([a(),b()]),d([a(),b()])])"),
    (Chain((Group((a, b)), Group((c, d)), e)), "e([c([a(),b()]),d([a(),b()])])"),
    (Chain((a, Leaf("t", "retry"), b)), "b(t(a()))"),
    (becomes(Group((b, c))), ["b()", "c()"]),
    (becomes(Chain((a, Group((b, c))))), ["b(a())", "c(a())"]),
    (Chain((a, becomes(Chord((b, c), d)), e)), "e(d([b(),c()]))"),
    (Chord((a, becomes(Group((b, c)))), e), "e([a(),[b(),c()]])"),
]


@pytest.mark.parametrize(("tree", "value"), VALUES, ids=[show(tree) for tree, _ in VALUES])
def test_values(tree: Tree, value: Any) -> None:
    assert evaluate(tree).outcome == Value(value)


FAILURES: list[tuple[Tree, str, list[tuple[str, str]]]] = [
    (Chain((a, bad, c), errbacks=X), "Boom", [("X", "bad")]),
    (Chain((Leaf("bad", "fail", errbacks=X), b), errbacks=Y), "Boom", [("X", "bad"), ("Y", "bad")]),
    (Chain((Group((a, bad)), c), errbacks=X), "ChordError", [("X", "c")]),
    (Chain((Chain((Group((a, bad)), Group((b, c)), d), errbacks=X), e)), "ChordError", [("X", "d")]),
    (Chord((bad, worse), c, errbacks=X), "ChordError", [("X", "c")]),
    (Chord((a, bad), Chain((c, d), errbacks=X)), "ChordError", [("X", "c")]),
    (Chord((a, bad), Chain((c, Leaf("d", errbacks=X)))), "ChordError", []),
    (Chord((a, bad), Chord((c, d), e), errbacks=X), "ChordError", [("X", "e")]),  # Celery: for ever
    (Chord((a, Chord((b, bad), c)), d, errbacks=X), "ChordError", [("X", "d")]),  # Celery: for ever
    (Chord((a, Chain((bad, Group((b, c))))), e, errbacks=X), "ChordError", [("X", "e")]),  # likewise
    (Chord((Leaf("g", "giveup"), a), c, errbacks=X), "ChordError", [("X", "c")]),
    (becomes(Group((b, bad)), errbacks=X), "ChordError", [("X", "r")]),
    (becomes(Chain((bad, b)), errbacks=X), "Boom", [("X", "bad")]),
    (Chain((a, becomes(bad), e), errbacks=X), "Boom", [("X", "bad")]),
    (Chain((bad, Chord((a, b), c)), errbacks=X), "Boom", [("X", "bad")]),
]


@pytest.mark.parametrize(("tree", "name", "called"), FAILURES, ids=[show(tree) for tree, _, _ in FAILURES])
def test_failures(tree: Tree, name: str, called: list[tuple[str, str]]) -> None:
    expected = evaluate(tree)
    assert expected.outcome == Failed("FAILURE", frozenset({name}))
    assert sorted(expected.errbacks.elements()) == called


def test_a_group_ends_as_its_members_do() -> None:
    boom = Failed("FAILURE", frozenset({"Boom"}))
    assert evaluate(Group((a, bad), X)).outcome == Many((Value("a()"), boom))
    assert evaluate(Group((bad, worse), X)).errbacks == {("X", "bad"): 1, ("X", "worse"): 1}
    assert evaluate(Chain((bad, Group((a, b))))).outcome == Many((boom, boom))


def test_links_get_the_value_of_what_they_hang_on() -> None:
    ends = evaluate(Chain((a, Chord((b, c), d)), links=(e,))).nodes
    assert ends["e"] == Value("e(d([b(a()),c(a())]))")
    assert evaluate(Chain((a, Group((b, c))), links=(d,))).starts["d"] == 2
    assert evaluate(Leaf("bad", "fail", links=(b,))).starts == {"bad": 1}


def test_what_waits_behind_a_failure_ends_likewise() -> None:
    revoked = Failed("REVOKED", frozenset({"TaskRevokedError"}))
    expected = evaluate(Chain((a, Leaf("x", "expire"), Chord((b, c), d))))
    assert {expected.nodes[label] for label in "xbcd"} == {revoked}
    assert expected.starts == {"a": 1, "x": 0}


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(trees())
def test_trees_keep_to_their_bounds(tree: Tree) -> None:
    assert leaves(tree) <= LEAVES
    assert depth(tree) <= DEPTH + 2  # links and replacements hang below
    assert load(dump(tree)) == tree
    expected = evaluate(tree)
    assert isinstance(expected.outcome, (Value, Failed, Many))
    assert {label for label, times in expected.starts.items() if times} <= expected.nodes.keys()


def test_samples_are_the_same_for_the_same_number() -> None:
    assert sample(trees(), 8, 1) == sample(trees(), 8, 1) != sample(trees(), 8, 2)
    for fault in FAULTS:
        assert all(
            f":{fault}" in show(tree) or fault in ("fail", "giveup") for tree in sample(faulty(fault), 1, 1)
        )
