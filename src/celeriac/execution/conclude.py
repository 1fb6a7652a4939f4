"""What follows from an outcome. Pure: decisions are values, effects are elsewhere (`worker/request.py`).

`conclude(call, policy, outcome)` → `Conclusion`: the next state, what is stored, what is published next, and
how the delivery is settled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from celeriac import states
from celeriac.brokers.base import ACK, DEAD, REQUEUE, Verdict
from celeriac.exceptions import Reject, SoftTimeLimitExceeded, TimeLimitExceeded
from celeriac.execution.outcome import IGNORED, REJECTED, RETRIED, SUCCEEDED, Outcome, Replaced
from celeriac.wire.protocol import Call, saferepr

__all__ = ["Conclusion", "Policy", "conclude"]


class Policy(NamedTuple):
    """A task's own answers, looked up once per task.

    Attributes:
        ignore_result: the task's (or the settings') choice; a call may override it.
        store_errors: failures are stored even when results are ignored.
        ack_failure, ack_timeout: a failure (a time limit) acknowledges; False dead-letters the message.
    """

    ignore_result: bool = False
    store_errors: bool = False
    ack_failure: bool = True
    ack_timeout: bool = True


class Conclusion(NamedTuple):
    """`value`: the result or exception to store when `store`. `callbacks`: signatures that get the value;
    `chain`: the steps that remain (next one last); `errbacks`: signatures that get the failure; `retry`:
    publish the call again. `replaced`: the call goes on as another, under the same id; `replacement`: that
    one, when it is to be published."""

    state: str
    value: Any = None
    store: bool = False
    traceback: str | None = None
    callbacks: Sequence[Any] = ()
    chain: Sequence[Any] = ()
    errbacks: Sequence[Any] = ()
    retry: bool = False
    verdict: Verdict = ACK
    reason: str = ""
    replaced: bool = False
    replacement: Any = None


def conclude(call: Call, policy: Policy, outcome: Outcome) -> Conclusion:
    """Decide what follows."""
    ignored = policy.ignore_result if call.ignore_result is None else call.ignore_result
    kind = outcome.kind
    if kind == SUCCEEDED:
        return Conclusion(
            states.SUCCESS, outcome.value, not ignored, None, call.callbacks or (), call.chain or ()
        )
    exc = outcome.exc
    if kind == RETRIED:
        return Conclusion(
            states.RETRY, exc, not ignored or policy.store_errors, outcome.traceback, retry=True
        )
    if kind == IGNORED:
        if isinstance(exc, Replaced):
            return Conclusion(states.IGNORED, replaced=True, replacement=exc.sig)
        return Conclusion(states.IGNORED)
    if kind == REJECTED:
        assert isinstance(exc, Reject)
        if exc.requeue:
            return Conclusion(states.REJECTED, exc, verdict=REQUEUE)
        return Conclusion(
            states.FAILURE,
            exc,
            not ignored or policy.store_errors,
            errbacks=call.errbacks or (),
            verdict=DEAD,
            reason=f"rejected: {exc.reason if isinstance(exc.reason, str) else saferepr(exc.reason)}",
        )
    timed_out = isinstance(exc, (SoftTimeLimitExceeded, TimeLimitExceeded))
    acknowledge = policy.ack_timeout if timed_out else policy.ack_failure
    return Conclusion(
        states.FAILURE,
        exc,
        not ignored or policy.store_errors,
        outcome.traceback,
        errbacks=call.errbacks or (),
        verdict=ACK if acknowledge else DEAD,
        reason="" if acknowledge else f"failed: {type(exc).__name__} (acks_on_failure_or_timeout is off)",
    )
