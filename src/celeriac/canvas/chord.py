"""`chord`: a group (the header) with a call after its last member (the body).

1. `chord`: built, frozen, sent and run here and now. Sent are the members, each with the body in its message
   (with its name only, when it is big: then it is kept once, in the store that counts the chord).
2. A header from a generator is sent in parts, and the chord is told its size before the last of them.

Not here: how members are counted and what follows (`app/chords.py`, `worker/chords.py`).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from celeriac.canvas.base import Signature, maybe_signature
from celeriac.canvas.group import group, send, signatures_of
from celeriac.canvas.shape import Sending, Start, as_list
from celeriac.canvas.stamping import with_stamps
from celeriac.canvas.stream import Stream
from celeriac.exceptions import EncodeError
from celeriac.utils import uuid
from celeriac.wire import json

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac

__all__ = ["chord"]

#: Bytes of a body that every member may carry.
INLINE = 1000
#: Members of a streamed header that are sent at once.
AT_ONCE = 1000
#: Options of a chord that are its body's alone; the header has all others, too.
_OF_BODY = frozenset(
    {"task_id", "group_id", "group_index", "chord", "chain", "link", "link_error", "add_to_parent"}
)
#: What `freeze` takes.
_PLACE = ("group_id", "chord", "group_index", "root_id", "parent_id")


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
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        app: Celeriac | None = None,
        **options: Any,
    ) -> None:
        made = header if isinstance(header, group) else group(signatures_of(header, app), app=app)
        parts = {"kwargs": dict(kwargs or {}), "header": made, "body": maybe_signature(body, app)}
        super().__init__(task, args, parts, subtask_type="chord", app=app, options=options)

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
        return self._with(self.header.clone(), args, kwargs.get("kwargs"), options)

    def _with(self, header: Any, args: Any, kwargs: Any, options: Any) -> chord:
        """A copy with this header."""
        body = self.body.clone() if self.body is not None else None
        made = chord(header, body, self.task, args, kwargs, app=self._app, **options)
        made["immutable"] = self["immutable"]
        return made

    def __call__(self, body: Any = None, **options: Any) -> Any:
        return self.apply_async((), {"body": body} if body is not None else None, **options)

    def apply_async(  # type: ignore[override]
        self,
        args: Any = None,
        kwargs: Any = None,
        task_id: str | None = None,
        producer: Any = None,
        publisher: Any = None,
        connection: Any = None,
        router: Any = None,
        result_cls: Any = None,
        **options: Any,
    ) -> Any:
        """Send it; returns the body's result, whose `parent` is the header's.

        Args:
            args: go to each member of the header, before its own.
            kwargs: likewise; `body` among them stands in for the chord's own.
            task_id: of the body.
            connection: of your transaction, in which it is sent.
            producer, publisher, router, result_cls: for Celery's callers; not used.
            options: of header and body; links and what follows are the body's.

        Raises:
            ImproperlyConfigured: nothing that is configured can count its members.
            ValueError: it has no body.
        """
        app = self.app
        options["task_id"] = task_id
        if app.conf.task_always_eager:
            return self.apply(args, kwargs, **options)
        trailed = options.pop("add_to_parent", True)
        made, kwargs, shared = self._made(kwargs, options)
        args = (*(args or ()), *self["args"])
        tasks = made.header.tasks
        if isinstance(tasks, Stream) and tasks.untouched and app.counts_chords:
            result = made._send_parts(tasks, args, kwargs, shared, connection)
        else:
            sendings, result = made._begun(args, kwargs, shared)
            send(app, sendings, connection)
        parent = app.current_worker_task if trailed else None
        if parent is not None:
            parent.add_trail(result)
        return result

    def run(
        self,
        header: Any,
        body: Any,
        partial_args: Iterable[Any],
        app: Celeriac | None = None,
        interval: float | None = None,
        countdown: float = 1,
        max_retries: int | None = None,
        eager: bool = False,
        task_id: str | None = None,
        kwargs: Mapping[str, Any] | None = None,
        header_delay: float | None = None,
        **options: Any,
    ) -> Any:
        """Send another header and body.

        `interval`, `countdown`, `max_retries` and `header_delay` are for Celery's callers: how members are
        polled for is said by settings.
        """
        made = chord(header, maybe_signature(body, app, clone=True), app=app or self._app)
        return (made.apply if eager else made.apply_async)(partial_args, kwargs, task_id=task_id, **options)

    def sendings(self, args: Any = None, kwargs: Any = None, **options: Any) -> list[Sending]:
        """The messages of all members; the first of them says that the chord begins."""
        made, kwargs, shared = self._made(kwargs, options)
        return made._begun((*(args or ()), *self["args"]), kwargs, shared)[0]

    def _made(self, kwargs: Any, options: dict[str, Any]) -> tuple[chord, dict[str, Any], dict[str, Any]]:
        """A copy with all options where they belong, in which only the header is not frozen; the header's
        keyword arguments and options."""
        kwargs, own = dict(kwargs or {}), copy.deepcopy(dict(self["options"]))
        made = self._with(self.header._shallow(), self["args"], dict(self["kwargs"]["kwargs"]), own)
        given = kwargs.pop("body", None)
        if given is not None:
            made.body = maybe_signature(given, self._app, clone=True)
        body = made.body
        if body is None:
            raise ValueError(f"A chord needs a body to be sent, and this has none: {self!r}")
        own = {key: value for key, value in made["options"].items() if key != "task_id"}
        options = {**own, **options}
        for key in ("link", "link_error"):
            for link in as_list(options.get(key)):
                getattr(body, key)(maybe_signature(link, self._app, clone=True))
        if options.get("chain"):
            body.options["chain"] = [*options["chain"], *as_list(body.options.get("chain"))]
        shared = {key: value for key, value in options.items() if key not in _OF_BODY}
        body.options.update(shared)
        place = {key: options.get(key) for key in _PLACE}
        if place["chord"] is not None:
            made.body = body = body._closed()
        made.__dict__["_result"] = body.freeze(options.get("task_id"), **place)
        return made, {**self["kwargs"]["kwargs"], **kwargs}, shared

    def _begun(self, args: Any, kwargs: Any, shared: dict[str, Any]) -> tuple[list[Sending], Any]:
        """The first messages, and the result."""
        app, body, result = self.app, self.body, self.__dict__.pop("_result")
        header = self.header
        group_id = header.id or self["options"].get("task_id") or uuid()
        header.tasks = list(header._members())
        if not header.tasks:
            return body.sendings(([],), None, **shared), _after(result, app.GroupResult(group_id, []))
        options = {**shared, "group_id": group_id}
        start = Start(group_id, len(header.tasks), body)
        if app.counts_chords:
            options["chord"] = _carried(start)
        sendings, members = header._spread(args, kwargs, options)
        known = app.GroupResult(group_id, members)
        if app.counts_chords:
            sendings[0] = sendings[0]._replace(starts=(start, *sendings[0].starts))
        else:
            sendings.append(app.chord_unlock(known, body, shared))
        return sendings, _after(result, known)

    def _send_parts(
        self, tasks: Stream, args: Any, kwargs: Any, shared: dict[str, Any], connection: Any
    ) -> Any:
        """Send the members of a generator as they come."""
        app, body, result = self.app, self.body, self.__dict__.pop("_result")
        own = {key: value for key, value in self.header["options"].items() if key != "task_id"}
        group_id = self.header.id or self["options"].get("task_id") or uuid()
        start = Start(group_id, 0, body)
        options = {**own, **shared, "group_id": group_id, "chord": _carried(start)}
        members: list[Any] = []
        waiting: list[Sending] = []
        for part in tasks.parts(AT_ONCE):
            if waiting:
                send(app, waiting, connection)
            some = group(part, app=self._app)
            some["args"] = self.header["args"]
            waiting, results = some._spread(args, kwargs, options, first=len(members))
            if not members and waiting:
                waiting[0] = waiting[0]._replace(starts=(start, *waiting[0].starts))
            members += results
        if not members:
            send(app, body.sendings(([],), None, **shared), connection)
        else:
            # Before its last members are sent, so that it is one of them that completes it.
            app.chord_store.seal_chord(group_id, len(members))
            send(app, waiting, connection)
        return _after(result, app.GroupResult(group_id, members))

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
        # As members of a chord, whose body is not known yet: each has to end in one call.
        header = self.header.freeze(chord={}, root_id=root_id, parent_id=parent_id)
        self["options"].setdefault("task_id", self.header.id)
        if self.body is None:
            return header
        if chord is not None:
            self.body = self.body._closed()
        result = self.body.freeze(
            _id, group_id=group_id, chord=chord, root_id=root_id, parent_id=parent_id, group_index=group_index
        )
        return _after(result, header)

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
        if self._app is not None:
            return self._app
        return self.header.app if self.header or self.body is None else self.body.app

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


def _after(result: Any, header: Any) -> Any:
    """`result`, whose oldest parent is now `header`."""
    node = result
    while node.parent is not None and node.parent != header:
        node = node.parent
    node.parent = header
    return result


def _carried(start: Start) -> dict[str, Any]:
    """What members carry as their `chord`: the body, or what finds it."""
    body = start.body
    try:
        size = len(json.dumps_text(body))
    except EncodeError:
        size = 0  # only its own serializer can write it
    if size > INLINE:
        options = {key: body["options"][key] for key in ("task_id", "root_id") if key in body["options"]}
        return {
            "task": "celeriac.chord_body",
            "args": [start.chord_id],
            "kwargs": {},
            "options": options,
            "subtask_type": None,
            "immutable": False,
            "counted": start.size,
            "kept": True,
        }
    return {**body, "counted": start.size}
