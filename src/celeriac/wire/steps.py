"""`Steps`: the rest of a long chain, as the JSON it came in.

A chain's message holds all steps that are still to come, so each step walks past all of them. Only the next
one is looked into; the others go on as they are, until somebody asks for them (a failure, a replacement, a
task that reads `self.request.chain`).

1. `read`: a body with such a chain; `written`: the follow-ups of one.
2. `Steps`: a sequence of signatures, each of which is read when it is asked for.

Not here: bodies without one (`protocol.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, overload

from celeriac.wire import json

__all__ = ["CHAIN", "SHORT", "Steps", "read", "written"]

#: Bytes up to which a body is read at once; what a longer one has in it if it is to be `read`.
SHORT: Final = 4096
CHAIN: Final = b'"chain": [{'


class Steps(Sequence[Any]):
    """Signatures (dicts), the next one last.

    Args:
        raw: the JSON of each, known to be well-formed.

    Example:
        >>> steps = Steps([b'{"task": "last"}', b'{"task": "next"}'])
        >>> steps[-1], steps.before().raw
        ({'task': 'next'}, b'[{"task": "last"}]')
    """

    __slots__ = ("_parts",)

    def __init__(self, raw: Sequence[Any]) -> None:
        self._parts = raw

    def __len__(self) -> int:
        return len(self._parts)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [json.loads(part) for part in self._parts[index]]
        return json.loads(self._parts[index])

    def __iter__(self) -> Iterator[Any]:
        return map(json.loads, self._parts)

    def __json__(self) -> list[Any]:
        return list(self)

    def __repr__(self) -> str:
        return repr(list(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)

    def before(self) -> Steps:
        """All but the next one."""
        return Steps(self._parts[:-1])

    @property
    def raw(self) -> bytes:
        """Them all as JSON."""
        return b"[" + b", ".join(self._parts) + b"]"


def read(body: bytes) -> Any:
    """The value of a body (JSON, decompressed), with its chain as `Steps` where that can be.

    Raises:
        DecodeError: as `json.loads`.
    """
    found = json.split_chain(body)
    if found is None:
        return json.loads(body)
    args, kwargs, follows, chain = found
    return [args, kwargs, {**follows, "chain": Steps(chain)}]


def written(callbacks: Any, errbacks: Any, chain: Steps, chord: Any) -> bytes:
    """The third element of a body, as `json.dumps` would write it.

    Raises:
        EncodeError: a signature cannot be written.
    """
    head = f'{{"callbacks": {json.dumps_text(callbacks)}, "errbacks": {json.dumps_text(errbacks)}, "chain": '
    return b"".join((head.encode("ascii"), chain.raw, b', "chord": ', json.dumps(chord), b"}"))
