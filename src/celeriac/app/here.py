"""Canvases that are run here and now (`apply`), with the outcome that workers would give them.

1. `run_chain`: step after step; when one fails, all that would have followed have failed.
2. `run_chord`: header, then body; a member that fails makes the body fail with `ChordError`.
3. `Header`: what members of a chord that is run here know of it, so that `add_to_chord` can add to it.

Not here: single calls (`eager.py`), ids and shapes (`canvas/`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from celeriac import states
from celeriac.app.eager import follow_failure
from celeriac.canvas import Signature, chain, chord, group
from celeriac.exceptions import ChordError
from celeriac.execution.call import Context
from celeriac.execution.outcome import FAILED, Outcome
from celeriac.result import EagerResult, GroupResult

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac

__all__ = ["Header", "run_chain", "run_chord"]

#: Options of a canvas that hold for each of its calls.
_SHARED = ("throw", "logfile", "loglevel")


class Header(dict[str, Any]):
    """The ``chord`` of a member: the body, and the results of members that were added."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        super().__init__(body)
        self.added: list[tuple[int | None, Any]] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> Header:
        return self


def run_chain(
    app: Celeriac,
    steps: Sequence[Signature[Any]],
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None,
    options: dict[str, Any],
    result: Any,
) -> Any:
    """Run `steps` (frozen); `options` are the first one's. `result` is what the last would have when sent."""
    shared = {key: options[key] for key in _SHARED if key in options}
    before: Any = None
    root_id = options.get("root_id")
    for index, step in enumerate(steps):
        if before is not None:
            args, kwargs = (_value(before),), None
            options = {**shared, "root_id": root_id, "parent_id": before.id}
        outcome = step.apply(args, kwargs, **options)
        _first(outcome).parent = before
        if index + 1 < len(steps) and not _succeeded(outcome):
            return _never_run(app, result, outcome)
        root_id = root_id or _first(outcome).id
        before = outcome
    return before


def run_chord(
    app: Celeriac,
    made: chord,
    args: Iterable[Any] | None,
    kwargs: Mapping[str, Any] | None,
    options: dict[str, Any],
) -> Any:
    """Run a frozen chord: `args` and `kwargs` go to its header, `options` to its body."""
    shared = {key: options[key] for key in _SHARED if key in options}
    known = Header(dict(made.body))
    family = {key: options[key] for key in ("root_id", "parent_id") if options.get(key)}
    header = made.header.apply(args, kwargs, chord=known, **shared, **family)
    members = [*header.results] if made.header.tasks else []
    for index, (position, added) in enumerate(known.added):
        members.insert(len(members) if position is None else min(position + 1 + index, len(members)), added)
    body = made.body
    failed = next((member for member in members if not _succeeded(member)), None)
    if failed is None:
        outcome = body.apply(([_value(member) for member in members],), None, **options)
        _first(outcome).parent = header
        return outcome
    exc = ChordError(f"Dependency {failed.id} raised {failed.result!r}")
    for call in _first_calls(body):
        request = Context(
            id=call.id,
            task=call["task"],
            args=call["args"],
            kwargs=call["kwargs"],
            errbacks=call.options.get("link_error"),
            is_eager=True,
            called_directly=False,
        )
        follow_failure(app, request, Outcome(FAILED, None, exc))
    return _never_run(app, body.freeze(), header, exc)


def _first_calls(sig: Any) -> Iterator[Signature[Any]]:
    """The single calls that a canvas begins with, with the errbacks that the canvas gives them."""
    if isinstance(sig, chain):
        for call in _first_calls(sig.tasks[0]) if sig.tasks else ():
            call = call.clone()
            call.extend_list_option("link_error", sig.options.get("link_error"))
            yield call
    elif isinstance(sig, group):
        for task in sig.tasks:
            yield from _first_calls(task)
    elif isinstance(sig, chord):
        yield from _first_calls(sig.body)
    else:
        yield sig


def _first(result: Any) -> Any:
    """The oldest of a result and its parents."""
    while result.parent is not None:
        result = result.parent
    return result


def _succeeded(result: Any) -> bool:
    return (
        result.successful() if not isinstance(result, GroupResult) else all(map(_succeeded, result.results))
    )


def _value(result: Any) -> Any:
    return result.get(disable_sync_subtasks=False)


def _never_run(app: Celeriac, result: Any, cause: Any, exc: BaseException | None = None) -> Any:
    """The result of calls that cannot run any more, because of what `cause` came to."""
    while isinstance(cause, GroupResult) and exc is None:
        cause = next(member for member in cause.results if not _succeeded(member))
    made: Any
    if isinstance(result, GroupResult):
        made = app.GroupResult(result.id, [_never_run(app, one, cause, exc) for one in result.results])
    elif exc is None and cause.state != states.FAILURE:
        made = EagerResult(result.id, None, states.PENDING)  # ignored, or given back: nothing follows
    else:
        failure = cause.result if exc is None else exc
        made = EagerResult(result.id, failure, states.FAILURE, getattr(cause, "traceback", None))
    made.parent = cause if exc is None or isinstance(cause, GroupResult) else None
    return made
