"""Exceptions as documents: nothing that happens to be in one is imported, called or constructed."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest

from celeriac import exceptions
from celeriac.exceptions import RemoteError
from celeriac.wire import protocol, results
from celeriac.wire.errors import describe_exception, rebuild_exception

ARMED = False


def alarm(*_: Any) -> Any:
    """What must not happen while a document is written or read."""
    if ARMED:
        raise SystemExit("user code ran")


class HostileMeta(type):
    def __getattribute__(cls, name: str) -> Any:
        alarm()
        return type.__getattribute__(cls, name)


class Hostile(Exception, metaclass=HostileMeta):
    args = property(alarm)  # type: ignore[assignment]

    def __new__(cls, *args: Any) -> Hostile:
        alarm()
        return Exception.__new__(cls, *args)

    def __init__(self, *_: Any) -> None:
        alarm()

    def __getattribute__(self, name: str) -> Any:
        alarm()
        return super().__getattribute__(name)

    __str__ = __repr__ = __reduce__ = __reduce_ex__ = alarm  # type: ignore[assignment]


class NeedsArguments(Exception):
    def __init__(self, number: int, *, reason: str) -> None:
        super().__init__(number)
        self.reason = reason


class Nested:
    class Deep(LookupError):
        pass


class OwnOSError(OSError):
    def __init__(self, path: str) -> None:
        super().__init__(2, f"no {path}")


@pytest.fixture
def armed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ARMED", True)


HOSTILE = Hostile(1, object())


def round_trip(exc: BaseException) -> Exception:
    document = results.encode_result("i", "FAILURE", exc)
    return rebuild_exception(results.decode_result(document).result)


@pytest.mark.usefixtures("armed")
def test_a_hostile_exception_is_described_and_rebuilt_without_its_help() -> None:
    document = describe_exception(HOSTILE)
    assert document["exc_type"] == "Hostile"
    assert document["exc_message"][0] == 1
    assert type(rebuild_exception(document)) is type(HOSTILE)
    assert type(round_trip(HOSTILE)) is type(HOSTILE)


@pytest.mark.parametrize(
    ("exc", "kind", "args"),
    [
        (ValueError("x", 3, None, True, 1.5, {"a": [1]}), ValueError, ("x", 3, None, True, 1.5, {"a": [1]})),
        (NeedsArguments(1, reason="r"), NeedsArguments, (1,)),
        (Nested.Deep("k"), Nested.Deep, ("k",)),
        (OwnOSError("x"), OwnOSError, (2, "no x")),
        (OSError(2, "gone"), FileNotFoundError, (2, "gone")),
        (StopIteration(7), StopIteration, (7,)),
        (SyntaxError("bad", ("f", 1, 2, "t")), SyntaxError, ("bad", ["f", 1, 2, "t"])),
        (
            UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
            UnicodeDecodeError,
            ("utf-8", b"\xff", 0, 1, "bad"),
        ),
        (UserWarning("w"), UserWarning, ("w",)),
        (exceptions.SoftTimeLimitExceeded(), exceptions.SoftTimeLimitExceeded, ()),
        (exceptions.WorkerLostError("lost"), exceptions.WorkerLostError, ("lost",)),
        (exceptions.MaxRetriesExceededError("m"), exceptions.MaxRetriesExceededError, ("m",)),
        (exceptions.CeleriacError("c"), exceptions.CeleriacError, ("c",)),
        (exceptions.OperationalError("o"), exceptions.OperationalError, ("o",)),
        (exceptions.RemoteError("Foo", "bar.baz", (1,)), RemoteError, ("Foo", "bar.baz", (1,))),
        (protocol.ProtocolError("p"), exceptions.InvalidTaskError, ("p",)),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_known_classes_come_back(exc: Exception, kind: type[Exception], args: tuple[Any, ...]) -> None:
    back = round_trip(exc)
    assert (type(back), back.args) == (kind, args)
    assert isinstance(str(back), str)


def test_constructors_do_not_run() -> None:
    back = round_trip(NeedsArguments(1, reason="r"))
    assert not hasattr(back, "reason")


@pytest.mark.parametrize(
    "exc", [SystemExit(0), KeyboardInterrupt(), GeneratorExit(), exceptions.WorkerShutdown(1)]
)
def test_what_would_end_a_process_comes_back_as_a_stand_in(exc: BaseException) -> None:
    back = round_trip(exc)
    assert type(back) is RemoteError
    assert (back.exc_type, list(back.exc_args)) == (type(exc).__name__, list(exc.args))


def test_groups_and_unknown_classes_come_back_as_stand_ins() -> None:
    back = round_trip(ExceptionGroup("many", [ValueError(1)]))
    assert type(back) is RemoteError
    assert back.exc_args == ("many", "[ValueError(1)]")
    local = type("Local", (Exception,), {})("x")
    assert str(round_trip(local)).endswith("Local('x')")


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("os", "path.join"),
        ("builtins", "eval"),
        ("builtins", "type"),
        ("builtins", "object"),
        ("builtins", "BaseException"),
        ("builtins", "SystemExit"),
        ("sys", "exit"),
        ("antigravity", "Exception"),
        ("celery.exceptions", "annotations"),
        ("celery.exceptions", "RemoteError"),
        ("celery.exceptions", "__doc__"),
        ("", ""),
        ("builtins", ""),
        ("builtins", "ValueError.__init__"),
        ("builtins", "ValueError.__class__"),
    ],
)
def test_a_document_cannot_name_anything_else(module: str, name: str) -> None:
    exc = rebuild_exception({"exc_type": name, "exc_module": module, "exc_message": ["true"]})
    assert type(exc) is RemoteError
    assert exc.exc_args == ("true",)
    assert "antigravity" not in sys.modules


@pytest.mark.usefixtures("armed")
def test_modules_and_objects_that_run_code_when_asked_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lazy(types.ModuleType):
        __getattribute__ = __getattr__ = alarm  # type: ignore[assignment]

    class Proxy:
        __class__ = property(alarm)  # type: ignore[assignment]

    lazy = Lazy("lazy")
    object.__getattribute__(lazy, "__dict__")["Proxy"] = Proxy()
    monkeypatch.setitem(sys.modules, "lazy", lazy)
    monkeypatch.setitem(sys.modules, "odd", object())  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "none", None)  # type: ignore[arg-type]
    for module in ("lazy", "odd", "none"):
        for name in ("Proxy", "Missing", "__getattr__"):
            document = {"exc_type": name, "exc_module": module, "exc_message": []}
            assert type(rebuild_exception(document)) is RemoteError


@pytest.mark.parametrize(
    "document",
    [
        None,
        7,
        "text",
        [],
        {},
        {"exc_type": [1], "exc_module": {}},
        {"exc_type": "KeyError", "exc_module": None},
    ],
)
def test_anything_in_place_of_a_document_is_a_stand_in(document: Any) -> None:
    assert type(rebuild_exception(document)) is RemoteError


def test_exceptions_that_pickle_brought_whole() -> None:
    whole = ValueError("x")
    assert rebuild_exception(whole) is whole
    assert type(rebuild_exception(SystemExit(1))) is RemoteError


def test_sizes_are_bounded() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    for exc in (
        ValueError("x" * 10_000_000),
        ValueError(*range(10_000)),
        ValueError(["x" * 10_000_000]),
        ValueError(cycle),
        ValueError(10**5000),
        ValueError(object(), b"\xff" * 10_000_000),
        KeyError("\ud800" * 100),
    ):
        assert len(results.encode_result("i", "FAILURE", exc)) < 200_000
        assert type(round_trip(exc)) is type(exc)


def test_cycles_of_causes_are_no_matter() -> None:
    first, second = ValueError(1), ValueError(2)
    first.__cause__, second.__cause__ = second, first
    assert round_trip(first).args == (1,)
    exceptions_own = ValueError()
    exceptions_own.args = (exceptions_own,)
    assert type(round_trip(exceptions_own)) is ValueError


def test_a_retry_stands_for_its_cause_only_where_it_has_one() -> None:
    meta = results.decode_result(results.encode_result("i", "RETRY", exceptions.Retry("m", KeyError("k"))))
    assert meta.result == {"exc_type": "KeyError", "exc_message": ["k"], "exc_module": "builtins"}
    meta = results.decode_result(results.encode_result("i", "RETRY", exceptions.Retry("m")))
    assert meta.result["exc_type"] == "Retry"
    assert isinstance(str(rebuild_exception(meta.result)), str)
