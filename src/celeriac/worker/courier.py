"""The courier: the thread of a child that talks to the broker, so that user code never waits for it.

1. One trip settles what the lane has finished and fetches what it needs next (`Consumer.exchange`).
2. It asks for about `BUDGET` seconds of work, judged by the measured run time, and never hoards: what is
   fetched but not started goes back when the running body turns out long.
3. When there is nothing to do it sleeps in `Consumer.wait`; the lane and anybody's publish wake it.
4. It keeps finished work until the broker has taken it, through reconnections.
5. Where the broker has no leases, a lost connection is the end of all that was not started, and of nothing
   else; and it is the courier that keeps the connection alive.

Not here: running bodies (`lanes/`), deciding what a message means (`request.py`).
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from celeriac import failpoints
from celeriac.backends.base import StoredResult
from celeriac.backends.retrying import StoreDown, Storing
from celeriac.brokers.base import REQUEUE, Consumer, Lifeline, Outgoing, Received, Settlement, Trail
from celeriac.exceptions import CeleriacError, OperationalError
from celeriac.worker.chords import Keeper
from celeriac.worker.outage import Outage

if TYPE_CHECKING:
    from celeriac.worker.lanes import Lane
    from celeriac.worker.ledger import Ledger
    from celeriac.worker.roster import Roster

__all__ = ["Courier"]

logger = logging.getLogger("celeriac.worker")

#: Seconds of work to hold at most, for each slot of the lane.
BUDGET = 0.02
#: Messages to hold at most, whatever they cost.
MOST = 1000
#: Settlements of one trip at most.
TRIP = 1000
#: Seconds after which a running body counts as long: what waits behind it goes back.
LONG = 0.05
#: A trip that brings fewer than this has emptied the queues.
FEW = 8
#: Seconds of sleep at most, for the pulse in the ledger.
NAP = 2.0
#: Seconds for which a child that is to end waits for a broker that cannot be reached.
FAREWELL = 10.0

_AWAKE, _LISTENING, _DOZING = 0, 1, 2


class Courier(threading.Thread):
    """Moves deliveries from the broker to the lane and settlements back.

    Args:
        consumer: this child's lease.
        backend: where results go that cannot ride on settlements; None when they can (or are off).
        lane: where bodies run.
        ledger: this child's page, None in-process.
        on_lost: called once when the lease is gone; the child must end without finishing anything.
        roster, slot: who of this node is idle, and our place there; None in-process.
    """

    def __init__(
        self,
        consumer: Consumer,
        backend: Storing | None,
        lane: Lane,
        ledger: Ledger | None,
        on_lost: Callable[[], None],
        roster: Roster | None = None,
        slot: int = 0,
    ) -> None:
        super().__init__(name="courier", daemon=True)
        self.consumer = consumer
        self.backend = backend
        self.lane = lane
        self.ledger = ledger
        self.on_lost = on_lost
        self.roster = roster
        self.slot = slot
        self._outage = Outage("Broker lost", None if ledger is None else ledger.set_away)
        self._store_outage = Outage("Result store lost", None if ledger is None else ledger.set_away)
        self.outbox: deque[Settlement] = deque()
        self.notices: deque[StoredResult] = deque()
        self.loose: deque[Settlement] = deque()  # ends of deliveries that were acknowledged before they ran
        self.urgent: deque[tuple[Settlement, threading.Event, list[bool]]] = deque()
        self.offset = 0.0  # the broker's clock minus ours
        self.fetching = True
        self.asleep = _AWAKE
        self._bell = threading.Lock()  # free: somebody rang
        self._stop_by = 0.0  # monotonic; 0: not stopping
        self._ended = False
        self._posted = 0
        self._mark = 0
        self._dry = False  # the last trip brought few: the queues have no more
        self.failure: BaseException | None = None
        self.patience = 6.0  # seconds without the supervisor; `worker_lease_ttl`
        self._leases = True
        self._trail: Trail | None = None
        self._pass_on: Callable[[Lifeline | None], None] | None = None
        self._line: Lifeline | None = None
        self._parked = False  # without leases: the consumer knows that we fetch nothing for now
        self._chords: Keeper | None = None
        if lane.processor.reports is not None:
            lane.processor.reports.poke = self.poke

    def without_leases(
        self, trail: Trail | None = None, pass_on: Callable[[Lifeline | None], None] | None = None
    ) -> None:
        """Say, before the thread starts, that what is held is held by the connection.

        Args:
            trail: where it is written what is dropped unstarted.
            pass_on: is given each new connection, which must be kept alive when we cannot.
        """
        self._leases = False
        self._trail = trail
        self._pass_on = pass_on

    # -- called by the lane -------------------------------------------------------------------------------

    def post(self, settlement: Settlement, *, now: bool, held: bool = True) -> None:
        """Take over a finished delivery.

        Args:
            now: the lane has nothing else to do, so do not wait for more.
            held: False when it was settled before it ran; its results and follow-ups are still owed.
        """
        if held:
            self.outbox.append(settlement)
        elif settlement.results or settlement.followups:
            self.loose.append(settlement)
        if self.ledger is not None:
            self._posted = self.ledger.mark()
        if now:
            self.poke()

    def notice(self, result: StoredResult) -> None:
        """Store a state that ends nothing (STARTED)."""
        self.notices.append(result)
        self.poke()

    def settle_now(self, settlement: Settlement) -> bool:
        """Settle before the body runs (early acknowledgement); True when the broker has accepted it."""
        done, accepted = threading.Event(), [False]
        self.urgent.append((settlement, done, accepted))
        if self._ended:
            return False
        self.poke()
        done.wait()
        return accepted[0]

    def poke(self) -> None:
        """Something changed: look again, if asleep."""
        if self.asleep == _LISTENING:
            self.consumer.wake()
        elif self.asleep == _DOZING:
            self._ring()

    def fail(self, who: str, exc: BaseException) -> None:
        """A bug of ours, in any thread: no child may live on that holds deliveries which nobody ends."""
        self.failure = exc
        logger.critical("%s failed: %r; the child ends and its work goes back.", who, exc, exc_info=exc)
        self.on_lost()

    def _ring(self) -> None:
        if self._bell.locked():
            with contextlib.suppress(RuntimeError):  # somebody has rung it just now
                self._bell.release()

    # -- called by the child ------------------------------------------------------------------------------

    def pause(self) -> None:
        """Fetch nothing more."""
        self.fetching = False
        self.poke()

    def finish(self, timeout: float | None = None) -> None:
        """Settle what is finished, give the rest back, end the lease, end the thread."""
        self.fetching = False
        self._stop_by = time.monotonic() + FAREWELL
        self.poke()
        self.join(timeout)

    # -- the thread ---------------------------------------------------------------------------------------

    def run(self) -> None:
        try:
            self._loop()
        except BaseException as exc:  # a bug of ours or a closed interpreter: the child must not linger deaf
            self.fail("Courier", exc)
        finally:
            self._ended = True
            self._answer(list(self.urgent), accepted=False, stale=())

    def _loop(self) -> None:
        pending: list[Settlement] = []
        while True:
            now = time.monotonic()
            if self.ledger is not None:
                self.ledger.pulse()
                if not self.ledger.intact():
                    raise RuntimeError("a task closed the file descriptors of its process")
            deadline = self.lane.tick(now)
            self._collect(pending)
            self._give_back(pending, now)
            deadline = self._take_reports(now, deadline)
            want = self._want(now) if self.fetching and (pending or not self._waits()) else 0
            if pending or want or self.urgent or self.notices or self.loose or self._must_park(want, now):
                received = self._trip(pending, want)
                if received is None:
                    return
                count = len(received.deliveries)
                if want:
                    self._dry = count < min(want, FEW)
                if count:
                    if self.roster is not None:
                        self.roster.busy(self.slot)
                    self.lane.put(received.deliveries)
                    if self._waits():  # at once, for the lane needs the interpreter that we still have
                        now = time.monotonic()
                        self._sleep(now, self.lane.tick(now), idle=False)
                    continue
                if self.outbox or self.urgent:
                    continue
            if self._stop_by and not (self.outbox or self.loose):
                self._close()
                return
            self._sleep(now, deadline, idle=want > 0)

    def _collect(self, pending: list[Settlement]) -> None:
        self._mark = self._posted
        outbox = self.outbox
        pending.extend(outbox.popleft() for _ in range(min(len(outbox), TRIP - len(pending))))
        if outbox:  # more than one trip's worth: what the ledger calls done is not all in this trip
            self._mark = 0

    def _take_reports(self, now: float, deadline: float | None) -> float | None:
        """How far bodies are is stored with the next trip; return when to look again, or `deadline`."""
        reports = self.lane.processor.reports
        if reports is None or not (reports.open or reports.fresh):
            return deadline
        taken, again = reports.take(now)
        self.notices.extend(taken)
        return again if deadline is None else deadline if again is None else min(again, deadline)

    def _waits(self) -> bool:
        """True when asking for more would only be in the way of the settlement that is about to come."""
        return self._dry and self.lane.slots == 1 and self.lane.backlog() > 0

    def _must_park(self, want: int, now: float) -> bool:
        """True when the consumer is to be told that nothing is wanted for long: others are to be sent it."""
        if want or self._leases or self._parked:
            return False
        return not self.fetching or self.lane.busy_for(now) > LONG

    def _want(self, now: float) -> int:
        """How many to ask for: `BUDGET` seconds' worth for each slot, less what is here already."""
        lane = self.lane
        target = max(lane.slots, min(MOST, lane.slots * int(BUDGET / max(lane.pace, 1e-7))))
        held = lane.backlog()
        if lane.busy_for(now) > LONG or (held >= lane.slots and held > target // 2):
            return 0
        return max(0, target - held)

    def _give_back(self, pending: list[Settlement], now: float) -> None:
        """Nothing waits behind a long body."""
        lane = self.lane
        if lane.waiting() and (not self.fetching or lane.busy_for(now) > LONG):
            pending.extend(Settlement(d.queue, d.tag, REQUEUE) for d in lane.take_back())

    def _trip(self, pending: list[Settlement], want: int) -> Received | None:
        """One exchange, repeated until the broker has taken it. None: the lease is lost."""
        urgent = list(self.urgent)
        batch = pending + [settlement for settlement, _, _ in urgent]
        mark = self._mark
        while True:
            if self._is_given_up():
                logger.error(
                    "LEASE_LOST: this node stood still, and others have what it held; dropping %d.",
                    len(batch),
                )
                self._answer(urgent, accepted=False, stale=())
                self.on_lost()
                return None
            try:
                batch = self._store_aside(batch)
                if failpoints.on:
                    failpoints.begin(_kind(batch))
                received = self.consumer.exchange(batch, want)
                break
            except OperationalError as exc:
                outage = self._store_outage if isinstance(exc, StoreDown) else self._outage
                if outage is self._outage:
                    self._drop()
                if self._stop_by and time.monotonic() > self._stop_by:
                    logger.error(
                        "%s: %s; giving up. %d finished tasks are not settled and may run again.",
                        outage.what,
                        exc,
                        len(pending),
                    )
                    return None
                outage.failed(exc)
                self._rest(exc.pause if isinstance(exc, StoreDown) else outage.pause())
        self._outage.over()
        self._store_outage.over()
        if received.lost:
            logger.error(
                "LEASE_LOST: another node has taken this child's deliveries; dropping %d.", len(batch)
            )
            self._answer(urgent, accepted=False, stale=())
            self.on_lost()
            return None
        if received.stale:
            logger.warning("Settlements refused (no longer ours): %d of %d.", len(received.stale), len(batch))
        self._tend()
        self._parked = not want and not batch
        pending.clear()
        if self.ledger is not None and mark:
            self.ledger.settled(mark)
        self.offset = received.now - time.time()
        self._answer(urgent, accepted=True, stale=received.stale)
        if self._chords is not None:
            self._chords.close(batch, received.stale)
        return received

    def _rest(self, seconds: float) -> None:
        """Pause, with signs of life; not beyond the time to stop."""
        until = time.monotonic() + seconds
        while True:
            if self.ledger is not None:
                self.ledger.pulse()
            now = time.monotonic()
            self.lane.tick(now)
            if now >= until or (self._stop_by and now > self._stop_by):
                return
            time.sleep(min(until - now, NAP))

    def _is_given_up(self) -> bool:
        """Without leases: a zombie, which must not even store results. The supervisor gives up its children
        when it finds that the node stood still; until it has looked, it has not been here for long."""
        if self._leases or self.ledger is None:
            return False
        return time.monotonic() - self.ledger.watched > self.patience

    def _drop(self) -> None:
        """Without leases: the connection is lost, and what it brought comes by another one."""
        if self._leases:
            return
        dropped = self.lane.take_back()
        if self._trail is not None and dropped:
            self._trail.dropped([delivery.tag for delivery in dropped])
        self._parked = False
        self._tend()

    def _tend(self) -> None:
        """Pass on the connection when it is another one."""
        if self._pass_on is None:
            return
        line = self.consumer.lifeline()
        if line is not self._line:
            self._line = line
            self._pass_on(line)

    def _store_aside(self, batch: list[Settlement]) -> list[Settlement]:
        """Store and publish what does not ride on settlements; what is left of them."""
        notices = [self.notices[i] for i in range(len(self.notices))]
        loose = [self.loose[i] for i in range(len(self.loose))]
        if any(end.owed for end in batch) or any(end.owed for end in loose):
            if self._chords is None:
                self._chords = Keeper(self.lane.processor.app)
            count = len(batch)
            settled = self._chords.settle([*batch, *loose])
            batch, loose = settled[:count], settled[count:]
        results = [result for end in loose for result in end.results]
        if not self.lane.processor.carried:
            results.extend(result for settlement in batch for result in settlement.results)
            batch = [end._replace(results=()) if end.results else end for end in batch]
        if notices and self.backend is not None:
            self.backend.store_interim(notices)
        for _ in notices:
            self.notices.popleft()
        if results and self.backend is not None:
            self.backend.store(results)
            if failpoints.on:
                failpoints.hit("results.stored")
        followups = [out for end in loose for out in end.followups]
        if followups:
            self._publish(followups)
        for _ in loose:
            self.loose.popleft()
        if self._chords is not None:
            self._chords.close(loose, ())
        return batch

    def _publish(self, followups: Sequence[Outgoing]) -> None:
        try:
            self.lane.processor.app.broker.publish(followups)
        except OperationalError:
            raise
        except CeleriacError as exc:  # no such queue: the same every time
            logger.error("Cannot publish what a task that was acknowledged early set off: %s", exc)

    def _answer(
        self,
        urgent: Sequence[tuple[Settlement, threading.Event, list[bool]]],
        *,
        accepted: bool,
        stale: Sequence[int],
    ) -> None:
        for settlement, done, answer in urgent:
            self.urgent.popleft()
            answer[0] = accepted and settlement.tag not in stale
            done.set()

    def _sleep(self, now: float, deadline: float | None, *, idle: bool) -> None:
        """Sleep until the lane or, when there is room for more, anybody's publish wakes us."""
        timeout = NAP
        if deadline is not None:
            timeout = min(timeout, max(0.0, deadline - now))
        if self.lane.waiting():
            timeout = min(timeout, LONG / 2)
        if not self._leases and not idle and not self._parked:
            timeout = min(timeout, LONG)  # then the running body counts as long
        self._bell.acquire(blocking=False)
        parked = self._parked and not self._leases
        self.asleep = _LISTENING if idle or parked else _DOZING
        try:
            if self.outbox or self.urgent or self.notices or self.loose or self._stop_by:
                return
            reports = self.lane.processor.reports
            if reports is not None and reports.fresh:
                return
            if idle:
                self._listen(timeout)
            elif parked:
                self.consumer.wait(timeout)
                self._tend()
            elif not self.fetching or self._waits() or not self._want(now):
                self._bell.acquire(timeout=timeout)
        except OperationalError as exc:
            self._outage.failed(exc)
            self._drop()
            self._bell.acquire(timeout=0.2)
        finally:
            self.asleep = _AWAKE

    def _listen(self, timeout: float) -> None:
        roster = self.roster
        if roster is None:
            self.consumer.wait(timeout)
            return
        roster.idle(self.slot)
        self.consumer.wait(timeout)
        patience = roster.patience(self.slot)
        if patience and not self.lane.backlog():
            time.sleep(patience)

    def _close(self) -> None:
        try:
            if failpoints.on:
                failpoints.begin("close")
            self.consumer.close()
        except OperationalError as exc:
            logger.warning("Could not hand the lease back: %s; it lapses by itself.", exc)


def _kind(batch: Sequence[Settlement]) -> str:
    """The name of an exchange among failpoints."""
    if any(settlement.followups for settlement in batch):
        return "followup"
    return "settle" if batch else "take"
