"""The policy for results while their store cannot be reached."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import pytest

from celeriac.backends.base import StoredResult
from celeriac.backends.retrying import Retrying, StoreDown
from celeriac.exceptions import OperationalError

BATCH = [StoredResult("id-1", b"{}")]


class Store:
    """Fails so many times, then stores."""

    def __init__(self, failures: float) -> None:
        self.failures = failures
        self.stored: list[StoredResult] = []

    def store(self, batch: Sequence[StoredResult]) -> None:
        self.failures -= 1
        if self.failures >= 0:
            raise OperationalError("away")
        self.stored += batch


def test_by_default_it_is_tried_for_ever_ever_more_slowly() -> None:
    store = Store(math.inf)
    retrying = Retrying(store, most=math.inf, base=0.01, longest=2.0)
    pauses = []
    for _ in range(2000):
        with pytest.raises(StoreDown, match="away") as caught:
            retrying.store(BATCH)
        pauses.append(caught.value.pause)
    assert 0.005 <= pauses[0] <= 0.01
    assert 0.02 <= pauses[2] <= 0.04
    assert all(1.0 <= pause <= 2.0 for pause in pauses[10:])


def test_a_success_begins_anew() -> None:
    store = Store(3)
    retrying = Retrying(store, most=3, base=0.01, longest=2.0)
    for _ in range(3):
        with pytest.raises(StoreDown):
            retrying.store(BATCH)
    retrying.store(BATCH)
    assert store.stored == BATCH
    store.failures = 1
    with pytest.raises(StoreDown) as caught:
        retrying.store(BATCH)
    assert caught.value.pause <= 0.01


def test_after_the_tries_that_the_user_allows_the_results_are_given_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = Store(math.inf)
    retrying = Retrying(store, most=2, base=0.01, longest=2.0)
    for _ in range(2):
        with pytest.raises(StoreDown):
            retrying.store(BATCH)
    with caplog.at_level(logging.ERROR):
        retrying.store(BATCH)
    assert "LOST" in caplog.text
    assert "id-1" in caplog.text
    assert not store.stored


def test_other_errors_pass() -> None:
    class Broken:
        def store(self, batch: Sequence[StoredResult]) -> None:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Retrying(Broken(), most=2, base=0.01, longest=2.0).store(BATCH)
