"""`group`: calls that run at the same time.

1. `group`: made of signatures; groups in groups are one. Sent in ONE batch.
2. `send`: many calls in one batch.
3. `signatures_of`: whatever a group or a header may be made of, as signatures.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from celeriac import _state
from celeriac.canvas.base import Signature, maybe_signature
from celeriac.canvas.shape import Sending
from celeriac.canvas.stamping import with_stamps
from celeriac.canvas.stream import Stream, at_least
from celeriac.utils import uuid
from celeriac.utils.bulk import collector_paused
from celeriac.utils.identity import uuids

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac

__all__ = ["group", "send", "signatures_of"]

_new_sending = tuple.__new__


def signatures_of(tasks: Any, app: Celeriac | None) -> Any:
    """The signatures that `tasks` (a group, a signature, an iterable) stands for: a list, or a `Stream` of
    what a generator will give."""
    if isinstance(tasks, dict):
        tasks = maybe_signature(tasks, app)
        return tasks.tasks if isinstance(tasks, group) else [tasks]
    if isinstance(tasks, Stream):
        return tasks
    if isinstance(tasks, list | tuple):
        return [maybe_signature(task, app) for task in tasks]
    return Stream(tasks, lambda task: maybe_signature(task, app))


class group(Signature[list[Any]]):
    """Calls that run at the same time.

    Args:
        tasks: signatures, or one iterable of them; from a generator they are taken when they are needed.
        options: options of every member's `apply_async`.

    Example:
        >>> group([Signature("proj.add", (n, n)) for n in range(2)])
        group([proj.add(0, 0), proj.add(1, 1)])
    """

    subtask_kind: ClassVar[str | None] = "group"

    def __init__(self, *tasks: Any, app: Celeriac | None = None, **options: Any) -> None:
        given = tasks[0] if len(tasks) == 1 else tasks
        members = signatures_of(given, app)
        super().__init__(
            "celery.group", (), {"tasks": members}, subtask_type="group", app=app, options=options
        )

    @classmethod
    def _rebuild(cls, d: Mapping[str, Any], app: Celeriac | None) -> Signature[Any]:
        tasks = d["kwargs"].get("tasks") or []
        if not isinstance(tasks, list | tuple) or not all(isinstance(task, dict) for task in tasks):
            raise ValueError("this is not a group, its tasks are not a list of signatures")
        made = cls(list(tasks), app=app, **d["options"])
        made["immutable"] = d["immutable"]
        # Arguments for all members, where somebody cloned the group with some.
        made["args"] = d["args"]
        return made

    @property
    def tasks(self) -> list[Signature[Any]]:
        """The members."""
        return self["kwargs"]["tasks"]  # type: ignore[no-any-return]

    @tasks.setter
    def tasks(self, tasks: Iterable[Signature[Any]]) -> None:
        self["kwargs"]["tasks"] = list(tasks)

    def __len__(self) -> int:
        return len(self.tasks)

    def __bool__(self) -> bool:
        return at_least(self.tasks, 1)

    def _copied(self, args: Any, kwargs: Any, options: Any) -> Signature[list[Any]]:
        tasks: Any = self.tasks
        copies = tasks.clone() if isinstance(tasks, Stream) else [task.clone() for task in tasks]
        return self._with(copies, tuple(args), options)

    def _shallow(self) -> group:
        """A copy with the same members: sending does not change them."""
        tasks: Any = self.tasks
        same = tasks.clone() if isinstance(tasks, Stream) else tasks
        return self._with(same, self["args"], copy.deepcopy(dict(self["options"])))

    def _with(self, tasks: Any, args: Any, options: Any) -> group:
        made = group(tasks, app=self._app, **options)
        made["args"] = args
        made["immutable"] = self["immutable"]
        return made

    # -- calling ---------------------------------------------------------------------------------------------

    def __call__(self, *partial_args: Any, **options: Any) -> Any:
        return self.apply_async(partial_args, **options)

    def apply_async(  # type: ignore[override]
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        add_to_parent: bool = True,
        producer: Any = None,
        link: Any = None,
        link_error: Any = None,
        **options: Any,
    ) -> Any:
        """Send all members in one batch; returns a `GroupResult`.

        Raises:
            TypeError: `link` or `link_error` is given; link the members, or make a chord.
        """
        if link is not None:
            raise TypeError("A group cannot be linked; use a chord: group | callback.")
        if link_error is not None:
            raise TypeError(
                "A group cannot have an error link; set it on its members: group.link_error(errback)."
            )
        app = self.app
        if app.conf.task_always_eager:
            return self.apply(args, kwargs, **options)
        if not self.tasks:
            return self.freeze()
        group_id = options.pop("task_id", None) or self.id or uuid()
        connection = options.pop("connection", None)
        with collector_paused():
            sendings, results = self._spread(args, kwargs, {**options, "group_id": group_id})
            send(app, sendings, connection)
        result = app.GroupResult(group_id, results)
        parent = app.current_worker_task if add_to_parent else None
        if parent is not None:
            parent.add_trail(result)
        return result

    def sendings(
        self, args: Iterable[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> list[Sending]:
        """The messages of all members."""
        after = [maybe_signature(step, self._app) for step in reversed(options.pop("chain", None) or ())]
        if after:  # it was left to us to see that this is a chord
            body = after[0] if len(after) == 1 else Signature.TYPES["chain"](after, app=self._app)
            made = Signature.TYPES["chord"](self.clone(), body, app=self._app)
            return made.sendings(args, kwargs, **options)
        group_id = options.pop("task_id", None) or self.id or uuid()
        return self._spread(args, kwargs, {**options, "group_id": group_id})[0]

    def _spread(
        self,
        args: Iterable[Any] | None,
        kwargs: Mapping[str, Any] | None,
        options: dict[str, Any],
        first: int = 0,
    ) -> tuple[list[Sending], list[Any]]:
        """What each member sends, and its result; `first`: place of the first one. Hot: a group may have
        100,000 members."""
        app = self.app
        own = {key: value for key, value in self["options"].items() if key not in _GROUP_ONLY}
        options = {"reply_to": app.thread_oid, **own, **options}
        if self["args"]:
            args = (*(args or ()), *self["args"])
        args = tuple(args) if args else ()
        make_result = app.result_class
        members = list(self._members())
        new_ids = uuids(len(members))
        sendings: list[Sending] = []
        results: list[Any] = []
        for index, task in enumerate(members, first):
            if task["subtask_type"] is None:
                if task["options"] or args or kwargs:
                    merged_args, merged_kwargs, merged = task._merge(args, kwargs, options)
                    task_id = merged.get("task_id") or next(new_ids)
                    merged = {**merged, "group_index": index, "task_id": task_id}
                else:
                    merged_args, merged_kwargs, task_id = task["args"], task["kwargs"], next(new_ids)
                    merged = {**options, "group_index": index, "task_id": task_id}
                fields = (task["task"], merged_args, merged_kwargs, merged, ())
                sendings.append(_new_sending(Sending, fields))
                results.append(make_result(task_id, None, None, app))
            else:
                member = task.clone()
                place = {"group_id": options["group_id"], "group_index": index}
                results.append(member.freeze(chord=options.get("chord"), **place))
                sendings += member.sendings(args, kwargs, **options, group_index=index)
        return sendings, results

    def apply(
        self, args: Iterable[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Run all members here and now, one after the other."""
        app = self.app
        made = self.clone()
        assert isinstance(made, group)
        group_id = options.pop("task_id", None) or self.id or uuid()
        if not at_least(made.tasks, 1):
            return app.GroupResult(group_id, [])
        made["options"].clear()
        family = {key: options.get(key) for key in ("root_id", "parent_id")}
        made.freeze(group_id, group_id=group_id, chord=options.pop("chord", None), **family)
        own = {key: value for key, value in self["options"].items() if key not in _GROUP_ONLY}
        shared = {**own, **{key: value for key, value in options.items() if key not in _GROUP_ONLY}}
        args = (*(args or ()), *self["args"])
        return app.GroupResult(group_id, [task.apply(args, kwargs, **shared) for task in made.tasks])

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
        """Give it and its members their ids; returns a `GroupResult`."""
        options = self["options"]
        own_id = options.setdefault("task_id", _id or uuid())
        if group_id:
            options["group_id"] = group_id
        if chord:
            options["chord"] = chord
        if group_index is not None:
            options["group_index"] = group_index
        root_id = options.setdefault("root_id", root_id)
        parent_id = options.setdefault("parent_id", parent_id)
        self.tasks = list(self._members())
        results = [
            task.freeze(
                group_id=group_id, chord=chord, root_id=root_id, parent_id=parent_id, group_index=index
            )
            for index, task in enumerate(self.tasks)
        ]
        return self.app.GroupResult(own_id, results)

    _freeze = freeze

    def link(self, sig: Any) -> Any:
        """Link the first member. A chord (``group | callback``) is what waits for all of them."""
        return self.tasks[0].link(maybe_signature(sig, clone=True).set(immutable=True))

    def link_error(self, sig: Any) -> Any:
        """Link every member."""
        return tuple(task.link_error(maybe_signature(sig, clone=True)) for task in self.tasks)

    def set_immutable(self, immutable: bool) -> None:
        for task in self.tasks:
            task.set_immutable(immutable)

    def stamp(self, visitor: Any = None, append_stamps: bool = False, **headers: Any) -> group:
        if visitor is not None:
            headers = with_stamps(headers, visitor.on_group_start(self, **headers))
        for task in self.tasks:
            task.stamp(visitor, append_stamps, **headers)
        if visitor is not None:
            visitor.on_group_end(self, **headers)
        return self

    def _closed(self) -> Signature[Any]:
        return self | Signature("celery.accumulate", (), {"index": 0}, app=self._app)  # type: ignore[no-any-return]

    def skew(self, start: float = 1.0, stop: float | None = None, step: float = 1.0) -> group:
        """Give the members growing countdowns: `start`, `start` + `step`, … seconds, around at `stop`."""
        ticks = itertools.count(start, step)
        if stop is not None:
            span = list(itertools.takewhile(lambda tick: tick < stop, ticks)) or [start]
            ticks = itertools.cycle(span)  # type: ignore[assignment]
        for task, countdown in zip(self.tasks, ticks, strict=False):
            task.set(countdown=countdown)
        return self

    @property
    def app(self) -> Any:
        """Its app: its own, its first member's, or the current one."""
        if self._app is not None:
            return self._app
        return self.tasks[0].app if self.tasks else _state.get_current_app()

    def _members(self) -> Iterator[Signature[Any]]:
        """The members; groups among them give theirs, with their own arguments and options."""
        tasks: Any = self.tasks
        for task in tasks[:] if isinstance(tasks, Stream) else tasks:
            inner = task._members()
            if isinstance(inner, tuple):
                yield task
                continue
            own = {key: value for key, value in task.options.items() if key not in _GROUP_ONLY}
            for member in inner:
                yield member.clone(task["args"], **own) if own or task["args"] else member

    def __repr__(self) -> str:
        return f"group({self.tasks!r})" if self.tasks else "group(<empty>)"


