"""What a worker says of itself when it starts: pure functions from facts to text.

1. `banner`: the fields that a Celery user looks for, and what else counts here (delivery, limits).
2. `headline`: the same in one line, for logs.

Not here: where the facts come from (`supervisor.py`), printing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from celeriac.app.settings_values import mask_url
from celeriac.brokers.base import Queue

__all__ = ["Facts", "banner", "headline"]


class Facts(NamedTuple):
    """What the banner tells.

    Attributes:
        hostname: the node's name.
        version: Celeriac's.
        platform: operating system and Python.
        app: name of the application, e.g. ``proj``.
        transport: URL of the broker; its password is never shown.
        server: what the broker says of itself, e.g. ``Redis 7.0.15``.
        results: URL of the result store.
        concurrency: slots.
        pool: lane, e.g. ``prefork``.
        task_events: whether events are sent.
        acks_late: whether a message is acknowledged after its task.
        time_limit, soft_time_limit: seconds, None: none.
        queues: what is consumed from.
        tasks: names of the registered tasks.
        warnings: sentences for the operator.
    """

    hostname: str
    version: str
    platform: str
    app: str
    transport: str
    results: str
    concurrency: int
    pool: str
    queues: Sequence[Queue]
    tasks: Sequence[str] = ()
    server: str = ""
    task_events: bool = False
    acks_late: bool = True
    time_limit: float | None = None
    soft_time_limit: float | None = None
    beat: bool = False
    warnings: Sequence[str] = ()


def banner(facts: Facts, *, color: bool = False, show_tasks: bool = True) -> str:
    """The text that a worker prints when it starts.

    Args:
        facts: what to tell.
        color: with ANSI colours.
        show_tasks: list the registered tasks (done for log level INFO and below).
    """
    paint = _painted if color else _plain
    head = f"{paint('32;1', facts.hostname)} v{facts.version}"
    lines = ["", f" ---- {head} ----", f"      {facts.platform}", "", f" {paint('36', '[config]')}"]
    lines += [f" .> {label + ':':<13}{value}" for label, value in _config(facts)]
    lines += ["", f" {paint('36', '[queues]')}", *_queues(facts.queues)]
    if show_tasks:
        lines += ["", f" {paint('36', '[tasks]')}", *(f"  . {name}" for name in _visible(facts.tasks))]
    if facts.warnings:
        lines += ["", *(f" {paint('33', 'warning:')} {warning}" for warning in facts.warnings)]
    return "\n".join([*lines, ""])


def headline(facts: Facts) -> str:
    """The banner in one line."""
    names = ",".join(queue.name for queue in facts.queues)
    return (
        f"{facts.hostname} v{facts.version}: app={facts.app} transport={mask_url(facts.transport)} "
        f"results={mask_url(facts.results)} concurrency={facts.concurrency} ({facts.pool}) queues={names} "
        f"tasks={len(_visible(facts.tasks))}"
    )


def _config(facts: Facts) -> Iterable[tuple[str, str]]:
    server = f"  ({facts.server})" if facts.server else ""
    yield "app", facts.app
    yield "transport", f"{mask_url(facts.transport)}{server}"
    yield "results", mask_url(facts.results)
    yield "concurrency", f"{facts.concurrency} ({facts.pool})"
    yield "task events", "ON" if facts.task_events else "OFF"
    late = "after the task (at least once)" if facts.acks_late else "before the task (at most once)"
    yield "acks", late
    limits = [
        f"{name} {limit:g} s"
        for name, limit in (("soft", facts.soft_time_limit), ("hard", facts.time_limit))
        if limit
    ]
    if limits:
        yield "time limits", ", ".join(limits)
    if facts.beat:
        yield "beat", "ON (this worker schedules as well)"


def _queues(queues: Sequence[Queue]) -> Iterable[str]:
    width = max((len(queue.name) for queue in queues), default=0)
    for queue in queues:
        exchange = f"{queue.exchange or queue.name}({queue.exchange_type})"
        yield f" .> {queue.name:<{width}}  exchange={exchange} key={queue.routing_key or queue.name}"


def _visible(tasks: Iterable[str]) -> list[str]:
    return sorted(name for name in tasks if not name.startswith(("celery.", "celeriac.")))


def _painted(code: str, text: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m"


def _plain(code: str, text: str) -> str:
    return text
