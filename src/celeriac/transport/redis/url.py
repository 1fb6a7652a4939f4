"""From a URL and transport options to a `Server`, the value that says where to connect and how.

1. The URL forms (Celery's and redis-py's): see `parse`.
2. TLS options, from the query (`ssl_*`) or from the option `ssl`.
3. `Server.location`: what tells two servers apart, without secrets.

Pure; nothing is opened here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from celeriac.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    import ssl

__all__ = ["Server", "parse", "tls_context"]

#: Options that have an effect here or in the broker or backend.
USED_OPTIONS: Final = frozenset({
    "client_name", "cluster", "credential_provider", "fanout_patterns", "fanout_prefix", "global_keyprefix",
    "master_name", "priority_steps", "sentinel_kwargs", "sep", "socket_connect_timeout", "socket_keepalive",
    "socket_timeout", "ssl",
})  # fmt: skip
#: Celery's options that need no effect here; they are accepted in silence.
IDLE_OPTIONS: Final = frozenset({
    "ack_emulation", "body_encoding", "deadletter_queue", "health_check_interval", "max_connections",
    "min_other_sentinels", "queue_order_strategy", "retry_on_timeout", "retry_policy",
    "socket_keepalive_options", "unacked_index_key", "unacked_key", "unacked_mutex_expire",
    "unacked_mutex_key", "unacked_restore_interval", "unacked_restore_limit", "unacked_restore_throttle",
    "visibility_timeout",
})  # fmt: skip

_SCHEMES: Final[Mapping[str, tuple[bool, str]]] = {  # scheme -> (TLS, kind)
    "redis": (False, "tcp"), "rediss": (True, "tcp"), "valkey": (False, "tcp"), "valkeys": (True, "tcp"),
    "unix": (False, "unix"), "redis+socket": (False, "unix"),
    "sentinel": (False, "sentinel"), "rediss+sentinel": (True, "sentinel"),
    "redis+cluster": (False, "cluster"), "rediss+cluster": (True, "cluster"),
}  # fmt: skip


class Server(NamedTuple):
    """Where and how to connect. `kind`: ``tcp``, ``unix``, ``sentinel`` or ``cluster``.

    `addresses` are the server itself, the sentinels, or the cluster's start nodes; tried in order. `tls` is
    None for plain connections, else the `ssl_*` options. Times are seconds.
    """

    kind: str
    addresses: tuple[tuple[str, int], ...]
    path: str = ""
    db: int = 0
    username: str = ""
    password: str = ""
    tls: Mapping[str, Any] | None = None
    master_name: str = ""
    sentinel_username: str = ""
    sentinel_password: str = ""
    client_name: str = ""
    connect_timeout: float = 4.0
    timeout: float = 5.0
    keepalive: bool = True
    credentials: Any = None  # an object with redis-py's get_credentials() -> (user name, password)

    @property
    def location(self) -> tuple[str, ...]:
        """What tells two servers apart; the database stands last."""
        if self.kind == "unix":
            place = self.path
        else:
            place = ",".join(f"{_same_host(host)}:{port}" for host, port in sorted(self.addresses))
        return ("redis", self.kind, place, self.master_name, self.username, str(self.db))

    def __repr__(self) -> str:
        place = self.path or ",".join(f"{host}:{port}" for host, port in self.addresses)
        return f"<Server {self.kind} {place} db {self.db}>"


def parse(url: str, options: Mapping[str, Any] | None = None) -> Server:
    """Read a URL.

    Forms: ``redis://[user:password@]host[:port][/db]``, ``rediss://`` (TLS), ``valkey://``, ``valkeys://``,
    ``redis+socket:///path[?virtual_host=db]`` and ``unix:///path[?db=n]``, ``sentinel://host:port[/db]``
    (several, joined by ``;``, with the option `master_name`), ``redis+cluster://host:port`` (several).
    Several plain servers joined by ``;`` are tried in that order.

    Raises:
        ImproperlyConfigured: the URL or an option is wrong.

    Example:
        >>> parse("redis://:secret@example.org/2")
        <Server tcp example.org:6379 db 2>
    """
    settings = dict(options or {})
    _refuse_misspelt(settings)
    urls = [part for part in url.split(";") if part.strip()]
    servers = [_parse_one(part.strip(), settings) for part in urls] or [_parse_one("redis://", settings)]
    first = servers[0]
    if any(server.kind != first.kind for server in servers):
        raise ImproperlyConfigured("The URLs joined by ';' must all have the same scheme.")
    addresses = tuple(dict.fromkeys(address for server in servers for address in server.addresses))
    if first.kind == "sentinel" and not first.master_name:
        raise ImproperlyConfigured(
            "A sentinel:// URL needs the name of the master: set broker_transport_options (or "
            "result_backend_transport_options) = {'master_name': 'mymaster'}."
        )
    if first.kind == "cluster" and first.db:
        raise ImproperlyConfigured("Redis Cluster has one database only: drop the '/<db>' from the URL.")
    return first._replace(addresses=addresses)


def _parse_one(url: str, options: Mapping[str, Any]) -> Server:
    parts = urlsplit(url if "://" in url else f"redis://{url}")
    scheme = parts.scheme.lower()
    if scheme not in _SCHEMES:
        raise ImproperlyConfigured(f"'{scheme}://' is not a Redis URL. Use one of: {', '.join(_SCHEMES)}.")
    secure, kind = _SCHEMES[scheme]
    if kind == "tcp" and options.get("cluster"):
        kind = "cluster"
    query = dict(parse_qsl(parts.query))
    db = _db(query, "" if kind == "unix" else parts.path)
    sentinel = dict(options.get("sentinel_kwargs") or {})
    try:
        port = parts.port
    except ValueError as exc:
        raise ImproperlyConfigured(
            f"The port in the Redis URL is not a number from 1 to 65535: {exc}."
        ) from exc
    return Server(
        kind=kind,
        addresses=() if kind == "unix" else ((parts.hostname or "localhost", port or _port(kind)),),
        path=unquote(parts.path) if kind == "unix" else "",
        db=db,
        username=unquote(parts.username or query.get("username", "") or str(options.get("username") or "")),
        password=unquote(parts.password or query.get("password", "") or str(options.get("password") or "")),
        tls=_tls(query, options.get("ssl")) if secure or options.get("ssl") else None,
        master_name=str(options.get("master_name") or ""),
        sentinel_username=str(sentinel.get("username") or ""),
        sentinel_password=str(sentinel.get("password") or ""),
        client_name=str(query.get("client_name") or options.get("client_name") or ""),
        connect_timeout=_seconds(query, options, "socket_connect_timeout", 4.0),
        timeout=_seconds(query, options, "socket_timeout", 5.0),
        keepalive=bool(options.get("socket_keepalive", True)),
        credentials=options.get("credential_provider"),
    )


def _port(kind: str) -> int:
    return 26379 if kind == "sentinel" else 6379


def _same_host(host: str) -> str:
    return "127.0.0.1" if host in ("localhost", "::1") else host


def _db(query: Mapping[str, str], path: str) -> int:
    text = path.strip("/") or query.get("db") or query.get("virtual_host", "").strip("/") or "0"
    if not text.isdecimal():
        raise ImproperlyConfigured(
            f"The database in the Redis URL is {text!r}; it must be a number, e.g. /0."
        )
    return int(text)


def _seconds(query: Mapping[str, str], options: Mapping[str, Any], name: str, default: float) -> float:
    value = query.get(name, options.get(name))
    if value is None:
        return default
    try:
        seconds = float(value)
    except (TypeError, ValueError) as exc:
        raise ImproperlyConfigured(f"{name} is {value!r}; it must be a number of seconds.") from exc
    if seconds <= 0:
        raise ImproperlyConfigured(f"{name} is {value!r}; it must be more than 0 seconds.")
    return seconds


def _tls(query: Mapping[str, str], option: Any) -> Mapping[str, Any]:
    chosen = dict(option) if isinstance(option, Mapping) else {}
    chosen.update({name: value for name, value in query.items() if name.startswith("ssl_")})
    return chosen


def tls_context(chosen: Mapping[str, Any]) -> ssl.SSLContext:
    """The TLS context for `ssl_*` options: certificate and host name are verified unless they say otherwise.

    Raises:
        ImproperlyConfigured: a value is not understood, or a file cannot be read.
    """
    import ssl  # 4 MB and 20 ms: only for those who use it

    needed = str(chosen.get("ssl_cert_reqs", "required")).rpartition("CERT_")[2].lower()
    levels = {
        "none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED,
        "0": ssl.CERT_NONE, "1": ssl.CERT_OPTIONAL, "2": ssl.CERT_REQUIRED,
    }  # fmt: skip
    if needed not in levels:
        raise ImproperlyConfigured(
            f"ssl_cert_reqs is {chosen.get('ssl_cert_reqs')!r}; write 'required', 'optional' or 'none'."
        )
    try:
        context = ssl.create_default_context(
            cafile=chosen.get("ssl_ca_certs") or None,
            capath=chosen.get("ssl_ca_path") or None,
            cadata=chosen.get("ssl_ca_data") or None,
        )
        if chosen.get("ssl_certfile"):
            context.load_cert_chain(
                chosen["ssl_certfile"], chosen.get("ssl_keyfile") or None, chosen.get("ssl_password") or None
            )
    except (OSError, ssl.SSLError) as exc:
        raise ImproperlyConfigured(f"The TLS files of the Redis connection cannot be read: {exc}.") from exc
    by_name = str(chosen.get("ssl_check_hostname", "true")).lower() not in ("false", "0", "no")
    context.check_hostname = by_name and levels[needed] == ssl.CERT_REQUIRED
    context.verify_mode = levels[needed]
    return context


def _refuse_misspelt(options: Mapping[str, Any]) -> None:
    """An unknown option that looks like a known one is a slip of the pen; others may belong to others."""
    known = USED_OPTIONS | IDLE_OPTIONS
    if known.issuperset(options):
        return
    import difflib  # 5 ms, for the exception only

    for name in options:
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.85)
        if name not in known and close:
            raise ImproperlyConfigured(
                f"The Redis transport has no option {name!r}. Did you mean {close[0]!r}?"
            )
