"""Values as short text for headers, logs and stored arguments.

`saferepr`: like `repr`, but it never raises, never returns more than it was asked for, and never walks more
of a large value than that. Not here: values as data (`serialization.py`).
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["REPR_LIMIT", "saferepr"]

#: Characters of the headers ``argsrepr`` and ``kwargsrepr``.
REPR_LIMIT: Final = 1024

_ATOMS: Final = frozenset({int, float, bool, type(None)})
_MANY: Final = 32  # elements up to which a plain value is given to repr() as it is
_LONG: Final = 256  # characters of a text in it
_DEPTH: Final = 4
_BRACKETS: Final[dict[type, tuple[str, str, str]]] = {
    list: ("[", "]", "[]"),
    tuple: ("(", ")", "()"),
    set: ("{", "}", "set()"),
    frozenset: ("frozenset({", "})", "frozenset()"),
}


def saferepr(value: Any, limit: int = REPR_LIMIT) -> str:
    """Return `value` as text of at most `limit` characters; what is left out shows as ``...``.

    Example:
        >>> saferepr((2, "three", {"four": [5]}))
        "(2, 'three', {'four': [5]})"
        >>> saferepr(list(range(1000)), 20)
        '[0, 1, 2, 3, 4, 5...'
    """
    kind = type(value)
    if kind is tuple or kind is list or kind is dict:
        few = len(value) <= _MANY
        items = (*value, *value.values()) if few and kind is dict else value
    else:
        few = True
        items = (value,)
    if few:
        for item in items:
            of = type(item)
            if of is str:
                if len(item) > _LONG:
                    break
            elif of not in _ATOMS:
                break
        else:
            try:
                text = repr(value)
            except ValueError:  # an integer of more digits than Python converts
                return _walk(value, limit)
            return text if len(text) <= limit else f"{text[: limit - 3]}..."
    return _walk(value, limit)


def _walk(value: Any, limit: int) -> str:
    out = _Text(limit)
    try:
        _write(out, value, 0)
        text = "".join(out.parts)
    except _Full:
        text = f"{''.join(out.parts)[: limit - 3]}..."
    except BaseException as exc:  # a class can break even type(value).__name__; text is not worth a task
        text = f"<unprintable: {type(exc).__name__}>"[:limit]
    # lone surrogates cannot be sent, and only a foreign __repr__ lets them through
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")[:limit]


class _Full(Exception):
    """The text has all the characters it may have."""


class _Text:
    __slots__ = ("parts", "room")

    def __init__(self, limit: int) -> None:
        self.parts: list[str] = []
        self.room = limit

    def add(self, part: str) -> None:
        self.parts.append(part)
        self.room -= len(part)
        if self.room < 0:
            raise _Full


def _write(out: _Text, value: Any, depth: int) -> None:
    kind = type(value)
    if kind is dict:
        _write_dict(out, value, depth)
    elif kind in _BRACKETS:
        _write_items(out, value, depth)
    elif kind is str or kind is bytes:
        cut = len(value) > out.room
        out.add(repr(value[: out.room + 1]) if cut else repr(value))
        if cut:
            raise _Full
    else:
        out.add(_foreign(value))


def _write_items(out: _Text, value: Any, depth: int) -> None:
    opening, closing, empty = _BRACKETS[type(value)]
    if not value:
        out.add(empty)
    elif depth >= _DEPTH:
        out.add(f"{opening}...{closing}")
    else:
        out.add(opening)
        separator = ""
        for item in value:
            out.add(separator)
            _write(out, item, depth + 1)
            separator = ", "
        out.add(f",{closing}" if type(value) is tuple and len(value) == 1 else closing)


def _write_dict(out: _Text, value: dict[Any, Any], depth: int) -> None:
    if depth >= _DEPTH and value:
        out.add("{...}")
        return
    out.add("{")
    separator = ""
    for key, item in value.items():
        out.add(separator)
        _write(out, key, depth + 1)
        out.add(": ")
        _write(out, item, depth + 1)
        separator = ", "
    out.add("}")


def _foreign(value: Any) -> str:
    """`repr` of a value whose class may do anything, raise SystemExit included."""
    try:
        return "".join((repr(value),))  # a plain str, whatever subclass of it came back
    except BaseException as exc:
        return f"<{type(value).__name__} whose repr() raised {type(exc).__name__}>"
