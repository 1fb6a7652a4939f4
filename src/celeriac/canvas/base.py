"""`Signature`: one call as a value, and what every canvas shares.

1. `Signature`: a dict in the shape of the wire with Celery's attributes and methods: partial arguments,
   links, ids (`freeze`), stamps. `sendings` says what a canvas sends first without sending it: a worker makes
   follow-ups of them, `apply_async` publishes them.
2. `signature`, `maybe_signature`: from tasks, names and dicts to signatures.

Not here: the shape of dicts (`shape.py`), how canvases are joined (`chain.py`), messages (`app/producer.py`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from celeriac import _state
from celeriac.canvas.shape import Sending, as_list, checked
from celeriac.canvas.stamping import put_stamps, with_stamps
from celeriac.utils import uuid

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac
    from celeriac.result import AsyncResult

__all__ = ["Signature", "maybe_signature", "signature"]

R_co = TypeVar("R_co", covariant=True)

#: Options that a frozen signature keeps whatever `apply_async` is given: a group could not end otherwise.
_KEPT = frozenset({"group_id", "stamped_headers"})


def _field(key: str, doc: str) -> Any:
    def read(self: Signature[Any]) -> Any:
        return self[key]

    def write(self: Signature[Any], value: Any) -> None:
        self[key] = value

    return property(read, write, doc=doc)


class Signature(dict[str, Any], Generic[R_co]):
    """A call that has not been made: task name, arguments, options.

    Args:
        task: a task, its name, or a signature as a dict.
        args: positional arguments; more may come first when it is called.
        kwargs: keyword arguments.
        options: options of `apply_async`.
        immutable: True: arguments that come when it is called (a parent's result) are dropped.
        app: the app; the current one when None.
        ex: more options.

    Example:
        >>> sig = Signature("proj.add", args=(2,), countdown=10)
        >>> sig.task, sig.args, sig.options
        ('proj.add', (2,), {'countdown': 10})
    """

    #: subtask_type → class; the classes enter themselves.
    TYPES: ClassVar[dict[str, type[Signature[Any]]]] = {}
    subtask_kind: ClassVar[str | None] = None

    _app: Celeriac | None = None
    _type: Any = None

    def __init__(
        self,
        task: Any = None,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        type: Any = None,
        subtask_type: str | None = None,
        immutable: bool = False,
        app: Celeriac | None = None,
        **ex: Any,
    ) -> None:
        if app is not None:
            self._app = app
        if isinstance(task, dict):
            super().__init__(task)
            return
        if isinstance(task, str):
            name = task
            if type is not None:
                self._type = type
        else:
            name, self._type = task.name, task
        chosen = dict(options) if options else {}
        if ex:
            chosen.update(ex)
        super().__init__(
            task=name,
            args=tuple(args or ()),
            kwargs=kwargs or {},
            options=chosen,
            subtask_type=subtask_type,
            immutable=immutable,
        )

    @classmethod
    def register_type(cls, name: str | None = None) -> Callable[[type[Signature[Any]]], type[Signature[Any]]]:
        """A decorator for a canvas of one's own: dicts with `name` as ``subtask_type`` become it again."""

        def register(subclass: type[Signature[Any]]) -> type[Signature[Any]]:
            Signature.TYPES[name or subclass.__name__] = subclass
            return subclass

        return register

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.subtask_kind is not None:
            Signature.TYPES.setdefault(cls.subtask_kind, cls)

    task = _field("task", "Name of the task.")
    args = _field("args", "Positional arguments, a tuple.")
    kwargs = _field("kwargs", "Keyword arguments.")
    options = _field("options", "Options of `apply_async`.")
    subtask_type = _field("subtask_type", "Kind of canvas; None for a plain call.")
    immutable = _field("immutable", "True: arguments that come later are dropped.")

    # -- from and to dicts -----------------------------------------------------------------------------------

    @classmethod
    def from_dict(cls, d: Mapping[str, Any], app: Celeriac | None = None) -> Signature[Any]:
        """Rebuild a signature of any kind from its dict.

        Raises:
            ValueError: `d` does not have the shape of a signature.
        """
        kind = d.get("subtask_type")
        if kind:
            found = cls.TYPES.get(kind) if isinstance(kind, str) else None
            if found is None:
                raise ValueError(
                    f"{kind!r} is not a kind of canvas; known are {', '.join(sorted(cls.TYPES))}"
                )
            if found.from_dict.__func__ is not Signature.from_dict.__func__:  # type: ignore[attr-defined]
                return found.from_dict(d, app)  # a canvas of the user's own
            return found._rebuild(checked(d), app)
        return Signature(dict(checked(d)), app=app)

    @classmethod
    def _rebuild(cls, d: Mapping[str, Any], app: Celeriac | None) -> Signature[Any]:
        return cls(dict(d), app=app)

    def __json__(self) -> dict[str, Any]:
        return dict(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return signature, (dict(self),)

    def __deepcopy__(self, memo: dict[int, Any]) -> Signature[R_co]:
        made = self.clone()
        memo[id(self)] = made
        return made

    # -- calling ---------------------------------------------------------------------------------------------

    def __call__(self, *partial_args: Any, **partial_kwargs: Any) -> Any:
        """Run the task here and now."""
        args, kwargs, _ = self._merge(partial_args, partial_kwargs, None)
        return self.type(*args, **kwargs)

    def delay(self, *partial_args: Any, **partial_kwargs: Any) -> AsyncResult[R_co]:
        """`apply_async(partial_args, partial_kwargs)`."""
        result: AsyncResult[R_co] = self.apply_async(partial_args, partial_kwargs)
        return result

    def apply(
        self, args: Iterable[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Run it here and now; returns an `EagerResult`."""
        args, kwargs, options = self._merge(args, kwargs, options)
        return self.type.apply(args, kwargs, **options)

    def apply_async(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        route_name: str | None = None,
        **options: Any,
    ) -> Any:
        """Send it; `args` come before its own, `kwargs` and `options` overrule its own."""
        merged_args, merged_kwargs, options = self._merge(args, kwargs, options)
        task = self._known_type()
        if task is None:
            return self.app.send_task(
                self["task"], merged_args, merged_kwargs, route_name=route_name, **options
            )
        return task.apply_async(merged_args, merged_kwargs, **options)

    def sendings(
        self, args: Iterable[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> list[Sending]:
        """What `apply_async` would send first: one message, or one for each member of a group."""
        merged_args, merged_kwargs, merged = self._merge(args, kwargs, options)
        merged = dict(merged)
        merged.setdefault("task_id", uuid())
        return [Sending(self["task"], merged_args, merged_kwargs, merged)]

    def __invert__(self) -> Any:
        """``~sig``: send it and wait for its result."""
        return self.apply_async().get()

    def _merge(
        self,
        args: Iterable[Any] | None,
        kwargs: Mapping[str, Any] | None,
        options: dict[str, Any] | None,
        force: bool = False,
    ) -> tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]:
        own = self["options"]
        if not options:
            merged = own
        elif own:
            merged = {**own, **{key: options[key] for key in options if key not in _KEPT or key not in own}}
        else:
            merged = options
        if self["immutable"] and not force:
            return self["args"], self["kwargs"], merged
        return (
            (*args, *self["args"]) if args else tuple(self["args"]),
            {**self["kwargs"], **kwargs} if kwargs else self["kwargs"],
            merged,
        )

    # -- making others ---------------------------------------------------------------------------------------

    def clone(
        self, args: Iterable[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **opts: Any
    ) -> Signature[R_co]:
        """A copy, with more arguments and options."""
        merged_args, merged_kwargs, merged = self._merge(args, kwargs, opts)
        return self._copied(merged_args, dict(merged_kwargs), copy.deepcopy(dict(merged)))

    partial = clone

    def _copied(self, args: Any, kwargs: Any, options: Any) -> Signature[R_co]:
        made = Signature.from_dict(
            {**self, "args": args, "kwargs": kwargs, "options": options}, app=self._app
        )
        made._type = self._type
        return made

    def replace(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Signature[R_co]:
        """A copy with other arguments or options in place of its own; None keeps them."""
        made = self.clone()
        if args is not None:
            made["args"] = tuple(args)
        if kwargs is not None:
            made["kwargs"] = dict(kwargs)
        if options is not None:
            made["options"] = dict(options)
        return made

    def set(self, immutable: bool | None = None, **options: Any) -> Signature[R_co]:
        """Change options here; returns itself."""
        if immutable is not None:
            self.set_immutable(immutable)
        self["options"].update(options)
        return self

    def set_immutable(self, immutable: bool) -> None:
        self["immutable"] = immutable

    def freeze(
        self,
        _id: str | None = None,
        group_id: str | None = None,
        chord: Any = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        group_index: int | None = None,
    ) -> Any:
        """Give it its task id, so that its result is known before it is sent; returns the result."""
        options = self["options"]
        task_id = options.setdefault("task_id", _id or uuid())
        given = {"root_id": root_id, "parent_id": parent_id, "chord": chord}
        options.update({key: value for key, value in given.items() if value is not None})
        options.setdefault("reply_to", self.app.thread_oid)
        if group_id:
            options.setdefault("group_id", group_id)
        if group_index is not None:
            options["group_index"] = group_index
        return self.app.AsyncResult(task_id)

    _freeze = freeze

    # -- links -----------------------------------------------------------------------------------------------

    def link(self, callback: Any) -> Any:
        """Call `callback` with the result when it succeeds; returns `callback`."""
        return self.append_to_list_option("link", callback)

    def link_error(self, errback: Any) -> Any:
        """Call `errback` when it fails; returns `errback`."""
        return self.append_to_list_option("link_error", errback)

    def on_error(self, errback: Any) -> Signature[R_co]:
        """As `link_error`, but returns itself, to go on with ``|``."""
        self.link_error(errback)
        return self

    def append_to_list_option(self, key: str, value: Any) -> Any:
        items = self["options"][key] = as_list(self["options"].get(key))
        if value not in items:
            items.append(value)
        return value

    def extend_list_option(self, key: str, value: Any) -> None:
        for item in as_list(value):
            self.append_to_list_option(key, item)

    def flatten_links(self) -> list[Any]:
        """Itself and all its links, and their links."""
        links = (maybe_signature(item, app=self._app) for item in as_list(self["options"].get("link")))
        return [self, *(link for item in links for link in item.flatten_links())]

    # -- stamps ----------------------------------------------------------------------------------------------

    def stamp(self, visitor: Any = None, append_stamps: bool = False, **headers: Any) -> Signature[R_co]:
        """Put stamps on it and on its links; returns itself.

        Args:
            visitor: a `StampingVisitor`, which decides the stamps.
            append_stamps: values of stamps that are there already are kept: both become one list.
            headers: stamps for every call; if ``stamped_headers`` is among them, only those it names are.
        """
        self.stamp_links(visitor, append_stamps, **headers)
        if visitor is not None:
            headers = with_stamps(headers, visitor.on_signature(self, **headers))
        put_stamps(self["options"], headers, append_stamps)
        return self

    def stamp_links(self, visitor: Any, append_stamps: bool = False, **headers: Any) -> None:
        """Put stamps on its links alone."""
        options = self["options"]
        for key, hook in (("link", "on_callback"), ("link_error", "on_errback")):
            if not options.get(key):
                continue
            links = options[key] = [maybe_signature(link, self._app) for link in as_list(options[key])]
            for link in links:
                found = None if visitor is None else getattr(visitor, hook)(link, **headers)
                link.stamp(visitor, append_stamps, **(with_stamps(headers, found) if found else headers))

    # -- joining ---------------------------------------------------------------------------------------------

    def __or__(self, other: Any) -> Any:
        """``a | b``: `b` after `a`, with its result."""
        if not isinstance(other, Signature):
            return NotImplemented
        return Signature.TYPES["chain"]._join(self, other)

    def _members(self) -> Iterable[Signature[Any]]:
        """The calls it is made of: itself, unless it is a group."""
        return (self,)

    def _closed(self) -> Signature[Any]:
        """It with one call at its end: what ends in a group ends in a call with the list of its results."""
        return self

    @classmethod
    def _join(cls, left: Signature[Any], right: Signature[Any]) -> Signature[Any]:
        raise NotImplementedError

    def __ior__(self, other: Any) -> Any:
        return self.__or__(other)

    # -- what it belongs to ----------------------------------------------------------------------------------

    @property
    def app(self) -> Any:
        """Its app."""
        if self._app is not None:
            return self._app
        return self._type.app if self._type is not None else _state.get_current_app()

    @property
    def type(self) -> Any:
        """Its task. Raises `NotRegistered` when its app does not know the name."""
        return self._type if self._type is not None else self.app.tasks[self["task"]]

    def _known_type(self) -> Any:
        return self._type if self._type is not None else self.app.tasks.get(self["task"])

    @property
    def AsyncResult(self) -> Callable[..., Any]:
        """The class of its result."""
        task = self._known_type()
        made: Callable[..., Any] = self.app.AsyncResult if task is None else task.AsyncResult
        return made

    @property
    def name(self) -> str:
        """Name of the task."""
        return str(self["task"])

    @property
    def id(self) -> str | None:
        """Its task id, once it is frozen."""
        return self["options"].get("task_id")  # type: ignore[no-any-return]

    @property
    def parent_id(self) -> str | None:
        return self["options"].get("parent_id")  # type: ignore[no-any-return]

    @property
    def root_id(self) -> str | None:
        return self["options"].get("root_id")  # type: ignore[no-any-return]

    def reprcall(self, *args: Any, **kwargs: Any) -> str:
        """It as the text of a call."""
        merged_args, merged_kwargs, _ = self._merge(args, kwargs, {}, force=True)
        shown = [*map(repr, merged_args), *(f"{key}={value!r}" for key, value in merged_kwargs.items())]
        return f"{self['task']}({', '.join(shown)})"

    def __repr__(self) -> str:
        return self.reprcall()


def signature(varies: Any, *args: Any, **kwargs: Any) -> Signature[Any]:
    """Return a signature of a task, a task's name, or a signature's dict.

    Args:
        varies: the task, name or dict; a signature is cloned.
        args: as `Signature`: positional arguments, keyword arguments, options.
        kwargs: as `Signature`.

    Example:
        >>> signature("proj.add", args=(2, 2), countdown=10)
        proj.add(2, 2)
    """
    app = kwargs.get("app")
    if isinstance(varies, dict):
        if isinstance(varies, Signature):
            return varies.clone()
        return Signature.from_dict(varies, app=app)
    return Signature(varies, *args, **kwargs)


def maybe_signature(d: Any, app: Celeriac | None = None, clone: bool = False) -> Any:
    """Return `d` as a signature if it is one or a dict of one, else `d` itself (None is None).

    Args:
        d: a signature, a dict or anything else.
        app: its app, unless it has one.
        clone: copy it when it is a signature already.
    """
    if not isinstance(d, dict):
        return d
    if not isinstance(d, Signature):
        return Signature.from_dict(d, app=app)
    made = d.clone() if clone else d
    if app is not None and made._app is None and made._type is None:
        made._app = app
    return made
