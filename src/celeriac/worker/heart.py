"""The heart: the supervisor's thread that talks to the broker.

1. Beats for all children of the node, so that user code can never let a lease lapse.
2. Sweeps what other nodes left behind, and the ledgers of dead supervisors on this machine.
3. Lays dead children to rest: settles what is known, gives back what is not. Where the broker has no leases,
   their ledgers go into the memory from which other nodes' questions are answered (`whereabouts.py`).
4. Fetches the revoked ids, and lets the result store forget what has expired.

Not here: processes and signals (`supervisor.py`).
"""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from celeriac import failpoints
from celeriac.backends.base import ResultBackend
from celeriac.backends.retrying import StoreDown, Storing
from celeriac.brokers.base import (
    Broker,
    ConsumerSpec,
    Delivery,
    ResultTarget,
    Settlement,
    StoredResult,
)
from celeriac.exceptions import OperationalError
from celeriac.worker.chords import Keeper
from celeriac.worker.home import home_name, neighbours
from celeriac.worker.ledger import ID_SIZE, Ledger, Running, ledger_folder, orphans
from celeriac.worker.outage import Outage
from celeriac.worker.whereabouts import Whereabouts, lives

__all__ = ["Death", "Heart"]

logger = logging.getLogger("celeriac.worker")

#: Seconds that the wall clock may differ from the monotonic one between two rounds; clocks are slewed slowly.
JUMP = 0.5
#: Seconds after its supervisor in which a child dies as well.
DYING = 2.0

Conclude = Callable[[Delivery, str, float], Settlement]
Gone = Callable[[str, str, str | None, float], StoredResult | None]


class Death(NamedTuple):
    """A child that is gone. `innocent`: it was ended on purpose, what ran did not kill it. `verdicts`: what
    is to be concluded for a task that ran, by task id (``time limit`` or ``terminated``). `suspicious`:
    nobody knows which of all that it held was the reason. `held`: deliveries that were not done, where the
    broker has no leases."""

    ledger: Ledger
    innocent: bool = False
    verdicts: Mapping[str, str] = {}
    suspicious: bool = False
    held: int = 0


