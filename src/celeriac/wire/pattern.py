"""The envelopes of calls that are alike, written from one of them as a pattern.

`Pattern`: of calls that differ in id, arguments and place in their group only, all but that is written once.
The bytes are those of `virtual.encode(protocol.write(…))`; what does not fit the pattern is written that way.

Not here: which calls are alike (`app/alike.py`), what a message looks like (`protocol.py`, `virtual.py`).
"""

from __future__ import annotations

import re
from binascii import b2a_base64
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from secrets import randbits
from typing import Any, Final

from celeriac.utils.identity import uuid
from celeriac.wire import json, virtual
from celeriac.wire.message import Message
from celeriac.wire.saferepr import REPR_LIMIT, saferepr

__all__ = ["Pattern"]

#: What differs, by its place among the values that are written into the text.
_ID, _INDEX, _ARGS, _KWARGS, _TAG, _BODY = range(6)
#: Bytes up to which an envelope cannot have too long headers.
_SHORT: Final = virtual.HEADERS_LIMIT // 2
_compact = json.compact
_dumps = json.dumps_text


class Pattern:
    """See above.

    Attributes:
        make: `protocol.write` with all that the calls share; called with `id`, `args`, `kwargs` and
            `group_index`.

    Example:
        >>> from functools import partial
        >>> from celeriac.wire.protocol import write
        >>> pattern = Pattern(partial(write, name="proj.add", routing_key="celery"))
        >>> raw = pattern.envelope("an-id", (2, 3), None, None, "a-tag")
        >>> virtual.decode(raw).headers["argsrepr"]
        '(2, 3)'
    """

    __slots__ = ("_follows", "_is_learned", "_no_args", "_order", "_text", "make")

    def __init__(self, make: Callable[..., Message]) -> None:
        self.make = make
        self._is_learned = False
        self._text: str | None = None  # None: no pattern fits these calls

    def envelope(
        self, id: str, args: Sequence[Any], kwargs: Mapping[str, Any] | None, index: int | None, tag: str
    ) -> bytes:
        """The envelope of one call; `tag` is its `delivery_tag`. Hot.

        Raises:
            As `protocol.write` and `virtual.encode`.
        """
        if not self._is_learned:
            self._learn()
        if self._text is None or not isinstance(args, list | tuple) or type(kwargs or {}) is not dict:
            return self._for_itself(id, args, kwargs, index)
        if args or kwargs or type(args) is not tuple:
            parameters = _dumps(kwargs) if kwargs else "{}"
            body = _base64(f"[{_dumps(args)}, {parameters}, {self._follows}]".encode("ascii"))
            shown = saferepr(args, REPR_LIMIT), saferepr(kwargs, REPR_LIMIT) if kwargs else "{}"
        else:
            body, shown = self._no_args, ("()", "{}")
        try:
            values = (
                _compact(id).decode(),
                "null" if index is None else _compact(index).decode(),
                _compact(shown[0]).decode(),
                _compact(shown[1]).decode(),
                tag,
                body,
            )
        except (TypeError, ValueError, OverflowError, RecursionError):  # as in `json.encode_envelope`
            return self._for_itself(id, args, kwargs, index)
        raw = (self._text % self._order(values)).encode()
        return raw if len(raw) <= _SHORT else self._for_itself(id, args, kwargs, index)

    def _for_itself(self, id: str, args: Any, kwargs: Any, index: int | None) -> bytes:
        return virtual.encode(self.make(id=id, args=args, kwargs=kwargs, group_index=index))

    def _learn(self) -> None:
        """Write one call, and find in it what is its own."""
        self._is_learned = True
        id, arg, key, index = uuid(), uuid(), uuid(), randbits(53) | 1 << 52
        message = self.make(id=id, args=(arg,), kwargs={key: 0}, group_index=index)
        start = f'[["{arg}"], {{"{key}": 0}}, '.encode()
        body = message.body
        raw = virtual.encode(message)
        if message.content_type != "application/json" or not body.startswith(start):
            return  # another serializer, or compressed
        if not raw.startswith(b'{"body":"') or len(raw) > _SHORT:
            return  # what they share is not written in the common way
        marks = {
            f'"{id}"': _ID,
            str(index): _INDEX,
            f"\"('{arg}',)\"": _ARGS,
            f"\"{{'{key}': 0}}\"": _KWARGS,
            str(message.properties["delivery_tag"]): _TAG,
            _base64(body): _BODY,
        }
        order: list[int] = []

        def place(found: re.Match[str]) -> str:
            order.append(marks[found[0]])
            return "%s"

        self._follows = body[len(start) : -1].decode("ascii")
        self._no_args = _base64(f"[[], {{}}, {self._follows}]".encode("ascii"))
        self._text = re.sub("|".join(map(re.escape, marks)), place, raw.decode().replace("%", "%%"))
        self._order = itemgetter(*order)


def _base64(raw: bytes) -> str:
    return b2a_base64(raw, newline=False).decode("ascii")
