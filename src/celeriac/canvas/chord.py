"""`chord`: a group (the header) with a call after its last member (the body).

It can be built, frozen, carried in other canvases and run eagerly. Sending one is refused for now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from celeriac.canvas.base import Signature, maybe_signature
from celeriac.canvas.group import NO_CHORDS, group, signatures_of
from celeriac.canvas.shape import Sending
from celeriac.canvas.stamping import with_stamps
from celeriac.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac

__all__ = ["chord"]


class chord(Signature[Any]):
    """A group (`header`) and a call with the list of its results (`body`).

    Example:
        >>> add = Signature("proj.add", (2, 2))
        >>> chord([add, add], Signature("proj.total"))
        %proj.total([proj.add(2, 2), proj.add(2, 2)])
    """

    subtask_kind: ClassVar[str | None] = "chord"

    def __init__(
        self,
        header: Any,
        body: Any = None,
        task: str = "celery.chord",
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        app: Celeriac | None = None,
        **options: Any,
    ) -> None:
        made = header if isinstance(header, group) else group(signatures_of(header, app), app=app)
        parts = {"kwargs": dict(kwargs or {}), "header": made, "body": maybe_signature(body, app)}
        super().__init__(task, tuple(args), parts, subtask_type="chord", app=app, options=options)

    @classmethod
    def _rebuild(cls, d: Mapping[str, Any], app: Celeriac | None) -> Signature[Any]:
        parts = d["kwargs"]
        header, body = parts.get("header"), parts.get("body")
        fitting = isinstance(header, dict | list | tuple) and isinstance(body, dict | None)
        if not fitting or not isinstance(parts.get("kwargs") or {}, dict):
            raise ValueError("this is not a chord, its header, body or kwargs cannot be used")
        if isinstance(header, dict):
            header = maybe_signature(header, app)
        made = cls(header, body, d["task"], d["args"], parts.get("kwargs"), app=app, **d["options"])
        made["immutable"] = d["immutable"]
        return made

    @property
    def header(self) -> group:
        """The group."""
        return self["kwargs"]["header"]  # type: ignore[no-any-return]

    @property
    def tasks(self) -> list[Signature[Any]]:
        """The members of the header."""
        return self.header.tasks

    @property
    def body(self) -> Any:
        """What runs after the header."""
        return self["kwargs"]["body"]

    @body.setter
    def body(self, body: Any) -> None:
        self["kwargs"]["body"] = maybe_signature(body, self._app)

    def _copied(self, args: Any, kwargs: Any, options: Any) -> Signature[Any]:
        body = self.body.clone() if self.body is not None else None
        made = chord(
            self.header.clone(), body, self.task, args, kwargs.get("kwargs"), app=self._app, **options
        )
        made["immutable"] = self["immutable"]
        return made

    def __call__(self, body: Any = None, **options: Any) -> Any:
        return self.apply_async((), {"body": body} if body is not None else None, **options)

    def apply_async(self, args: Any = None, kwargs: Any = None, *unused: Any, **options: Any) -> Any:
        """Send it.

        Raises:
            ImproperlyConfigured: always, unless `task_always_eager` is on: not built yet.
        """
        if self.app.conf.task_always_eager:
            return self.apply(args, kwargs, **options)
        raise ImproperlyConfigured(NO_CHORDS)

    def sendings(self, args: Any = None, kwargs: Any = None, **options: Any) -> list[Sending]:
        raise ImproperlyConfigured(NO_CHORDS)

    def apply(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        propagate: bool = True,
        body: Any = None,
        **options: Any,
    ) -> Any:
        """Run header and body here and now; `propagate` is taken for Celery's callers and says nothing.

        Raises:
            ValueError: it has no body.
        """
        kwargs = dict(kwargs or {})
        made = self.clone()
        assert isinstance(made, chord)
        given = kwargs.pop("body", None) or body
        if given is not None:
            made.body = maybe_signature(given, self._app, clone=True)
        if made.body is None:
            raise ValueError(f"A chord needs a body to be run, and this has none: {self!r}")
        made.freeze(options.pop("task_id", None))
        args = (*(args or ()), *self["args"])
        own = {key: value for key, value in self["options"].items() if key not in ("task_id", *options)}
        for key in ("link", "link_error"):
            made.body.extend_list_option(key, own.pop(key, None))
        return self.app.eager_chord(made, args, {**self["kwargs"]["kwargs"], **kwargs}, {**own, **options})

    def freeze(
        self,
        _id: str | None = None,
        group_id: str | None = None,
        chord: Any = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        group_index: int | None = None,
    ) -> Any:
        """Give header and body their ids; returns the body's result, the header's is its parent."""
        header = self.header.freeze(root_id=root_id, parent_id=parent_id)
        self["options"].setdefault("task_id", self.header.id)
        if self.body is None:
            return header
        if chord is not None:
            self.body = self.body._closed()
        result = self.body.freeze(
            _id, group_id=group_id, chord=chord, root_id=root_id, parent_id=parent_id, group_index=group_index
        )
        node = result
        while node.parent is not None and node.parent != header:
            node = node.parent
        node.parent = header
        return result

    _freeze = freeze

    def link(self, callback: Any) -> Any:
        """Link the body."""
        return self.body.link(callback)

    def link_error(self, errback: Any) -> Any:
        """Link the body, and with `task_allow_error_cb_on_chord_header` every member of the header."""
        if self.app.conf.task_allow_error_cb_on_chord_header:
            self.header.link_error(errback)
        return self.body.link_error(errback)

    def set_immutable(self, immutable: bool) -> None:
        """Of the members of the header: its arguments go to them."""
        self.header.set_immutable(immutable)

    def _closed(self) -> Signature[Any]:
        body = self.body and self.body._closed()
        if body is self.body:
            return self
        made = self.clone()
        assert isinstance(made, chord)
        made.body = body
        return made

    def stamp(self, visitor: Any = None, append_stamps: bool = False, **headers: Any) -> chord:
        if visitor is not None:
            headers = with_stamps(headers, visitor.on_chord_header_start(self, **headers))
        for task in self.tasks:
            task.stamp(visitor, append_stamps, **headers)
        if visitor is not None:
            visitor.on_chord_header_end(self, **headers)
        if self.body is not None:
            if visitor is not None:
                headers = with_stamps(headers, visitor.on_chord_body(self, **headers))
            self.body.stamp(visitor, append_stamps, **headers)
        return self

    @property
    def app(self) -> Any:
        """Its app: its own, its header's or body's, or the current one."""
        return self._app if self._app is not None else self.header.app

    def __length_hint__(self) -> int:
        """How many calls its body waits for."""
        return sum(1 for _ in self.header._members())

    def __repr__(self) -> str:
        body = self.body
        if body is None:
            return f"<chord without body: {self.tasks!r}>"
        first, *rest = body.tasks if body["subtask_type"] == "chain" and body.tasks else [body]
        steps = [first.reprcall(self.tasks), *map(repr, rest)]
        return f"%({' | '.join(steps)})" if rest else f"%{steps[0]}"
