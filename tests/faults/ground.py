"""Where a row of the fault matrix plays: one broker with its server, clients and workers for it, one journal.

1. `Ground`: makes clients, workers, networks and streams; ends them all; gives the `Verdict`.
2. `Verdict`: what became of what was published, and what is left in the store.
"""

from __future__ import annotations

import random
import signal
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from tests.faults.harness import Journal, Node, check, environment, publish_many, until
from tests.faults.network import Network
from tests.faults.residue import drained, handed_out, residue
from tests.faults.stores import KINDS
from tests.faults.stream import Stream

from celeriac import Celeriac, states
from celeriac.wire.results import decode_result

__all__ = ["Ground", "Verdict"]

#: The protocol that a `Network` must understand.
PROTOCOLS = {
    "redis": "redis",
    "rabbitmq": "amqp",
    "rabbitmq-quorum": "amqp",
    "postgres": "postgresql",
}


class Verdict(NamedTuple):
    """Sizes of the checker's sets, and what is left.

    `lost`: returned, never run. `unexpected`: run, never attempted. `duplicated`: ran to the end twice.
    `recovered`: nobody knows whether it was published; it ran. `unfinished`: without a terminal result.
    """

    published: int
    lost: int
    unexpected: int
    duplicated: int
    recovered: int
    unfinished: int
    dead: int
    left: tuple[str, ...]

    @property
    def text(self) -> str:
        return (
            f"{self.published:,} returned, {self.lost} lost, {self.unexpected} unexpected, "
            f"{self.duplicated} ran twice, {self.recovered} recovered, {self.unfinished} without a result"
        )

    def demand(self, *, duplicated: int | None = 0) -> str:
        """Nothing lost, nothing from nowhere, nothing left; the figures.

        Args:
            duplicated: how many may have run twice; None: any number.
        """
        bad = self.lost or self.unexpected or self.unfinished or self.dead or self.left
        assert not bad, f"{self.text}, {self.dead} dead-lettered; left: {', '.join(self.left) or 'nothing'}"
        assert duplicated is None or self.duplicated <= duplicated, self.text
        return self.text


