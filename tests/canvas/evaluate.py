"""What a canvas is worth: its value or failure, what runs how often, how every call ends. Pure, no worker.

1. `evaluate`: a tree → `Expected`. 2. `lower`: a tree with all links and errbacks on its leaves.

The rules are Celery's, as seen on Celery 5.7 with Redis, except where it leaves somebody waiting for ever, or
gives values out of order; `docs/coming-from-celery.md` lists these differences.

- A chain: each step gets the value before it. A group with something behind it is a chord. What waits behind
  a failure ends in the same state, without errbacks of its own.
- A chord: the body gets the values of the header in order. If any member fails, the body ends with
  `ChordError`: its first calls (of a chord: the header's, and the body's) with their errbacks, the rest
  without.
- A link of a canvas is one of its last call, an errback one of all its steps; of a chord, of its body.
- A replacement ends under the id of what it replaces, with its links, errbacks and whatever waits behind it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeAlias

from tests.canvas.tree import Chain, Chord, Errback, Group, Leaf, Tree, mark

__all__ = ["Expected", "Failed", "Many", "Outcome", "Value", "evaluate", "linkable", "lower"]

#: How often a call that kills its process each time is started (`task_delivery_limit`).
DELIVERIES = 3


class Value(NamedTuple):
    value: Any


class Failed(NamedTuple):
    """`names`: of exceptions, any of which is right."""

    state: str
    names: frozenset[str]


class Many(NamedTuple):
    """How the members of a group end, where nothing waits for all of them."""

    outcomes: tuple[Outcome, ...]


Outcome: TypeAlias = "Value | Failed | Many"

ENDS = {
    "fail": Failed("FAILURE", frozenset({"Boom"})),
    "giveup": Failed("FAILURE", frozenset({"Boom"})),
    "reject": Failed("FAILURE", frozenset({"Reject"})),
    "expire": Failed("REVOKED", frozenset({"TaskRevokedError"})),
    "revoke": Failed("REVOKED", frozenset({"TaskRevokedError"})),
    "unknown": Failed("FAILURE", frozenset({"NotRegistered"})),
    "poison": Failed("FAILURE", frozenset({"WorkerLostError"})),
}
STARTS = {"expire": 0, "revoke": 0, "unknown": 0, "retry": 2, "giveup": 2, "die": 2, "poison": DELIVERIES}
#: The hidden end of a replacement by a group: it hands on the values of all.
ACCUMULATE = "accumulate"


@dataclass
class Expected:
    """What must be seen.

    Attributes:
        outcome: of the result that `apply_async` gives.
        starts: label → times; `calls`: label → under how many ids.
        errbacks: (errback, label of what failed) → times. `perhaps`: of these, what is not promised.
        nodes: label → how it ends. `several`: of these, such as are called several times and end differently.
    """

    outcome: Outcome = field(default_factory=lambda: Value(None))
    starts: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    errbacks: Counter[tuple[str, str]] = field(default_factory=Counter)
    nodes: dict[str, Outcome] = field(default_factory=dict)
    perhaps: set[str] = field(default_factory=set)
    several: set[str] = field(default_factory=set)


def evaluate(tree: Tree) -> Expected:
    """What must come of `tree` when it is sent."""
    expected = Expected()
    expected.outcome = _Run(expected).run(lower(tree), ())
    return expected


# -- links and errbacks go to leaves ------------------------------------------------------------------------


def lower(tree: Tree) -> Tree:
    """The same canvas in its plain form.

    Chains in chains and groups in groups are one; a group or chord that is followed by a step is a chord with
    that in its body; links and errbacks are on leaves. What a leaf is replaced by is left as it is.
    """
    if isinstance(tree, Leaf):
        return replace(tree, links=tuple(map(lower, tree.links)))
    links: tuple[Tree, ...] = ()
    if isinstance(tree, Chain):
        made, links = _chained([lower(step) for step in tree.steps], tree.piped), tree.links
    elif isinstance(tree, Group):
        made = Group(_flat(tree.members))
    else:
        made, links = Chord(_flat(tree.header), lower(tree.body)), tree.links
    for link in links:
        made = _linked(made, lower(link))
    for errback in tree.errbacks:
        made = _guarded(made, errback)
    return made


def _flat(members: Iterable[Tree]) -> tuple[Tree, ...]:
    found: list[Tree] = []
    for member in map(lower, members):
        found += member.members if isinstance(member, Group) else [member]
    return tuple(found)


def _chained(steps: Sequence[Tree], piped: bool = False) -> Tree:
    """Steps in their plain form as one canvas; a group of one is its member, unless a pipe begins with it."""
    made: list[Tree] = [steps[0]] if piped and isinstance(steps[0], Group) else []
    for step in steps[len(made) :]:
        for one in _unrolled(step):
            _append(made, one)
    return made[0] if len(made) == 1 else Chain(tuple(made))


def _unrolled(step: Tree) -> Iterator[Tree]:
    if isinstance(step, Chain):
        yield from step.steps
    elif isinstance(step, Group) and len(step.members) == 1:
        yield from _unrolled(step.members[0])
    else:
        yield step


def _append(made: list[Tree], step: Tree) -> None:
    last = made[-1] if made else None
    if isinstance(last, Group):
        made[-1] = Chord(last.members, step)
    elif isinstance(last, Chord):
        made[-1] = replace(last, body=_chained((last.body, step), piped=True))
    else:
        made.append(step)


def _linked(tree: Tree, link: Tree) -> Tree:
    if isinstance(tree, Leaf):
        return replace(tree, links=(*tree.links, link))
    if isinstance(tree, Chain):
        return replace(tree, steps=(*tree.steps[:-1], _linked(tree.steps[-1], link)))
    if isinstance(tree, Group):
        return Group(tuple(_linked(member, link) for member in tree.members))
    return replace(tree, body=_linked(tree.body, link))


def _guarded(tree: Tree, errback: Errback) -> Tree:
    if isinstance(tree, Leaf):
        return tree if errback in tree.errbacks else replace(tree, errbacks=(*tree.errbacks, errback))
    if isinstance(tree, Chain):
        return replace(tree, steps=tuple(_guarded(step, errback) for step in tree.steps))
    if isinstance(tree, Group):
        return Group(tuple(_guarded(member, errback) for member in tree.members))
    return replace(tree, body=_guarded(tree.body, errback))


def linkable(tree: Tree) -> bool:
    """Whether it is plain what a link of a canvas in its plain form is called with: where the body of a chord
    is a group it is the first member's, and called with nothing."""
    if isinstance(tree, Chain):
        return linkable(tree.steps[-1])
    if isinstance(tree, Group):
        return all(map(linkable, tree.members))
    return isinstance(tree, Leaf) or not ends_in_group(tree.body)


