"""The supervisor: one loop that starts, watches, limits, replaces and stops children. No user code runs here.

1. Starts a child per slot (prefork) or one child with many slots (threads, asyncio), and replaces each that
   ends, at once.
2. Reads the ledgers: kills a child whose body is past its hard limit, or whose courier has fallen silent.
3. Obeys signals with Celery's meanings: TERM and INT stop warm, QUIT stops cold (after
   `worker_soft_shutdown_timeout` seconds of grace), HUP restarts, USR1 dumps stacks, TTIN and TTOU grow and
   shrink the pool.
4. Keeps the heart (`heart.py`), the steward and the embedded beat (`child.py`).

Not here: any message (`courier.py`, `request.py`), when a process is wanted (`slots.py`), how all of it stops
(`shutdown.py`).
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import secrets
import select
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from celeriac import signals
from celeriac.brokers.base import Delivery, Settlement
from celeriac.worker.child import EXIT_FAILED, EXIT_LOST, make_processor, make_storing, run_role
from celeriac.worker.children import Child
from celeriac.worker.chords import Keeper
from celeriac.worker.heart import Death, Heart
from celeriac.worker.ledger import Ledger, ledger_folder
from celeriac.worker.lifelines import Lifelines
from celeriac.worker.options import WorkerOptions
from celeriac.worker.outage import patience
from celeriac.worker.readiness import ReadyFile
from celeriac.worker.roster import Roster
from celeriac.worker.shutdown import Shutdown
from celeriac.worker.signalling import Signals
from celeriac.worker.slots import Slots
from celeriac.worker.template import Nursery, Order, nursery

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac

__all__ = ["Supervisor"]

logger = logging.getLogger("celeriac.worker")

#: Seconds between looks at the ledgers.
TICK = 0.1
#: Seconds a courier may be silent while nothing runs.
SILENCE = 30.0
#: Seconds that helpers have to end, and that the heart has to hand back what dead children held.
PATIENCE = 5.0
#: Seconds that a child with many slots has to enforce a hard limit itself, before it is killed.
OVERDUE = 0.5

#: Exit status of a worker that may not wait for its broker (EX_UNAVAILABLE of BSD's sysexits).
UNAVAILABLE = 69


class Supervisor:
    """Runs one worker node until it is told to stop.

    Args:
        app: finalised application.
        options: complete: hostname, queues, pool and concurrency are set.
    """

    def __init__(self, app: Celeriac, options: WorkerOptions, store: str) -> None:
        self.app = app
        self.options = options
        self.store = store
        self.queues = tuple(options.queues or ())
        self.children: dict[int, Child] = {}
        self.roster = Roster()
        self.slots = Slots(self._concurrency)
        self.shutdown = Shutdown(self.children, app.conf.worker_soft_shutdown_timeout or 0.0)
        self.ready = False
        self._lost: list[str] = []
        self._new_revoked: list[str] = []
        self._nursery: Nursery | None = None
        self._heart: Heart | None = None
        self._signals: Signals | None = None
        self._ready_file = ReadyFile(options.ready_file) if options.ready_file else None
        self._lifelines = Lifelines(not app.broker.capabilities.leases)
        self._last_step = time.monotonic()
        conf = app.conf
        self._patience = patience(conf.broker_connection_retry, conf.broker_connection_max_retries)

    # -- life ---------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Start everything, loop, stop everything; return the exit status."""
        # The template is forked before anything is connected and before the heart's thread starts.
        self._nursery = nursery(self.options.app, self._entry)
        self._signals = Signals()
        for slot in range(self._concurrency if self._many_children else 1):
            self.slots.want("child", slot)
        self._want_helpers()
        self._start_due(time.monotonic())
        self._heart = self._make_heart()
        self._heart.start()
        try:
            while self._step():
                pass
        except ChildProcessError as exc:
            self._start_over(exc)
        finally:
            self._end()
        return self.shutdown.exit_code

    @property
    def _many_children(self) -> bool:
        return self.options.pool == "prefork"

    @property
    def _concurrency(self) -> int:
        return self.options.concurrency or 1

    def _entry(self, order: Order, control: socket.socket) -> int:
        return run_role(self.app, order, control, self.roster)

    def _make_heart(self) -> Heart:
        broker = self.app.broker
        processor = make_processor(self.app, str(self.options.hostname), self.options, broker)

        def conclude(delivery: Delivery, why: str, limit: float) -> Settlement:
            return processor.stopped(delivery, why, limit)

        return Heart(
            broker,
            self.app.backend,
            self.queues,
            ttl=self.app.conf.worker_lease_ttl,
            store=self.store,
            target=self.app.backend.target() if processor.carried else None,
            alive=self._leases,
            on_lost=self._lost.extend,
            on_revoked=self._new_revoked.extend,
            conclude=conclude,
            gone=processor.gone,
            storing=make_storing(self.app),
            chords=Keeper(self.app),
            living=self._ledgers,
        )

    def _leases(self) -> Mapping[str, Sequence[str]]:
        """Called by the heart's thread: the leases of the children that deserve to live."""
        found = {}
        for child in list(self.children.values()):
            ledger = child.ledger
            if ledger is not None and ledger.leased and ledger.consumer is not None:
                found[ledger.consumer] = ledger.queues
        return found

    def _ledgers(self) -> Sequence[tuple[Ledger, int]]:
        """Called by a thread of the broker's."""
        return [
            (child.ledger, child.pid) for child in list(self.children.values()) if child.ledger is not None
        ]

    def _start_over(self, why: ChildProcessError) -> None:
        """A task, or the system, killed the template: what ran is suspect, and this process begins anew."""
        logger.critical("%s Starting over.", why)
        for pid in list(self.children):
            child = self.children.pop(pid)
            child.kill()
            self._bury(child, -signal.SIGKILL)
        self.shutdown.restart = self.shutdown.stage is None

    def _end(self) -> None:
        """Helpers end by themselves, all else is killed."""
        if self._ready_file is not None:
            self._ready_file.remove()
        if self._heart is not None:
            self._heart.ending = True
        for child in self.children.values():
            if child.role == "child" or (self.shutdown.stage == "cold" and child.role != "steward"):
                child.innocent = True
                child.kill()
            else:
                child.tell(stop=True)
        deadline = time.monotonic() + PATIENCE
        while self.children and time.monotonic() < deadline:
            with contextlib.suppress(ChildProcessError):
                self._reap(timeout=TICK)
        for child in self.children.values():
            child.kill()
        if self._heart is not None:
            self._heart.stop()
            self._heart.join(PATIENCE)
        if self._nursery is not None:
            self._nursery.close()
        if self._signals is not None:
            self._signals.close()

    # -- the loop -----------------------------------------------------------------------------------------

    def _step(self) -> bool:
        """One round; False when everything has ended."""
        now = time.monotonic()
        self._start_due(now)
        self._reap(timeout=self._pause(now))
        self._obey_signals()
        now = time.monotonic()
        self._notice_absence(now)
        self._pass_on()
        self._watch(now)
        if self.shutdown.stage is not None:
            self.shutdown.watch(now)
            return any(child.role == "child" for child in self.children.values())
        return True

    def _notice_absence(self, now: float) -> None:
        """Without leases nobody tells us that all of this node stood still for so long that others have what
        it held (a stopped group, a frozen container): a zombie."""
        absent, self._last_step = now - self._last_step, now
        if absent > self.app.conf.worker_lease_ttl and not self.app.broker.capabilities.leases:
            self._lost.extend(self._leases())

    def _pause(self, now: float) -> float:
        return max(0.0, min(TICK, self.slots.next_due(now + TICK) - now))

    def _start_due(self, now: float) -> None:
        if self.shutdown.stage is not None:
            return
        for role, slot in self.slots.due(now):
            try:
                self._start(role, slot)
            except BlockingIOError as exc:
                logger.error("Cannot start a process: %s; trying again.", exc)
                self.slots.want(role, slot, now + 1.0)
            else:
                self.slots.started(role, slot)

    def _start(self, role: str, slot: int) -> Child:
        assert self._nursery is not None
        detail: dict[str, Any] = {
            "options": {**self.options._asdict(), "queues": None},
            "queues": self.queues,
            "store": self.store,
        }
        ledger = None
        if role == "child":
            path = ledger_folder() / f"{os.getpid()}-{slot}-{secrets.token_hex(4)}.ledger"
            ledger = Ledger(path, 1 if self._many_children else self._concurrency, create=True)
            detail["ledger"] = str(path)
        try:
            pid, control = self._nursery.spawn(Order(role, slot, detail))
        except OSError:
            if ledger is not None:
                ledger.close(remove=True)
            raise
        control.settimeout(1.0)  # one that does not listen must not stop the supervisor
        child = Child(role, slot, pid, control, ledger)
        self.children[pid] = child
        return child

    def _want_helpers(self) -> None:
        if (
            signals.worker_ready.receivers
            or signals.worker_shutdown.receivers
            or signals.worker_shutting_down.receivers
        ):
            self.slots.want("steward", 0)
        if self.options.beat:
            self.slots.want("beat", 0)

    def _reap(self, timeout: float) -> None:
        assert self._nursery is not None
        assert self._signals is not None
        fds = [self._nursery.fileno(), self._signals.fileno(), *self._lifelines.ears(self.children)]
        ready, _, _ = select.select(fds, [], [], timeout)
        if self._signals.fileno() in ready:
            self._signals.drain()
        self._lifelines.hear(self.children, ready)
        for pid, code in self._nursery.exits():
            child = self.children.pop(pid, None)
            if child is not None:
                self._bury(child, code)

    def _bury(self, child: Child, code: int) -> None:
        again = self.slots.when_again(child, time.monotonic())  # asked first: the heart closes the ledger
        if child.ledger is not None:
            self.roster.busy(child.slot)
            self._say_how(child, code)
            assert self._heart is not None
            innocent = child.innocent or code == EXIT_LOST
            self._heart.bury(Death(child.ledger, innocent, child.verdicts, code == EXIT_FAILED))
        self._lifelines.cut(child)  # now, and not before, the broker may notice the death
        child.control.close()
        if self.shutdown.stage is not None or child.retiring:
            return
        if child.role == "child":
            self.slots.want("child", child.slot, again)
        elif child.role == "beat":
            logger.error("The embedded beat ended with status %d; starting it again.", code)
            lived = time.monotonic() - child.born
            self.slots.want("beat", 0, time.monotonic() + (0.0 if lived > 5.0 else 1.0))

    def _say_how(self, child: Child, code: int) -> None:
        assert child.ledger is not None
        if code == 0 or child.innocent:
            return
        how = f"signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"exitcode {code}"
        for run in child.ledger.running():
            logger.error(
                "Task %s[%s] was running when its process %d ended: %s.", run.name, run.id, child.pid, how
            )
        logger.error(
            "Process 'Worker-%d' pid:%d exited with %s; starting another.", child.slot + 1, child.pid, how
        )

    def _watch(self, now: float) -> None:
        for child in list(self.children.values()):
            ledger = child.ledger
            if ledger is None or child.condemned:
                continue
            ledger.watch(now)
            self._lifelines.keep(child, now)
            self._enforce_limits(child, ledger, now)
            if ledger.leased and now - ledger.last_pulse > SILENCE and not ledger.busy():
                logger.error("Process %d has been silent for %d s; replacing it.", child.pid, SILENCE)
                child.innocent = True
                child.kill()

    def _enforce_limits(self, child: Child, ledger: Ledger, now: float) -> None:
        # A child with many slots does it itself, unless a body keeps it from that.
        late = OVERDUE if self.options.pool in ("threads", "asyncio") else 0.0
        for run in ledger.running():
            if run.hard and now >= run.hard + late:
                limit = round(run.hard - run.started, 3)
                logger.error("Hard time limit (%ss) exceeded for %s[%s]", limit, run.name, run.id)
                child.verdicts[run.id] = "time limit"
        if child.verdicts:
            child.innocent = True  # what else runs there has done nothing
            child.kill()

    def _pass_on(self) -> None:
        """What the heart has heard, told to the children."""
        lost, self._lost[:] = set(self._lost), []
        for child in list(self.children.values()):
            if child.ledger is not None and child.ledger.consumer in lost:
                logger.error(
                    "LEASE_LOST: process %d lost its lease while this node was away; replacing it.", child.pid
                )
                child.innocent = True
                child.kill()
        revoked, self._new_revoked[:] = list(self._new_revoked), []
        for child in self.children.values():
            if revoked and child.ledger is not None:
                child.tell(revoked=revoked)
        self._say_ready()
        if self._ready_file is not None:
            self._ready_file.update(self.is_at_work())
        self._give_up()

    def _give_up(self) -> None:
        """A broker that is lost for longer than the settings allow ends the worker; somebody starts it
        again."""
        since = self._heart.outage.since if self._heart is not None else None
        if since is None or self.shutdown.stage is not None or time.monotonic() - since < self._patience:
            return
        setting = "broker_connection_max_retries" if self._patience else "broker_connection_retry"
        logger.critical("The broker is lost, and %s allows no more: the worker ends.", setting)
        self.shutdown.exit_code = UNAVAILABLE
        self.shutdown.cold()

    def is_at_work(self) -> bool:
        """Started, not stopping, and in touch with the broker: the heart, and at least one child."""
        ledgers = [child.ledger for child in self.children.values() if child.ledger is not None]
        in_touch = self._heart is not None and self._heart.outage.since is None
        return (
            self.ready
            and self.shutdown.stage is None
            and in_touch
            and any(ledger.leased and not ledger.away for ledger in ledgers)
        )

    def _say_ready(self) -> None:
        """Once, when every child has its lease."""
        leased = [child.ledger.leased for child in self.children.values() if child.ledger is not None]
        if not self.ready and leased and all(leased) and not self.slots:
            self.ready = True
            for child in self.children.values():
                if child.role == "steward":
                    child.tell(ready=True)

    # -- signals ------------------------------------------------------------------------------------------

    def _obey_signals(self) -> None:
        assert self._signals is not None
        for number in self._signals.take():
            if number == signal.SIGTERM:
                self.shutdown.warm("SIGTERM")
            elif number == signal.SIGINT:
                self.shutdown.interrupt()
            elif number == signal.SIGQUIT:
                self.shutdown.soft()
            elif number == signal.SIGHUP:
                self.shutdown.restart = True
                self.shutdown.warm("SIGHUP")
            elif number == signal.SIGUSR1:
                self._dump_stacks()
            elif number == getattr(signal, "SIGTTIN", None):
                self._resize(+1)
            elif number == getattr(signal, "SIGTTOU", None):
                self._resize(-1)

    def _dump_stacks(self) -> None:
        """Every process writes the stacks of its threads to the standard error of the worker."""
        if sys.__stderr__ is not None:
            with contextlib.suppress(ValueError, OSError):
                faulthandler.dump_traceback(sys.__stderr__, all_threads=True)
        for child in self.children.values():
            child.dump_stacks()

    def _resize(self, change: int) -> None:
        if not self._many_children:
            logger.warning("Only the prefork pool can grow and shrink.")
            return
        children = [child for child in self.children.values() if child.role == "child"]
        if change > 0:
            self.slots.grow(children)
            return
        for child in self.slots.shrink(children):
            child.retiring = True
            child.tell(stop=True)
