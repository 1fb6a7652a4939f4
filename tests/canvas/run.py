"""Sends trees to real workers, waits until all of it has ended, and says what differs from the evaluator.

1. `Stage`: a place (`tests.faults.ground.Ground`) with one worker of `tests.canvas.proj`; `play` sends trees.
2. `Seen`: what came of one tree. `differences`: against `Expected`.
3. `Killer`: kills workers meanwhile. 4. `minimised`: a smaller tree on which something differs, too.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import psutil
from tests.canvas import proj
from tests.canvas.evaluate import Expected, Failed, Many, Outcome, Value, evaluate
from tests.canvas.tree import Chord, Leaf, Tree, parts, relabelled
from tests.faults.ground import Ground
from tests.faults.harness import Node, until
from tests.faults.lines import Event, events

from celeriac import states
from celeriac.wire.results import decode_result

__all__ = ["CONF", "Killer", "Seen", "Stage", "differences", "minimised"]

#: Of every worker here: an unknown task is given up soon.
CONF = {"task_unknown_deadline": 1.0, "task_delivery_limit": 3}
#: After this many seconds a running worker starts nothing that was revoked.
REVOKED = 2.0


@dataclass
class Seen:
    """What came of one tree.

    Attributes:
        outcome: of the result that `apply_async` gave, in the evaluator's terms; a text: it was not sent, or
            is not there.
        starts: label → ids under which it was started, once for each start.
        errbacks: (errback, id of what failed, its own id), once for each run.
        ids: label → its id, as far as known; `ends`: id → how it ended.
        open: ids of its result that are not final.
    """

    outcome: Outcome | str = "not sent"
    starts: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    errbacks: list[tuple[str, str, str]] = field(default_factory=list)
    ids: dict[str, str] = field(default_factory=dict)
    ends: dict[str, Outcome] = field(default_factory=dict)
    open: list[str] = field(default_factory=list)


def differences(expected: Expected, seen: Seen, *, again: bool = False, nodes: bool = True) -> list[str]:
    """What differs, as lines for a person.

    Args:
        again: processes were killed: a call may have been started again under its id.
        nodes: look at how every call ended.
    """
    found = [] if _same(expected.outcome, seen.outcome) else [f"result {expected.outcome} is {seen.outcome}"]
    if again:
        found += _counts(
            "called", expected.calls, {label: len(set(ids)) for label, ids in seen.starts.items()}
        )
    else:
        found += _counts("started", expected.starts, {label: len(ids) for label, ids in seen.starts.items()})
    ran = Counter(label for label, _, _ in (set(seen.errbacks) if again else seen.errbacks))
    wanted = Counter[str]()
    for (label, _), times in expected.errbacks.items():
        wanted[label] += times
    for label in expected.perhaps:
        wanted[label] = ran[label]
    found += _counts("called", wanted, ran)
    for label, failed in expected.errbacks:
        told = {id_ for name, id_, _ in seen.errbacks if name == label}
        if told and label not in expected.perhaps and failed in seen.ids and seen.ids[failed] not in told:
            found.append(f"{label} was told of {told}, not of {failed}")
    for label, end in expected.nodes.items() if nodes else ():
        id_ = seen.ids.get(label)
        if (
            id_ is not None
            and label not in expected.several
            and not _same(end, seen.ends.get(id_, "PENDING"))
        ):
            found.append(f"{label} {end} is {seen.ends.get(id_, 'PENDING')}")
    return found + [f"{len(seen.open)} results are open"] * bool(seen.open)


def _counts(what: str, wanted: Mapping[str, int], got: Mapping[str, int]) -> list[str]:
    return [
        f"{label} {what} {got.get(label, 0)} times, not {wanted.get(label, 0)}"
        for label in sorted({*wanted, *got})
        if wanted.get(label, 0) != got.get(label, 0)
    ]


def _same(wanted: Outcome, got: Outcome | str) -> bool:
    if isinstance(wanted, Failed):
        return isinstance(got, Failed) and got.state == wanted.state and got.names <= wanted.names
    if isinstance(wanted, Many):
        if isinstance(got, Value):  # the members of a group that something waited for
            return got.value == [one.value for one in wanted.outcomes if isinstance(one, Value)]
        return (
            isinstance(got, Many)
            and len(got.outcomes) == len(wanted.outcomes)
            and all(map(_same, wanted.outcomes, got.outcomes))
        )
    return got == wanted


class Stage:
    """One worker that runs trees.

    Args:
        ground: the place; the caller ends it.
        arguments: of the worker.
        workers: how many.
    """

    def __init__(
        self, ground: Ground, *arguments: str, workers: int = 1, conf: Mapping[str, Any] | None = None
    ) -> None:
        self.ground = ground
        self.nodes: list[Node] = [
            ground.node(*(arguments or ("-c", "3")), conf={**CONF, **(conf or {})}, app="tests.canvas.proj")
            for _ in range(workers)
        ]
        self._numbers = itertools.count(1)
        self._read = 0

    def play(
        self,
        trees: Sequence[Tree],
        timeout: float = 60.0,
        *,
        pause: float = 0.0,
        during: Callable[[], None] | None = None,
    ) -> list[Seen]:
        """Send all of `trees`, and wait until nothing more is to come of them, at most `timeout` seconds.

        Args:
            pause: seconds that each leaf takes.
            during: called again and again while the trees run (it kills workers, for example).
        """
        runs = {f"r{next(self._numbers)}": tree for tree in trees}
        self._revoke(runs)
        sent = {run: _Sent(tree, run, self.ground, pause) for run, tree in runs.items()}
        deadline = time.monotonic() + timeout
        waiting = dict(sent)
        while waiting and time.monotonic() < deadline:
            if during is not None:
                during()
            self._look(sent)
            for run in [run for run, one in waiting.items() if one.complete()]:
                del waiting[run]
            time.sleep(0.05)
        if not waiting:  # whatever is there too often is there by then
            until(self.ground.drained, 20, "the queue is empty")
            time.sleep(0.3)
        self._look(sent)
        return [one.conclude() for one in sent.values()]

    def _revoke(self, runs: Mapping[str, Tree]) -> None:
        ids = [
            proj.revoked_id(run, leaf.label)
            for run, tree in runs.items()
            for leaf in _leaves(tree)
            if leaf.how == "revoke"
        ]
        if ids:
            for id_ in ids:
                self.ground.client.AsyncResult(id_).revoke()
            time.sleep(REVOKED)

    def _look(self, sent: Mapping[str, _Sent]) -> None:
        """What is new in the journal and in the store."""
        with self.ground.journal.path.open() as file:
            file.seek(self._read)
            text = file.read()
        text = text[: text.rfind("\n") + 1]  # the last line may still be written
        self._read += len(text)
        for event in events(text):
            run = sent.get(event.key.partition(":")[0])
            if run is not None:
                run.note(event)
        missing = {id_: one for one in sent.values() for id_ in one.unfinished()}
        for id_, document in self.ground.client.backend.load(list(missing)).items():
            if decode_result(document).status in states.READY_STATES:
                missing[id_].seen.ends[id_] = _end(self.ground.client.AsyncResult(id_))


class Killer:
    """Kills now and then: a whole worker, which is started again at once, or one process of it.

    Args:
        nodes: the workers.
        chance: of every choice.
        most: kills, at most.
        every: seconds between two of them.

    Attributes:
        kills: how many there were.
    """

    def __init__(self, nodes: Sequence[Node], chance: random.Random, most: int, every: float = 0.4) -> None:
        self.kills = 0
        self._nodes, self._chance, self._most, self._every = nodes, chance, most, every
        self._next = 0.0

    def __call__(self) -> None:
        now = time.monotonic()
        if self.kills >= self._most or now < self._next:
            return
        node = self._chance.choice(self._nodes)
        children = node.children()
        if not children:  # it was started a moment ago
            return
        if self._chance.random() < 0.5:
            with contextlib.suppress(psutil.NoSuchProcess):
                self._chance.choice(children).kill()
        else:
            node.kill()
            node.start()
        self.kills += 1
        self._next = now + self._every


class _Sent:
    """One tree on its way."""

    def __init__(self, tree: Tree, run: str, ground: Ground, pause: float) -> None:
        self.expected = evaluate(tree)
        self.seen = Seen()
        self.result: Any = None
        try:
            canvas = proj.build(tree, run, ground.client, pause)
            if int(run[1:]) % 2:
                canvas.freeze()
                self.seen.ids |= _ids(canvas)
            self.result = canvas.apply_async()
        except Exception as exc:  # that is its outcome
            self.seen.outcome = f"{type(exc).__name__}: {exc}"

    def note(self, event: Event) -> None:
        _, label, id_, *own = event.key.split(":")
        if event.what == "start":
            self.seen.starts[label].append(id_)
            self.seen.ids.setdefault(label, id_)
        elif event.what == "errback":
            self.seen.errbacks.append((label, id_, own[0]))

    def unfinished(self) -> list[str]:
        """Ids of which the end is not known yet."""
        known = {*self.seen.ids.values(), *_result_ids(self.result)}
        return [id_ for id_ in known if id_ not in self.seen.ends]

    def complete(self) -> bool:
        """Whether all that was to come has come."""
        if self.result is None:
            return True
        expected, seen = self.expected, self.seen
        ran = Counter(label for label, _, _ in seen.errbacks)
        return (
            all(len(seen.starts[label]) >= times for label, times in expected.starts.items())
            and sum(ran.values()) >= sum(expected.errbacks.values())
            and not self.unfinished()
        )

    def conclude(self) -> Seen:
        if self.result is not None:
            self.seen.outcome = _outcome(self.result, self.seen.ends)
            self.seen.open = self.unfinished()
        return self.seen


def _end(result: Any) -> Outcome:
    if result.state == states.SUCCESS:
        return Value(result.result)
    return Failed(result.state, frozenset({type(result.result).__name__}))


def _outcome(result: Any, ends: Mapping[str, Outcome]) -> Outcome | str:
    if hasattr(result, "results"):
        found = [_outcome(one, ends) for one in result.results]
        return Many(tuple(found))  # type: ignore[arg-type]  # a text among them is no outcome, and compares so
    return ends.get(result.id, "PENDING")


def _result_ids(result: Any) -> Iterator[str]:
    """Ids of a result, and of all that stands before it."""
    while result is not None:
        if hasattr(result, "results"):
            for one in result.results:
                yield from _result_ids(one)
        else:
            yield result.id
        result = result.parent


def _ids(canvas: Any) -> dict[str, str]:
    """Label → id of the calls in a frozen canvas."""
    kwargs = canvas["kwargs"]
    if canvas["subtask_type"] == "chord":
        return _ids(kwargs["header"]) | _ids(kwargs["body"])
    if canvas["subtask_type"] in ("chain", "group"):
        return {label: id_ for one in kwargs["tasks"] for label, id_ in _ids(one).items()}
    return {kwargs["label"]: canvas["options"]["task_id"]} if "label" in kwargs else {}


def _leaves(tree: Tree) -> Iterator[Leaf]:
    if isinstance(tree, Leaf):
        yield tree
    for part in parts(tree):
        yield from _leaves(part)


# -- smaller ones -------------------------------------------------------------------------------------------


def minimised(tree: Tree, differs: Callable[[Sequence[Tree]], Sequence[bool]], rounds: int = 12) -> Tree:
    """A smaller tree on which something differs; `differs` is asked about many at once."""
    for _ in range(rounds):
        candidates = sorted({relabelled(one) for one in _smaller(tree)}, key=lambda one: len(repr(one)))
        wrong = [one for one, bad in zip(candidates, differs(candidates), strict=True) if bad]
        if not wrong or len(repr(wrong[0])) >= len(repr(tree)):
            return tree
        tree = wrong[0]
    return tree


def _smaller(tree: Tree) -> Iterator[Tree]:
    """Trees that are `tree` with one thing less."""
    yield from parts(tree)
    if tree.errbacks:
        yield replace(tree, errbacks=())
    if isinstance(tree, Leaf):
        if tree.how != "ok":
            yield replace(tree, how="ok", becomes=None)
        if tree.immutable or tree.own:
            yield replace(tree, immutable=False, own=False)
        if tree.becomes is not None:
            yield from (replace(tree, becomes=one) for one in _smaller(tree.becomes))
    for name, fewest in (("steps", 2), ("members", 2), ("header", 1), ("links", 0)):
        inner = getattr(tree, name, ())
        for at, one in enumerate(inner):
            if len(inner) > fewest:
                yield replace(tree, **{name: (*inner[:at], *inner[at + 1 :])})
            for less in _smaller(one):
                yield replace(tree, **{name: (*inner[:at], less, *inner[at + 1 :])})
    if isinstance(tree, Chord):
        yield from (replace(tree, body=one) for one in _smaller(tree.body))
