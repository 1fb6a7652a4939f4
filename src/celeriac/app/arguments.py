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

    `fewest` and `most` are the numbers of positional arguments with which a call without keywords is right.

    Example:
        >>> Arguments(lambda x, y=1: None, "add").check((1, 2, 3), {})
        Traceback (most recent call last):
            ...
        TypeError: add() takes from 1 to 2 positional arguments but 3 were given; nothing was sent
    """

    __slots__ = ("fewest", "most", "name", "signature")

    def __init__(self, fun: Callable[..., Any], name: str, *, bound: bool = False) -> None:
        self.name = name
        signature = inspect.signature(fun)
        if bound:
            signature = signature.replace(parameters=list(signature.parameters.values())[1:])
        self.signature = signature
        positional = [p for p in signature.parameters.values() if p.kind <= p.POSITIONAL_OR_KEYWORD]
        kinds = {p.kind for p in signature.parameters.values()}
        self.fewest = sum(p.default is p.empty for p in positional)
        self.most = _UNBOUNDED if inspect.Parameter.VAR_POSITIONAL in kinds else len(positional)
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
            raise TypeError(f"{self.name}() {self._reason(str(exc), args)}; nothing was sent") from None

    def _reason(self, reason: str, args: Sequence[Any]) -> str:
        """Python's own words for a call with too many positional arguments; `inspect` only says that it
        is."""
        if not reason.startswith("too many positional"):
            return reason
        fewest = min(self.fewest, self.most)
        takes = str(self.most) if fewest == self.most else f"from {fewest} to {self.most}"
        return f"takes {takes} positional arguments but {len(args)} were given"
