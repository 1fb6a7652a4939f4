"""A running call that hands its end over to another.

1. `replace`: the replacement takes over id, links, chain and group of the call.
2. `add_to_chord`: refused while chords are not counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from celeriac.canvas import Signature, chain, chord, group, maybe_signature
from celeriac.exceptions import ImproperlyConfigured
from celeriac.execution.call import own_headers

if TYPE_CHECKING:
    from celeriac.app.task import Task

__all__ = ["add_to_chord", "replace"]


def replace(task: Task[..., Any], sig: Signature[Any]) -> Any:
    """End the running call of `task`; `sig` continues under its id. See `Task.replace`."""
    request = task.request
    if isinstance(sig, (group, chord)):
        raise ImproperlyConfigured(
            f"{task.name} cannot be replaced by a {type(sig).__name__}: that would end in a chord, and "
            "chords are not counted yet. Replace it by a task or a chain."
        )
    if isinstance(sig, chain) and not sig.tasks:
        raise ImproperlyConfigured(f"{task.name} cannot be replaced by an empty chain: nothing would follow.")
    sig = sig.clone()
    if sig._app is None:
        sig._app = task.app
    last = sig.tasks[-1] if isinstance(sig, chain) else sig
    for link in request.callbacks or ():
        last.link(maybe_signature(link, task.app))
    for errback in request.errbacks or ():
        sig.link_error(maybe_signature(errback, task.app))
    sig.set(replaced_task_nesting=request.replaced_task_nesting + 1)
    headers = own_headers(request.headers)
    if headers:
        sig.set(headers=headers)
    if request.chain:
        sig.set(chain=list(request.chain))
    sig.freeze(
        request.id,
        group_id=request.group,
        chord=request.chord,
        root_id=request.root_id,
        group_index=request.group_index,
    )
    return task.on_replace(sig)


def add_to_chord(task: Task[..., Any], sig: Signature[Any], *, lazy: bool) -> NoReturn:
    raise ImproperlyConfigured(
        f"{task.name} cannot add {sig!r} to a chord: chords are not counted in this version."
    )
