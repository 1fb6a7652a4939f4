"""Idle links, retries within a deadline, scripts, and which node of a cluster has a key.

1. `Channel`: a link with an identity that outlives it, so that a retried publish can be recognised.
2. `Pool`: thread-safe, last in first out, empty again in a forked child.
3. `Script`: a Lua script by its digest, loaded where the server does not know it yet.
4. `slot_of`, and the map from slots to nodes.
"""

from __future__ import annotations

import binascii
import os
import random
import time
import weakref
from collections.abc import Callable, Sequence
from hashlib import sha1
from typing import Any, Final, TypeVar

from celeriac.exceptions import OperationalError
from celeriac.transport.redis.dial import dial
from celeriac.transport.redis.hosts import Hosts
from celeriac.transport.redis.link import (
    Disconnected,
    Link,
    Moved,
    NotNow,
    Refused,
    ReplyError,
    pack,
    pack_large,
    refusal,
)
from celeriac.transport.redis.url import Server

__all__ = ["Channel", "Pool", "Script", "backoff", "slot_of"]

T = TypeVar("T")
Address = tuple[str, int]
_SLOTS: Final = 16384
_monotonic = time.monotonic


class Script:
    """A Lua script.

    Example:
        >>> Script("return 1").sha
        b'e0e1f9fabfc9d4800c877a703b823ac0578ff8db'
    """

    __slots__ = ("sha", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = sha1(text.encode(), usedforsecurity=False).hexdigest().encode()

    def packed(
        self, keys: Sequence[str | bytes], args: Sequence[str | bytes | int], *, large: bool = False
    ) -> bytes:
        """The call. `large`: one of the arguments is."""
        words = (b"EVALSHA", self.sha, len(keys), *keys, *args)
        return pack_large(words) if large else pack(words)

    def run(
        self, link: Link, keys: Sequence[str | bytes], args: Sequence[str | bytes | int], deadline: float
    ) -> Any:
        return self.request(link, self.packed(keys, args), deadline)

    def request(self, link: Link, data: bytes, deadline: float) -> Any:
        """Run what `packed` made; the script is loaded first where the server has forgotten it."""
        try:
            return link.request(data, deadline)
        except Refused as exc:
            if exc.code != "NOSCRIPT":
                raise
        self.load(link, deadline)
        return link.request(data, deadline)

    def load(self, link: Link, deadline: float) -> None:
        link.call("SCRIPT", "LOAD", self.text, deadline=deadline)


class Channel:
    """Where one thread at a time sends. `name` and `sequence` identify its publishes across reconnections."""

    __slots__ = ("link", "name", "sequence")

    def __init__(self) -> None:
        self.link: Link | None = None
        self.name = os.urandom(9).hex().encode()
        self.sequence = 0

    def drop(self) -> None:
        if self.link is not None:
            self.link.close()
            self.link = None


def backoff(attempt: int) -> float:
    """Seconds to pause before a further try: 20 ms doubled up to 1 s, with jitter of half."""
    longest: float = min(1.0, 0.02 * 2.0 ** min(attempt, 8))
    return longest * (0.5 + random.random() / 2)


class Pool:
    """Links to one server, or to the nodes of one cluster.

    Attributes:
        idle: channels nobody uses, when the server is not a cluster. The broker's hot path takes from it and
            gives back by itself; an empty list means: use `run`.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.is_cluster = server.kind == "cluster"
        self._hosts = Hosts(server.addresses)
        self.idle: list[Channel] = []
        self._idle_at: dict[Address | None, list[Channel]] = {None: self.idle}
        self._nodes: list[Address] = []  # by slot; empty until asked for
        self._links: weakref.WeakSet[Link] = weakref.WeakSet()
        _pools.add(self)

    def run(self, key: str | bytes, work: Callable[[Link, float], T], *, timeout: float | None = None) -> T:
        """Do `work(link, deadline)` on a link to the node of `key`; reconnect and repeat until the deadline.

        `work` must be repeatable. Raises `OperationalError`: the last failure, or the server's refusal.
        """
        deadline = _monotonic() + (self.server.timeout if timeout is None else timeout)
        channel = self.take(key, deadline)
        try:
            return self.persist(channel, key, work, deadline)
        finally:
            self.give(channel)

    def take(self, key: str | bytes, deadline: float) -> Channel:
        """A channel for the caller alone, connected to the node of `key` or not yet connected."""
        return _take(self._idle_at.setdefault(self.address(key, deadline), []))

    def give(self, channel: Channel) -> None:
        """Give a channel back."""
        address = channel.link.address if self.is_cluster and channel.link else None
        self._idle_at.setdefault(address, []).append(channel)

    def persist(
        self, channel: Channel, key: str | bytes, work: Callable[[Link, float], T], deadline: float
    ) -> T:
        """`run` on a given channel, which stays the caller's."""
        attempt = 0
        address = self.address(key, deadline)
        while True:
            try:
                if channel.link is None or channel.link.closed:
                    attempt += 1  # a link from the pool may have gone stale: its failure costs no pause
                    channel.link = self._dial(deadline, address)
                return work(channel.link, deadline)
            except Moved as exc:
                channel.drop()
                self._nodes = []
                attempt += 1
                if exc.ask:
                    channel.link = self._asking(exc.address, deadline)
                elif attempt > 1:
                    _pause(attempt, deadline, exc)
                address = None if exc.ask else self.address(key, deadline)
            except (Disconnected, NotNow) as exc:
                channel.drop()
                if self.is_cluster:
                    self._nodes = []  # the node may have been replaced
                if attempt or isinstance(exc, NotNow):
                    attempt += 1
                    _pause(attempt, deadline, exc)
                address = self.address(key, deadline)

    def address(self, key: str | bytes, deadline: float) -> Address | None:
        """The node that has `key`; None where there is but one server."""
        if not self.is_cluster:
            return None
        if not self._nodes:
            self._nodes = self._ask_slots(deadline)
        return self._nodes[slot_of(key)]

    def open(self, key: str | bytes, deadline: float) -> Link:
        """A new link to the node of `key`, for the caller alone (a consumer, a subscription)."""
        return self._dial(deadline, self.address(key, deadline))

    def forget_nodes(self) -> None:
        self._nodes = []

    def close(self) -> None:
        """Close what is idle. Links in use are closed by their users, or live on until the next `close`."""
        for idle in list(self._idle_at.values()):
            while idle:
                _take(idle).drop()

    def after_fork(self) -> None:
        """In a child: the parent's connections and identities are not ours."""
        for idle in self._idle_at.values():
            idle.clear()
        for link in list(self._links):
            link.close()  # our copy of the descriptor; nothing is said on the wire

    def _asking(self, address: Address, deadline: float) -> Link:
        link = self._dial(deadline, address)
        link.call("ASKING", deadline=deadline)
        return link

    def _dial(self, deadline: float, address: Address | None) -> Link:
        link = dial(self.server, deadline, address, self._hosts)
        link.address = address
        self._links.add(link)
        return link

    def _ask_slots(self, deadline: float) -> list[Address]:
        attempt = 0
        while True:
            try:
                link = dial(self.server, deadline, hosts=self._hosts)
                default = link.where.rpartition(":")[0]
                ranges = link.call("CLUSTER", "SLOTS", deadline=deadline)
                link.close()
                nodes: list[Address] = [("", 0)] * _SLOTS
                for first, last, master, *_ in ranges:
                    node = (master[0].decode() or default, int(master[1]))
                    nodes[first : last + 1] = [node] * (last + 1 - first)
                if ("", 0) in nodes:
                    raise NotNow("Some slots of the Redis Cluster are served by no node (CLUSTERDOWN).")
                # Next time any of them may be asked, should those of the URL be gone.
                self._hosts.addresses = tuple(dict.fromkeys([*self.server.addresses, *nodes]))
                return nodes
            except (Disconnected, NotNow) as exc:
                attempt += 1
                _pause(attempt, deadline, exc)


def _take(idle: list[Channel]) -> Channel:
    try:
        return idle.pop()
    except IndexError:
        return Channel()


def _pause(attempt: int, deadline: float, cause: OperationalError) -> None:
    """Wait before the next try, or raise `cause` when there is no time for one."""
    pause = backoff(attempt)
    if _monotonic() + pause >= deadline:
        raise cause
    time.sleep(pause)


def slot_of(key: str | bytes) -> int:
    """The cluster slot of a key.

    Example:
        >>> slot_of("celeriac:{celery}:seq") == slot_of("celery")
        True
    """
    data = key.encode() if isinstance(key, str) else key
    start = data.find(b"{")
    if start >= 0:
        end = data.find(b"}", start + 1)
        if end > start + 1:
            data = data[start + 1 : end]
    return binascii.crc_hqx(data, 0) % _SLOTS


def checked(replies: Sequence[Any], where: str) -> Sequence[Any]:
    """The replies of a pipeline; raises for the first that is an error."""
    for reply in replies:
        if type(reply) is ReplyError:
            raise refusal(reply, where)
    return replies


_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


def _after_fork() -> None:
    for pool in list(_pools):
        pool.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
