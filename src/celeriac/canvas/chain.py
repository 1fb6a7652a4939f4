"""`chain`: calls one after the other, each with the result of the one before; and the rules of ``|``.

1. `chain`: the steps. Sent as its first step; the others travel in that message, last one first, as Celery's
   workers read them.
2. `_join`: what ``left | right`` is. A group with something after it is a chord.
3. `folded`: the steps as they are sent: from the first group or chord that is not the last step, all that
   follows is its body. (Not before: a chain of a hundred groups would be a hundred chords deep.)
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from functools import reduce
from typing import TYPE_CHECKING, Any, ClassVar

from celeriac import _state
from celeriac.canvas.base import Signature, maybe_signature
from celeriac.canvas.chord import chord
from celeriac.canvas.group import group
from celeriac.canvas.maps import chunks
from celeriac.canvas.shape import Sending, as_list
from celeriac.canvas.stamping import with_stamps
from celeriac.canvas.stream import at_least

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac

__all__ = ["chain", "folded"]


def _unrolled(sig: Signature[Any]) -> Signature[Any]:
    """The only member of a group of one; anything else as it is."""
    if isinstance(sig, group) and at_least(sig.tasks, 1) and not at_least(sig.tasks, 2):
        return sig.tasks[0]
    return sig


def _empty(sig: Any) -> bool:
    return isinstance(sig, group) and not at_least(sig.tasks, 1)


def _steps_of(sig: Signature[Any]) -> list[Signature[Any]]:
    """The steps a canvas adds to a chain; an inner chain's arguments and links go with its steps."""
    if not isinstance(sig, chain):
        return [sig]
    steps = [task.clone() for task in sig.tasks]
    if not steps:
        return steps
    if sig["args"]:
        steps[0] = steps[0].clone(sig["args"])
    # At once on the calls they belong to: what is appended to the body of a chord must not get them.
    _guard(steps, sig.options.get("link_error"), sig._app)
    last = steps[-1]
    for callback in as_list(sig.options.get("link")):
        last.append_to_list_option("link", callback) if isinstance(last, group) else last.link(callback)
    return steps


def _guard(steps: list[Signature[Any]], errbacks: Any, app: Celeriac | None) -> None:
    """Call `errbacks` when any step fails; of a group with something behind it, a header, that is told."""
    for errback in as_list(errbacks):
        for step in steps[:-1]:
            _guard_before(step, errback, app)
        steps[-1].link_error(maybe_signature(errback, app, clone=True))


def _guard_before(step: Signature[Any], errback: Any, app: Celeriac | None) -> None:
    """`_guard` of one step with something behind it: the group that it is, or ends in, is a header."""
    if isinstance(step, chain):
        for inner in step.tasks:
            _guard_before(inner, errback, app)
    elif isinstance(step, chord) and step.body is not None:
        if step.app.conf.task_allow_error_cb_on_chord_header:
            step.header.link_error(errback)
        _guard_before(step.body, errback, app)
    elif not isinstance(step, group):
        step.link_error(maybe_signature(errback, app, clone=True))


def _append(steps: list[Signature[Any]], step: Signature[Any]) -> None:
    """Put `step` after `steps`, in place. Groups wait side by side until they are sent (`folded`)."""
    last = steps[-1] if steps else None
    if isinstance(last, group) and not isinstance(step, group):
        steps[-1] = chord(last, body=step, app=last._app)
    elif isinstance(last, chord) and last.body is not None and not isinstance(step, chord):
        made = last.clone()
        assert isinstance(made, chord)
        made.body = made.body | step
        steps[-1] = made
    elif step is not None and not (steps and _empty(step)):
        steps.append(step)


def folded(steps: list[Signature[Any]]) -> list[Signature[Any]]:
    """What is sent one after the other: at most the last of these is a group or chord."""
    for index, step in enumerate(steps[:-1]):
        rest = steps[index + 1 :]
        if isinstance(step, group):
            made = chord(step, body=rest[0] if len(rest) == 1 else _of(rest), app=step._app)
        elif isinstance(step, chord) and step.body is not None:
            made = step.clone()  # type: ignore[assignment]
            made.body = _of([*_steps_of(made.body), *rest])
        else:
            continue
        return [*steps[:index], made]
    return steps


def _of(steps: list[Signature[Any]], app: Celeriac | None = None) -> chain:
    made = dict.__new__(chain)
    made._fill(steps, app, {})
    return made


