"""Kills whole workers under load, one after the other, and says what became of the tasks (row F1).

1. `Storm`: publishes, kills, restarts, waits for the end.
2. `Findings`: the figures, in the words of `harness.check`; `recoveries`: how soon what ran in a killed
   worker ran again.

The same for our workers and for Celery's, which are the negative control (`control.py`): a harness that finds
nothing there is broken.
"""

from __future__ import annotations

import math
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.faults.harness import Journal, Node, check, publish_many, until
from tests.faults.lines import Event
from tests.faults.stream import Produced

from celeriac import Celeriac, states
from celeriac.exceptions import OperationalError
from celeriac.wire.results import decode_result

#: Messages that wait at least while kills go on, and how many are published when there are fewer.
LOW, BATCH = 1000, 2000
#: Seconds without any progress after which what has not run counts as lost.
QUIET = 8.0
#: Results asked for at once.
CHUNK = 2000
#: Seconds after the end of a body in which its result is stored.
STORED = 0.5


class Kill(NamedTuple):
    """A worker's death: when (epoch seconds) and which processes."""

    at: float
    pids: frozenset[int]


class Findings(NamedTuple):
    """`lost`: published and never run to the end. `stranded`: what the broker keeps as handed out, to nobody
    who lives (some of it may have run). `unexcused`: tasks that ran twice although no worker died that had
    them. `recovered`: nobody knew whether it was published; it ran. `unfinished`: ids without a terminal
    result. `stale`: results of a dead process that were taken although the task ran again elsewhere."""

    seconds: float
    kills: int
    published: int
    lost: int
    stranded: int
    unexpected: int
    duplicated: int
    unexcused: int
    dead: int
    recoveries: Sequence[float]
    recovered: int = 0
    unfinished: int = 0
    stale: int = 0

    @property
    def bad(self) -> bool:
        """Whether the checker calls the run invalid."""
        wrong = (
            self.lost,
            self.stranded,
            self.unexpected,
            self.unexcused,
            self.dead,
            self.unfinished,
            self.stale,
        )
        return any(wrong)

    def text(self) -> str:
        """A table for a person."""
        rows = {
            "kills": f"{self.kills:,} in {self.seconds:.0f} s",
            "published": f"{self.published:,}",
            "lost": f"{self.lost:,}",
            "still handed out": f"{self.stranded:,}",
            "unexpected": f"{self.unexpected:,}",
            "dead-lettered": f"{self.dead:,}",
            "ran twice": f"{self.duplicated:,}",
            "  without a kill": f"{self.unexcused:,}",
            "unknown, and ran": f"{self.recovered:,}",
            "without a result": f"{self.unfinished:,}",
            "stale settlements": f"{self.stale:,}",
            "recovery": self.recovery(),
        }
        return "\n".join(f"{name:20}{value:>12}" for name, value in rows.items())

    def recovery(self) -> str:
        """Percentiles of `recoveries`."""
        found = self.recoveries
        if not found:
            return "nothing came back"
        marks = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
        values = (f"{name} {percentile(found, mark):.2f} s" for name, mark in marks.items())
        return f"{' · '.join(values)} ({len(found):,} tasks that ran when their worker was killed)"


