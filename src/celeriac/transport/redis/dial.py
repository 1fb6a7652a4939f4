"""Opening a `Link`: sockets, TLS, log-in, and whom a Sentinel names.

1. `dial`: try each address of a `Server` until one answers that takes writes, within a deadline.
2. Log-in: `HELLO 3` with user, password and name; where that is refused, RESP2 with `AUTH`.
3. Sentinel: the sentinels are asked for the master's address each time, so a fail-over is followed.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any

from celeriac.exceptions import ImproperlyConfigured, OperationalError
from celeriac.transport.redis.hosts import Borrowed, Hosts
from celeriac.transport.redis.link import Disconnected, Link, NotNow, Refused, ReplyError, pack, refusal
from celeriac.transport.redis.url import Server, tls_context

__all__ = ["dial"]


def dial(
    server: Server, deadline: float, address: tuple[str, int] | None = None, hosts: Hosts | None = None
) -> Link:
    """Open and log in.

    Args:
        server: where to.
        deadline: `time.monotonic` seconds; each address gets at most `server.connect_timeout`, and of several
            none so much that nothing would be left for the next.
        address: a certain node of a cluster.
        hosts: what is known of the server's addresses.

    Raises:
        OperationalError: nobody could be reached, or the log-in was refused.
    """
    if server.kind == "unix":
        return _log_in(_open_path(server, deadline), server, deadline)
    hosts = hosts or Hosts(server.addresses)
    if address or server.kind == "sentinel":
        host, port = address or _ask_sentinels(server, deadline, hosts)
        link = _log_in(_open(server, host, port, deadline), server, deadline)
        if server.kind == "sentinel":
            _refuse_replica(link, deadline)  # the sentinels may not know yet
            hosts.reached((host, port), master=True)
        return link
    failures: list[str] = []
    for place, until in _in_turn(hosts, server, deadline):
        try:
            kind = Link if server.kind == "cluster" or hosts.is_preferred(place) else Borrowed
            link = _log_in(_open(server, *place, until, kind), server, until)
            if server.kind == "tcp" and len(server.addresses) > 1:
                _refuse_replica(link, until)
            if server.kind == "tcp":
                hosts.reached(place)
            return link
        except (Disconnected, NotNow) as exc:
            hosts.failed(place, exc)
            failures.append(str(exc))
    raise Disconnected(" ".join(failures) or f"Redis at {server!r} cannot be reached.")


def _in_turn(hosts: Hosts, server: Server, deadline: float) -> Iterator[tuple[tuple[str, int], float]]:
    """Addresses, and until when each may try: the last one as long as there is time."""
    places = hosts.order()
    for left, place in zip(range(len(places), 0, -1), places, strict=True):
        now = time.monotonic()
        until = deadline if left == 1 else now + min(server.connect_timeout, (deadline - now) / left)
        yield place, until


def _refuse_replica(link: Link, deadline: float) -> None:
    """Raise `NotNow` when the server follows another one: it would take no writes."""
    try:
        role = link.call("ROLE", deadline=deadline)
    except Refused:
        return  # it does not say; the first write will
    if role and role[0] == b"slave":
        link.close()
        raise NotNow(f"Redis at {link.where} is a replica.")


def _open(server: Server, host: str, port: int, deadline: float, kind: type[Link] = Link) -> Link:
    where = f"{host}:{port}"
    timeout = min(server.connect_timeout, deadline - time.monotonic())
    if timeout <= 0:
        raise Disconnected(f"No time was left to connect to Redis at {where}.")
    try:
        sock = socket.create_connection((host, port), timeout)
    except OSError as exc:
        raise Disconnected(
            f"Cannot connect to Redis at {where}: {exc.strerror or exc}. Is it running, and is the URL right?"
        ) from exc
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if server.keepalive:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if server.tls is not None:
            sock = tls_context(server.tls).wrap_socket(sock, server_hostname=host)
    except OSError as exc:
        sock.close()
        raise Disconnected(f"TLS with Redis at {where} failed: {exc}.") from exc
    except BaseException:
        sock.close()
        raise
    return kind(sock, where, is_tls=server.tls is not None)


def _open_path(server: Server, deadline: float) -> Link:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(max(0.001, min(server.connect_timeout, deadline - time.monotonic())))
        sock.connect(server.path)
    except OSError as exc:
        sock.close()
        raise Disconnected(f"Cannot connect to Redis at {server.path}: {exc.strerror or exc}.") from exc
    return Link(sock, server.path, is_tls=False)


def _log_in(link: Link, server: Server, deadline: float) -> Link:
    username, password = server.username, server.password
    if server.credentials is not None:
        username, password = _credentials(server.credentials)
    try:
        _greet(link, username, password, server.client_name, deadline)
        if server.db:
            link.call("SELECT", server.db, deadline=deadline)
    except Refused as exc:
        link.close()
        raise _not_let_in(exc, link.where) from exc
    except BaseException:
        link.close()
        raise
    if link.mode == "cluster" and server.kind != "cluster":
        link.close()
        raise ImproperlyConfigured(
            f"Redis at {link.where} is a node of a cluster. Write the URL as redis+cluster://{link.where} "
            "(rediss+cluster:// for TLS)."
        )
    return link


def _greet(link: Link, username: str, password: str, name: str, deadline: float) -> None:
    words: list[str] = ["HELLO", "3"]
    if password:
        words += ["AUTH", username or "default", password]
    if name:
        words += ["SETNAME", name]
    [reply] = link.pipeline([pack(tuple(words))], deadline)
    if not isinstance(reply, ReplyError):
        facts = {_text(key): value for key, value in reply.items()}
        link.protocol = 3
        link.mode = _text(facts.get("mode", "standalone"))
        return
    text = str(reply)
    if not text.startswith(("ERR", "NOPROTO")):
        raise refusal(reply, link.where)
    if password:
        link.call("AUTH", *([username] if username else []), password, deadline=deadline)
    if name:
        link.call("CLIENT", "SETNAME", name, deadline=deadline)
    # A server that will not let us in says so now, not at the first task.
    link.call("PING", deadline=deadline)


def _not_let_in(exc: Refused, where: str) -> OperationalError:
    if exc.code in ("NOAUTH", "WRONGPASS", "NOPERM") or "AUTH" in str(exc):
        return Refused(
            f"Redis at {where} did not let us in: {str(exc).partition(': ')[2]}. Check the user name and the "
            "password in the URL.",
            exc.code,
        )
    return exc


def _credentials(provider: Any) -> tuple[str, str]:
    """redis-py's credential providers give (user name, password) or (password,)."""
    found = tuple(provider.get_credentials())
    return ("", str(found[0])) if len(found) == 1 else (str(found[0]), str(found[1]))


def _ask_sentinels(server: Server, deadline: float, hosts: Hosts) -> tuple[str, int]:
    failures: list[str] = []
    for (host, port), until in _in_turn(hosts, server, deadline):
        own = server._replace(
            kind="tcp",
            db=0,
            addresses=((host, port),),
            username=server.sentinel_username,
            password=server.sentinel_password,
            credentials=None,
        )
        try:
            link = _log_in(_open(own, host, port, until), own, until)
            reply = link.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", server.master_name, deadline=until)
            link.close()
        except (Disconnected, NotNow) as exc:
            hosts.failed((host, port), exc)
            failures.append(str(exc))
            continue
        if reply:
            return _text(reply[0]), int(reply[1])
        failures.append(f"The Sentinel at {host}:{port} does not know a master named {server.master_name!r}.")
    raise Disconnected(" ".join(failures))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
