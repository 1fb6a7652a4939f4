"""What a worker publishes together with an acknowledgement.

1. `followups`: links, the next step of a chain, errbacks: a conclusion → `Sending`s. Of a group as an errback
   each member is one.
2. `next_try`: a delivered call that is to be tried again → its next message.

All are values; nothing is published here. Ids are made from the call's id, so that a follow-up that is made
twice (after a crash, where the broker has no transaction) is recognised as one.

Not here: what is concluded (`execution/conclude.py`), the settlement (`worker/request.py`).
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from celeriac.brokers.base import Outgoing
from celeriac.canvas import Sending, Signature, chain, chord, group, maybe_signature
from celeriac.execution.call import context_of, own_headers
from celeriac.states import SUCCESS
from celeriac.wire import protocol
from celeriac.wire.errors import describe_exception
from celeriac.wire.steps import Steps

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac
    from celeriac.brokers.base import Delivery
    from celeriac.exceptions import Retry
    from celeriac.execution.call import Context
    from celeriac.execution.conclude import Conclusion
    from celeriac.wire.protocol import Call

__all__ = ["ERRBACK", "derived_id", "errback_sendings", "followups", "identify", "next_try", "takes_failure"]

logger = logging.getLogger(__name__)

#: The task that calls an errback with the request and the exception (see `builtins.py`).
ERRBACK: Final = "celeriac.errback"

#: Options of a retry that can be written over the delivered message.
_OVERWRITTEN: Final = frozenset(
    {"args", "kwargs", "expires", "time_limit", "soft_time_limit", "headers", "priority", "eta", "countdown"}
)
_PLACE: Final = frozenset({"queue", "exchange", "routing_key", "exchange_type"})


def derived_id(call_id: str, what: str) -> str:
    """An id in the form of a UUID that is always the same for the same call and purpose."""
    digits = hashlib.blake2b(f"{call_id}/{what}".encode(), digest_size=16).hexdigest()
    return f"{digits[:8]}-{digits[8:12]}-5{digits[13:16]}-8{digits[17:20]}-{digits[20:]}"


def followups(app: Celeriac, call: Call, context: Context, conclusion: Conclusion) -> list[Sending]:
    """The calls that the end of `call` sets off.

    Raises:
        ValueError: a link of the message is no signature.
    """
    common: dict[str, Any] = {"root_id": call.root_id or call.id, "parent_id": call.id}
    if app.conf.task_inherit_parent_priority and call.properties.get("priority"):
        common["priority"] = call.properties["priority"]
    sendings: list[Sending] = []
    for index, link in enumerate(conclusion.callbacks):
        sendings += _of(app, link, (conclusion.value,), derived_id(call.id, f"link {index}"), common)
    if conclusion.chain:
        step, rest = _next(conclusion.chain)
        options = {**common, "chain": rest} if rest else common
        sendings += _of(app, step, (conclusion.value,), derived_id(call.id, "chain"), options)
    if conclusion.replacement is not None:
        sendings += conclusion.replacement.sendings()
    if conclusion.state == SUCCESS:
        for sending in sendings:
            context.add_child(app.AsyncResult(sending.options["task_id"]))
    for index, errback in enumerate(conclusion.errbacks):
        sendings += errback_sendings(
            app, errback, derived_id(call.id, f"errback {index}"), common, call, conclusion
        )
    return sendings


def _next(steps: Sequence[Any]) -> tuple[Any, Sequence[Any]]:
    """The next step of a chain, and those after it: unread, if that step is a plain call."""
    step = steps[-1]
    if isinstance(steps, Steps) and not step.get("subtask_type"):
        return step, steps.before()
    return step, list(steps)[:-1]


def _of(
    app: Celeriac, link: Any, args: tuple[Any, ...], task_id: str, options: Mapping[str, Any]
) -> list[Sending]:
    signature = maybe_signature(link, app)
    chosen = dict(options)
    if signature.subtask_type is not None:
        identify(signature, task_id)
    if not signature.options.get("task_id"):
        chosen["task_id"] = task_id
    sendings: list[Sending] = signature.sendings(args, None, **chosen)
    return sendings


def identify(sig: Signature[Any], seed: str) -> None:
    """Give all calls of a canvas that have no id the same ones each time, made from `seed`."""
    if isinstance(sig, chain):
        for index, step in enumerate(sig.tasks):
            identify(step, f"{seed}/{index}")
    elif isinstance(sig, chord):
        sig.header.tasks = [task._closed() for task in sig.header.tasks]
        identify(sig.header, f"{seed}/header")
        if sig.body is not None:
            identify(sig.body, f"{seed}/body")
    else:
        sig.options.setdefault("task_id", derived_id(seed, ""))
        for index, task in enumerate(sig.tasks if isinstance(sig, group) else ()):
            identify(task, f"{seed}/{index}")


def takes_failure(app: Celeriac, errback: Signature[Any]) -> bool:
    """Whether an errback takes (request, exception, traceback): a task known here with several parameters.

    All others get the id of the call that failed, as their first argument.
    """
    task = app.tasks.get(errback.task)
    if errback.immutable or errback.subtask_type is not None:
        return False
    return task is not None and task.arguments.positional > 1


def errback_sendings(
    app: Celeriac,
    link: Any,
    task_id: str,
    options: Mapping[str, Any],
    call: Call,
    conclusion: Conclusion,
) -> list[Sending]:
    """The calls of the errback `link` of a call that failed."""
    errback = maybe_signature(link, app)
    if isinstance(errback, group):
        return [
            sending
            for index, task in enumerate(errback.tasks)
            for sending in errback_sendings(
                app, task, derived_id(task_id, f"{index}"), options, call, conclusion
            )
        ]
    if not takes_failure(app, errback):
        return _of(app, errback, (call.id,), task_id, options)
    request = {
        "id": call.id,
        "task": call.name,
        "args": call.args,
        "kwargs": call.kwargs,
        "retries": call.retries,
        "root_id": call.root_id,
        "parent_id": call.parent_id,
        "group": call.group,
        "group_index": call.group_index,
        "headers": own_headers(call.headers),
        "delivery_info": call.properties.get("delivery_info"),
        "stamped_headers": call.headers.get("stamped_headers"),
        "stamps": call.headers.get("stamps"),
    }
    failure = describe_exception(conclusion.value)
    kept = {"priority", "stamped_headers", *(errback.options.get("stamped_headers") or ())} | _PLACE
    place = {key: value for key, value in errback.options.items() if key in kept}
    args = (dict(errback), request, failure, conclusion.traceback)
    return [Sending(ERRBACK, args, {}, {**options, **place, "task_id": task_id, "ignore_result": True})]


# -- retries ----------------------------------------------------------------------------------------------


def next_try(app: Celeriac, call: Call, delivery: Delivery, retry: Retry) -> Outgoing:
    """The message of the next try of `call`, with what `retry` changes; back to the queue it came from."""
    options = {key: value for key, value in retry.options.items() if value is not None}
    due, countdown = _when(app, call, retry, options)
    if not options.keys() <= _OVERWRITTEN | _PLACE:
        return _rebuilt(app, call, options, due, countdown)
    place: dict[str, Any] = {}
    queue, exchange, routing_key = delivery.queue, "", ""
    if options.keys() & _PLACE:
        destination = app.router.destination(options)
        queue, exchange, routing_key = destination[:3]
        place = {"exchange": destination.info_exchange, "routing_key": destination.info_key}
    message = protocol.retry(
        call,
        delivery.message,  # type: ignore[arg-type]  # what was understood as a call is readable
        eta=due if due is not None else time.time() + countdown if countdown else None,
        args=options.get("args"),
        kwargs=options.get("kwargs"),
        expires=options.get("expires"),
        time_limit=options.get("time_limit"),
        soft_time_limit=options.get("soft_time_limit"),
        priority=options.get("priority"),
        headers=options.get("headers"),
        **place,
    )
    priority = message.properties.get("priority")
    priority = priority if isinstance(priority, int) else 0
    return Outgoing(message, queue, exchange, routing_key, priority, countdown, due)


def _when(
    app: Celeriac, call: Call, retry: Retry, options: Mapping[str, Any]
) -> tuple[float | None, float | None]:
    """(due, countdown) of the next try; a `Retry` that was raised by hand has no options but `when`."""
    when = options.get("eta", options.get("countdown", retry.when))
    if isinstance(when, datetime):
        return (when if when.tzinfo else when.replace(tzinfo=app.timezone)).timestamp(), None
    if isinstance(when, str):
        return protocol_time(when), None
    if when is None:
        task = app.tasks.get(call.name)
        when = task.default_retry_delay if task is not None else 180
    return None, float(when) if when > 0 else None


def protocol_time(text: str) -> float:
    """ISO 8601 text as epoch seconds; without a zone it is UTC."""
    stamp = datetime.fromisoformat(text)
    return (stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)).timestamp()


def _rebuilt(
    app: Celeriac, call: Call, changes: Mapping[str, Any], due: float | None, countdown: float | None
) -> Outgoing:
    """The next try with options that need a message written anew (other links, another serializer, …)."""
    context = context_of(call, "")
    options = {key: value for key, value in context.as_execution_options().items() if value is not None}
    options.update(context.stamp_options())
    options.update(changes)
    args, kwargs = options.pop("args", call.args), options.pop("kwargs", call.kwargs)
    info = call.properties.get("delivery_info") or {}
    if not options.keys() & _PLACE:
        options["queue"] = info.get("routing_key") if not info.get("exchange") else None
        options.update({key: info[key] for key in ("exchange", "routing_key") if info.get("exchange")})
    options.setdefault("priority", call.properties.get("priority"))
    options.update(
        task_id=call.id,
        retries=call.retries + 1,
        parent_id=call.id,
        headers={**own_headers(call.headers), **(changes.get("headers") or {})},
        ignore_result=changes.get("ignore_result", call.ignore_result),
        eta=None if due is None else datetime.fromtimestamp(due, UTC),
        countdown=countdown,
    )
    task = app.tasks.get(call.name)
    return app.producer.prepare(call.name, args, kwargs, options, task).outgoing