class Storm:
    """One run.

    Args:
        client: publishes, and tells how many messages wait.
        nodes: the workers, running.
        stranded: how many messages are handed out although nothing moves any more.
        patience: seconds to wait for a worker to be at work before it is killed.
        produced: the journal of what was published; synced whenever a publish has returned.
        results: results are stored, and every task must have a terminal one.
        machines: where each start of a worker gets a run folder of its own, as if on another machine, so that
            only its lease tells that it is dead; None: they share one, and find its ledgers.
    """

    def __init__(
        self,
        client: Celeriac,
        nodes: Sequence[Node],
        journal: Journal,
        *,
        seed: int,
        stranded: Callable[[], int],
        produced: Produced,
        results: bool = True,
        patience: float = 30.0,
        machines: Path | None = None,
    ) -> None:
        self.client = client
        self.nodes = nodes
        self.journal = journal
        self.stranded = stranded
        self.patience = patience
        self.machines = machines
        self.produced = produced
        self.results = results
        self.kills: list[Kill] = []
        self._chance = random.Random(seed)
        self._started = time.monotonic()

    @property
    def keys(self) -> list[str]:
        """Those whose publish has returned."""
        return self.produced.returned

    def run(self, kills: int, every: float, seconds: float = float("inf")) -> Findings:
        """Kill `kills` workers, one each `every` seconds, for `seconds` at most; wait for all tasks, or until
        nothing moves."""
        for _ in range(kills):
            if time.monotonic() - self._started > seconds:
                break
            self._feed()
            time.sleep(every)  # the fault's rhythm
            self._kill()
        took = time.monotonic() - self._started
        self._wait_for_the_end()
        return self._findings(took)

    def _feed(self) -> None:
        if self.client.broker.depth("faults") < LOW:
            first = len(self.produced.returned) + len(self.produced.unknown)
            keys = [f"k{first + i}" for i in range(BATCH)]
            calls = [(key, self._chance.uniform(0, 0.02)) for key in keys]
            try:
                publish_many(self.client, "witness", calls, results=self.results)
            except OperationalError:
                self.produced.note(keys, returned=False)
            else:
                self.produced.note(keys, returned=True)

    def _kill(self) -> None:
        """A random one of those that are at work."""

        def at_work() -> tuple[Node, frozenset[int]] | None:
            busy = {event.pid for event in self.journal.latest()}
            for node in self._chance.sample(self.nodes, len(self.nodes)):
                pids = frozenset(process.pid for process in node.family())
                if pids & busy:
                    return node, pids
            return None

        victim, pids = until(at_work, self.patience, "a worker is at work")
        self.kills.append(Kill(time.time(), pids))
        victim.kill()
        if self.machines is not None:
            victim.env["CELERIAC_RUN_DIR"] = str(self.machines / f"machine-{len(self.kills)}")
        victim.start()

    def _wait_for_the_end(self) -> None:
        last, since = -1, time.monotonic()
        while time.monotonic() - since < QUIET:
            size = self.journal.path.stat().st_size
            if size != last:
                last, since = size, time.monotonic()
            elif self.journal.ended() >= len(self.keys) and not self.stranded():
                return
            time.sleep(0.1)

    def _findings(self, seconds: float) -> Findings:
        events = self.journal.events()
        report = check(self.keys, self.journal, self.produced.unknown)
        killed = {pid for kill in self.kills for pid in kill.pids}
        starts = Counter(event.key for event in events if event.what == "start")
        excused = Counter(e.key for e in events if e.what == "start" and e.pid in killed)
        unexcused = [key for key, times in starts.items() if times > 1 + excused[key]]
        dead = self.client.broker.stats(["faults"])[0].dead
        return Findings(
            seconds,
            len(self.kills),
            len(self.keys),
            len(report.lost),
            self.stranded(),
            len(report.unexpected),
            len(report.duplicated),
            len(unexcused),
            dead,
            recoveries(events, self.kills),
            len(report.recovered),
            *self._results(events, report.recovered | set(self.keys) - report.lost),
        )

    def _results(self, events: Sequence[Event], keys: set[str]) -> tuple[int, int]:
        """How many have no terminal result, and how many have that of a process which had lost its say."""
        if not self.results:
            return 0, 0
        ends: Mapping[str, list[Event]] = defaultdict(list)
        last: dict[int, float] = {}
        for event in events:
            last[event.pid] = event.at
            if event.what == "end":
                ends[event.key].append(event)
        died = {pid: last[pid] for kill in self.kills for pid in kill.pids if pid in last}
        grace = 0.0 if self.client.broker.capabilities.atomic_settle else STORED
        unfinished, stale, wanted = 0, 0, sorted(keys)
        for at in range(0, len(wanted), CHUNK):
            part = wanted[at : at + CHUNK]
            documents = self.client.backend.load(part)
            for key in part:
                found = decode_result(documents[key]) if key in documents else None
                if found is None or found.status not in states.READY_STATES:
                    unfinished += 1
                elif _is_stale(found.result, ends[key], died, grace):
                    stale += 1
        return unfinished, stale


def _is_stale(pid: int, ends: Sequence[Event], died: Mapping[int, float], grace: float) -> bool:
    """Whether the result of process `pid` stands although another had the last say: whoever lived on for
    `grace` seconds after the end of the same task. Where a result is stored before the message is
    acknowledged, who dies in between leaves one that counts until the next is stored; and the next may die
    before that."""
    pids = [end.pid for end in ends]
    if pid not in pids:
        return True
    later = ends[pids.index(pid) + 1 :] if pid in died else []
    return any(died.get(end.pid, math.inf) - end.at >= grace for end in later)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which this share of `values` lies; 0 for none."""
    found = sorted(values)
    return found[min(len(found) - 1, int(len(found) * share))] if found else 0.0


def recoveries(events: Sequence[Event], kills: Sequence[Kill]) -> list[float]:
    """Seconds from each kill to the next start of each task that was running then and ran again."""
    starts: Mapping[str, list[Event]] = defaultdict(list)
    by_pid: Mapping[int, list[Event]] = defaultdict(list)
    ended = set()
    for event in events:
        if event.what == "start":
            starts[event.key].append(event)
            by_pid[event.pid].append(event)
        else:
            ended.add((event.key, event.pid))
    found = []
    for kill in kills:
        running = [e for pid in kill.pids for e in by_pid[pid] if (e.key, e.pid) not in ended]
        for event in running:
            again = [e.at for e in starts[event.key] if e.pid not in kill.pids and e.at > kill.at]
            if again:
                found.append(min(again) - kill.at)
    return found
