"""What chords mean, as values: who arrives when a call ends, and what follows when all have.

1. `openings`, `body_of`: a chord as its store keeps it, and its body back.
2. `members_of`: the members of chords that have come to their end with a call: itself, or the last steps of
   a chain that will never run.
3. `Completion`: what a complete chord sets off: the body; or, when a member has failed, the failure of all
   that would have followed, with errbacks, and the arrival at the next chord.

Nothing is stored or sent here: the worker does (`worker/chords.py`), before the settlement of the member that
completed the chord, and with it. Not here: counting (`backends/`), the canvas (`canvas/chord.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from celeriac import states
from celeriac.app.followups import derived_id, errback_sendings, identify
from celeriac.backends.base import Chord, Opening, Part, StoredResult
from celeriac.brokers.base import REQUEUE
from celeriac.canvas import Sending, Signature, chain, chord, group, maybe_signature, waiting_ids
from celeriac.canvas.chain import folded
from celeriac.canvas.shape import as_list, joined
from celeriac.exceptions import CeleriacError, ChordError, DecodeError
from celeriac.execution.conclude import Conclusion
from celeriac.wire import results, serialization
from celeriac.wire.protocol import Call

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac

__all__ = [
    "BODY",
    "Completion",
    "Member",
    "Owed",
    "body_of",
    "failed_body",
    "members_of",
    "openings",
    "orphan",
]

#: The task that stands for a body that is kept in the store (see `builtins.py`).
BODY: Final = "celeriac.chord_body"
#: Seconds that a chord is kept after the last thing that happened to it, at least; results may go sooner.
LEAST: Final = 86_400.0


class Member(NamedTuple):
    """A member of a chord that has ended. `body`: its message's `chord`; None: only the store knows."""

    part: Part
    body: Mapping[str, Any] | None
    root_id: str | None


class Owed(NamedTuple):
    """What has to be done about chords before a delivery is settled."""

    openings: Sequence[Opening] = ()
    members: Sequence[Member] = ()


def _ttl(app: Celeriac) -> float | None:
    seconds = app.conf.result_chord_expires or app.result_ttl
    return None if seconds is None else max(float(seconds), LEAST)


# -- the store's view -------------------------------------------------------------------------------------


def openings(app: Celeriac, sendings: Iterable[Sending]) -> list[Opening]:
    """The chords that begin with `sendings`."""
    return [
        Opening(start.chord_id, start.size, _written(app, start.body), _ttl(app))
        for sending in sendings
        for start in sending.starts
    ]


def _written(app: Celeriac, body: Mapping[str, Any]) -> bytes:
    """The body's bytes, after the name of their serializer and a colon."""
    name: str = body.get("options", {}).get("serializer") or app.conf.task_serializer
    return name.encode() + b":" + serialization.dumps(dict(body), name)[2]


def body_of(app: Celeriac, kept: bytes) -> Mapping[str, Any]:
    """The body that a store has kept.

    Raises:
        DecodeError: it cannot be read, or is of a kind that `accept_content` does not allow.
    """
    name, _, data = kept.partition(b":")
    codec = serialization.find(name.decode("ascii", "replace"))
    accept = serialization.content_types(app.conf.accept_content)
    body = serialization.loads(data, codec.content_type, codec.content_encoding, accept)
    if not isinstance(body, dict):
        raise DecodeError("the body of a chord is not a signature")
    return body


# -- who arrives ------------------------------------------------------------------------------------------


def members_of(app: Celeriac, call: Call, conclusion: Conclusion) -> list[Member]:
    """The members that come to their end with a conclusion that is final.

    Raises:
        EncodeError: the value cannot be written.
    """
    state, value = conclusion.state, conclusion.value
    if conclusion.retry or conclusion.replaced or conclusion.verdict == REQUEUE:
        return []  # it goes on
    found: list[Member] = []
    if call.chord is not None:
        found += _member(app, call.chord, call.group, call.id, call.group_index, state, value, call.root_id)
    if call.chain and state != states.SUCCESS:
        found += _never(app, call.chain[:1], state, value, call.root_id)
    return found


def orphan(app: Celeriac, id_: str, headers: Mapping[str, Any], exc: Exception) -> list[Member]:
    """The member that a message was which cannot be read; its chord's body is in the store, if anywhere."""
    group_id, index = headers.get("group"), headers.get("group_index")
    if not isinstance(group_id, str) or not group_id:
        return []
    place = index if type(index) is int else None
    payload = results.encode_part(id_, states.FAILURE, exc, app.conf.result_serializer)
    return [Member(Part(group_id, id_, place, payload, 0, _ttl(app)), None, None)]


