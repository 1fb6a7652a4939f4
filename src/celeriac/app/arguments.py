"""Are these the arguments that the function takes? Asked at the call, before anything is sent.

1. `Arguments`: the check of one function, worked out once; positional calls are compared by number alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

__all__ = ["Arguments"]

_UNBOUNDED: Final = 1 << 30


class Arguments:
    """What one function takes.

    `fewest` and `most` are the numbers of positional arguments with which a call without keywords is right;
    `positional` is how many it can take at all.

    Example:
        >>> Arguments(lambda x, y=1: None, "add").check((1, 2, 3), {})
        Traceback (most recent call last):
            ...
        TypeError: add() takes from 1 to 2 positional arguments but 3 were given; nothing was sent
    """

    __slots__ = ("fewest", "most", "name", "positional", "signature")

    def __init__(self, fun: Callable[..., Any], name: str, *, bound: bool = False) -> None:
        self.name = name
        # What a decorator of the user's wraps is its own affair: it may add arguments that no caller gives.
        try:
            signature = inspect.signature(fun, follow_wrapped=False)
        except ValueError:  # some functions written in C do not tell
            signature = inspect.signature(_anything)
        if bound:
            signature = signature.replace(parameters=list(signature.parameters.values())[1:])
        self.signature = signature
        positional = [p for p in signature.parameters.values() if p.kind <= p.POSITIONAL_OR_KEYWORD]
        kinds = {p.kind for p in signature.parameters.values()}
        self.fewest = sum(p.default is p.empty for p in positional)
        self.most = _UNBOUNDED if inspect.Parameter.VAR_POSITIONAL in kinds else len(positional)
        self.positional = self.most
        if any(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in signature.parameters.values()):
            self.fewest, self.most = 1, 0  # never right without keywords

    def check(self, args: Sequence[Any], kwargs: Mapping[str, Any] | None) -> None:
        """Raise `TypeError` naming the argument that is missing, unexpected or given twice."""
        if not isinstance(args, (list, tuple)):
            raise TypeError(f"args of {self.name}() must be a list or tuple, not {type(args).__name__}")
        if kwargs is not None and not isinstance(kwargs, Mapping):
            raise TypeError(f"kwargs of {self.name}() must be a dictionary, not {type(kwargs).__name__}")
        if not kwargs and self.fewest <= len(args) <= self.most:
            return
        try:
            self.signature.bind(*args, **(kwargs or {}))
        except TypeError as exc:
            reason = self._missing(args, kwargs or {}) or self._too_many(args, str(exc)) or str(exc)
            raise TypeError(f"{self.name}() {reason}; nothing was sent") from None

    def _missing(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        """Python's own words for arguments that are missing; empty when none is."""
        positional = [p for p in self.signature.parameters.values() if p.kind <= p.POSITIONAL_OR_KEYWORD]
        lacking = [p.name for p in positional[len(args) :] if p.default is p.empty and p.name not in kwargs]
        if lacking and not kwargs.keys() - self.signature.parameters.keys():
            return f"missing {_listed(lacking, 'positional')}"
        keyword = [p for p in self.signature.parameters.values() if p.kind is p.KEYWORD_ONLY]
        lacking = [p.name for p in keyword if p.default is p.empty and p.name not in kwargs]
        return (
            f"missing {_listed(lacking, 'keyword-only')}" if lacking and len(args) <= len(positional) else ""
        )

    def _too_many(self, args: Sequence[Any], reason: str) -> str:
        """Python's own words for too many positional arguments; `inspect` only says that it is."""
        if not reason.startswith("too many positional"):
            return reason.replace("multiple values", "got multiple values")
        positional = [p for p in self.signature.parameters.values() if p.kind <= p.POSITIONAL_OR_KEYWORD]
        fewest, most = sum(p.default is p.empty for p in positional), len(positional)
        takes = str(most) if fewest == most else f"from {fewest} to {most}"
        return f"takes {takes} positional argument{'' if most == 1 else 's'} but {len(args)} were given"


def _anything(*args: Any, **kwargs: Any) -> None: ...


def _listed(names: Sequence[str], kind: str) -> str:
    quoted = [repr(name) for name in names]
    last = quoted[-1] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"
    return f"{len(names)} required {kind} argument{'' if len(names) == 1 else 's'}: {last}"
