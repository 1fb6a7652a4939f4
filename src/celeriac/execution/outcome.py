"""`Outcome`: how a body ended, as a value.

Retry, Ignore and Reject are outcomes like any other; exceptions stop here. `Replaced` ends the body of a
call that goes on as another.
"""

from __future__ import annotations

import traceback
from types import TracebackType
from typing import Any, Final, Literal, NamedTuple

from celeriac.exceptions import Ignore

__all__ = [
    "FAILED",
    "IGNORED",
    "REJECTED",
    "RETRIED",
    "SUCCEEDED",
    "ErrorInfo",
    "Kind",
    "Outcome",
    "Replaced",
    "error_info",
    "format_traceback",
]

Kind = Literal["succeeded", "failed", "retried", "ignored", "rejected"]
SUCCEEDED: Final = "succeeded"
FAILED: Final = "failed"
RETRIED: Final = "retried"
IGNORED: Final = "ignored"
REJECTED: Final = "rejected"

#: Characters of traceback text that are kept: the first and the last halves of it.
TRACEBACK_LIMIT = 65_536


class Replaced(Ignore):
    """Ends a body whose call goes on as another. `sig`: the signature that is to be sent, if nobody has sent
    it yet; `result`: what it came to, if it was run here and now."""

    def __init__(self, sig: Any = None, result: Any = None) -> None:
        super().__init__("Replaced by new task")
        self.sig = sig
        self.result = result


class Outcome(NamedTuple):
    """`value`: what the body returned (succeeded). `exc`: what it raised (all others). `fatal`: the process
    must be replaced after this (it was told to exit)."""

    kind: Kind
    value: Any = None
    exc: BaseException | None = None
    traceback: str | None = None
    fatal: bool = False


def format_traceback(exc: BaseException, skip: int = 0) -> str:
    """The traceback as text, without the first `skip` frames; never raises, whatever the exception does."""
    tb: TracebackType | None = exc.__traceback__
    for _ in range(skip):
        if tb is not None and tb.tb_next is not None:
            tb = tb.tb_next
    try:
        text = "".join(traceback.format_exception(type(exc), exc, tb, limit=64))
    except Exception as problem:  # a broken __str__, __cause__ cycle or source file: the type must do
        name = f"{type(exc).__module__}.{type(exc).__qualname__}"
        text = f"{name}: <traceback unprintable: {type(problem).__name__}>\n"
    if len(text) > TRACEBACK_LIMIT:
        half = TRACEBACK_LIMIT // 2
        text = f"{text[:half]}\n… {len(text) - TRACEBACK_LIMIT} characters left out …\n{text[-half:]}"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


class ErrorInfo(NamedTuple):
    """What failure handlers get as `einfo`: the exception, its class and its traceback as text."""

    type: type[BaseException]
    exception: BaseException
    traceback: str

    def __str__(self) -> str:
        return self.traceback


def error_info(outcome: Outcome) -> ErrorInfo | None:
    """What handlers are told of an outcome that is no success; None for a success."""
    exc = outcome.exc
    return None if exc is None else ErrorInfo(type(exc), exc, outcome.traceback or "")
