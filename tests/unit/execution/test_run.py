"""Running a body: everything it may do is an outcome."""

from __future__ import annotations

import asyncio
import threading
from functools import wraps
from typing import Any

import pytest

from celeriac import Celeriac, signals
from celeriac.exceptions import Ignore, Reject, Retry
from celeriac.execution.call import Context
from celeriac.execution.outcome import (
    FAILED,
    IGNORED,
    REJECTED,
    RETRIED,
    SUCCEEDED,
    TRACEBACK_LIMIT,
    Outcome,
    format_traceback,
)
from celeriac.execution.run import (
    entry_point,
    invoke,
    invoke_async,
    is_coroutine_task,
    outcome_of,
    overrides,
)

app = Celeriac("run", broker="memory://run", set_as_current=False)


def run(function: Any, *args: Any, **options: Any) -> Outcome:
    return invoke(None, function, None, Context(id="i", args=args, kwargs={}), **options)


def raiser(exc: BaseException) -> Any:
    def body() -> None:
        raise exc

    return body


@pytest.mark.parametrize(
    ("exc", "kind", "fatal"),
    [
        (ValueError("x"), FAILED, False),
        (SystemExit(0), FAILED, True),
        (KeyboardInterrupt(), FAILED, True),
        (GeneratorExit(), FAILED, True),
        (asyncio.CancelledError(), FAILED, True),
        (ExceptionGroup("g", [ValueError()]), FAILED, False),
        (StopIteration(3), FAILED, False),
        (Retry(), RETRIED, False),
        (Ignore(), IGNORED, False),
        (Reject(), REJECTED, False),
    ],
)
async def test_what_is_raised_is_an_outcome(exc: BaseException, kind: str, fatal: bool) -> None:
    async def coroutine() -> None:
        raise exc

    found = run(raiser(exc))
    assert (found.kind, found.exc, found.fatal) == (kind, exc, fatal)
    assert (found.traceback is not None) == (kind in (FAILED, RETRIED))
    other = await invoke_async(None, coroutine, None, Context(id="i", args=(), kwargs={}))
    if not isinstance(exc, StopIteration):  # a coroutine turns that into a RuntimeError itself
        assert (other.kind, other.exc, other.fatal) == (kind, exc, fatal)


def test_the_traceback_begins_with_the_body() -> None:
    text = run(raiser(ValueError("here"))).traceback or ""
    assert "in body" in text
    assert "in invoke" not in text
    assert text.endswith("ValueError: here\n")


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


class Surrogates(Exception):
    def __str__(self) -> str:
        return "\ud800"


def _cycle() -> Exception:
    first, second = ValueError("first"), KeyError("second")
    first.__cause__, second.__cause__ = second, first
    first.__context__, second.__context__ = second, first
    return first


def _deep(depth: int) -> Exception:
    exc = ValueError("innermost")
    for n in range(depth):
        outer = ValueError(n)
        outer.__cause__, exc = exc, outer
    return exc


@pytest.mark.parametrize(
    "exc",
    [
        Unprintable(),
        Surrogates(),
        _cycle(),
        _deep(5000),
        ValueError("x" * 10_000_000),
        ExceptionGroup("g", [Unprintable(), _cycle(), ExceptionGroup("h", [ValueError("y" * 10**6)])]),
    ],
    ids=["unprintable", "surrogates", "cycle", "deep", "huge", "group"],
)
def test_every_exception_has_a_bounded_traceback(exc: BaseException) -> None:
    try:
        raise exc
    except BaseException as caught:
        text = format_traceback(caught)
    text.encode()
    assert len(text) < TRACEBACK_LIMIT + 100
    assert type(exc).__name__ in text


def test_endless_recursion() -> None:
    def body() -> None:
        body()

    found = run(body)
    assert isinstance(found.exc, RecursionError)
    assert len(found.traceback or "") < TRACEBACK_LIMIT


# -- coroutines and wrappers ------------------------------------------------------------------------------


async def _double(x: int) -> int:
    await asyncio.sleep(0)
    return 2 * x


@wraps(_double)
def _runs_it(x: int) -> int:
    return asyncio.run(_double(x))


@wraps(_double)
def _hands_it_back(x: int) -> Any:
    return _double(x)


def test_what_is_a_coroutine_task() -> None:
    tasks = {
        "own": app.task(name="run.own")(_double),
        "runs": app.task(name="run.runs")(_runs_it),
        "back": app.task(name="run.back")(_hands_it_back),
        "auto": app.task(name="run.auto", autoretry_for=(ValueError,))(_double),
        "auto_runs": app.task(name="run.auto_runs", autoretry_for=(ValueError,))(_runs_it),
    }
    found = {name: is_coroutine_task(task) for name, task in tasks.items()}
    assert found == {"own": True, "runs": False, "back": False, "auto": True, "auto_runs": False}


def test_a_coroutine_that_a_plain_body_returns_is_finished() -> None:
    assert run(_runs_it, 2, finish=asyncio.run) == Outcome(SUCCEEDED, 4)
    assert run(_hands_it_back, 2, finish=asyncio.run) == Outcome(SUCCEEDED, 4)
    assert run(lambda: 5, finish=asyncio.run) == Outcome(SUCCEEDED, 5)


def test_eager_calls_finish_coroutines_too() -> None:
    assert app.task(name="run.eager_back")(_hands_it_back).apply((3,)).get() == 6
    assert app.task(name="run.eager_runs")(_runs_it).apply((3,)).get() == 6
    assert app.task(name="run.eager_own")(_double).apply((3,)).get() == 6


# -- entry points and hooks -------------------------------------------------------------------------------


def test_a_base_class_with_a_call_of_its_own() -> None:
    from celeriac.app.task import Task

    class WithContext(Task):  # type: ignore[type-arg]
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return ("in context", self.run(*args, **kwargs))

    plain = app.task(name="run.plain")(lambda x: x)
    wrapped = app.task(name="run.with_context", base=WithContext)(lambda x: x)
    assert entry_point(plain) == plain.run
    assert run(entry_point(wrapped), 3).value == ("in context", 3)
    assert overrides(plain, "on_success") is None
    plain.on_success = print  # type: ignore[method-assign]
    assert overrides(plain, "on_success") is print


def test_before_start_and_prerun_come_first_and_their_failure_is_the_calls() -> None:
    order: list[str] = []

    def prerun(**_: Any) -> None:
        order.append("prerun")

    signals.task_prerun.connect(prerun)
    try:
        context = Context(id="i", args=(1,), kwargs={"k": 2})
        found = invoke(
            None,
            lambda *a, **k: order.append("body"),
            lambda id_, args, kwargs: order.append(f"before {id_} {args} {kwargs}"),
            context,
        )
        assert order == ["prerun", "before i (1,) {'k': 2}", "body"]
        assert found.kind == SUCCEEDED
        failed = invoke(None, lambda *a, **k: None, lambda *a: 1 / 0, context)
        assert isinstance(failed.exc, ZeroDivisionError)
    finally:
        signals.task_prerun.disconnect(prerun)


def test_locks_as_arguments_of_exceptions() -> None:
    assert outcome_of(ValueError(threading.Lock())).kind == FAILED
