"""A state of a call, stored now: `Task.update_state`, progress, and calls that run here.

Not here: the ends that a worker stores with the acknowledgement (`worker/request.py`), why a state on the way
never takes the place of an end (`backends/interim.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celeriac import states
from celeriac.backends.interim import store_interim
from celeriac.brokers.base import StoredResult
from celeriac.wire.results import encode_result

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac
    from celeriac.app.task import Task

__all__ = ["state_document", "store_state"]


def store_state(
    app: Celeriac,
    task: Task[..., Any],
    task_id: str,
    state: str | None,
    meta: Any,
    request: Any,
    **extra: Any,
) -> None:
    """Store it and wait for the store. `extra`: of `encode_result`."""
    document = state_document(app, task, task_id, state or states.PENDING, meta, request, **extra)
    if state in states.READY_STATES:
        task.backend.store([document])
    else:
        store_interim(task.backend, [document], app.conf.result_serializer)


def state_document(
    app: Celeriac, task: Task[..., Any], task_id: str, state: str, meta: Any, request: Any, **extra: Any
) -> StoredResult:
    """What is to be stored. `extra`: of `encode_result`."""
    conf = app.conf
    if conf.result_extended:
        extra |= {
            "name": task.name,
            "args": request.args,
            "kwargs": request.kwargs,
            "worker": request.hostname,
            "retries": request.retries,
            "queue": (request.delivery_info or {}).get("routing_key"),
        }
    document = encode_result(
        task_id,
        state,
        meta,
        serializer=conf.result_serializer,
        parent_id=request.parent_id,
        group_id=request.group,
        **extra,
    )
    return StoredResult(task_id, document, app.result_ttl, request.reply_to or "")
