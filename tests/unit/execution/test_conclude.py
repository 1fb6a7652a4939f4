"""What follows from an outcome: a table."""

from __future__ import annotations

from typing import Any

import pytest

from celeriac import states
from celeriac.brokers.base import ACK, DEAD, REQUEUE
from celeriac.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded, TimeLimitExceeded
from celeriac.execution.conclude import Conclusion, Policy, conclude
from celeriac.execution.outcome import FAILED, IGNORED, REJECTED, RETRIED, SUCCEEDED, Outcome
from celeriac.wire.message import Message
from celeriac.wire.protocol import Call, read

LINKS = {"callbacks": ["cb"], "errbacks": ["eb"], "chain": ["last", "next"]}


def call(ignore_result: bool | None = None, **embed: Any) -> Call:
    from celeriac.wire import json

    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None, **embed}
    body = json.dumps([[], {}, {**embed, "callbacks": None, "errbacks": None, "chain": None}])
    message = Message(body, "application/json", "utf-8", {"task": "t", "id": "i", "lang": "py"}, {})
    made = read(message, frozenset({"application/json"}))
    return made._replace(
        callbacks=embed["callbacks"], errbacks=embed["errbacks"], chain=embed["chain"],
        ignore_result=ignore_result,
    )  # fmt: skip


SUCCESS = Outcome(SUCCEEDED, 42)
FAILURE = Outcome(FAILED, None, ValueError("x"), "tb")
RETRY = Outcome(RETRIED, None, Retry(), "tb")
SOFT = Outcome(FAILED, None, SoftTimeLimitExceeded(), "tb")
HARD = Outcome(FAILED, None, TimeLimitExceeded(3))


def test_success_goes_to_callbacks_and_the_chain() -> None:
    found = conclude(call(**LINKS), Policy(), SUCCESS)
    assert found == Conclusion(states.SUCCESS, 42, True, None, ["cb"], ["last", "next"])


def test_failure_goes_to_errbacks() -> None:
    found = conclude(call(**LINKS), Policy(), FAILURE)
    assert (found.state, found.store, found.traceback, found.errbacks) == ("FAILURE", True, "tb", ["eb"])
    assert (found.callbacks, found.chain, found.retry, found.verdict) == ((), (), False, ACK)


@pytest.mark.parametrize(
    ("outcome", "own", "policy", "store"),
    [
        (SUCCESS, None, Policy(), True),
        (SUCCESS, None, Policy(ignore_result=True), False),
        (SUCCESS, True, Policy(), False),
        (SUCCESS, False, Policy(ignore_result=True), True),
        (SUCCESS, True, Policy(store_errors=True), False),
        (FAILURE, None, Policy(ignore_result=True), False),
        (FAILURE, None, Policy(ignore_result=True, store_errors=True), True),
        (FAILURE, True, Policy(), False),
        (RETRY, None, Policy(), True),
        (RETRY, True, Policy(), False),
    ],
)
def test_what_is_stored(outcome: Outcome, own: bool | None, policy: Policy, store: bool) -> None:
    assert conclude(call(own), policy, outcome).store is store


@pytest.mark.parametrize(
    ("outcome", "policy", "verdict"),
    [
        (FAILURE, Policy(), ACK),
        (FAILURE, Policy(ack_failure=False), DEAD),
        (FAILURE, Policy(ack_timeout=False), ACK),
        (SOFT, Policy(ack_failure=False), ACK),
        (SOFT, Policy(ack_timeout=False), DEAD),
        (HARD, Policy(ack_timeout=False), DEAD),
        (HARD, Policy(), ACK),
        (SUCCESS, Policy(ack_failure=False, ack_timeout=False), ACK),
        (RETRY, Policy(ack_failure=False, ack_timeout=False), ACK),
    ],
)
def test_how_it_is_settled(outcome: Outcome, policy: Policy, verdict: str) -> None:
    found = conclude(call(), policy, outcome)
    assert found.verdict == verdict
    assert bool(found.reason) == (verdict == DEAD)


def test_retry_publishes_the_call_again_and_nothing_else() -> None:
    found = conclude(call(**LINKS), Policy(), RETRY)
    assert (found.state, found.retry, found.verdict) == (states.RETRY, True, ACK)
    assert (found.callbacks, found.chain, found.errbacks) == ((), (), ())


def test_ignore_leaves_nothing() -> None:
    assert conclude(call(**LINKS), Policy(), Outcome(IGNORED, None, Ignore())) == Conclusion(states.IGNORED)


def test_reject() -> None:
    again = conclude(call(**LINKS), Policy(), Outcome(REJECTED, None, Reject("no", requeue=True)))
    assert (again.state, again.verdict, again.store, again.errbacks) == (states.REJECTED, REQUEUE, False, ())
    dead = conclude(call(**LINKS), Policy(), Outcome(REJECTED, None, Reject("no good")))
    assert (dead.state, dead.verdict, dead.reason) == (states.FAILURE, DEAD, "rejected: no good")
    assert (dead.store, dead.errbacks) == (True, ["eb"])


def test_a_reason_that_has_no_text() -> None:
    class Mute:
        def __str__(self) -> str:
            raise RuntimeError

        __repr__ = __str__

    found = conclude(call(), Policy(), Outcome(REJECTED, None, Reject(Mute())))  # type: ignore[arg-type]
    assert found.reason.startswith("rejected: ")
