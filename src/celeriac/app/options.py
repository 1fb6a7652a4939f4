"""What the options of a call mean for its message.

1. `KNOWN`: every option there is. What is none of them goes into the message's properties, as in Celery,
   unless it looks like a misspelt one.
2. `fields_of`: options → the arguments of `wire.protocol.write`, and when the message is due.
3. `patience`: how long publishing may take.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from celeriac.app.ids import new_id
from celeriac.app.routes import Destination
from celeriac.app.stack import Running
from celeriac.brokers.base import Outgoing
from celeriac.wire import moments

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac
    from celeriac.app.task import Task

__all__ = ["KNOWN", "LIGHT", "PLANNED", "Fields", "Prepared", "fields_of", "lasting", "patience"]

#: Options that are written into the message as they are: option → argument of `write`.
_WRITTEN: Final = {
    "reply_to": "reply_to",
    "correlation_id": "correlation_id",
    "serializer": "serializer",
    "compression": "compression",
    "retries": "retries",
    "time_limit": "time_limit",
    "soft_time_limit": "soft_time_limit",
    "root_id": "root_id",
    "parent_id": "parent_id",
    "group_id": "group",
    "group_index": "group_index",
    "chain": "chain",
    "chord": "chord",
    "shadow": "shadow",
    "argsrepr": "argsrepr",
    "kwargsrepr": "kwargsrepr",
    "replaced_task_nesting": "replaced_task_nesting",
    "stamped_headers": "stamped_headers",
    "headers": "headers",
}

#: Options with a meaning of their own below.
_READ: Final = frozenset(
    {
        "task_id",
        "countdown",
        "eta",
        "expires",
        "priority",
        "delivery_mode",
        "link",
        "link_error",
        "ignore_result",
        "stamps",
        "retry",
        "retry_policy",
        "timeout",
        "confirm_timeout",
        "add_to_parent",
        "queue",
        "exchange",
        "exchange_type",
        "routing_key",
        "route_name",
        "task_type",
        "connection",
    }
)

#: Options of Celery's that say how its own parts work together; here they have nothing to say.
_IGNORED: Final = frozenset(
    {
        "producer",
        "publisher",
        "router",
        "result_cls",
        "declare",
        "event_dispatcher",
        "origin",
        "immediate",
        "mandatory",
        "now",
        "timezone",
        "create_sent_event",
        "exchange_declare",
        "app",
    }
)

KNOWN: Final = frozenset(_WRITTEN) | _READ | _IGNORED

#: Options that concern one message only and not where it goes: a `Plan` can still be used.
LIGHT: Final = {
    "task_id": "id",
    "reply_to": "reply_to",
    "root_id": "root_id",
    "parent_id": "parent_id",
    "group_id": "group",
    "group_index": "group_index",
    "chord": "chord",
    "ignore_result": "ignore_result",
}

#: The same for a message that is written by itself.
PLANNED: Final = LIGHT | {"chain": "chain"}

_MODES: Final = {"transient": 1, "persistent": 2, None: 2}
#: Seconds within which a publish without retries must succeed.
_ONE_TRY: Final = 1.0
#: Seconds that stand for ever: a day.
_EVER: Final = 86_400.0


class Fields(NamedTuple):
    """`message`: arguments of `write`. `countdown`, `due`: as `Outgoing` has them."""

    message: dict[str, Any]
    countdown: float | None
    due: float | None


class Prepared(NamedTuple):
    """A call ready to be published."""

    id: str
    name: str
    outgoing: Outgoing
    destination: Destination
    arguments: tuple[Sequence[Any], Mapping[str, Any] | None]
    options: Mapping[str, Any]

    def body(self) -> tuple[Any, Any, dict[str, Any]]:
        """The body as signals show it."""
        args, kwargs = self.arguments
        options = self.options
        follows = {
            "callbacks": _listed(options.get("link")),
            "errbacks": _listed(options.get("link_error")),
            "chain": None if options.get("chain") is None else list(options["chain"]),
            "chord": options.get("chord"),
        }
        return args, dict(kwargs or {}), follows


def fields_of(
    options: Mapping[str, Any], app: Celeriac, task: Task[..., Any] | None, parent: Running | None
) -> Fields:
    """Turn the routed options of a call, made by `parent`, into the fields of its message.

    Raises:
        TypeError: an option looks misspelt.
        ValueError: a time limit or time makes no sense.
    """
    conf = app.conf
    fields: dict[str, Any] = {
        written: options[option] for option, written in _WRITTEN.items() if options.get(option) is not None
    }
    if fields.get("chord") == {}:  # frozen as a member of one that is polled for
        del fields["chord"]
    fields["id"] = options.get("task_id") or new_id()
    fields["callbacks"] = _listed(options.get("link"))
    fields["errbacks"] = _listed(options.get("link_error"))
    ignored = options.get("ignore_result")
    fields["ignore_result"] = task.ignore_result if ignored is None and task is not None else ignored
    if "reply_to" not in fields:
        fields["reply_to"] = app.oid
    fields.setdefault("serializer", conf.task_serializer)
    if conf.task_compression is not None:
        fields.setdefault("compression", conf.task_compression)
    mode = options.get("delivery_mode") or conf.task_default_delivery_mode
    fields["delivery_mode"] = _MODES.get(mode, mode)
    hard, soft = fields.get("time_limit"), fields.get("soft_time_limit")
    if hard and soft and soft > hard:
        raise ValueError(
            f"soft_time_limit ({soft} s) is longer than time_limit ({hard} s) and would never be reached."
        )
    names = options.get("stamped_headers")
    if names:
        stamps = options.get("stamps") or {}
        fields["stamps"] = {name: options.get(name, stamps.get(name)) for name in names}
    priority = options.get("priority")
    if parent is not None:
        request = parent[1]
        fields.setdefault("root_id", request.root_id or request.id)
        fields.setdefault("parent_id", request.id)
        if priority is None and conf.task_inherit_parent_priority:
            priority = (request.properties or {}).get("priority") or (request.delivery_info or {}).get(
                "priority"
            )
    fields["priority"] = int(priority or 0)
    extra = _properties(options, names or ())
    if extra:
        fields["properties"] = extra
    countdown, due = _times(options, fields, app)
    return Fields(fields, countdown, due)


def _times(
    options: Mapping[str, Any], fields: dict[str, Any], app: Celeriac
) -> tuple[float | None, float | None]:
    """Put eta and expiry into `fields`; return countdown and due time, at most one of them."""
    countdown, eta, expires = options.get("countdown"), options.get("eta"), options.get("expires")
    if expires is not None:
        fields["expires"] = _moment(expires, app)
    if countdown is not None:
        seconds = countdown.total_seconds() if isinstance(countdown, timedelta) else float(countdown)
        fields["countdown"] = seconds
        return (seconds if seconds > 0 else None), None
    if eta is not None:
        eta = fields["eta"] = _moment(eta, app)
        return None, moments.epoch(eta)
    return None, None


def _moment(value: Any, app: Celeriac) -> Any:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, datetime) and value.tzinfo is None:
        return value.replace(tzinfo=app.timezone)
    return value


def _properties(options: Mapping[str, Any], stamps: Sequence[str]) -> dict[str, Any]:
    """Options that we do not know travel in the properties; typing mistakes do not travel."""
    if options.keys() <= KNOWN:
        return {}
    extra = {
        option: value
        for option, value in options.items()
        if option not in KNOWN and option not in stamps and value is not None
    }
    for option in extra:
        close = difflib.get_close_matches(option, _READ | frozenset(_WRITTEN), n=1, cutoff=0.9)
        if close:
            raise TypeError(f"There is no option {option!r} for a call. Did you mean {close[0]!r}?")
    return extra


def _listed(value: Any) -> list[Any] | None:
    if value is None:
        return None
    return list(value) if isinstance(value, (list, tuple)) else [value]


def patience(options: Mapping[str, Any], conf: Any) -> float:
    """Seconds that publishing may take: the call's `timeout`, else the setting.

    A broker tries again until then. A policy that somebody has chosen says how long instead (`lasting`),
    within the setting if somebody has chosen that as well. With `retry=False` and no `timeout` of its own a
    call has one second: enough to replace a connection that has gone stale, and no more.
    """
    limit = options.get("timeout")
    if limit is not None:
        return float(limit)
    seconds: float = conf.broker_publish_timeout
    retry = options.get("retry")
    if retry is False or (retry is None and not conf.task_publish_retry):
        return min(seconds, _ONE_TRY)
    own = options.get("retry_policy")
    if not own and not conf.value_set_for("task_publish_retry_policy"):
        return seconds
    chosen = lasting({**conf.task_publish_retry_policy, **(own or {})})
    return min(seconds, chosen) if conf.value_set_for("broker_publish_timeout") else chosen


def lasting(policy: Mapping[str, Any]) -> float:
    """Seconds for which a retry policy goes on: its pauses, and one second for the tries themselves.

    Example:
        >>> lasting({"max_retries": 3, "interval_start": 0, "interval_step": 0.2, "interval_max": 1})
        1.6
        >>> lasting({"max_retries": None})  # for ever
        86400.0
    """
    most = policy.get("max_retries")
    if most is None:
        return _EVER
    pause, step = float(policy.get("interval_start", 1)), policy.get("interval_step", 1)
    longest = policy.get("interval_max", 1) + pause
    total = _ONE_TRY
    for _ in range(most):
        total += pause
        pause = min(pause + step, longest)
        if total >= _EVER:
            return _EVER
    return total
