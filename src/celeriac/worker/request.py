"""One delivery from bytes to settlement: where settings, tasks, wire and execution meet.

`decode → refuse? → (run body) → conclude → publish follow-ups → store result → settle`

1. `Processor.begin`: decode, and refuse what must not run (unreadable, unknown, revoked, expired, not yet
   due, guilty of too many crashes). A refusal is a settlement, never an exception.
2. `Processor.finish`: what follows from the outcome: handlers, signals, logs, and ONE settlement that carries
   verdict, result and follow-ups.
3. `Processor.stopped`: the same for a body whose process is dead (time limit, termination), without user
   code.

Not here: running the body (`execution/run.py`, `lanes/`), telling of it (`telling.py`), talking to the broker
(`courier.py`).
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from celeriac import signals, states
from celeriac.app.chords import Owed, members_of, orphan
from celeriac.backends.base import Opening
from celeriac.brokers.base import ACK, DEAD, Delivery, Outgoing, Settlement, StoredResult
from celeriac.canvas import waiting_ids
from celeriac.exceptions import (
    CeleriacError,
    DecodeError,
    EncodeError,
    InvalidTaskError,
    NotRegistered,
    TaskRevokedError,
    TimeLimitExceeded,
    WorkerLostError,
)
from celeriac.execution.call import context_of
from celeriac.execution.conclude import Conclusion, conclude
from celeriac.execution.outcome import FAILED, Outcome, format_traceback
from celeriac.wire import protocol, results, serialization
from celeriac.wire.message import Message, Unreadable
from celeriac.wire.protocol import Call
from celeriac.worker.job import Entry, Job, Stranger, entry_of
from celeriac.worker.reports import Reports
from celeriac.worker.suspects import success_of
from celeriac.worker.telling import fields_of, guard, tell

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac
    from celeriac.worker.courier import Courier

__all__ = ["Processor"]

logger = logging.getLogger("celeriac.worker")

#: Bytes of a result document at most: stores refuse what is much larger, and so would who reads it.
RESULT_LIMIT = 128 << 20
#: Header in which a message of an unknown task keeps the time it was first seen (epoch seconds).
PARKED = "celeriac-parked"


class Processor:
    """Turns deliveries into settlements for one process.

    Args:
        app: finalised application.
        hostname: node name, for requests and results.
        carried: results ride on settlements.
        hard, soft: the node's default limits, seconds.
    """

    def __init__(
        self, app: Celeriac, hostname: str, *, carried: bool, hard: float | None, soft: float | None
    ) -> None:
        conf = app.conf
        self.app = app
        self.hostname = hostname
        self.carried = carried
        self.hard = hard
        self.soft = soft
        self.stores = app.backend.capabilities.stores
        self.accept = serialization.content_types(conf.accept_content)
        self.serializer: str = conf.result_serializer
        self.extended: bool = conf.result_extended
        self.ttl: float | None = app.result_ttl
        self.delivery_limit: int = conf.task_delivery_limit
        self.unknown_deadline: float = conf.task_unknown_deadline
        self.revoked: set[str] = set()
        self.courier: Courier | None = None
        self.reports = Reports(app.state_document) if self.stores else None
        self._entries: dict[str, Entry] = {}

    # -- before the body ----------------------------------------------------------------------------------

    def begin(self, delivery: Delivery) -> Job | Settlement:
        """Decode and decide. Hot."""
        message = delivery.message
        try:
            if isinstance(message, Unreadable):
                return self._refuse(delivery, message.reason)
            if delivery.ended:
                return self._end(delivery)
            call = protocol.read(message, self.accept)
            entry = self._entries.get(call.name)
            if entry is None:
                entry = self._look_up(call.name)
                if entry is None:
                    return self._park(delivery, call)
            if delivery.crashes or call.expires is not None or call.eta is not None or self.revoked:
                refusal = self._refusal(delivery, call, entry)
                if refusal is not None:
                    return refusal
            job = Job(delivery, call, entry, context_of(call, self.hostname, delivery.crashes))
            job.context._reports = self.reports
        except (DecodeError, InvalidTaskError) as exc:
            return self._refuse(delivery, f"{type(exc).__name__}: {exc}", exc)
        except Exception as exc:  # a message that finds a bug of ours must still not stop the worker
            logger.critical("Cannot read a message: %r", exc, exc_info=True)
            return self._refuse(delivery, f"unreadable: {exc!r}")
        if entry.track_started and self.stores and not self._ignores(job):
            self._store_started(job)
        if logger.isEnabledFor(logging.INFO):
            logger.info("Task %s[%s] received", call.name, call.id, extra=fields_of(job))
        if signals.task_received.receivers:
            guard(signals.task_received.send, self, request=job.context)
        return job

    def acknowledge(self, job: Job) -> bool:
        """Settle before the body runs; False when the delivery is no longer ours."""
        assert self.courier is not None
        return self.courier.settle_now(Settlement(job.delivery.queue, job.delivery.tag))

    def now(self) -> float:
        """Epoch seconds by the broker's clock."""
        return time.time() + (self.courier.offset if self.courier is not None else 0.0)

    def _look_up(self, name: str) -> Entry | None:
        task = self.app.tasks.get(name)
        if task is None:
            return None
        if task.rate_limit:
            logger.warning("The rate_limit of %s is not enforced by this version; it runs without.", name)
        entry = entry_of(task, stores=self.stores, hard=self.hard, soft=self.soft)
        self._entries[name] = entry
        return entry

    def _refuse(self, delivery: Delivery, reason: str, exc: Exception | None = None) -> Settlement:
        """Dead-letter a message that is none; tell who waits for it, when it says who that is."""
        logger.error("Message refused and dead-lettered: %s", reason, extra={"queue": delivery.queue})
        id_ = "" if isinstance(delivery.message, Unreadable) else delivery.message.headers.get("id")
        stored: tuple[StoredResult, ...] = ()
        if isinstance(id_, str) and 0 < len(id_) <= 255 and self.stores:
            failure = exc or InvalidTaskError(reason)
            assert isinstance(delivery.message, Message)
            reply_to = str(delivery.message.properties.get("reply_to") or "")
            stored = (self._document(id_, states.FAILURE, failure, None, None, reply_to),)
        owed = None
        if isinstance(id_, str) and isinstance(delivery.message, Message):
            members = orphan(self.app, id_, delivery.message.headers, exc or InvalidTaskError(reason))
            owed = Owed((), members) if members else None
        return Settlement(delivery.queue, delivery.tag, DEAD, reason[:2000], (), stored, owed)

    def _park(self, delivery: Delivery, call: Call) -> Settlement:
        """A task this worker does not know may be known to the next version: try again for a while."""
        assert isinstance(delivery.message, Message)
        now = self.now()
        first = call.headers.get(PARKED)
        first = float(first) if isinstance(first, (int, float)) else now
        waited = max(0.0, now - first)
        if waited >= self.unknown_deadline:
            reason = f"no worker knew the task {call.name!r} for {waited:.0f} s (task_unknown_deadline)"
            logger.error("Message refused and dead-lettered: %s", reason, extra={"queue": delivery.queue})
            stranger = Stranger(delivery, call, context_of(call, self.hostname))
            end = Conclusion(
                states.FAILURE,
                NotRegistered(call.name),
                self.stores,
                errbacks=call.errbacks or (),
                verdict=DEAD,
                reason=reason[:2000],
            )
            return self._settle(stranger, end)
        if not waited:
            logger.error(
                "Received unregistered task of type %r; it is tried again for %d s, then dead-lettered. "
                "Did you import the module that defines it (`include`, `autodiscover_tasks`)?",
                call.name,
                self.unknown_deadline,
            )
            if signals.task_unknown.receivers:
                guard(
                    signals.task_unknown.send,
                    self,
                    name=call.name,
                    id=call.id,
                    message=delivery.message,
                    exc=None,
                )
        delay = min(max(1.0, waited), 60.0, max(1.0, self.unknown_deadline - waited))
        message = protocol.with_headers(delivery.message, **{PARKED: first})
        return self._again(delivery, message, countdown=delay)

    def _again(
        self,
        delivery: Delivery,
        message: Message,
        *,
        countdown: float | None = None,
        due: float | None = None,
    ) -> Settlement:
        """Put a message into the broker's delay store in place of this delivery: one atomic step."""
        later = Outgoing(message, delivery.queue, "", "", _priority(message), countdown, due)
        return Settlement(delivery.queue, delivery.tag, ACK, "", (later,))

    def _refusal(self, delivery: Delivery, call: Call, entry: Entry) -> Settlement | None:
        """The rarer reasons not to run."""
        if delivery.crashes and self.stores and not self.carried:
            outcome = success_of(delivery, call.id, self.app.backend, self.serializer)
            if outcome is not None:  # what it set off is published (again, under the same ids)
                logger.info("Task %s[%s] had succeeded before its process died", call.name, call.id)
                job = Job(delivery, call, entry, context_of(call, self.hostname, delivery.crashes))
                return self._settle(job, conclude(call, entry.policy, outcome)._replace(store=False))
        if delivery.crashes >= self.delivery_limit > 0:
            return self._lost(delivery, call, entry)
        if call.id in self.revoked:
            return self._revoke(delivery, call, entry, "revoked")
        now = self.now()
        if call.expires is not None and call.expires <= now:
            return self._revoke(delivery, call, entry, "expired")
        if call.eta is not None and call.eta > now + 0.0005:
            assert isinstance(delivery.message, Message)
            return self._again(delivery, delivery.message, due=call.eta)
        return None

    def _revoke(self, delivery: Delivery, call: Call, entry: Entry, why: str) -> Settlement:
        logger.info("Discarding %s task: %s[%s]", why, call.name, call.id)
        context = context_of(call, self.hostname)
        if signals.task_revoked.receivers:
            guard(
                signals.task_revoked.send,
                entry.task,
                request=context,
                terminated=False,
                signum=None,
                expired=why == "expired",
            )
        return self._ended(delivery, call, entry, states.REVOKED, TaskRevokedError(why))

    def _lost(self, delivery: Delivery, call: Call, entry: Entry) -> Settlement:
        exc = WorkerLostError(
            f"The process running the task died {delivery.crashes} times, which is the limit "
            f"(task_delivery_limit={self.delivery_limit}); the message is in the dead-letter queue."
        )
        job = Job(delivery, call, entry, context_of(call, self.hostname, delivery.crashes))
        settlement = self.finish(job, Outcome(FAILED, None, exc), 0.0)
        return settlement._replace(verdict=DEAD, reason=str(exc))

    def _ended(self, delivery: Delivery, call: Call, entry: Entry, state: str, exc: Exception) -> Settlement:
        """End a call that never ran: its result, its errbacks."""
        conclusion = Conclusion(
            state, exc, self.stores and not entry.policy.ignore_result, errbacks=call.errbacks or ()
        )
        job = Job(delivery, call, entry, context_of(call, self.hostname))
        return self._settle(job, conclusion)

    # -- after the body -----------------------------------------------------------------------------------

    def finish(self, job: Job, outcome: Outcome, runtime: float) -> Settlement:
        """Handlers, signals, logs, and the settlement. Never raises."""
        if self.reports is not None:
            self.reports.close(job.context)
        conclusion = conclude(job.call, job.entry.policy, outcome)
        try:
            settlement = self._settle(job, conclusion)
        except (
            Exception
        ) as exc:  # the result, a callback or a retry cannot be written: a failure like any other
            outcome = Outcome(FAILED, None, _unwritable(job, exc), format_traceback(exc), outcome.fatal)
            conclusion = conclude(job.call, job.entry.policy, outcome)
            settlement = self._settle(
                job, conclusion._replace(errbacks=self._writable(job, conclusion.errbacks))
            )
        tell(job, conclusion, outcome, runtime)
        return settlement

    def stopped(self, delivery: Delivery, why: str, limit: float) -> Settlement:
        """Conclude a delivery whose process was ended while it ran: ``time limit`` or ``terminated``."""
        message = delivery.message
        assert isinstance(message, Message)
        call = protocol.read(message, self.accept)
        entry = self._entries.get(call.name) or self._look_up(call.name)
        assert entry is not None
        if why == "terminated":
            return self._ended(delivery, call, entry, states.REVOKED, TaskRevokedError("terminated"))
        job = Job(delivery, call, entry, context_of(call, self.hostname))
        return self._settle(job, conclude(call, entry.policy, Outcome(FAILED, None, _time_limit(limit))))

    def _end(self, delivery: Delivery) -> Settlement:
        """Conclude what another node stopped by killing its process (`Delivery.ended`)."""
        assert isinstance(delivery.message, Message)
        call = protocol.read(delivery.message, self.accept)
        if call.name not in self._entries and self._look_up(call.name) is None:
            return self._park(delivery, call)
        why, _, limit = delivery.ended.partition(":")
        return self.stopped(delivery, why, float(limit or 0.0))

    def gone(self, id_: str, name: str, why: str | None, limit: float) -> StoredResult | None:
        """The result of a call that was acknowledged early and whose process is dead."""
        entry = self._entries.get(name) or self._look_up(name)
        if entry is None or (entry.policy.ignore_result and not entry.policy.store_errors):
            return None
        exc: Exception = WorkerLostError(
            "The process running the task died. It was acknowledged before it ran (acks_late is off), so it "
            "does not run again."
        )
        if why == "time limit":
            exc = _time_limit(limit)
        elif why == "terminated":
            return self._document(id_, states.REVOKED, TaskRevokedError(why), None, None)
        return self._document(id_, states.FAILURE, exc, None, None)

    def _ignores(self, job: Job) -> bool:
        own = job.call.ignore_result
        return job.entry.policy.ignore_result if own is None else own

    def _settle(self, job: Job | Stranger, conclusion: Conclusion) -> Settlement:
        delivery = job.delivery
        stored: Sequence[StoredResult] = ()
        followups: Sequence[Outgoing] = ()
        begun: Sequence[Opening] = ()
        if conclusion.retry:
            followups = (self.app.producer.retry(job.call, delivery, conclusion.value),)
        elif conclusion.callbacks or conclusion.chain or conclusion.errbacks or conclusion.replaced:
            followups, begun = self.app.producer.followups(job.call, job.context, conclusion)
        if conclusion.store and self.stores:
            end = (conclusion.state, conclusion.value, conclusion.traceback)
            stored = [self._document(job.call.id, *end, job)]
            if job.call.chain and conclusion.state in states.PROPAGATE_STATES:
                # The steps that will never run must not stay PENDING for whoever waits for the last one.
                reply_to = job.call.reply_to or ""
                stored += [self._document(id_, *end, None, reply_to) for id_ in waiting_ids(job.call.chain)]
        owed = None
        if begun or job.call.chord is not None or job.call.chain:
            members = members_of(self.app, job.call, conclusion)
            owed = Owed(begun, members) if begun or members else None
        return Settlement(
            delivery.queue, delivery.tag, conclusion.verdict, conclusion.reason, followups, stored, owed
        )

    def _document(
        self,
        id_: str,
        state: str,
        value: Any,
        traceback: str | None,
        job: Job | Stranger | None,
        reply_to: str = "",
    ) -> StoredResult:
        extra: dict[str, Any] = {}
        if job is not None:
            call = job.call
            reply_to = call.reply_to or ""
            extra = {"parent_id": call.parent_id, "group_id": call.group}
            children = job.context._children
            if children:
                extra["children"] = [child.as_tuple() for child in children]
            if self.extended:
                extra |= {
                    "name": call.name,
                    "args": call.args,
                    "kwargs": call.kwargs,
                    "worker": self.hostname,
                    "retries": call.retries,
                    "queue": job.delivery.queue,
                }
        document = results.encode_result(
            id_, state, value, traceback=traceback, serializer=self.serializer, **extra
        )
        if len(document) > RESULT_LIMIT:
            raise EncodeError(
                f"The result is {len(document)} bytes long; {RESULT_LIMIT} are the limit. "
                "Store it elsewhere and return where it is."
            )
        return StoredResult(id_, document, self.ttl, reply_to)

    def _store_started(self, job: Job) -> None:
        assert self.courier is not None
        meta = {"pid": os.getpid(), "hostname": self.hostname}
        end = (states.STARTED, meta, None, None, job.call.reply_to or "")
        self.courier.notice(self._document(job.call.id, *end))

    def _writable(self, job: Job, errbacks: Sequence[Any]) -> Sequence[Any]:
        """The errbacks, or none when it is they that cannot be published."""
        try:
            self.app.producer.followups(job.call, job.context, Conclusion(states.FAILURE, errbacks=errbacks))
        except Exception as exc:  # already failing: the failure itself must be stored
            logger.error("Cannot publish the errbacks of %s[%s]: %r", job.call.name, job.call.id, exc)
            return ()
        return errbacks


def _time_limit(seconds: float) -> TimeLimitExceeded:
    seconds = round(seconds, 3)
    return TimeLimitExceeded(int(seconds) if seconds.is_integer() else seconds)


def _unwritable(job: Job, exc: Exception) -> Exception:
    if isinstance(exc, CeleriacError):
        return exc
    return EncodeError(f"The outcome of {job.call.name} cannot be written: {protocol.saferepr(exc, 500)}")


def _priority(message: Message) -> int:
    priority = message.properties.get("priority")
    return priority if type(priority) is int else 0