def _member(
    app: Celeriac,
    body: Mapping[str, Any],
    chord_id: Any,
    task_id: Any,
    index: Any,
    state: str,
    value: Any,
    root_id: str | None,
) -> list[Member]:
    if not isinstance(chord_id, str) or not isinstance(task_id, str) or not body:
        return []
    counted = body.get("counted")
    payload = results.encode_part(task_id, state, value, app.conf.result_serializer)
    added = bool(body.get("added"))
    position = index + 0.5 * added if type(index) is int else None
    size = counted if type(counted) is int else 0
    part = Part(chord_id, task_id, position, payload, size, _ttl(app), added)
    return [Member(part, body, root_id)]


def _never(app: Celeriac, steps: Sequence[Any], state: str, value: Any, root_id: str | None) -> list[Member]:
    """The members with which `steps`, which will never run, would have ended. Those of a header that is among
    them count for a chord that never begins."""
    found: list[Member] = []
    for step in steps:
        if not isinstance(step, Mapping):
            continue
        options = step.get("options") or {}
        inner = step.get("kwargs") if step.get("subtask_type") else None
        inner = inner if isinstance(inner, Mapping) else {}
        tasks, body = inner.get("tasks"), inner.get("body")
        if options.get("chain"):
            found += _never(app, as_list(options["chain"])[:1], state, value, root_id)
        elif step.get("subtask_type") == "chain" and isinstance(tasks, list | tuple):
            found += _never(app, tasks[-1:], state, value, root_id)
        elif step.get("subtask_type") == "group" and isinstance(tasks, list | tuple):
            found += _never(app, tasks, state, value, root_id)
        elif isinstance(body, Mapping):
            found += _never(app, [body], state, value, root_id)
        elif isinstance(options.get("chord"), Mapping):
            place = (options.get("group_id"), options.get("task_id"), options.get("group_index"))
            found += _member(app, options["chord"], *place, state, value, root_id)
    return found


# -- what follows -----------------------------------------------------------------------------------------


