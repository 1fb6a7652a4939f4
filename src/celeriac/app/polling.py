"""Chords that nothing counts: somebody asks for their members' results again and again, as in Celery.

1. `unlocking`: the call that does so, sent together with the header.
2. `unlock`: its body, the task ``celery.chord_unlock``. Celery's clients send it as well.

Where a store can count, none of this happens (`app/chords.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from celeriac.app.chords import failed_body
from celeriac.canvas import Sending, maybe_signature
from celeriac.exceptions import ChordError
from celeriac.utils import uuid

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac
    from celeriac.app.task import Task

__all__ = ["UNLOCK", "unlock", "unlocking"]

UNLOCK: Final = "celery.chord_unlock"


def unlocking(app: Celeriac, header: Any, body: Mapping[str, Any], options: Mapping[str, Any]) -> Sending:
    """The call that waits for the results of `header` (a `GroupResult`) and then sends `body`."""
    interval = app.conf.result_chord_retry_interval
    members = [each.as_tuple() for each in header.results]
    kwargs = {"interval": interval, "max_retries": None, "result": members}
    kept = {key: options[key] for key in ("root_id", "parent_id", "priority", "queue") if options.get(key)}
    call = {**kept, "task_id": uuid(), "countdown": interval, "ignore_result": True}
    return Sending(UNLOCK, (header.id, dict(body)), kwargs, call)


def unlock(
    task: Task[..., Any],
    group_id: str,
    callback: Mapping[str, Any],
    interval: float | None = None,
    max_retries: int | None = None,
    result: Any = None,
) -> None:
    """Send the body when all members are ready; be tried again while they are not.

    Args:
        task: the running task.
        group_id: id of the header.
        callback: the body.
        interval: seconds between two looks; None: the setting `result_chord_retry_interval`.
        max_retries: how often to look; None: until they are ready.
        result: the members' results, as `as_tuple` gives them.
    """
    from celeriac.result import allow_join_result, result_from_tuple

    app = task.app
    if interval is None:
        interval = app.conf.result_chord_retry_interval
    found = app.GroupResult(group_id, [result_from_tuple(each, app=app) for each in result or ()])
    if not found.ready():
        task.max_retries = max_retries
        raise task.retry(countdown=interval, max_retries=max_retries)
    body = maybe_signature(dict(callback), app)
    failed = next((leaf for leaf in found._leaves() if not leaf.successful()), None)
    if failed is not None:
        error = ChordError(f"Dependency {failed.id} raised {failed.result!r}")
        done = failed_body(app, dict(callback), group_id, error)
        app.producer.send(done.sendings)
        app.backend.store(done.results)
        return
    with allow_join_result():
        values = found.join(timeout=app.conf.result_chord_join_timeout)
    app.producer.send(body.sendings((values,), None, root_id=task.request.root_id, parent_id=task.request.id))
