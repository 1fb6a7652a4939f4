"""What running bodies say about their progress: the newest, not too often, nothing after the end."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from celeriac.brokers.base import StoredResult
from celeriac.execution.call import Context
from celeriac.worker.reports import GAP, Reports

TASK = SimpleNamespace(name="t", ignore_result=False)


@pytest.fixture
def sent() -> list[Any]:
    return []


@pytest.fixture
def reports(sent: list[Any]) -> Reports:
    def encode(task: Any, task_id: str, state: str, meta: Any, request: Context) -> StoredResult:
        sent.append((task_id, state, meta["current"], meta["total"], meta["message"]))
        return StoredResult(task_id, b"")

    return Reports(encode)


@pytest.fixture
def begin(reports: Reports) -> Callable[..., Context]:
    def begin(task_id: str = "a", **attributes: Any) -> Context:
        context = Context(id=task_id, called_directly=False, **attributes)
        context._reports = reports
        return context

    return begin


def test_the_newest_is_taken(reports: Reports, begin: Callable[..., Context], sent: list[Any]) -> None:
    context = begin()
    for number in range(5):
        reports.note(TASK, context, number, 10, None)
    taken, again = reports.take(100.0)
    assert (len(taken), again) == (1, None)
    assert sent == [("a", "PROGRESS", 4, 10, None)]
    assert reports.take(200.0) == ([], None)


def test_total_and_message_stay_until_they_are_said_anew(
    reports: Reports, begin: Callable[..., Context], sent: list[Any]
) -> None:
    context = begin()
    for at, said in enumerate([(1, 10, "one"), (2, None, None), (3, None, "three"), (4, 20, None)]):
        reports.note(TASK, context, *said)
        reports.take(100.0 + at)
    assert [entry[2:] for entry in sent] == [
        (1, 10, "one"),
        (2, 10, "one"),
        (3, 10, "three"),
        (4, 20, "three"),
    ]


def test_not_more_often_than_the_gap(
    reports: Reports, begin: Callable[..., Context], sent: list[Any]
) -> None:
    context = begin()
    reports.note(TASK, context, 1, None, None)
    reports.take(100.0)
    reports.note(TASK, context, 2, None, None)
    taken, again = reports.take(100.0 + GAP / 2)
    assert taken == []
    assert again == pytest.approx(100.0 + GAP)
    assert again is not None
    reports.take(again)
    assert [entry[2] for entry in sent] == [1, 2]


def test_the_courier_is_poked_once_for_what_it_has_not_taken(
    reports: Reports, begin: Callable[..., Context]
) -> None:
    pokes: list[int] = []
    reports.poke = lambda: pokes.append(1)
    context = begin()
    for number in range(100):
        reports.note(TASK, context, number, None, None)
    assert len(pokes) == 1
    assert reports.fresh
    reports.take(100.0)
    assert not reports.fresh
    reports.note(TASK, context, 1, None, None)
    assert len(pokes) == 2


def test_nothing_is_taken_after_the_end(
    reports: Reports, begin: Callable[..., Context], sent: list[Any]
) -> None:
    context, other = begin("a"), begin("b")
    reports.note(TASK, context, 1, None, None)
    reports.note(TASK, other, 2, None, None)
    reports.close(context)
    reports.note(TASK, context, 3, None, None)  # a thread that the body has left behind
    reports.take(100.0)
    assert [entry[0] for entry in sent] == ["b"]
    reports.close(other)
    assert reports.open == {}


def test_a_state_that_the_body_stores_itself_is_not_followed_by_what_it_said_before(
    reports: Reports, begin: Callable[..., Context], sent: list[Any]
) -> None:
    context = begin()
    reports.note(TASK, context, 1, None, None)
    reports.drop(context)
    assert reports.take(100.0) == ([], None)
    reports.note(TASK, context, 2, None, None)
    reports.take(200.0)
    assert [entry[2] for entry in sent] == [2]


def test_the_next_run_of_a_call_is_not_the_one_before(
    reports: Reports, begin: Callable[..., Context], sent: list[Any]
) -> None:
    first = begin("a")
    reports.note(TASK, first, 1, 5, "first")
    second = begin("a")
    reports.note(TASK, second, 1, None, None)
    reports.close(first)  # late; it does not end the report of the second
    reports.take(100.0)
    assert sent == [("a", "PROGRESS", 1, None, None)]


@pytest.mark.parametrize(
    ("task", "call", "said"), [(False, None, 1), (True, None, 0), (True, False, 1), (False, True, 0)]
)
def test_ignored_results_have_no_progress(
    reports: Reports, begin: Callable[..., Context], sent: list[Any], task: bool, call: bool | None, said: int
) -> None:
    context = begin("a", ignore_result=call)
    reports.note(SimpleNamespace(ignore_result=task), context, 1, None, None)
    reports.take(100.0)
    assert len(sent) == said


def test_ends_and_reports_at_the_same_time_leave_nothing_open(
    reports: Reports, begin: Callable[..., Context]
) -> None:
    for _ in range(300):
        context = begin()
        start = threading.Barrier(2)

        def note(context: Context = context, start: threading.Barrier = start) -> None:
            start.wait()
            reports.note(TASK, context, 1, None, None)

        thread = threading.Thread(target=note)
        thread.start()
        start.wait()
        reports.close(context)
        thread.join()
        assert reports.open == {}


def test_copies_of_a_request_are_not_tied_to_the_worker(begin: Callable[..., Context]) -> None:
    context = begin("a", custom=1)
    for other in (copy.copy(context), copy.deepcopy(context), pickle.loads(pickle.dumps(context))):
        assert (other.id, other.custom) == ("a", 1)
        assert getattr(other, "_reports", None) is None
    assert "_reports" not in repr(context)
