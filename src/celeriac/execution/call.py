"""`Context`: one call as the task sees it (`self.request`).

Not here: how a message becomes a `Call` (`wire/protocol.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from celeriac.wire.protocol import Call
from celeriac.wire.steps import Steps

__all__ = ["STANDARD_HEADERS", "Context", "context_of", "own_headers"]

#: Headers of every task message, and those that transports add; what is none of these the caller put there.
STANDARD_HEADERS: Final = frozenset(
    {
        "lang", "task", "id", "shadow", "eta", "expires", "group", "group_index", "retries", "timelimit",
        "root_id", "parent_id", "argsrepr", "kwargsrepr", "origin", "ignore_result", "replaced_task_nesting",
        "stamped_headers", "stamps", "compression", "redelivered",
    }
)  # fmt: skip
_STANDARD: Final = len(STANDARD_HEADERS) - 2  # without compression and redelivered, which are rare


class Context:
    """The running call's attributes, with Celery's names. Headers a producer added are attributes too.

    Example:
        >>> Context(id="a", retries=1).retries
        1
    """

    #: `_reports`: where the running call says how far it is (`worker/reports.py`); not one of its attributes.
    __slots__ = ("__dict__", "__weakref__", "_reports")
    _reports: Any

    _children: list[Any] | None = None
    _protected = 0
    args: Any = None
    callbacks: Any = None
    called_directly = True
    chord: Any = None
    correlation_id: str | None = None
    delivery_info: dict[str, Any] | None = None
    errbacks: Any = None
    eta: Any = None
    expires: Any = None
    group: str | None = None
    group_index: int | None = None
    headers: dict[str, Any] | None = None
    hostname: str | None = None
    id: str | None = None
    ignore_result: bool = False
    is_eager = False
    kwargs: Any = None
    logfile: str | None = None
    loglevel: int | None = None
    origin: str | None = None
    parent_id: str | None = None
    properties: dict[str, Any] | None = None
    retries: int = 0
    reply_to: str | None = None
    replaced_task_nesting: int = 0
    root_id: str | None = None
    shadow: str | None = None
    stamped_headers: list[str] | None = None
    stamps: dict[str, Any] | None = None
    task: str | None = None
    taskset: str | None = None
    timelimit: Any = None
    utc: bool | None = None
    #: How often a process has died while running this message.
    crashes: int = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.update(*args, **kwargs)

    def update(self, *args: Any, **kwargs: Any) -> None:
        self.__dict__.update(*args, **kwargs)

    def clear(self) -> None:
        self.__dict__.clear()

    def get(self, key: str, default: Any = None) -> Any:
        return getattr(self, key, default)

    def __getstate__(self) -> dict[str, Any]:
        """What a copy gets: the attributes, not the worker behind them."""
        return self.__dict__

    def __getattr__(self, name: str) -> Any:
        # Only reached when neither the message nor the class has it.
        raise AttributeError(
            f"the request has no attribute {name!r}; the message carried: {', '.join(sorted(self.__dict__))}"
        )

    def __repr__(self) -> str:
        return f"<Context: {self.__dict__!r}>"

    @property
    def chain(self) -> Any:
        """The steps of a chain that remain, the next one last; None without one."""
        steps = self.__dict__.get("chain")
        if type(steps) is Steps:
            steps = self.__dict__["chain"] = list(steps)
        return steps

    @chain.setter
    def chain(self, steps: Any) -> None:
        self.__dict__["chain"] = steps

    @property
    def time_limit(self) -> float | None:
        """Hard time limit of this call in seconds, None when it sets none."""
        return self.timelimit[0] if self.timelimit else None

    @property
    def soft_time_limit(self) -> float | None:
        """Soft time limit of this call in seconds, None when it sets none."""
        return self.timelimit[1] if self.timelimit else None

    @property
    def children(self) -> list[Any]:
        """Results of the calls this task made, for the trail."""
        if self._children is None:
            self._children = []
        return self._children

    def add_child(self, result: Any) -> None:
        self.children.append(result)

    def as_execution_options(self) -> dict[str, Any]:
        """Options with which the same call can be published again."""
        hard, soft = self.timelimit or (None, None)
        return {
            "task_id": self.id,
            "root_id": self.root_id,
            "parent_id": self.parent_id,
            "group_id": self.group,
            "group_index": self.group_index,
            "shadow": self.shadow,
            "chord": self.chord,
            "chain": self.chain,
            "link": self.callbacks,
            "link_error": self.errbacks,
            "expires": self.expires,
            "soft_time_limit": soft,
            "time_limit": hard,
            "headers": self.headers,
            "retries": self.retries,
            "reply_to": self.reply_to,
            "replaced_task_nesting": self.replaced_task_nesting,
            "origin": self.origin,
        }

    def stamp_options(self) -> dict[str, Any]:
        """Options that put this call's stamps on another."""
        names = self.stamped_headers or ()
        stamps = self.stamps or {}
        return {"stamped_headers": list(names), **{name: stamps.get(name) for name in names}} if names else {}


def own_headers(headers: Mapping[str, Any] | None) -> dict[str, Any]:
    """The headers that the caller added to a message."""
    return {key: value for key, value in (headers or {}).items() if key not in STANDARD_HEADERS}


def context_of(call: Call, hostname: str, crashes: int = 0) -> Context:
    """The context of a delivered call. Hot: one dict copy and one update."""
    context = Context.__new__(Context)
    properties = call.properties
    attributes = dict(call.headers)
    attributes.update(
        id=call.id,
        task=call.name,
        args=call.args,
        kwargs=call.kwargs,
        callbacks=call.callbacks,
        errbacks=call.errbacks,
        chain=call.chain,
        chord=call.chord,
        retries=call.retries,
        timelimit=(call.hard, call.soft),
        headers={} if len(attributes) == _STANDARD else own_headers(attributes),
        properties=properties,
        delivery_info={
            **(properties.get("delivery_info") or {}),
            "priority": properties.get("priority"),
            "redelivered": crashes > 0,
        },
        correlation_id=properties.get("correlation_id"),
        reply_to=call.reply_to,
        hostname=hostname,
        called_directly=False,
        is_eager=False,
        utc=True,
        crashes=crashes,
    )
    context.__dict__ = attributes
    return context
