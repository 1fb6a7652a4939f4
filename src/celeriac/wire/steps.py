"""`Steps`: the rest of a long chain, as the JSON it came in.

A chain's message holds all steps that are still to come, so each step walks past all of them. Only the next
one is looked into; the others go on as they are, until somebody asks for them (a failure, a replacement, a
task that reads `self.request.chain`).

1. `read`: a body with such a chain; `around`: what stands before and behind one.
2. `Steps`: a sequence of signatures, each of which is read when it is asked for.
3. `Chained`: a message that was made here around `Steps`; `reread`: its body, without reading them again.
4. `Rest`: the steps in base64, for a store that keeps them once for all messages of a chain.

Not here: bodies without one (`protocol.py`), envelopes (`virtual.py`).
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from itertools import accumulate, islice
from typing import Any, Final, NamedTuple, overload

from celeriac.wire import json
from celeriac.wire.message import Message

__all__ = ["CHAIN", "SHORT", "Chained", "Rest", "Steps", "around", "read", "reread", "spaces"]

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

    __slots__ = ("_count", "_parts", "_rest")

    def __init__(self, raw: Sequence[Any]) -> None:
        self._parts = raw  # shared with those that come `before`
        self._count = len(raw)
        self._rest: Rest | None = None

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        place = range(self._count)[index]
        if isinstance(place, range):
            return [json.loads(self._parts[at]) for at in place]
        return json.loads(self._parts[place])

    def __iter__(self) -> Iterator[Any]:
        return map(json.loads, islice(self._parts, self._count))

    def __json__(self) -> list[Any]:
        return list(self)

    def __repr__(self) -> str:
        return repr(list(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)

    def before(self) -> Steps:
        """All but the next one."""
        made = Steps.__new__(Steps)
        made._parts, made._count, made._rest = self._parts, self._count - 1, self._rest
        return made

    @property
    def raw(self) -> bytes:
        """Them all as JSON."""
        return b"[" + b", ".join(self._parts[: self._count]) + b"]"

    def rest(self) -> Rest:
        """Them all in base64, and perhaps others that came behind them: made once, and shared with those
        `before` that are asked for from now on."""
        if self._rest is None:
            parts = [(b", " if at else b"") + bytes(self._parts[at]) for at in range(self._count)]
            units = [part + spaces(part) for part in parts]
            ends = [0, *accumulate(len(unit) // 3 * 4 for unit in units)]
            self._rest = Rest(base64.b64encode(b"".join(units)), ends)
        return self._rest


class Rest(NamedTuple):
    """Steps of a chain in base64 (of JSON: what stands between the brackets of the list).

    Attributes:
        text: all of them.
        ends: how long a prefix of `text` the first 0, 1, 2, … of them are.

    Example:
        >>> rest = Steps([b"[1]", b"[2]"]).rest()
        >>> [base64.b64decode(rest.text[:end]) for end in rest.ends]
        [b'', b'[1]', b'[1], [2] ']
    """

    text: bytes
    ends: Sequence[int]


class Chained(Message):
    """A message whose body is ``head + steps.raw + tail``, as `protocol.write` made it.

    A copy of it (`_replace`) is a message like any other: its `steps` are None.
    """

    head: bytes = b""
    steps: Steps | None = None
    tail: bytes = b""

    def __reduce__(self) -> tuple[Any, ...]:
        return Message, tuple(self)

    @classmethod
    def made(cls, message: Sequence[Any], head: bytes, steps: Steps, tail: bytes) -> Chained:
        """`message`: body, content type and encoding, headers, properties."""
        chained = cls._make(message)
        chained.head, chained.steps, chained.tail = head, steps, tail
        return chained


def spaces(text: bytes) -> bytes:
    """So many that with them the base64 of `text` can stand before another's.

    Example:
        >>> spaces(b"[1, 2]"), spaces(b"[1]["), spaces(b"")
        (b'', b'  ', b'')
    """
    return b" " * (-len(text) % 3)


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


def reread(message: Chained) -> Any:
    """The value of its body, with its steps as they are.

    Raises:
        DecodeError: as `json.loads`.
    """
    args, kwargs, follows = json.loads(message.head + b"[]" + message.tail)
    return [args, kwargs, {**follows, "chain": message.steps}]


def around(args: Any, kwargs: Any, callbacks: Any, errbacks: Any, chord: Any) -> tuple[bytes, bytes]:
    """What stands before and behind the chain in a body, as `json.dumps` would write it.

    Raises:
        EncodeError: an argument or a signature cannot be written.
    """
    args, kwargs, callbacks, errbacks = map(json.dumps_text, (args, kwargs, callbacks, errbacks))
    head = f'[{args}, {kwargs}, {{"callbacks": {callbacks}, "errbacks": {errbacks}, "chain": '
    return head.encode("ascii"), b', "chord": %s}]' % json.dumps(chord)