class chain(Signature[Any]):
    """Calls one after the other; each gets the result of the one before as its first argument.

    Args:
        tasks: signatures, or one iterable of them. When a group of several comes first and something follows,
            a `chord` is made, as by ``|``.
        options: options of the first step's `apply_async`.

    Example:
        >>> chain(Signature("proj.add", (2, 2)), Signature("proj.add", (4,)))
        proj.add(2, 2) | proj.add(4)
    """

    subtask_kind: ClassVar[str | None] = "chain"

    def __new__(cls, *tasks: Any, app: Celeriac | None = None, **options: Any) -> Any:
        made = super().__new__(cls)
        listed = len(tasks) == 1 and not isinstance(tasks[0], dict)
        given = [maybe_signature(task, app) for task in (tasks[0] if listed else tasks)]
        if app is None and not options and given and (listed or len(given) > 1):
            first = _unrolled(given[0])
            if isinstance(first, group) and at_least(first.tasks, 2):
                return reduce(operator.or_, given[1:], first)
        made.__dict__["_given"] = given
        return made

    def __init__(self, *tasks: Any, app: Celeriac | None = None, **options: Any) -> None:
        given = self.__dict__.pop("_given", None)
        if given is None:
            return  # `__new__` has made it of others
        steps: list[Signature[Any]] = []
        for task in given:
            for step in _steps_of(_unrolled(task)):
                _append(steps, step)
        self._fill(steps, app, options)

    def _fill(self, steps: list[Signature[Any]], app: Celeriac | None, options: dict[str, Any]) -> None:
        Signature.__init__(
            self, "celery.chain", (), {"tasks": steps}, subtask_type="chain", app=app, options=options
        )

    @classmethod
    def _rebuild(cls, d: Mapping[str, Any], app: Celeriac | None) -> Signature[Any]:
        tasks = d["kwargs"].get("tasks") or []
        if not isinstance(tasks, list | tuple) or not all(isinstance(task, dict) for task in tasks):
            raise ValueError("this is not a chain, its tasks are not a list of signatures")
        made = dict.__new__(cls)
        made._fill([maybe_signature(task, app) for task in tasks], app, dict(d["options"]))
        made["args"], made["immutable"] = d["args"], d["immutable"]
        return made

    @classmethod
    def _join(cls, left: Signature[Any], right: Signature[Any]) -> Signature[Any]:
        if isinstance(left, group):
            return left.clone() if _empty(right) else chord(left, body=right, app=left._app)
        right = _unrolled(right)
        if isinstance(left, chain):
            if _empty(right):
                return left.clone()
            if not left.tasks and isinstance(right, group):
                return right
        elif isinstance(left, chord) and left.body is not None and not isinstance(right, chain | group):
            made = left.clone()
            assert isinstance(made, chord)
            made.body = made.body | right
            return made
        else:
            return _of([left, *_steps_of(right)], left._app)
        steps = _steps_of(left)
        for step in _steps_of(right):
            _append(steps, step)
        return _of(steps, left._app)

    @property
    def tasks(self) -> list[Signature[Any]]:
        """The steps, first one first."""
        return self["kwargs"]["tasks"]  # type: ignore[no-any-return]

    @tasks.setter
    def tasks(self, tasks: Iterable[Signature[Any]]) -> None:
        self["kwargs"]["tasks"] = list(tasks)

    def __len__(self) -> int:
        return len(self.tasks)

    def __bool__(self) -> bool:
        return True

    def unchain_tasks(self) -> list[Signature[Any]]:
        """Copies of the steps, each with the chain's links: to be called one by one."""
        steps = [task.clone() for task in self.tasks]
        for step in steps:
            step.extend_list_option("link_error", self.options.get("link_error"))
            step.extend_list_option("link", self.options.get("link"))
        return steps

    def _copied(self, args: Any, kwargs: Any, options: Any) -> Signature[Any]:
        made = dict.__new__(type(self))
        made._fill([task.clone() for task in self.tasks], self._app, dict(options))
        made["args"] = tuple(args)
        made["immutable"] = self["immutable"]
        return made

    # -- calling ---------------------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.apply_async(args, kwargs) if self.tasks else None

    def apply_async(  # type: ignore[override]
        self, args: Iterable[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Send it; `args` and `kwargs` go to the first step.

        Returns the last step's result; its `parent` is that of the step before, and so on. None: no steps.
        """
        if not self.tasks:
            return None
        run = self.apply if self.app.conf.task_always_eager else self.run
        return run(args, kwargs, **options)

    def run(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        group_id: str | None = None,
        chord: Any = None,
        task_id: str | None = None,
        link: Any = None,
        link_error: Any = None,
        publisher: Any = None,
        producer: Any = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        app: Celeriac | None = None,
        group_index: int | None = None,
        **options: Any,
    ) -> Any:
        """Send it, whatever `task_always_eager` says.

        Args:
            args, kwargs: go to the first step.
            group_id, group_index, chord, task_id, link: of the last step.
            link_error: called when any step fails.
            root_id, parent_id: of the first step.
            publisher, producer, app: for Celery's callers; not used.
            options: of the first step.
        """
        if not self.tasks:
            return None
        given = {"group_id": group_id, "group_index": group_index, "chord": chord, "task_id": task_id}
        given |= {"link": link, "link_error": link_error, "root_id": root_id, "parent_id": parent_id}
        options |= {key: value for key, value in given.items() if value is not None}
        steps, result = self._prepared(options)
        sent = steps[0].apply_async(self._first_args(args), kwargs, **options)
        return sent if len(steps) == 1 and len(self.tasks) == 1 else result

    def sendings(
        self, args: Iterable[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> list[Sending]:
        """The first step's messages, with the other steps in them."""
        if not self.tasks:
            return []
        steps, _ = self._prepared(options)
        return steps[0].sendings(self._first_args(args), kwargs, **options)

    def _first_args(self, args: Iterable[Any] | None) -> tuple[Any, ...]:
        if self["immutable"]:
            return tuple(self["args"])
        return (*(args or ()), *self["args"])

    def _prepared(self, options: dict[str, Any]) -> tuple[list[Signature[Any]], Any]:
        """Copies of the steps with ids, and the last one's result. `options` become the first step's."""
        own = {key: value for key, value in self["options"].items() if key not in options}
        for key in ("link", "link_error"):
            if key in self["options"] and options.get(key):
                options[key] = [*as_list(self["options"][key]), *as_list(options[key])]
        options.update(own)
        made = self.clone()
        assert isinstance(made, chain)
        made["options"].clear()
        result = made.freeze(
            options.pop("task_id", None),
            group_id=options.pop("group_id", None),
            chord=options.pop("chord", None),
            group_index=options.pop("group_index", None),
        )
        steps = made.tasks
        for callback in as_list(options.pop("link", None)):
            last = steps[-1]
            for end in last.tasks if isinstance(last, group) else (last,):
                end.link(maybe_signature(callback, self._app, clone=True))
        steps = folded(steps)
        _guard(steps, options.pop("link_error", None), self._app)
        # The list is read from its end: what comes after the whole chain stands first.
        rest = [*as_list(options.pop("chain", None)), *reversed(steps[1:])]
        if rest:
            options["chain"] = rest
        return steps, result

    def apply(
        self, args: Iterable[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Run all steps here and now; returns the last one's result."""
        if not self.tasks:
            return None
        steps, result = self._prepared(options)
        later = options.pop("chain", None) or []
        after = [maybe_signature(step, self._app) for step in reversed(later[: len(later) - len(steps) + 1])]
        return self.app.eager_chain([*steps, *after], self._first_args(args), kwargs, options, result)

    # -- ids, links, options ---------------------------------------------------------------------------------

    def freeze(
        self,
        _id: str | None = None,
        group_id: str | None = None,
        chord: Any = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        group_index: int | None = None,
    ) -> Any:
        """Give all steps their ids; `_id`, group and chord are the last step's. Returns its result."""
        steps = [step.group() if isinstance(step, chunks) else step for step in self.tasks]
        self.tasks = [step for index, step in enumerate(steps) if not (index and _empty(step))]
        if chord is not None:
            self._close()
        last = len(self.tasks) - 1
        previous: Any = None
        for index, step in enumerate(self.tasks):
            if index == last:
                result = step.freeze(
                    _id, group_id=group_id, chord=chord, root_id=root_id, group_index=group_index
                )
            else:
                result = step.freeze(root_id=root_id)
            node = result
            while node.parent is not None:
                node = node.parent
            if previous is not None:
                node.parent = previous
            previous = result
        if previous is not None:
            self["options"]["task_id"] = previous.id
        return previous

    _freeze = freeze

    def _closed(self) -> Signature[Any]:
        if not self.tasks or self.tasks[-1]._closed() is self.tasks[-1]:
            return self
        made = self.clone()
        assert isinstance(made, chain)
        made._close()
        return made

    def _close(self) -> None:
        """`_closed`, in place. Its links belong to the calls that were last before."""
        if self.tasks and self.tasks[-1]._closed() is not self.tasks[-1]:
            steps = _steps_of(self)
            steps[-1] = steps[-1]._closed()
            self.tasks, self["args"] = steps, ()
            for key in ("link", "link_error"):
                self["options"].pop(key, None)

    def stamp(self, visitor: Any = None, append_stamps: bool = False, **headers: Any) -> chain:
        if visitor is not None:
            headers = with_stamps(headers, visitor.on_chain_start(self, **headers))
        self.stamp_links(visitor, append_stamps, **headers)
        for step in self.tasks:
            step.stamp(visitor, append_stamps, **headers)
        if visitor is not None:
            visitor.on_chain_end(self, **headers)
        return self

    @property
    def app(self) -> Any:
        """Its app: its own, its first step's, or the current one."""
        if self._app is not None:
            return self._app
        first = next((task for task in self.tasks if not _empty(task)), None)
        return _state.get_current_app() if first is None else first.app

    def __repr__(self) -> str:
        return " | ".join(map(repr, self.tasks)) if self.tasks else "<chain: empty>"