class Completion:
    """What follows when `member` has completed its chord.

    Attributes:
        failure: why the body does not run.
        sendings: messages to publish: the body's first, or errbacks.
        results: documents of what will never run.
        members: those who arrive at other chords by that.
    """

    def __init__(self, app: Celeriac, member: Member, found: Chord) -> None:
        self._app = app
        self._member = member
        self._errbacks = True
        self.failure: ChordError | None = None
        self.sendings: list[Sending] = []
        self.results: list[StoredResult] = []
        self.members: list[Member] = []
        body = self._kept_body = member.body
        try:
            if found.body is not None and (body is None or body.get("kept")):
                body = self._kept_body = body_of(app, found.body)
        except CeleriacError as exc:
            self._fail(body, ChordError(f"The body cannot be read: {exc}"))
            return
        if body is None or body.get("kept"):
            return  # no chord of ours, or forgotten
        try:
            values = self._values(found)
            self.sendings = self._body(body, values)
        except ChordError as exc:
            self._fail(body, exc)
        except Exception as exc:  # whatever is wrong with the body, nobody must wait for it for ever
            self._fail(body, ChordError(f"Callback error: {exc!r}"))

    def instead(self, exc: ChordError) -> Completion:
        """What follows when neither the body nor errbacks can be written."""
        made = object.__new__(Completion)
        made._app, made._member, made._errbacks = self._app, self._member, self.failure is None
        made.failure, made.sendings, made.results, made.members = None, [], [], []
        made._fail(self._kept_body, exc if self.failure is None else self.failure)
        return made

    def _values(self, found: Chord) -> list[Any]:
        """The members' results in order. Raises `ChordError`: one of them failed."""
        values: dict[str, Any] = {}
        serializer = self._app.conf.result_serializer
        for payload in found.payloads:
            try:
                task_id, state, value = results.decode_part(payload, serializer)
            except DecodeError as exc:
                raise ChordError(f"The result of a member cannot be read: {exc}") from exc
            if state == states.IGNORED:
                raise ChordError(f"Dependency {task_id} was ignored")
            if state != states.SUCCESS:
                if state in states.EXCEPTION_STATES:
                    value = results.rebuild_exception(value)
                raise ChordError(f"Dependency {task_id} raised {value!r}")
            values[task_id] = value
        return self._arranged(values)

    def _arranged(self, values: dict[str, Any]) -> list[Any]:
        """`values` in the shape of the header: Celery's clients save it where it is not flat."""
        member = self._member
        if member.body is not None and "counted" not in member.body:
            document = self._app.backend.load_group(member.part.chord_id)
            if document is not None:
                shape = results.decode_group(document, self._app.conf.result_serializer)
                return [_filled(child, values) for child in shape[1]]
        return list(values.values())

    def _common(self) -> dict[str, Any]:
        member = self._member
        return {"root_id": member.root_id or member.part.task_id, "parent_id": member.part.task_id}

    def _body(self, body: Mapping[str, Any], values: list[Any]) -> list[Sending]:
        signature = maybe_signature(dict(body), self._app)
        options = self._common()
        body_id = derived_id(self._member.part.chord_id, "body")
        if signature.subtask_type is not None:
            identify(signature, body_id)
        elif not signature.options.get("task_id"):
            options["task_id"] = body_id
        sendings: list[Sending] = signature.sendings((values,), None, **options)
        return sendings

    # -- failing ---------------------------------------------------------------------------------------------

    def _fail(self, body: Mapping[str, Any] | None, exc: ChordError) -> None:
        self.failure = exc
        if body is not None:
            self._failed(maybe_signature(dict(body), self._app), exc, ())

    def _failed(self, sig: Any, exc: ChordError, errbacks: Sequence[Any]) -> None:
        """`sig` fails in its first calls; what would have come after them never runs."""
        options = sig.options
        errbacks = joined(options.get("link_error"), errbacks)  # the same one may be on a canvas and in it
        if isinstance(sig, chain) and sig.tasks:
            first, *rest = folded(sig.tasks)
            self._failed(first, exc, errbacks)
            self._skipped(rest, exc)
        elif isinstance(sig, group):
            for task in sig.tasks:
                self._failed(task, exc, errbacks)
        elif isinstance(sig, chord):
            for task in sig.tasks:
                if waiting_ids([task]):
                    self._failed(task, exc, ())
            if sig.body is not None:
                self._failed(sig.body, exc, errbacks)
        else:
            self._failed_call(sig, exc, errbacks)
        self._skipped(list(reversed(as_list(options.get("chain")))), exc)

    def _failed_call(self, sig: Signature[Any], exc: ChordError, errbacks: Sequence[Any]) -> None:
        options = sig.options
        task_id = options.get("task_id") or derived_id(self._member.part.chord_id, "body")
        self._store([task_id], exc, options)
        call = _call(sig, task_id, self._common())
        for index, errback in enumerate(errbacks if self._errbacks else ()):
            errback_id = derived_id(task_id, f"errback {index}")
            conclusion = Conclusion(states.FAILURE, exc)
            self.sendings += errback_sendings(
                self._app, errback, errback_id, self._common(), call, conclusion
            )
        if not options.get("chain") and isinstance(options.get("chord"), Mapping):
            place = (options.get("group_id"), task_id, options.get("group_index"))
            root_id = self._member.root_id
            self.members += _member(self._app, options["chord"], *place, states.FAILURE, exc, root_id)

    def _skipped(self, steps: Sequence[Any], exc: ChordError) -> None:
        """`steps`, the first one first, will never run."""
        self._store(waiting_ids(steps), exc)
        self.members += _never(self._app, steps[-1:], states.FAILURE, exc, self._member.root_id)

    def _store(self, ids: Sequence[str], exc: ChordError, options: Mapping[str, Any] | None = None) -> None:
        app, options = self._app, options or {}
        if not app.backend.capabilities.stores:
            return
        for task_id in ids:
            document = results.encode_result(
                task_id,
                states.FAILURE,
                exc,
                serializer=app.conf.result_serializer,
                group_id=options.get("group_id"),
                parent_id=self._member.part.task_id,
            )
            reply_to = str(options.get("reply_to") or "")
            self.results.append(StoredResult(task_id, document, app.result_ttl, reply_to))


def _filled(shape: Any, values: Mapping[str, Any]) -> Any:
    """The values of a result's tuple, ``((id, parent), children)``."""
    (task_id, _), children = shape
    return values[task_id] if children is None else [_filled(child, values) for child in children]


def _call(sig: Signature[Any], task_id: str, common: Mapping[str, Any]) -> Call:
    """A call that never was, for errbacks."""
    options = sig.options
    return Call(
        name=sig.task,
        id=task_id,
        args=list(sig.args),
        kwargs=dict(sig.kwargs),
        callbacks=None,
        errbacks=None,
        chain=None,
        chord=None,
        headers=dict(options.get("headers") or {}),
        properties={},
        retries=0,
        eta=None,
        expires=None,
        hard=None,
        soft=None,
        root_id=common["root_id"],
        parent_id=common["parent_id"],
        group=options.get("group_id"),
        group_index=options.get("group_index"),
        ignore_result=None,
        reply_to=None,
        content_type="application/json",
        content_encoding="utf-8",
    )


def failed_body(app: Celeriac, body: Mapping[str, Any], chord_id: str, exc: ChordError) -> Completion:
    """What follows when a chord that is polled for has failed."""
    part = Part(chord_id, chord_id, None, b"")
    made = Completion(app, Member(part, None, None), Chord(0, None, ()))
    made._fail(body, exc)
    return made
