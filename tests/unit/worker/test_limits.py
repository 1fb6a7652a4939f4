"""The soft limit of plain bodies in threads: it hits while the body runs, and leaves nothing behind."""

from __future__ import annotations

import sys
import threading
from types import FrameType
from typing import Any

import pytest

from celeriac.exceptions import SoftTimeLimitExceeded
from celeriac.execution.outcome import Outcome
from celeriac.execution.run import outcome_of
from celeriac.worker.lanes.limits import Interrupt


def profiled() -> int:
    """How many functions begin under a profiler; where the flag of an exception stays up, none ever."""
    calls = 0

    def count(frame: FrameType, event: str, arg: Any) -> None:
        nonlocal calls
        calls += event == "call"

    def callee() -> None:
        pass

    sys.setprofile(count)
    try:
        callee()
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize("rings", [False, True])
def test_functions_can_be_profiled_after_a_limited_body(rings: bool) -> None:
    interrupt = Interrupt()
    caught = False

    def body() -> Outcome:
        nonlocal caught
        try:
            if rings:
                ringer = threading.Thread(target=interrupt.ring)
                ringer.start()
                while True:
                    pass
        except SoftTimeLimitExceeded:
            caught = True
        return outcome_of(ValueError("over"))

    interrupt.run(body)
    assert caught is rings
    assert profiled() == 1


def test_a_limit_that_strikes_when_the_body_ends_hits_nobody() -> None:
    interrupt = Interrupt()
    over = threading.Event()
    begun = 0

    def strike() -> None:
        struck = 0
        while not over.is_set():
            if begun != struck:
                struck = begun
                interrupt.ring()

    def body() -> Outcome:
        nonlocal begun
        begun += 1
        return outcome_of(ValueError("over"))

    striker = threading.Thread(target=strike)
    striker.start()
    try:
        for _ in range(500):
            interrupt.run(body)
    finally:
        over.set()
        striker.join()
    assert profiled() == 1
