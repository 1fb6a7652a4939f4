"""Which call goes to which queue.

1. `Router`: the routes of `task_routes`, in order, then the default queue; an option of the call outranks
   both.
2. `Destination`: what that comes to for one message, as `Outgoing` wants it.
3. The forms a route may have: a dictionary (names, globs, patterns), a function, an object with
   `route_for_task`, the import path of either, or a list of these.

Not here: what queues there are (`queues.py`), and how a transport finds the queue of an exchange
(`brokers/`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from celeriac.app.queues import Queues
from celeriac.exceptions import ImproperlyConfigured

__all__ = ["Destination", "MapRoute", "Router", "glob_to_pattern"]

Route = Callable[..., Any]

#: What a route may say about where; everything else it says is an option of the call.
_PLACE: Final = frozenset({"queue", "exchange", "exchange_type", "routing_key"})


class Destination(NamedTuple):
    """Where one message goes: straight to `queue`, or through `exchange` by `routing_key` (`queue` empty).

    `info_exchange` and `info_key` stand in the message's `delivery_info`. `declare` is the queue object the
    broker should know of.
    """

    queue: str
    exchange: str
    routing_key: str
    info_exchange: str
    info_key: str
    declare: Any = None


class MapRoute:
    """Routes by name: exact names first, then globs and compiled patterns in the order they were written.

    Example:
        >>> MapRoute({"feed.*": "feeds"})("feed.tasks.fetch")
        {'queue': 'feeds'}
    """

    def __init__(self, entries: Mapping[Any, Any] | Iterable[tuple[Any, Any]]) -> None:
        self.names: dict[str, Any] = {}
        self.patterns: list[tuple[re.Pattern[str], Any]] = []
        for key, route in entries.items() if isinstance(entries, Mapping) else entries:
            if isinstance(key, re.Pattern):
                self.patterns.append((key, route))
            elif "*" in key:
                self.patterns.append((glob_to_pattern(key), route))
            else:
                self.names[key] = route

    def __call__(self, name: str, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        if name in self.names:
            return _as_options(self.names[name])
        for pattern, route in self.patterns:
            if pattern.match(name):
                return _as_options(route)
        return None


def glob_to_pattern(glob: str) -> re.Pattern[str]:
    """`*` stands for one or more characters; all else stands for itself."""
    return re.compile(".+?".join(map(re.escape, glob.split("*"))) + r"\Z", re.DOTALL)


class Router:
    """Decides the destination of calls.

    Args:
        routes: the value of `task_routes`.
        queues: the application's queues.
        load: turns an import path into an object.
    """

    def __init__(self, routes: Any, queues: Queues, load: Callable[[str], Any]) -> None:
        self.queues = queues
        self._load = load
        self.routes = [self._prepared(route) for route in _listed(routes)]
        #: True when no function is asked: then a name alone decides, and the answer may be kept.
        self.static = all(isinstance(route, MapRoute) for route in self.routes)

    def _prepared(self, route: Any) -> Route:
        if isinstance(route, str):
            route = self._load(route)
        if isinstance(route, (Mapping, list, tuple)):
            return MapRoute(route)
        if isinstance(route, type):
            route = route()
        method = getattr(route, "route_for_task", None)
        if method is not None:
            return lambda name, args, kwargs, options, task=None: method(name, args, kwargs)
        if callable(route):
            return route  # type: ignore[no-any-return]
        raise ImproperlyConfigured(
            f"task_routes holds {route!r}, which is no route. Write a dictionary of task names and queues, a "
            "function (name, args, kwargs, options, task=None) -> queue or None, or the path of either."
        )

    def route(
        self,
        options: Mapping[str, Any],
        name: str,
        args: Any = (),
        kwargs: Any = None,
        task: Any = None,
    ) -> dict[str, Any]:
        """Options of a call with those of its route added; what the call says itself is kept."""
        merged = dict(options)
        for route in self.routes:
            found = route(name, args or (), kwargs or {}, merged, task=task)
            if found:
                for key, value in _as_options(found).items():
                    if merged.get(key) is None:
                        merged[key] = value
                break
        return merged

    def destination(self, options: Mapping[str, Any]) -> Destination:
        """Where routed options lead.

        Raises:
            QueueNotFound: the queue is unknown and `task_create_missing_queues` is off.
        """
        named = options.get("queue")
        exchange, routing_key = options.get("exchange"), options.get("routing_key")
        exchange = getattr(exchange, "name", exchange)
        if named is None or named == "":
            queue = self.queues[self.queues.default]
        else:
            queue = self.queues[named] if isinstance(named, str) else named
        kind = options.get("exchange_type") or queue.exchange.type or "direct"
        if kind == "direct" and not (exchange and routing_key):
            return Destination(queue.name, "", "", "", queue.name, queue)
        exchange = exchange or queue.exchange.name
        key = routing_key or queue.routing_key or ""
        return Destination("", exchange, key, exchange, key, queue)


def _listed(routes: Any) -> list[Any]:
    if routes is None:
        return []
    return list(routes) if isinstance(routes, (list, tuple)) else [routes]


def _as_options(route: Any) -> dict[str, Any]:
    """A route's answer as options: a name (or a queue object) is the queue."""
    return dict(route) if isinstance(route, Mapping) else {"queue": route}
