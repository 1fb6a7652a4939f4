"""Names of nodes (``worker1@host``) and of the queue that belongs to one node.

1. Splitting, joining and completing node names.
2. Filling in ``%h %n %d %p`` in node names and log file names.
3. `worker_direct`: the queue that only one worker reads.
"""

from __future__ import annotations

import os
import re
import socket
from functools import cache

from celeriac.brokers.base import Queue

__all__ = [
    "NODENAME_DEFAULT",
    "anon_nodename",
    "default_nodename",
    "gethostname",
    "host_format",
    "node_format",
    "nodename",
    "nodesplit",
    "worker_direct",
]

NODENAME_DEFAULT = "celery"
WORKER_DIRECT_EXCHANGE = "C.dq2"
WORKER_DIRECT_QUEUE = "{hostname}.dq2"

_PLACEHOLDER = re.compile(r"%(.)")


@cache
def gethostname() -> str:
    """The host's name, asked for once."""
    return socket.gethostname()


def nodename(name: str, hostname: str) -> str:
    """Join the two halves of a node name."""
    return f"{name}@{hostname}"


def nodesplit(name: str) -> tuple[str | None, str]:
    """Split a node name at its first ``@``; without one, the first half is None.

    Example:
        >>> nodesplit("w1@box"), nodesplit("box")
        (('w1', 'box'), (None, 'box'))
    """
    first, at, host = name.partition("@")
    return (first, host) if at else (None, first)


def default_nodename(hostname: str | None) -> str:
    """Complete a node name: what is missing is ``celery`` before the ``@`` and this host after it."""
    name, host = nodesplit(hostname or "")
    return nodename(name or NODENAME_DEFAULT, host or gethostname())


def anon_nodename(hostname: str | None = None, prefix: str = "gen") -> str:
    """A name for a client that is not a worker: unique per process."""
    return nodename(f"{prefix}{os.getpid()}", hostname or gethostname())


def host_format(text: str, host: str | None = None, name: str | None = None, **extra: str) -> str:
    """Fill in ``%h`` (host), ``%n`` (`name` or the host's first label), ``%d`` (domain), ``%%`` and `extra`.

    Unknown placeholders stay as they are.

    Example:
        >>> host_format("%n.%d/%i", "box.example.org", i="3")
        'box.example.org/3'
    """
    host = host or gethostname()
    label, _, domain = host.partition(".")
    values = {"h": host, "n": name or label, "d": domain, "%": "%", **extra}
    return _PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), text)


def node_format(text: str, name: str, **extra: str) -> str:
    """Fill in the placeholders of `text` for the node `name`; ``%p`` is the whole name.

    Example:
        >>> node_format("/var/log/%n.log of %p", "w1@box")
        '/var/log/w1.log of w1@box'
    """
    first, host = nodesplit(name)
    return host_format(text, host, first or NODENAME_DEFAULT, **{"p": name, **extra})


def worker_direct(hostname: str | Queue) -> Queue:
    """The queue that only the worker named `hostname` reads (setting `worker_direct`).

    Example:
        >>> worker_direct("w1@box").name
        'w1@box.dq2'
    """
    if isinstance(hostname, Queue):
        return hostname
    return Queue(WORKER_DIRECT_QUEUE.format(hostname=hostname), WORKER_DIRECT_EXCHANGE, hostname)
