"""A running call that hands its end over to another.

1. `replace`: the replacement takes over id, links, stamps, chain, group and chord of the call.
2. `add_to_chord`: one more member for the chord that the running call is a member of.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from celeriac.app.followups import derived_id
from celeriac.canvas import Signature, chain, chord, group, maybe_signature
from celeriac.canvas.stamping import put_stamps
from celeriac.exceptions import Ignore, ImproperlyConfigured
from celeriac.execution.call import Context, own_headers
from celeriac.execution.outcome import Replaced

if TYPE_CHECKING:
    from celeriac.app.task import Task

__all__ = ["add_to_chord", "replace"]


def replace(task: Task[..., Any], sig: Signature[Any]) -> Any:
    """End the running call of `task`; `sig` continues under its id. See `Task.replace`."""
    request = task.request
    if isinstance(sig, chain) and not sig.tasks:
        raise ImproperlyConfigured(f"{task.name} cannot be replaced by an empty chain: nothing would follow.")
    if isinstance(sig, chord) and sig.body is None:
        raise ImproperlyConfigured(f"{task.name} cannot be replaced by a chord without a body: {sig!r}")
    sig = sig.clone()
    if sig._app is None:
        sig._app = task.app
    # One call has to end under this id, with a value: a group ends in the list of its results.
    sig = sig._closed()
    last = _last(sig)
    for link in request.callbacks or ():
        last.link(maybe_signature(link, task.app))
    for errback in request.errbacks or ():
        sig.link_error(maybe_signature(errback, task.app))
    _inherit(sig, request)
    if request.chain:
        _continue(sig, list(request.chain))
    if request.reply_to:
        last.options["reply_to"] = request.reply_to
    sig.freeze(
        request.id,
        group_id=request.group,
        chord=request.chord,
        root_id=request.root_id,
        parent_id=request.parent_id,
        group_index=request.group_index,
    )
    try:
        return task.on_replace(sig)
    except Replaced:
        raise
    except Ignore as exc:  # an `on_replace` of the task's own has sent it
        raise Replaced from exc


def _inherit(sig: Signature[Any], request: Context) -> None:
    """Give all calls of `sig` what they have as parts of the replaced call, unless they say otherwise."""
    stamps = request.stamp_options()
    headers = own_headers(request.headers)
    for call in _calls(sig):
        options = call.options
        options["replaced_task_nesting"] = request.replaced_task_nesting + 1
        if headers:
            options["headers"] = {**headers, **(options.get("headers") or {})}
        if stamps:
            own = {key: options[key] for key in stamps if key in options and key != "stamped_headers"}
            put_stamps(options, {**stamps, **own}, append_stamps=False)


def _calls(sig: Signature[Any]) -> Iterator[Signature[Any]]:
    if isinstance(sig, chord):
        yield from _calls(sig.header)
        yield from _calls(sig.body)
    elif isinstance(sig, chain | group):
        for task in sig.tasks:
            yield from _calls(task)
    else:
        yield sig


def _last(sig: Signature[Any]) -> Signature[Any]:
    """The call with which a closed canvas ends."""
    if isinstance(sig, chain):
        return _last(sig.tasks[-1])
    return _last(sig.body) if isinstance(sig, chord) else sig


def _continue(sig: Signature[Any], steps: list[Any]) -> None:
    """Let the remaining `steps` of a chain (last one first) follow after `sig`."""
    if isinstance(sig, chord):
        _continue(sig.body, steps)
    elif isinstance(sig, chain) and isinstance(sig.tasks[-1], chord):
        _continue(sig.tasks[-1].body, steps)
    else:
        sig.options["chain"] = [*steps, *(sig.options.get("chain") or ())]


def add_to_chord(task: Task[..., Any], sig: Signature[Any], *, lazy: bool) -> Any:
    """See `Task.add_to_chord`."""
    request = task.request
    if not request.chord:
        raise ValueError(f"{task.name} adds to a chord, but this call of it is not a member of one.")
    sig = maybe_signature(sig, task.app, clone=True)._closed()
    # The same id when this call runs again after a crash: what was added twice counts once.
    number = request.__dict__["_added"] = request.__dict__.get("_added", 0) + 1
    result = sig.freeze(
        derived_id(request.id or "", f"added {number}"),
        group_id=request.group,
        chord=request.chord if request.is_eager else {**request.chord, "added": True},
        root_id=request.root_id,
        parent_id=request.id,
        group_index=request.group_index,
    )
    if request.is_eager:
        outcome = sig.apply()
        request.chord.added.append((request.group_index, outcome))
        return sig if lazy else outcome
    store = task.app.chord_store
    if store is None:
        raise ImproperlyConfigured(
            f"{task.name} cannot add to a chord: nothing counts its members, they are polled for. Set "
            "result_backend to a store that counts, e.g. redis://, postgresql:// or sqlite://."
        )
    # Sent first: should this process die in between, nobody waits for what was never sent. The call tells the
    # store itself that it was added, should it be the faster one.
    sent = sig if lazy else sig.delay()
    store.grow_chord(str(request.group), [result.id])
    return sent
