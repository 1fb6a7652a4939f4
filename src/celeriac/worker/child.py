"""A child: one lane in the main thread, one courier, one control thread; the data plane of the worker.

1. `serve`: the life of a consuming child, from lease to last settlement.
2. `run_role`: what a process forked from the template becomes (child, beat or steward).
3. As a module (`python -m celeriac.worker.child ORDER`): the same in a fresh interpreter.

Not here: who starts children and replaces them (`supervisor.py`).
"""

from __future__ import annotations

import json
import logging
import multiprocessing.process
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NoReturn

from celeriac import failpoints, signals
from celeriac.backends.retrying import Retrying
from celeriac.brokers.base import Broker, Consumer, ConsumerSpec
from celeriac.exceptions import OperationalError
from celeriac.worker.courier import Courier
from celeriac.worker.lanes import Lane, LoopLane, MainLane, ThreadLane
from celeriac.worker.ledger import Ledger
from celeriac.worker.lifelines import pass_on
from celeriac.worker.options import WorkerOptions
from celeriac.worker.outage import Outage
from celeriac.worker.request import Processor
from celeriac.worker.template import Order, die_with_parent, obey_supervisor_only
from celeriac.worker.trail import LedgerTrail

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac
    from celeriac.worker.roster import Roster

__all__ = ["EXIT_FAILED", "EXIT_LOST", "LANES", "make_processor", "run_role", "serve"]

logger = logging.getLogger("celeriac.worker")

#: Seconds for which a body may keep the courier from the interpreter. The courier asks for it two or three
#: times a trip; with Python's own 5 ms the lane would run out of work meanwhile.
SWITCH = 0.0005
#: Exit status of a child whose lease was taken by another node.
EXIT_LOST = 75
#: Exit status of a child that something unforeseen ended: all it held is suspect.
EXIT_FAILED = 70

LANES: dict[str, type[Lane]] = {
    "prefork": MainLane,
    "solo": MainLane,
    "threads": ThreadLane,
    "asyncio": LoopLane,
}


def run_role(app: Celeriac, order: Order, control: socket.socket, roster: Roster | None = None) -> int:
    """Become what the supervisor ordered; return the exit status."""
    multiprocessing.process.current_process().name = _title(order)
    options = WorkerOptions(**{**order.detail["options"], "queues": tuple(order.detail["queues"])})
    if order.role == "beat":
        return _beat(app, options, control)
    if order.role == "steward":
        return _steward(app, order, control)
    return serve(app, options, order, control, roster)


def _title(order: Order) -> str:
    return f"Worker-{order.slot + 1}" if order.role == "child" else order.role.capitalize()


def make_processor(app: Celeriac, hostname: str, options: WorkerOptions, broker: Broker) -> Processor:
    """The processor of one process, with the settings that it needs."""
    conf = app.conf
    backend = app.backend
    target = backend.target()
    return Processor(
        app,
        hostname,
        carried=target is not None and broker.carries(target),
        hard=options.time_limit or conf.task_time_limit,
        soft=options.soft_time_limit or conf.task_soft_time_limit,
    )


def make_storing(app: Celeriac) -> Retrying:
    """The app's result store, with the user's policy for the time in which it cannot be reached."""
    conf = app.conf
    return Retrying(
        app.backend,
        most=conf.result_backend_max_retries,
        base=conf.result_backend_base_sleep_between_retries_ms / 1000,
        longest=conf.result_backend_max_sleep_between_retries_ms / 1000,
        serializer=conf.result_serializer,
    )


def _register(broker: Broker, spec: ConsumerSpec, lane: Lane) -> Consumer | None:
    """Take the lease, waiting for the broker as long as it takes; None when told to stop meanwhile."""
    outage = Outage("Cannot reach the broker")
    while not lane.stopping:
        try:
            if failpoints.on:
                failpoints.begin("register")
            consumer = broker.consumer(spec)
        except OperationalError as exc:
            outage.failed(exc)
            time.sleep(outage.pause())
        else:
            outage.over()
            return consumer
    return None


