#!/usr/bin/env python3
"""Print docs/reference/brokers.md, made from what the brokers declare of themselves.

Nothing is connected: capabilities are known from the URL. A new broker or capability has to be
named here, or this fails. Result stores: `stores_reference.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from celeriac.brokers.base import Capabilities
from celeriac.plugins import BACKENDS, BROKERS, Plugin, backend_from_url, broker_from_url

HEAD = """# Brokers

<!-- Written by `make reference` from what the classes declare. -->

What each can do; which one to take: [Choosing a broker](../howto/brokers.md). What a broker cannot do is
refused where it is asked for, never left out in silence. Where results are kept: [Result stores](stores.md).
"""


class Row(NamedTuple):
    """What a capability is called, and what a value of it is called."""

    title: str
    word: Callable[[Any], str] = lambda value: "yes" if value else "no"


#: A column: its title, and a URL that leads to it.
BROKER_COLUMNS = {
    "[embedded](../howto/sqlite.md)": "sqlite:///tasks.db",
    "[Redis, Valkey](../howto/redis.md)": "redis://localhost",
    "Redis Cluster": "redis+cluster://localhost",
    "[RabbitMQ](../howto/rabbitmq.md)": "amqp://localhost//",
    "[PostgreSQL](../howto/postgresql.md)": "postgresql://localhost/tasks",
    "memory": "memory://",
}
BROKER_ROWS = {
    "processes": Row("shared by processes"),
    "delay": Row("delayed messages wait in the broker"),
    "priority": Row("priorities"),
    "most_urgent": Row("the most urgent priority", str),
    "fanout": Row("exchanges that copy a message to every queue"),
    "leases": Row(
        "who holds a message is settled by",
        lambda leases: "a lease, fenced" if leases else "the connection; nodes are asked",
    ),
    "atomic_settle": Row(
        "acknowledgement, dead letter and follow-ups",
        lambda atomic: "one step" if atomic else "follow-ups first, each confirmed",
    ),
    "transactional": Row("sending belongs to a transaction of the caller's, if asked"),
    "in_parts": Row("a long batch is made while its beginning is being stored"),
    "envelopes": Row("a long batch of calls that are alike is written from a pattern"),
    "browse": Row("waiting messages can be looked at"),
    "wakes_one": Row("a message wakes", lambda one: "one idle process" if one else "all idle processes"),
    "census": Row(
        "queues, delayed and held messages can be counted",
        lambda all_of_them: "yes" if all_of_them else "queues that are declared; ready messages",
    ),
}


def page() -> str:
    brokers = {title: url for title, url in BROKER_COLUMNS.items() if _known(BROKERS, url)}
    _all_shown(BROKERS, brokers.values(), "BROKER_COLUMNS")
    made = [broker_from_url(url) for url in brokers.values()]
    rows = [
        _schemes(BROKERS, brokers.values()),
        _extras(BROKERS, brokers.values()),
        *_capabilities(BROKER_ROWS, Capabilities, made),
        ["results in the same store share that step", *map(_carries, brokers.values())],
    ]
    return "\n".join([HEAD, *_table(brokers, rows)])


def _known(table: Mapping[str, Plugin], url: str) -> bool:
    return _plugin(table, url) is not None


def _plugin(table: Mapping[str, Plugin], url: str) -> Plugin | None:
    scheme = url.partition("://")[0]
    return table.get(scheme) or table.get(f"{scheme.partition('+')[0]}+")


def _all_shown(table: Mapping[str, Plugin], urls: Iterable[str], where: str) -> None:
    shown = {plugin.path for url in urls if (plugin := _plugin(table, url))}
    missing = {plugin.path for plugin in table.values()} - shown
    assert not missing, f"{where} in {__file__} lacks {', '.join(sorted(missing))}"


def _schemes(table: Mapping[str, Plugin], urls: Iterable[str]) -> list[str]:
    """All schemes that lead to the class of each column; Redis Cluster has its own."""
    cells = []
    for url in urls:
        plugin = _plugin(table, url)
        found = [scheme for scheme, other in table.items() if other == plugin]
        if "redis+cluster" in found and table is BROKERS:
            clusters = [scheme for scheme in found if scheme.endswith("+cluster")]
            found = clusters if "+cluster" in url else [each for each in found if each not in clusters]
        cells.append(", ".join(f"`{scheme}://`".replace("+://", "+…://") for scheme in found))
    return ["URLs", *cells]


def _extras(table: Mapping[str, Plugin], urls: Iterable[str]) -> list[str]:
    plugins = [_plugin(table, url) for url in urls]
    return ["to install", *(f"`celeriac[{p.extra}]`" if p and p.extra else "nothing" for p in plugins)]


def _capabilities(rows: Mapping[str, Row], kind: type[Capabilities], made: Sequence[Any]) -> list[list[str]]:
    unlike = set(kind._fields) ^ set(rows)
    assert not unlike, f"{kind.__name__} and its rows in {__file__} differ in {', '.join(sorted(unlike))}"
    return [
        [row.title, *(row.word(getattr(one.capabilities, field)) for one in made)]
        for field, row in rows.items()
    ]


def _carries(url: str) -> str:
    """Whether results that are kept where the messages are ride on the acknowledgement."""
    if not _known(BACKENDS, url):
        return "no"
    target = backend_from_url(url).target()
    return "yes" if target is not None and broker_from_url(url).carries(target) else "no"


def _table(columns: Mapping[str, str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [
        f"| | {' | '.join(columns)} |",
        "|---" * (len(columns) + 1) + "|",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


if __name__ == "__main__":
    print(page())
