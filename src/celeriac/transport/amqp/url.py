"""From a URL and transport options to an `AmqpServer`, the value that says where to connect and how.

1. The URL forms (kombu's): see `parse`. Several, joined by ``;``, are tried in turn.
2. Options: see `USED_OPTIONS`; ``ssl`` as in the setting `broker_use_ssl`.
3. `AmqpServer.location`: what tells two servers apart, without secrets.

Pure; nothing is opened here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from celeriac.exceptions import ImproperlyConfigured

__all__ = ["AmqpServer", "Node", "parse"]

#: Options that have an effect here.
USED_OPTIONS: Final = frozenset({
    "channel_max", "client_properties", "connect_timeout", "failover_strategy", "frame_max", "heartbeat",
    "login_method", "socket_connect_timeout", "socket_timeout", "ssl",
})  # fmt: skip
_SCHEMES: Final[Mapping[str, bool]] = {  # scheme -> TLS
    "amqp": False, "amqps": True, "pyamqp": False, "librabbitmq": False, "rpc": False, "rabbitmq": False,
}  # fmt: skip
_LOGINS: Final = ("PLAIN", "AMQPLAIN", "EXTERNAL")


class Node(NamedTuple):
    """One address of a server. `tls` is None for plain connections, else the options of `tls.context`."""

    host: str
    port: int
    vhost: str = "/"
    username: str = "guest"
    password: str = "guest"
    tls: Mapping[str, Any] | None = None

    def __repr__(self) -> str:
        return f"<Node {self.host}:{self.port} vhost {self.vhost!r}>"


class AmqpServer(NamedTuple):
    """Where and how to connect. Times are seconds.

    Attributes:
        nodes: addresses, tried in this order (after the one that worked last).
        shuffle: try them in random order instead.
        login: ``PLAIN``, ``AMQPLAIN`` or ``EXTERNAL`` (the TLS certificate says who we are).
        heartbeat: how often each side must be heard of; the server may ask for less. 0: none. RabbitMQ closes
            a connection that was silent for two to three of these: at 3 s a stopped worker's tasks run
            elsewhere within 10 s, at 4 s they do not. With TLS it is 60 s unless you say otherwise: no other
            process can write the heartbeat while a task holds the interpreter.
        connect_timeout: for each address: until it lets us in.
        timeout: for a call when the caller names no deadline.
        frame_max: bytes in a frame, at most. channel_max: channels, at most. 0: what the server allows.
        client_name: shown in RabbitMQ's list of connections.
        client_properties: shown there as well.
    """

    nodes: tuple[Node, ...]
    shuffle: bool = False
    login: str = "PLAIN"
    heartbeat: float = 3.0
    connect_timeout: float = 4.0
    timeout: float = 5.0
    frame_max: int = 131_072
    channel_max: int = 0
    client_name: str = ""
    client_properties: Mapping[str, Any] = {}

    @property
    def location(self) -> tuple[str, ...]:
        """What tells two servers apart: addresses in any order, user, virtual host."""
        places = {f"{_same_host(node.host)}:{node.port}/{node.vhost}" for node in self.nodes}
        return ("amqp", ",".join(sorted(places)), self.nodes[0].username)

    @property
    def url(self) -> str:
        """For people: no password."""
        return ";".join(
            f"amqp{'s' if tls is not None else ''}://{user}:**@{host}:{port}/{'/' if vhost == '/' else vhost}"
            for host, port, vhost, user, _, tls in self.nodes
        )

    def __repr__(self) -> str:
        return f"<AmqpServer {self.url}>"


def parse(url: str | Iterable[str], options: Mapping[str, Any] | None = None) -> AmqpServer:
    """Read a URL, or several (a list, or joined by ``;``).

    Forms: ``amqp://[user:password@]host[:port][/[vhost]]``, ``amqps://`` (TLS, port 5671). The virtual host
    is what follows the first slash, quoted; nothing or another slash stand for ``/``. In the query:
    ``ssl_*`` (see `tls.context`), ``heartbeat``, ``connect_timeout``, ``login_method``, ``frame_max``,
    ``channel_max``.

    Raises:
        ImproperlyConfigured: the URL or an option is wrong.

    Example:
        >>> parse("amqp://me:secret@example.org//").nodes
        (<Node example.org:5672 vhost '/'>,)
        >>> parse("amqp://example.org/shop").nodes[0].vhost
        'shop'
    """
    given = dict(options or {})
    joined = url if isinstance(url, str) else ";".join(url)
    parts = [_split(part.strip()) for part in joined.split(";") if part.strip()] or [_split("amqp://")]
    queries = [dict(parse_qsl(part.query)) for part in parts]
    settings = {**given, **queries[0]}
    login = str(settings.get("login_method") or "PLAIN").upper()
    if login not in _LOGINS:
        raise ImproperlyConfigured(
            f"login_method is {settings['login_method']!r}; RabbitMQ knows {', '.join(_LOGINS)}."
        )
    timeout = settings.get("socket_connect_timeout", settings.get("connect_timeout"))
    nodes = [_node(*pair, given) for pair in zip(parts, queries, strict=True)]
    return AmqpServer(
        nodes=tuple(node for at, node in enumerate(nodes) if node not in nodes[:at]),
        shuffle=settings.get("failover_strategy") == "shuffle",
        login=login,
        heartbeat=_number(
            settings, "heartbeat", 60.0 if any(node.tls is not None for node in nodes) else 3.0
        ),
        connect_timeout=_number({"connect_timeout": timeout}, "connect_timeout", 4.0) or 4.0,
        timeout=_number(settings, "socket_timeout", 5.0) or 5.0,
        frame_max=int(_number(settings, "frame_max", 131_072)),
        channel_max=int(_number(settings, "channel_max", 0)),
        client_name=str(settings.get("client_name") or ""),
        client_properties=dict(given.get("client_properties") or {}),
    )


def _split(url: str) -> SplitResult:
    parts = urlsplit(url if "://" in url else f"amqp://{url}")
    if parts.scheme.lower() not in _SCHEMES:
        raise ImproperlyConfigured(
            f"'{parts.scheme}://' is not a RabbitMQ URL. Use one of: {', '.join(_SCHEMES)}."
        )
    return parts


def _node(parts: SplitResult, query: Mapping[str, str], options: Mapping[str, Any]) -> Node:
    secure = _SCHEMES[parts.scheme.lower()] or bool(options.get("ssl"))
    try:
        port = parts.port
    except ValueError as exc:
        raise ImproperlyConfigured(
            f"The port in the RabbitMQ URL is not a number from 1 to 65535: {exc}."
        ) from exc
    return Node(
        host=parts.hostname or "localhost",
        port=port or (5671 if secure else 5672),
        vhost=_vhost(parts.path),
        username=unquote(parts.username) if parts.username is not None else "guest",
        password=unquote(parts.password) if parts.password is not None else "guest",
        tls=_tls(query, options.get("ssl")) if secure else None,
    )


def _vhost(path: str) -> str:
    """As kombu reads it: ``""``, ``/`` and ``//`` are the default one, else one slash is taken off."""
    name = unquote(path.removeprefix("/"))
    return name if name and name != "/" else "/"


def _number(settings: Mapping[str, Any], name: str, default: float) -> float:
    value = settings.get(name)
    if value is None:
        return default
    try:
        number = float(value)
    except (TypeError, ValueError) as exc:
        raise ImproperlyConfigured(f"{name} is {value!r}; it must be a number.") from exc
    if not 0 <= number < 1e9:
        raise ImproperlyConfigured(f"{name} is {value!r}; it must not be negative.")
    return number


def _tls(query: Mapping[str, str], option: Any) -> Mapping[str, Any]:
    """The options without their prefix ``ssl_``, sorted, so that equal servers compare as equal."""
    chosen = dict(option) if isinstance(option, Mapping) else {}
    chosen.update({name: value for name, value in query.items() if name.startswith("ssl_")})
    return {str(name).removeprefix("ssl_"): value for name, value in chosen.items()}


def _same_host(host: str) -> str:
    return "127.0.0.1" if host in ("localhost", "::1") else host