def serve(
    app: Celeriac, options: WorkerOptions, order: Order, control: socket.socket, roster: Roster | None = None
) -> int:
    """Consume until told to stop."""
    sys.setswitchinterval(SWITCH)
    hostname = str(options.hostname)
    queues = tuple(options.queues or ())
    ledger = Ledger(Path(order.detail["ledger"]))
    signals.worker_process_init.send(sender=None)
    broker = app.broker
    processor = make_processor(app, hostname, options, broker)
    identity = f"{hostname}:{os.getpid()}:{secrets.token_hex(4)}"
    target = app.backend.target() if processor.carried else None
    trail = None if broker.capabilities.leases else LedgerTrail(ledger, roster)
    spec = ConsumerSpec(identity, queues, app.conf.worker_lease_ttl, target, trail)
    ledger.sign(identity, queues, node=hostname, store=order.detail["store"])
    lane = LANES[options.pool or "prefork"](processor, ledger.slots, ledger)
    lane.max_tasks = options.max_tasks_per_child
    lane.max_memory = options.max_memory_per_child
    _Control(control, lane, processor, identity)
    consumer = _register(broker, spec, lane)
    if consumer is None:
        return 0
    ledger.pulse()
    ledger.lease_taken()
    processor.revoked.update(_revoked(broker))
    turns = None if broker.capabilities.wakes_one else roster
    courier = Courier(consumer, make_storing(app), lane, ledger, lambda: _lost(courier), turns, order.slot)
    courier.patience = spec.ttl
    if trail is not None:
        courier.without_leases(trail, lambda line: pass_on(control, line))
    processor.courier = courier
    lane.courier = courier
    courier.start()
    try:
        lane.run()
    except BaseException:  # a bug of ours: what ran is suspect, and the supervisor reads that in the ledger
        logger.critical("The lane failed; the process ends.", exc_info=True)
        _leave(EXIT_FAILED)
    courier.finish()
    signals.worker_process_shutdown.send(sender=None, pid=os.getpid(), exitcode=0)
    return EXIT_FAILED if courier.failure else 0


def _revoked(broker: Broker) -> Sequence[str]:
    try:
        return broker.revoked()
    except OperationalError as exc:  # the supervisor passes on what is revoked from now on
        logger.warning("Cannot fetch the revoked ids: %s", exc)
        return ()


def _lost(courier: Courier) -> None:
    _leave(EXIT_FAILED if courier.failure else EXIT_LOST)


def _leave(code: int) -> NoReturn:
    """End without waiting for anything: a body may be running."""
    logging.shutdown()
    os._exit(code)


class _Control:
    """Listens to the supervisor. Its end means that the supervisor is dead: then so are we."""

    def __init__(self, control: socket.socket, lane: Lane, processor: Processor, identity: str) -> None:
        self.lane = lane
        self.processor = processor
        control.sendall(json.dumps({"ready": identity}).encode() + b"\n")
        listen(control, self.obey)

    def obey(self, message: dict[str, Any]) -> None:
        if "stop" in message:
            self.lane.stop()
        if "revoked" in message:
            self.processor.revoked.update(message["revoked"])


def listen(control: socket.socket, obey: Callable[[dict[str, Any]], None]) -> threading.Thread:
    """Hand each line of the control socket to `obey`, in a thread; leave at once when it closes."""

    def run() -> None:
        with control.makefile("rb") as lines:
            for line in lines:
                obey(json.loads(line))
        os._exit(1)

    thread = threading.Thread(target=run, name="control", daemon=True)
    thread.start()
    return thread


def _beat(app: Celeriac, options: WorkerOptions, control: socket.socket) -> int:
    from celeriac import beat

    stop = threading.Event()
    listen(control, lambda message: stop.set() if "stop" in message else None)
    beat.run(app, schedule_file=options.schedule, scheduler=options.scheduler, stop=stop)
    return 0


def _steward(app: Celeriac, order: Order, control: socket.socket) -> int:
    """Runs the signal handlers that belong to the node, so that none runs in the supervisor."""
    hostname = order.detail["options"]["hostname"]
    messages: SimpleQueue[dict[str, Any]] = SimpleQueue()
    listen(control, messages.put)
    while True:
        message = messages.get()
        if "ready" in message:
            signals.worker_ready.send(sender=hostname)
        if "shutting_down" in message:
            signals.worker_shutting_down.send(sender=hostname, **message["shutting_down"])
        if "stop" in message:
            signals.worker_shutdown.send(sender=hostname)
            return 0


def main() -> None:
    """Entry of a spawned child: the order comes as JSON."""
    from celeriac.app.discovery import find_app
    from celeriac.worker import complete, logs

    die_with_parent()
    obey_supervisor_only()
    detail = json.loads(sys.argv[1])
    control = socket.socket(fileno=detail.pop("fd"))
    app = find_app(detail.pop("app"))
    order = Order(**detail)
    options = complete(app, WorkerOptions(**{**order.detail["options"], "queues": None}))
    logs.setup(app, options)
    code = run_role(app, order, control)
    sys.stdout.flush()
    sys.stderr.flush()
    _leave(code)  # threads of bodies that were given up would keep the interpreter waiting


if __name__ == "__main__":
    main()
