"""Opening a link: sockets, TLS, log-in, and the limits both sides agree on.

1. `in_turn`, `open_socket`: a server's addresses in the order in which they are tried; a connected socket.
2. `greeting_answer`, `tuned`: what the log-in says to the server's greeting and proposals; no socket in it.
3. `not_let_in`, `all_failed`: failures in words.

Not here: reading and writing (`link.py`).
"""

from __future__ import annotations

import platform
import random
import socket
import time
from collections.abc import Iterator
from typing import Any, Final

from celeriac.exceptions import ImproperlyConfigured, OperationalError
from celeriac.transport.amqp import methods, table, tls
from celeriac.transport.amqp.url import AmqpServer, Node
from celeriac.transport.amqp.values import Disconnected, Refused

__all__ = [
    "PREAMBLE",
    "all_failed",
    "greeting_answer",
    "in_turn",
    "not_let_in",
    "open_socket",
    "remember",
    "tuned",
]

PREAMBLE: Final = b"AMQP\x00\x00\x09\x01"
#: Seconds for which bytes that we sent may stay without the other machine's acknowledgement.
SILENCE: Final = 8.0
_CAPABILITIES: Final = {
    "publisher_confirms": True,
    "exchange_exchange_bindings": True,
    "basic.nack": True,
    "consumer_cancel_notify": True,
    "connection.blocked": True,
    "authentication_failure_close": True,
}

#: The address that worked last, by server: it is tried first.
_last_good: dict[tuple[Node, ...], Node] = {}


def in_turn(server: AmqpServer) -> Iterator[Node]:
    """Addresses in the order in which they are to be tried."""
    nodes = list(server.nodes)
    if server.shuffle:
        random.shuffle(nodes)
    elif (good := _last_good.get(_key(server))) in nodes:
        start = nodes.index(good)
        nodes = nodes[start:] + nodes[:start]
    return iter(nodes)


def remember(server: AmqpServer, node: Node) -> None:
    if len(server.nodes) > 1:
        _last_good[_key(server)] = node


def _key(server: AmqpServer) -> tuple[Any, ...]:
    return tuple((node.host, node.port, node.vhost, node.username) for node in server.nodes)


def open_socket(node: Node, deadline: float) -> socket.socket:
    """A connected socket, TLS and all, that does not block.

    Raises:
        Disconnected: nobody answered before `deadline` (`time.monotonic` seconds), or TLS failed.
    """
    where = f"{node.host}:{node.port}"
    left = deadline - time.monotonic()
    if left <= 0:
        raise Disconnected(f"No time was left to connect to RabbitMQ at {where}.")
    try:
        sock = socket.create_connection((node.host, node.port), left)
    except OSError as exc:
        raise Disconnected(
            f"Cannot connect to RabbitMQ at {where}: {exc.strerror or exc}. Is it running, and is the "
            "URL right?"
        ) from exc
    try:
        _tune_socket(sock)
        if node.tls is not None:
            sock.settimeout(max(0.001, deadline - time.monotonic()))
            sock = tls.context(node.tls).wrap_socket(
                sock, server_hostname=str(node.tls.get("server_hostname") or node.host)
            )
        sock.setblocking(False)
    except OSError as exc:
        sock.close()
        raise Disconnected(_tls_failure(where, exc)) from exc
    except BaseException:
        sock.close()
        raise
    return sock


def _tune_socket(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    wishes = {
        "TCP_KEEPIDLE": 4,
        "TCP_KEEPINTVL": 2,
        "TCP_KEEPCNT": 2,
        "TCP_USER_TIMEOUT": int(SILENCE * 1000),
    }
    for name, value in wishes.items():
        if hasattr(socket, name):  # not every system has them all
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _tls_failure(where: str, exc: OSError) -> str:
    text = str(exc)
    if "WRONG_VERSION_NUMBER" in text or "UNEXPECTED_EOF" in text or "record layer" in text:
        hint = " Does this port speak TLS? RabbitMQ's TLS port is 5671 as a rule."
    elif "CERTIFICATE_VERIFY_FAILED" in text:
        hint = " If the authority is your own, name its file: broker_use_ssl = {'ca_certs': …}."
    else:
        hint = ""
    return f"TLS with RabbitMQ at {where} failed: {text}.{hint}"


def greeting_answer(server: AmqpServer, node: Node, arguments: list[Any]) -> bytes:
    """connection.start-ok, in answer to connection.start.

    Raises:
        Refused: the server offers no log-in of the kind that was chosen.
    """
    offered = arguments[3].decode("ascii", "replace").split()
    if server.login not in offered:
        raise Refused(
            f"RabbitMQ at {node.host}:{node.port} does not offer the log-in {server.login}; it offers "
            f"{', '.join(offered) or 'none'}. Change login_method, or enable the mechanism on the server."
        )
    if server.login == "PLAIN":
        response = b"\x00".join((b"", node.username.encode(), node.password.encode()))
    elif server.login == "AMQPLAIN":
        response = table.dumps({"LOGIN": node.username, "PASSWORD": node.password})
    else:
        response = b""
    described = {
        "product": "celeriac",
        "platform": f"Python {platform.python_version()}",
        **server.client_properties,
        "capabilities": _CAPABILITIES,
    }
    if server.client_name:
        described["connection_name"] = server.client_name
    return methods.dumps(methods.CONNECTION_START_OK, described, server.login, response, "en_US")


def tuned(server: AmqpServer, arguments: list[Any], heartbeat: float | None) -> tuple[int, int, int]:
    """channel_max, frame_max and heartbeat (seconds), from what the server proposes and what we want: the
    smaller one, where 0 stands for no limit. Without a heartbeat of ours there is none."""
    ours = server.heartbeat if heartbeat is None else heartbeat
    if 0 < ours < 1:
        ours = 1  # the wire counts whole seconds
    beat = _smaller(arguments[2], int(ours)) if ours else 0
    frame_max = _smaller(arguments[1], server.frame_max) or 131_072
    if frame_max < 4096:
        raise ImproperlyConfigured(f"frame_max is {frame_max}; AMQP wants at least 4096 bytes.")
    return _smaller(arguments[0], server.channel_max) or 2047, frame_max, beat


def _smaller(one: int, other: int) -> int:
    return min(one, other) if one and other else one or other


def all_failed(server: AmqpServer, failures: list[OperationalError]) -> OperationalError:
    """One error for a round of addresses."""
    if len(failures) == 1:
        return failures[0]
    text = " ".join(str(failure) for failure in failures)
    kind = Refused if failures and all(isinstance(one, Refused) for one in failures) else Disconnected
    return kind(text or f"{server!r} cannot be reached: no time was left.")


def not_let_in(exc: Disconnected, node: Node) -> Disconnected:
    """Say what the server's refusal means."""
    where = f"{node.host}:{node.port}"
    if exc.code == 403:
        return Refused(
            f"RabbitMQ at {where} did not let the user {node.username!r} in. Check the user name and the "
            "password in the URL (the user guest may come from the server's own machine only).",
            403,
        )
    if exc.code == 530:
        return Refused(
            f"RabbitMQ at {where} has no virtual host {node.vhost!r}, or the user {node.username!r} may not "
            f"use it. Check what follows the host in the URL (amqp://host/name), or run: "
            f"rabbitmqctl add_vhost {node.vhost!r}",
            530,
        )
    return exc
