"""What a RabbitMQ under test says of its queues, without the broker under test.

1. `introduce`: remembers which server a URL belongs to.
2. `handed_out`, `left`, `stored`: messages in the hands of consumers; what waits or is handed out anywhere,
   dead letters and revocations apart; ids of what waits in a queue.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

from tests.servers import RabbitServer

from celeriac.transport.amqp.link import Link
from celeriac.transport.amqp.url import parse
from celeriac.wire.message import Message

__all__ = ["handed_out", "introduce", "knows", "left", "server_of", "settled", "stored"]

_servers: dict[str, RabbitServer] = {}

_COUNTS = (
    'lists:flatten([io_lib:format("~s ~b ~b;", [element(4, amqqueue:get_name(Q)) | [N || {_, N} <- '
    "rabbit_amqqueue:info(Q, [messages_ready, messages_unacknowledged])]]) || Q <- "
    'rabbit_amqqueue:list(<<"%s">>)])'
)
#: Queues in which something may stay: dead letters, the stream of revocations, queues of a connection.
_STAYS = re.compile(r".*\.celeriac\.dead|celeriac\.revoked|amq\..*|celeryev.*|.*pidbox.*")


def introduce(url: str, server: RabbitServer) -> None:
    """`url` is a vhost of `server`."""
    _servers[url] = server


def knows(url: str) -> bool:
    """Whether `url` was introduced."""
    return url in _servers


def server_of(url: str) -> RabbitServer:
    """The server that `url` was introduced with."""
    return _servers[url]


def counts(url: str) -> Mapping[str, tuple[int, int]]:
    """Queue → (ready, handed out)."""
    vhost = url.rpartition("/")[2] or "/"
    text = _servers[url].eval(_COUNTS % vhost)
    found = re.findall(r"([^\";]+) (\d+) (\d+);", text)
    return {name: (int(ready), int(out)) for name, ready, out in found}


def left(url: str) -> dict[str, tuple[int, int]]:
    """Queues with work in them."""
    return {name: both for name, both in counts(url).items() if any(both) and not _STAYS.fullmatch(name)}


def settled(url: str) -> dict[str, tuple[int, int]]:
    """`left`, once the counts of quorum queues, which lag by up to 5 s, had the time to be true."""
    deadline = time.monotonic() + 8.0
    while (found := left(url)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def handed_out(url: str) -> int:
    """Messages that some connection holds, unacknowledged."""
    return sum(out for _, out in left(url).values())


def stored(url: str, queue: str) -> list[str]:
    """Ids of the tasks that wait in `queue`. Each is put back by a copy: what is only given back looks as if
    it came from a process that died."""
    found: list[str] = []
    link = Link.dial(parse(url), deadline=float("inf"))
    try:
        channel = link.channel()
        channel.confirm_select()
        for _ in range(counts(url).get(queue, (0, 0))[0]):
            arrival = channel.get(queue)
            assert arrival is not None
            assert isinstance(arrival.message, Message)
            found.append(arrival.message.headers["id"])
            channel.publish("", queue, arrival.message)
            channel.await_confirms(time.monotonic() + 10)
            channel.ack(arrival.delivery_tag)
        link.flush()
    finally:
        link.close(farewell=1.0)
    return found