class Heart(threading.Thread):
    """Beats until stopped.

    Args:
        alive: gives the leases to renew (id → queues); called on this thread.
        on_lost: told which leases are gone.
        on_revoked: told newly revoked ids.
        conclude: settlement for a delivery whose body was stopped (delivery, why, seconds).
        gone: result of a call that was acknowledged early and died (id, task name, why, seconds).
        store: names the broker's store, so that foreign ledgers are left alone.
        storing: where their results go, with the user's policy for a store that is down.
        chords: does what such settlements owe to chords.
        machine: also look for the ledgers that killed workers left on this machine.
        living: gives the ledgers and pids of the children, where the broker has no leases.
    """

    def __init__(
        self,
        broker: Broker,
        backend: ResultBackend,
        queues: Sequence[str],
        *,
        ttl: float,
        store: str,
        target: ResultTarget | None,
        alive: Callable[[], Mapping[str, Sequence[str]]],
        on_lost: Callable[[Sequence[str]], None],
        on_revoked: Callable[[Sequence[str]], None],
        conclude: Conclude,
        gone: Gone,
        storing: Storing | None = None,
        chords: Keeper | None = None,
        machine: bool = True,
        living: Callable[[], Sequence[tuple[Ledger, int]]] = tuple,
    ) -> None:
        super().__init__(name="heart", daemon=True)
        self.broker = broker
        self.backend = backend
        self._storing = storing or backend
        self._bury_at = 0.0  # not before: the result store is down
        self.queues = tuple(queues)
        self.ttl = ttl
        self.store = store
        self.target = target
        self.alive = alive
        self.on_lost = on_lost
        self.on_revoked = on_revoked
        self.conclude = conclude
        self.gone = gone
        self.chords = chords
        self.machine = machine
        self.whereabouts: Whereabouts | None = None
        if not broker.capabilities.leases:
            adopt = self._adopt_orphans if machine else lambda: None
            home = ledger_folder() if machine else None
            self.whereabouts = Whereabouts(living, adopt, home=home, store=store)
        self._owes = False  # somebody may ask when we have ended
        self.ending = False  # nobody will be here to answer: what is held stays written down
        self.outage = Outage("Heart: the broker cannot be reached")
        self._deaths: queue.SimpleQueue[Death | Literal["stop"]] = queue.SimpleQueue()
        self._known: set[str] = set()
        self._trusted_since = 0.0  # sweeping is fair only after everybody could beat again
        self._clocks = time.time() - time.monotonic()
        self.last_beat = 0.0

    def bury(self, death: Death) -> None:
        """Release the deliveries of a dead child as soon as possible. Without leases the broker has released
        them: what is known of them is known when this returns."""
        if self.whereabouts is not None:
            ledger, innocent, verdicts, suspicious, _ = death
            held = self.whereabouts.bury(ledger, innocent=innocent, verdicts=verdicts, suspicious=suspicious)
            death = death._replace(held=held)
        self._deaths.put(death)

    def stop(self) -> None:
        """End after everything buried so far is released."""
        self._deaths.put("stop")

    def run(self) -> None:
        beat_every, next_beat, next_round, next_expiry = self.ttl / 3, 0.0, 0.0, 60.0
        start = time.monotonic()
        waiting: list[Death] = []
        if self.whereabouts is not None:
            home = f"{home_name(ledger_folder())}.{self.store}" if self.machine else ""
            self.broker.attend(self.whereabouts.answer, self.whereabouts.learn, home)
        while True:
            now = time.monotonic()
            try:
                if now >= next_beat:
                    next_beat = now + beat_every
                    self._beat()
                waiting = self._bury_all(waiting)
                if now >= next_round:
                    next_round = now + random.uniform(0.8, 1.2)
                    self._round(now)
                    self.outage.over()
                if now - start >= next_expiry:
                    next_expiry += 3600.0
                    # Apart: some stores list all that they have, and leases must not lapse meanwhile.
                    threading.Thread(target=self._expire, name="celeriac-expiry", daemon=True).start()
            except OperationalError as exc:
                self.outage.failed(exc)
                self._trusted_since = time.monotonic() + self.ttl
                next_beat = min(next_beat, time.monotonic() + 0.5)
            except Exception as exc:  # the heart must never stop for a bug: leases would lapse
                logger.critical("Heart: %r", exc, exc_info=True)
            news = self._next(max(0.02, min(next_beat, next_round) - time.monotonic()))
            if news == "stop":
                break
            if news is not None:
                waiting.append(news)
        self._bury_at = 0.0
        for death in self._bury_all(waiting):  # the next worker of this machine finds the ledger
            self._close(death.ledger, remove=False)
        if self.whereabouts is not None:
            self.whereabouts.end(remove=not self._owes)
            if self.machine and not self._owes and not any(neighbours(ledger_folder(), (), self.store)):
                self.broker.close()  # nobody needs to wait for the word of this home

    def _expire(self) -> None:
        """Let the result store forget what has expired."""
        try:
            self.backend.expire()
        except OperationalError as exc:
            logger.warning("Results that have expired are not deleted now, in an hour again: %s", exc)
        except Exception as exc:
            logger.error("Results that have expired are not deleted: %r", exc, exc_info=True)

    def _bury_all(self, deaths: Sequence[Death]) -> list[Death]:
        """Lay them to rest; return those for which broker or result store could not be reached."""
        if time.monotonic() < self._bury_at:
            return list(deaths)
        for at, death in enumerate(deaths):
            try:
                self._lay_to_rest(death)
            except StoreDown as exc:
                logger.error("Heart: cannot store yet what became of a child's tasks: %s", exc)
                self._bury_at = time.monotonic() + exc.pause
                return list(deaths[at:])
            except OperationalError as exc:
                logger.error("Heart: cannot hand back yet what a child held: %s", exc)
                return list(deaths[at:])
            except Exception as exc:  # one that cannot be buried must not keep the others waiting
                logger.critical(
                    "Heart: cannot bury a child; its lease lapses by itself: %r", exc, exc_info=True
                )
                self._close(death.ledger, remove=True)
        return []

    def _next(self, timeout: float) -> Death | Literal["stop"] | None:
        try:
            return self._deaths.get(timeout=timeout)
        except queue.Empty:
            return None

    def _beat(self) -> None:
        alive = self.alive()
        if alive and self.whereabouts is None:
            if failpoints.on:
                failpoints.begin("beat")
            lost = self.broker.beat(alive, ttl=self.ttl)
            if lost:
                self.on_lost(lost)
        now = time.monotonic()
        if self.last_beat and now - self.last_beat > self.ttl / 2:
            # We or the store stood still, and others perhaps as well: they may beat before they are judged.
            self._trusted_since = now + self.ttl
        self.last_beat = now

    def _round(self, now: float) -> None:
        self._watch_clock(now)
        if now >= self._trusted_since and self.whereabouts is None:
            if failpoints.on:
                failpoints.begin("sweep")
            recovered = self.broker.sweep(self.queues)
            if recovered:
                logger.warning("Took back %d deliveries of nodes that fell silent.", recovered)
        known, self._known = self._known, set(self.broker.revoked())
        revoked = sorted(self._known - known)
        if revoked:
            self.on_revoked(revoked)
        if self.machine:
            self._adopt_orphans()

    def _watch_clock(self, now: float) -> None:
        """A store without a server of its own goes by this machine's clock: when that has jumped, all leases
        seem to have lapsed until everybody has beaten once more."""
        clocks = time.time() - time.monotonic()
        if abs(clocks - self._clocks) > JUMP:
            logger.warning("The clock of this machine has jumped by %+.1f s.", clocks - self._clocks)
            self._trusted_since = max(self._trusted_since, now + self.ttl)
        self._clocks = clocks

    def _adopt_orphans(self) -> None:
        for ledger in orphans(ledger_folder()):
            if ledger.owner.get("store", self.store) == self.store:
                if self.whereabouts is not None:
                    if lives(ledger.owner.get("pid", 0)) and time.monotonic() - ledger.watched < DYING:
                        ledger.close()  # it still writes there, for a moment
                    else:
                        self.bury(Death(ledger, ledger.innocent))
                    continue
                try:
                    count = self._lay_to_rest(Death(ledger))
                except BaseException:
                    ledger.close()  # and with it its lock: this is tried again, here or elsewhere
                    raise
                logger.warning("Took back %d deliveries of a worker of this machine that was killed.", count)
            else:
                ledger.close()
        if self.whereabouts is not None:
            self.whereabouts.adopt_memories()

    def _lay_to_rest(self, death: Death) -> int:
        """Settle what the ledger proves, conclude what was stopped, give back the rest."""
        ledger = death.ledger
        if self.whereabouts is not None:
            return self._lay_down(death)
        consumer = ledger.consumer
        count = 0
        if consumer is not None:
            running = ledger.running()
            self._store_gone([run for run in running if run.early], death.verdicts)
            stopped = [run for run in running if run.id in death.verdicts]
            guilty = [] if death.innocent else [run for run in running if run.id not in death.verdicts]
            if stopped:
                guilty += self._conclude(consumer, ledger.queues, stopped, death.verdicts)
            if failpoints.on:
                failpoints.begin("release")
            crashed = [(run.queue, run.tag) for run in guilty]
            if death.suspicious and not death.innocent:
                crashed = [(held.queue, held.tag) for held in self.broker.held(consumer, ledger.queues)]
            count = self.broker.release(
                consumer,
                ledger.queues,
                crashed=crashed,
                done=ledger.unsettled(),
            )
        ledger.close(remove=True)
        return count

    def _lay_down(self, death: Death) -> int:
        """The broker gives back by itself; what it asks us is known already."""
        ledger = death.ledger
        if ledger.consumer is not None:
            early = [run for run in ledger.running() if run.early]
            self._store_gone(early, death.verdicts)
            for run in early:
                ledger.end(run.slot)  # told once
        # Who still asks when we have ended is answered by the next worker of this machine.
        owes = self.ending and death.held > 0
        self._owes |= owes
        self._close(ledger, remove=not owes)
        return death.held

    def _close(self, ledger: Ledger, *, remove: bool) -> None:
        if self.whereabouts is not None:
            self.whereabouts.close(ledger, remove=remove)
        else:
            ledger.close(remove=remove)

    def _store_gone(self, runs: Sequence[Running], verdicts: Mapping[str, str]) -> None:
        """The broker has nothing left of calls that were acknowledged early: nobody must wait for ever."""
        results = [
            self.gone(run.id, run.name, verdicts.get(run.id), run.hard - run.started)
            for run in runs
            if len(run.id) < ID_SIZE  # a longer one is cut off
        ]
        stored = [result for result in results if result is not None]
        if stored:
            self._storing.store(stored)

    def _conclude(
        self, consumer: str, queues: Sequence[str], stopped: Sequence[Running], verdicts: Mapping[str, str]
    ) -> list[Running]:
        """End deliveries in the dead child's place, under its own lease; return those that it cannot end."""
        tags = {(run.queue, run.tag): run for run in stopped}
        settlements: list[Settlement] = []
        failed: list[Running] = []
        for delivery in self.broker.held(consumer, queues):
            run = tags.get((delivery.queue, delivery.tag))
            if run is None:
                continue
            try:
                settlements.append(self.conclude(delivery, verdicts[run.id], run.hard - run.started))
            except Exception as exc:  # it goes back as a crash, which is counted, and so not for ever
                logger.critical("Cannot conclude %s[%s]: %r", run.name, run.id, exc, exc_info=True)
                failed.append(run)
        if not settlements:
            return failed
        if self.chords is not None:
            settlements = self.chords.settle(settlements)
        if self.target is None:
            self._storing.store([result for settlement in settlements for result in settlement.results])
            settlements = [settlement._replace(results=()) for settlement in settlements]
        deputy = self.broker.consumer(ConsumerSpec(consumer, queues, self.ttl, self.target))
        received = deputy.exchange(settlements, 0)
        if self.chords is not None:
            self.chords.close(settlements, received.stale)
        return failed