def ends_in_group(tree: Tree) -> bool:
    if isinstance(tree, Chain):
        return ends_in_group(tree.steps[-1])
    return isinstance(tree, Group) or (isinstance(tree, Chord) and ends_in_group(tree.body))


# -- running it ---------------------------------------------------------------------------------------------


class _Run:
    def __init__(self, expected: Expected) -> None:
        self.expected = expected

    def run(self, tree: Tree, args: tuple[Any, ...]) -> Outcome:
        if isinstance(tree, Leaf):
            return self.leaf(tree, args)
        if isinstance(tree, Chain):
            return self.chain(tree, args)
        if isinstance(tree, Group):
            return Many(tuple(self.run(member, args) for member in tree.members))
        return self.chord(tree, args)

    def leaf(self, leaf: Leaf, args: tuple[Any, ...]) -> Outcome:
        own = ("x",) if leaf.own else ()
        given = own if leaf.immutable else (*args, *own)
        outcome: Outcome
        if leaf.how == ACCUMULATE:
            outcome = Value(given[0])
        else:
            times = STARTS.get(leaf.how, 1)
            self.expected.starts[leaf.label] += times
            self.expected.calls[leaf.label] += min(times, 1)
            if leaf.how == "replace":
                outcome = self.run(_in_place_of(leaf), ())
                self.expected.nodes[leaf.label] = outcome
                return outcome  # with its links and errbacks
            outcome = ENDS.get(leaf.how) or Value(mark(leaf.label, given))
        return self.ended(leaf, outcome)

    def ended(self, leaf: Leaf, outcome: Outcome) -> Outcome:
        """Note how it ended; call what hangs on it."""
        if self.expected.nodes.setdefault(leaf.label, outcome) != outcome:
            self.expected.several.add(leaf.label)
        if isinstance(outcome, Value):
            for link in leaf.links:
                self.run(link, (outcome.value,))
        else:
            for errback in leaf.errbacks:
                self.expected.errbacks[errback.label, leaf.label] += 1
        return outcome

    def chain(self, chain: Chain, args: tuple[Any, ...]) -> Outcome:
        outcome: Outcome = Value(None)
        for at, step in enumerate(chain.steps):
            outcome = self.run(step, args)
            if isinstance(outcome, Failed):
                rest = chain.steps[at + 1 :]
                return [self.doom(later, outcome) for later in rest][-1] if rest else outcome
            if isinstance(outcome, Value):
                args = (outcome.value,)
        return outcome

    def chord(self, chord: Chord, args: tuple[Any, ...]) -> Outcome:
        together = _together(self.run(member, args) for member in chord.header)
        if isinstance(together, Value):
            return self.run(chord.body, (together.value,))
        return self.fail(chord.body, together.names)

    def doom(self, tree: Tree, failure: Failed) -> Outcome:
        """It waits behind a failure: it never runs, and ends likewise."""
        if isinstance(tree, Leaf):
            self.expected.nodes[tree.label] = failure
            return failure
        if isinstance(tree, Chain):
            return [self.doom(step, failure) for step in tree.steps][-1]
        if isinstance(tree, Group):
            return Many(tuple(self.doom(member, failure) for member in tree.members))
        for member in tree.header:
            self.doom(member, failure)
        return self.doom(tree.body, failure)

    def fail(self, tree: Tree, causes: frozenset[str]) -> Outcome:
        """It is the body of a chord whose header failed."""
        if isinstance(tree, Leaf):
            return self.ended(tree, Failed("FAILURE", frozenset({"ChordError"})))
        if isinstance(tree, Chain):
            first = self.fail(tree.steps[0], causes)
            assert isinstance(first, Failed)
            return [self.doom(step, first) for step in tree.steps[1:]][-1]
        if isinstance(tree, Group):
            return Many(tuple(self.fail(member, causes) for member in tree.members))
        for member in tree.header:
            self.fail(member, causes)
        if isinstance(tree.body, (Leaf, Chain)):
            return self.fail(tree.body, causes)
        before = self.expected.errbacks.copy()
        outcome = self.fail(tree.body, causes)
        # Where it was written as a step behind the first chord, it waits behind a failure. Celery: for ever.
        self.expected.perhaps |= {label for label, _ in self.expected.errbacks - before}
        return outcome


def _together(outcomes: Iterable[Outcome]) -> Value | Failed:
    """What waits for all of them gets: the list of their values, or a failure for every cause there is."""
    found = [_together(one.outcomes) if isinstance(one, Many) else one for one in outcomes]
    failures = [one for one in found if isinstance(one, Failed)]
    if failures:
        return Failed("FAILURE", frozenset(name for one in failures for name in one.names))
    return Value([one.value for one in found if isinstance(one, Value)])


def _in_place_of(leaf: Leaf) -> Tree:
    """What `leaf` is replaced by, with all that hangs on the leaf."""
    assert leaf.becomes is not None
    made = lower(leaf.becomes)
    if ends_in_group(made):
        made = _chained((made, Leaf(leaf.label, ACCUMULATE)), piped=True)
    for link in leaf.links:
        made = _linked(made, link)
    for errback in leaf.errbacks:
        made = _guarded(made, errback)
    return made
