"""`chain`: calls one after the other, each with the result of the one before; and the rules of ``|``.

1. `chain`: the steps. Sent as its first step; the others travel in that message, last one first, as Celery's
   workers read them.
2. `_join`: what ``left | right`` is. A group with something after it is a chord.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from celeriac import _state
from celeriac.canvas.base import Signature, maybe_signature
from celeriac.canvas.chord import chord
from celeriac.canvas.group import NO_CHORDS, group
from celeriac.canvas.shape import Sending, as_list
from celeriac.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac

__all__ = ["chain"]


def _steps_of(sig: Signature[Any]) -> list[Signature[Any]]:
    """The steps a canvas adds to a chain; a group of one is its member, an inner chain's links go with it."""
    if isinstance(sig, chain):
        steps = [task.clone() for task in sig.tasks]
        if not steps:
            return steps
        if sig["args"]:
            steps[0] = steps[0].clone(sig["args"])
        for step in steps:
            step.extend_list_option("link_error", sig.options.get("link_error"))
        steps[-1].extend_list_option("link", sig.options.get("link"))
        return steps
    if isinstance(sig, group) and len(sig.tasks) == 1:
        return _steps_of(sig.tasks[0])
    return [sig]


def _append(steps: list[Signature[Any]], step: Signature[Any]) -> None:
    """Put `step` after `steps`, in place."""
    last = steps[-1] if steps else None
    if isinstance(last, group):
        steps[-1] = chord(last, body=step, app=last._app)
    elif isinstance(last, chord) and last.body is not None:
        made = last.clone()
        assert isinstance(made, chord)
        made.body = made.body | step
        steps[-1] = made
    else:
        steps.append(step)


class chain(Signature[Any]):
    """Calls one after the other; each gets the result of the one before as its first argument.

    Args:
        tasks: signatures, or one iterable of them.
        options: options of the first step's `apply_async`.

    Example:
        >>> chain(Signature("proj.add", (2, 2)), Signature("proj.add", (4,)))
        proj.add(2, 2) | proj.add(4)
    """

    subtask_kind: ClassVar[str | None] = "chain"

    def __init__(self, *tasks: Any, app: Celeriac | None = None, **options: Any) -> None:
        only = tasks[0] if len(tasks) == 1 else None
        given = only if only is not None and not isinstance(only, dict) else tasks
        steps: list[Signature[Any]] = []
        for task in given:
            for step in _steps_of(maybe_signature(task, app)):
                _append(steps, step)
        super().__init__("celery.chain", (), {"tasks": steps}, subtask_type="chain", app=app, options=options)

    @classmethod
    def _rebuild(cls, d: Mapping[str, Any], app: Celeriac | None) -> Signature[Any]:
        tasks = d["kwargs"].get("tasks") or []
        if not isinstance(tasks, list | tuple) or not all(isinstance(task, dict) for task in tasks):
            raise ValueError("this is not a chain, its tasks are not a list of signatures")
        made = cls(list(tasks), app=app, **d["options"])
        made["args"], made["immutable"] = d["args"], d["immutable"]
        return made

    @classmethod
    def _join(cls, left: Signature[Any], right: Signature[Any]) -> Signature[Any]:
        if isinstance(left, group) and len(left.tasks) > 1:
            return chord(left, body=right, app=left._app)
        if isinstance(left, chord) and left.body is not None:
            made = left.clone()
            assert isinstance(made, chord)
            made.body = made.body | right
            return made
        steps = [*_steps_of(left)]
        for step in _steps_of(right):
            _append(steps, step)
        return cls(steps, app=left._app)

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

    def _copied(self, args: Any, kwargs: Any, options: Any) -> Signature[Any]:
        made = chain([task.clone() for task in self.tasks], app=self._app, **options)
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
        app = self.app
        if app.conf.task_always_eager:
            return self.apply(args, kwargs, **options)
        steps, result = self._prepared(options)
        first_args = (*(args or ()), *self["args"])
        sent = steps[0].apply_async(first_args, kwargs, **options)
        if len(steps) == 1:
            return sent
        return result

    def sendings(
        self, args: Iterable[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> list[Sending]:
        """The first step's messages, with the other steps in them."""
        if not self.tasks:
            return []
        steps, _ = self._prepared(options)
        return steps[0].sendings((*(args or ()), *self["args"]), kwargs, **options)

    def _prepared(self, options: dict[str, Any]) -> tuple[list[Signature[Any]], Any]:
        """Copies of the steps with ids, and the last one's result. `options` become the first step's."""
        own = {key: value for key, value in self["options"].items() if key not in options}
        options.update(own)
        made = self.clone()
        assert isinstance(made, chain)
        made["options"].clear()
        steps = made.tasks
        if any(isinstance(step, chord) for step in steps):
            raise ImproperlyConfigured(NO_CHORDS)
        for callback in as_list(options.pop("link", None)):
            steps[-1].link(callback)
        for errback in as_list(options.pop("link_error", None)):
            for step in steps:
                step.link_error(maybe_signature(errback, self._app, clone=True))
        result = made.freeze(
            options.pop("task_id", None),
            group_id=options.pop("group_id", None),
            chord=options.pop("chord", None),
            group_index=options.pop("group_index", None),
        )
        rest = [*reversed(steps[1:]), *as_list(options.pop("chain", None))]
        # What comes after the whole chain stands first: the list is read from its end.
        after = rest[len(steps) - 1 :]
        if rest:
            options["chain"] = [*after, *rest[: len(steps) - 1]]
        return steps, result

    def apply(
        self, args: Iterable[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Run all steps here and now; returns the last one's result."""
        last: Any = None
        first_args: Any = (*(args or ()), *self["args"])
        for step in self.tasks:
            if last is None:
                result = step.clone().apply(first_args, kwargs, **options)
            else:
                result = step.clone().apply((last.get(),), **options)
            result.parent, last = last, result
        return last

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

    def link(self, callback: Any) -> Any:
        """Call `callback` with the result of the last step."""
        return self.tasks[-1].link(callback) if self.tasks else super().link(callback)

    def link_error(self, errback: Any) -> Any:
        """Call `errback` when any step fails."""
        for step in self.tasks:
            step.link_error(maybe_signature(errback, self._app, clone=True))
        return errback

    def stamp(self, visitor: Any = None, append_stamps: bool = False, **headers: Any) -> None:
        for step in self.tasks:
            step.stamp(visitor, append_stamps, **headers)

    @property
    def app(self) -> Any:
        """Its app: its own, its first step's, or the current one."""
        if self._app is not None:
            return self._app
        return self.tasks[0].app if self.tasks else _state.get_current_app()

    def __repr__(self) -> str:
        return " | ".join(map(repr, self.tasks)) if self.tasks else "<chain: empty>"
