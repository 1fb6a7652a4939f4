"""`Task.retry`: a running call that is to be tried again.

1. `retry`: are there tries left, when is the next one, what does it change.
2. `signature_from_request`: a running call as a signature that leads to the same place.

Not here: how long a wait grows (`execution/retry.py`), the next message (`followups.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from celeriac.exceptions import Retry
from celeriac.execution.call import own_headers

if TYPE_CHECKING:
    from celeriac.app.task import Task
    from celeriac.canvas import Signature
    from celeriac.execution.call import Context

__all__ = ["retry", "signature_from_request"]


def retry(
    task: Task[..., Any],
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
    exc: BaseException | None,
    throw: bool,
    eta: datetime | None,
    countdown: float | None,
    max_retries: int | None,
    options: dict[str, Any],
) -> Retry:
    """See `Task.retry`."""
    request = task.request
    if request.called_directly:
        raise exc if exc is not None else Retry("Task can be retried", None)
    limit = task.max_retries if max_retries is None else max_retries
    if limit is not None and request.retries >= limit:
        request.update(retries_exhausted=True)  # autoretry must not try again what was given up here
        raise exc if exc is not None else _exhausted(task, request)
    if eta is None and countdown is None:
        countdown = task.default_retry_delay
    when: dict[str, Any] = {"countdown": countdown} if eta is None else {"eta": eta}
    attempt = Retry(exc=exc, when=countdown if eta is None else eta, is_eager=request.is_eager)
    attempt.options = {**options, **when, "args": args, "kwargs": kwargs}
    if request.is_eager or not throw:
        attempt.sig = signature_from_request(
            task, request, args, kwargs, {"retries": request.retries + 1, **when, **options}
        )
    if throw:
        raise attempt
    if not request.is_eager:
        attempt.sig.apply_async()
    return attempt


def _exhausted(task: Task[..., Any], request: Context) -> Exception:
    error: Exception = task.MaxRetriesExceededError(
        f"Can't retry {task.name}[{request.id}] args:{request.args} kwargs:{request.kwargs}: "
        f"it has been tried {request.retries + 1} times.",
        task_args=request.args,
        task_kwargs=request.kwargs,
    )
    return error


def signature_from_request(
    task: Task[..., Any],
    request: Context,
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
    options: Mapping[str, Any],
) -> Signature[Any]:
    """The call of `request` as a signature; `options` outrank its own."""
    chosen = {
        **request.as_execution_options(),
        "headers": own_headers(request.headers) or None,
        **request.stamp_options(),
        **_place_of(request),
        **options,
    }
    return task.signature(
        request.args if args is None else args,
        dict((request.kwargs if kwargs is None else kwargs) or {}),
        **{key: value for key, value in chosen.items() if value is not None},
    )


def _place_of(request: Context) -> dict[str, Any]:
    """Options that lead to where `request` came from."""
    info = request.delivery_info or {}
    place: dict[str, Any] = {"priority": info.get("priority", (request.properties or {}).get("priority"))}
    if info.get("exchange"):
        place.update(exchange=info["exchange"], routing_key=info.get("routing_key"))
    else:
        place["queue"] = info.get("routing_key")
    return place