def send(app: Any, sendings: list[Sending], connection: Any = None) -> None:
    """Check the arguments of all calls, then send them in one batch; with `connection`, in its transaction.

    Tasks that send themselves (an `apply_async` of their own or put in place of ours, arguments that are not
    what travels) do so, one by one.
    """
    by_name: dict[str, list[Sending]] = {}
    for sending in sendings:
        by_name.setdefault(sending[0], []).append(sending)
    alone: list[tuple[Any, Sending]] = []
    for name, calls in by_name.items():
        task = app.tasks.get(name)
        if task is not None and _sends_itself(task):
            alone += [(task, sending) for sending in calls]
        elif task is not None and task.typing:
            takes = task.arguments
            fewest, most = takes.fewest, takes.most
            for _, args, kwargs, _, _ in calls:
                if kwargs or not fewest <= len(args) <= most:
                    takes.check(args, kwargs)
    if alone:
        names = {sending.task for _, sending in alone}
        app.producer.start(sending for _, sending in alone)
        sendings = [sending for sending in sendings if sending.task not in names]
    if sendings:
        app.producer.send(sendings, connection=connection)
    within = {} if connection is None else {"connection": connection}
    for task, sending in alone:
        task.apply_async(sending.args, sending.kwargs, **sending.options, **within)


def _sends_itself(task: Any) -> bool:
    method = type(task).apply_async
    ours = method.__module__ == "celeriac.app.task" and not hasattr(method, "__wrapped__")
    return not ours or "apply_async" in vars(task) or getattr(task, "_codec", None) is not None


_GROUP_ONLY = frozenset({"task_id", "group_id", "group_index", "root_id", "parent_id"})
