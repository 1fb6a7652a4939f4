"""Canvases at random, by Hypothesis: `trees` of calls that succeed or fail by themselves, `faulty` ones.

`sample` takes as many as are wanted of either; the same number gives the same trees. Depth ≤ 5, ≤ 60 calls.
Labels are given afterwards, in the order of reading, so that a small tree reads well.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

from hypothesis import HealthCheck, Phase, assume, given, seed, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from tests.canvas.evaluate import linkable, lower
from tests.canvas.tree import Chain, Chord, Errback, Group, Leaf, Tree, leaves, relabelled

__all__ = ["DEADLY", "DEPTH", "FAULTS", "LEAVES", "faulty", "sample", "trees"]

DEPTH, LEAVES = 5, 60
#: What may befall a call from outside, or by the hand of the broker.
FAULTS = ("fail", "giveup", "reject", "expire", "revoke", "unknown", "die", "poison", "replace")
#: Of these, what kills a process: what else ran in it may run again, under its id.
DEADLY = ("die", "poison")
#: Most calls succeed: with many that fail, little of a large tree would run.
USUAL = ("ok",) * 14 + ("retry", "fail", "giveup", "replace")
SHAPES = ("chain", "group", "chord", "leaf")


@st.composite
def trees(draw: DrawFn, hows: tuple[str, ...] = USUAL, most: int = LEAVES, depth: int = DEPTH) -> Tree:
    """A canvas of at most `most` calls, whose calls end as one of `hows`."""
    most = min(most, draw(st.sampled_from((10, 16, 26, 40, LEAVES))))
    tree = _Maker(draw, hows, most - 6).canvas(depth, draw(st.sampled_from(("chain", "chord", "group"))))
    assume(leaves(tree) <= most)
    return relabelled(tree)


@st.composite
def faulty(draw: DrawFn, fault: str, most: int = 20) -> Tree:
    """A canvas with one call that ends by `fault`, somewhere; others may, too."""
    make = _Maker(draw, ("ok",) * 8 + ("retry", fault), most)
    at = draw(st.sampled_from(("chain", "first", "header", "body", "link", "deep")))
    victim = make.leaf(3, fault)
    around = make.canvas(3)
    more = make.canvas(2)
    tree: Tree
    if at == "chain":
        tree = Chain((around, victim, more))
    elif at == "first":
        tree = Chain((victim, around), errbacks=make.errbacks())
    elif at == "header":
        tree = Chord((around, victim, more), make.canvas(3), errbacks=make.errbacks())
    elif at == "body":
        tree = Chord((around, more), victim, errbacks=make.errbacks())
    elif at == "link":
        tree = Chain((Leaf("t", links=(victim,)), around))
    else:
        tree = Chord((Chain((more, Chord((victim, Leaf("t")), make.canvas(2)))), around), Leaf("t"))
    return relabelled(tree)


def sample(strategy: SearchStrategy[Tree], count: int, number: int) -> list[Tree]:
    """`count` different trees, always the same for the same `number`."""
    found: dict[Tree, None] = {}
    for round_ in itertools.count():  # new beginnings: one long run of Hypothesis varies few trees
        if len(found) >= count:
            return list(found)[:count]

        @seed(number * 1000 + round_)
        @settings(
            max_examples=12,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        )
        @given(strategy)
        def draw(tree: Tree) -> None:
            found.setdefault(tree)

        draw()
    raise AssertionError


class _Maker:
    """Draws canvases until its calls are used up; then leaves only, where something must stand."""

    def __init__(self, draw: DrawFn, hows: tuple[str, ...], left: int) -> None:
        self.draw = draw
        self.hows = hows
        self.left = left

    def canvas(self, depth: int, shape: str = "") -> Tree:
        if depth <= 1 or self.left <= 1:
            return self.leaf(depth)
        shape = shape or self.draw(st.sampled_from(SHAPES))
        if shape == "leaf":
            return self.leaf(depth)
        if shape == "group":
            return Group(self.several(depth, 2), self.errbacks())
        piped = self.draw(st.booleans())
        if shape == "chain":
            tree: Chain | Chord = Chain(self.several(depth, 2), piped, errbacks=self.errbacks())
        else:
            header = self.several(depth, 1)
            tree = Chord(header, self.canvas(depth - 1), piped, errbacks=self.errbacks())
        return replace(tree, links=self.links(depth)) if linkable(lower(tree)) else tree

    def several(self, depth: int, fewest: int) -> tuple[Tree, ...]:
        count = self.draw(st.integers(fewest, 4))
        return tuple(self.canvas(depth - 1) for _ in range(count))

    def leaf(self, depth: int, how: str = "") -> Leaf:
        self.left -= 1
        how = how or self.draw(st.sampled_from(self.hows))
        if how == "replace" and depth <= 1:
            how = "ok"
        return Leaf(
            "t",
            how,
            immutable=self.draw(st.integers(0, 9)) == 9,
            own=self.draw(st.integers(0, 3)) == 3,
            becomes=self.canvas(depth - 1) if how == "replace" else None,
            links=self.links(depth),
            errbacks=self.errbacks(),
        )

    def links(self, depth: int) -> tuple[Tree, ...]:
        if depth <= 2 or self.left <= 4 or self.draw(st.integers(0, 5)) < 5:
            return ()
        return (self.canvas(2),)

    def errbacks(self) -> tuple[Errback, ...]:
        kind = self.draw(st.integers(0, 7))
        return (Errback("X", "new" if kind == 7 else "old"),) if kind >= 6 else ()