class Ground:
    """One row's place.

    Args:
        kind: one of `stores.KINDS`.
        folder: for stores, journals and logs.
        stack: ends what the ground has started.
        servers: running ones that others use as well; None: our own, which may be killed.
        seed: of every choice, printed by whoever started the row.

    Attributes:
        store: URLs of broker and result store.
        client: an application without failures in its way.
    """

    def __init__(
        self,
        kind: str,
        folder: Path,
        stack: ExitStack,
        *,
        servers: Sequence[Any] | None = None,
        seed: int = 0,
    ) -> None:
        self.kind = kind
        self.folder = folder
        self.stack = stack
        self.seed = seed
        self.chance = random.Random(seed)
        if servers is None:
            servers = [make() for make in KINDS[kind].servers]
            for server in servers:
                stack.callback(server.stop)
        self.server = servers[0] if servers else None
        self.store = KINDS[kind].make(folder, *servers)
        self.journal = Journal(folder / "journal")
        self.nodes: list[Node] = []
        self.client = self.app()

    # -- actors ---------------------------------------------------------------------------------------------

    def app(self, via: Network | None = None, **conf: Any) -> Celeriac:
        """A client, perhaps at the other end of a network."""
        app = Celeriac("client", broker=self._url(self.store.broker, via), set_as_current=False)
        conf = {"task_default_queue": "faults", "broker_publish_timeout": 30.0, **self.store.conf, **conf}
        app.conf.update(result_backend=self._url(self.store.backend, via), **conf)
        self.stack.callback(app.close)
        return app

    def node(
        self,
        *arguments: str,
        name: str = "",
        conf: Mapping[str, Any] | None = None,
        extra: Mapping[str, str] | None = None,
        via: Network | None = None,
        **kwargs: Any,
    ) -> Node:
        """A worker; killed at the end if it still runs."""
        name = name or f"n{len(self.nodes) + 1}"
        broker, backend = self._url(self.store.broker, via), self._url(self.store.backend, via)
        conf = {**self.store.conf, **(conf or {})}
        env = environment(broker, backend, self.journal.path, conf) | dict(extra or {})
        node = Node(env, *arguments, name=name, log=self.folder / f"{name}.log", **kwargs)
        self.nodes.append(node)
        self.stack.enter_context(node)
        return node

    def network(self) -> Network:
        """Between us and the server."""
        assert self.server is not None, f"{self.kind} has no server"
        network = Network(self.server.port, PROTOCOLS[self.kind], seed=self.seed)
        return self.stack.enter_context(network)

    def stream(self, via: Network | None = None, *, pause: float = 0.002, seconds: float = 0.0) -> Stream:
        """A producer that publishes all the time, not yet started."""
        app = self.app(via, broker_publish_timeout=5.0)
        stream = Stream(app, self.folder / "produced", pause=pause, seconds=seconds)
        self.stack.callback(stream.stop)
        return stream

    def _url(self, url: str, via: Network | None) -> str:
        return via.url(url) if via is not None and f":{via.server_port}" in url else url

    # -- events ---------------------------------------------------------------------------------------------

    def send(self, keys: Collection[str], seconds: float | Callable[[], float] = 0.0, **options: Any) -> None:
        """Publish `record` for each key, whose id is the key."""
        for key in keys:
            nap = seconds() if callable(seconds) else seconds
            self.client.send_task("record", (key, nap), task_id=key, **options)

    def bulk(self, keys: Collection[str], seconds: Callable[[], float]) -> None:
        """The same in one batch and without results."""
        publish_many(self.client, "record", [(key, seconds()) for key in keys])

    def drained(self) -> bool:
        return drained(self.client)

    def handed_out(self) -> int:
        """Messages that somebody holds."""
        return handed_out(self.client)

    def wait(self, count: int, timeout: float = 30.0) -> None:
        """Until so many different bodies have ended, and the queue is empty."""
        until(
            lambda: self.journal.ended() >= count and self.drained(), timeout, f"{count} have run", every=0.1
        )

    def progress(self, more: int = 20, timeout: float = 10.0) -> float:
        """Seconds until `more` bodies have ended from now on."""
        started, count = time.monotonic(), self.journal.ends()
        until(lambda: self.journal.ends() >= count + more, timeout, f"{more} more have run")
        return time.monotonic() - started

    # -- the end --------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Warm shutdown of every worker that runs; one that was started a moment ago may not listen yet."""
        running = [node for node in self.nodes if node.process is not None and node.process.poll() is None]
        ends = [node.stop() for node in running]
        assert all(end in (0, -signal.SIGTERM) for end in ends), f"workers ended with {ends}"

    def verdict(
        self,
        returned: Collection[str],
        unknown: Collection[str] = (),
        *,
        results: bool = True,
        timeout: float = 30.0,
    ) -> Verdict:
        """Wait until nothing moves any more, stop the workers, look at everything.

        Args:
            returned: keys whose publish returned; `unknown`: keys whose publish raised.
            results: every id must have a terminal result.
        """
        until_quiet(lambda: self.drained() and not check(returned, self.journal).lost, self.journal, timeout)
        self.stop()
        report = check(returned, self.journal, unknown)
        ran = set(returned) | report.recovered
        return Verdict(
            len(set(returned)),
            len(report.lost),
            len(report.unexpected),
            len(report.duplicated),
            len(report.recovered),
            self._unfinished(ran - report.lost) if results else 0,
            self.client.broker.stats(["faults"])[0].dead,
            tuple(residue(self.store)) or tuple(self._left()),
        )

    def _unfinished(self, ids: Collection[str]) -> int:
        documents = self.client.backend.load(sorted(ids))
        ended = (id_ for id_, raw in documents.items() if decode_result(raw).status in states.READY_STATES)
        return len(ids) - len(set(ended))

    def _left(self) -> list[str]:
        """As far as the broker itself can tell, where nobody else does."""
        if self.store.name != "postgres":
            return []
        stats = self.client.broker.stats(["faults"])[0]._asdict()
        return [
            f"{stats[name]} {name}" for name in ("depth", "in_flight", "delayed", "consumers") if stats[name]
        ]


def until_quiet(done: Callable[[], bool], journal: Journal, timeout: float) -> None:
    """Until `done`, or for `timeout` seconds nothing has run: then the checker says what is missing.

    What a server moves from one queue to another is in none of them for a moment: `done` must be true twice.
    """
    size, since, times = -1, time.monotonic(), 0
    while times < 2:
        times = times + 1 if done() else 0
        now = journal.path.stat().st_size
        if now != size:
            size, since = now, time.monotonic()
        elif time.monotonic() - since > timeout:
            print(f"nothing has run for {timeout:g} s", file=sys.stderr)
            return
        time.sleep(0.25 if times else 0.1)
