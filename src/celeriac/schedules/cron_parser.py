"""The fields of a crontab: from text, numbers and sets to the set of values that match.

Grammar of one field: parts joined by commas; a part is ``*``, ``n``, ``n-m`` (which may wrap: ``22-4``),
``*/step`` or ``n-m/step``. A step counts from the first value of its range. Days of the week and months may
be names of three letters or more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

__all__ = ["ParseException", "crontab_parser", "expand_field"]

_NUMBER: Final = re.compile(r"[0-9]+\Z")
_DAYS: Final = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_MONTHS: Final = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip


class ParseException(ValueError):
    """A crontab field that cannot be read; the text says which part and why."""


class crontab_parser:
    """Reads one field.

    Args:
        max_: how many values there are.
        min_: the lowest. (7, 0) are days of the week, Sunday first; (12, 1) are months.

    Example:
        >>> sorted(crontab_parser(24).parse("22-4/2"))
        [0, 2, 4, 22]
        >>> sorted(crontab_parser(7).parse("mon,fri"))
        [1, 5]
    """

    ParseException = ParseException

    def __init__(self, max_: int = 60, min_: int = 0) -> None:
        self.min_ = min_
        self.max_ = max_ + min_ - 1

    def parse(self, spec: str) -> set[int]:
        """Return the values that `spec` matches.

        Raises:
            ParseException: it cannot be read, or names a value out of range.
        """
        found: set[int] = set()
        for part in spec.split(","):
            found.update(self._part(part.strip()))
        return found

    def _part(self, part: str) -> list[int]:
        if not part:
            raise ParseException("There is an empty part: write values between the commas, or '*' for all.")
        span, slash, step = part.partition("/")
        first, dash, last = span.partition("-")
        if dash and not first:
            raise ParseException(f"{part!r}: negative numbers are not supported.")
        if span == "*":
            values = list(range(self.min_, self.max_ + 1))
        elif dash:
            values = list(self._range(self._value(first, part), self._value(last, part)))
        elif slash:
            instead = f"'*/{step}' or '{span}-{self.max_}/{step}'"
            raise ParseException(f"{part!r}: a step needs a range before it: {instead}.")
        else:
            values = [self._value(span, part)]
        return values[:: self._step(step, part)] if slash else values

    def _range(self, first: int, last: int) -> Iterator[int]:
        yield from range(first, (last if first <= last else self.max_) + 1)
        if last < first:
            yield from range(self.min_, last + 1)

    def _value(self, text: str, part: str) -> int:
        text = text.strip()
        value = int(text) if _NUMBER.match(text) else self._named(text, part)
        if not self.min_ <= value <= self.max_:
            note = " (Sunday is 0)" if self._is_weekday() else ""
            raise ParseException(f"{part!r}: {value} is out of the range {self.min_}-{self.max_}{note}.")
        return value

    def _step(self, text: str, part: str) -> int:
        if not _NUMBER.match(text) or not int(text):
            raise ParseException(f"{part!r}: the step must be a number above zero.")
        return int(text)

    def _is_weekday(self) -> bool:
        return (self.min_, self.max_) == (0, 6)

    def _named(self, text: str, part: str) -> int:
        names: tuple[str, ...] = ()
        if self._is_weekday():
            names = _DAYS
        elif (self.min_, self.max_) == (1, 12):
            names = _MONTHS
        word = text.lower()
        if len(word) >= 3:
            for position, name in enumerate(names):
                if name.startswith(word):
                    return position + self.min_
        wanted = f"a number or a name such as {names[1][:3]!r}" if names else "a number"
        raise ParseException(f"{part!r}: {text!r} is not {wanted}.")


def expand_field(name: str, spec: Any, max_: int, min_: int = 0) -> set[int]:
    """Return the values of a crontab argument given as a number, text, or a collection of numbers.

    Args:
        name: the argument, for messages.
        spec: what was given.
        max_: how many values there are.
        min_: the lowest.

    Raises:
        ParseException: it cannot be read, is empty, or names a value out of range.
        TypeError: it is of another type.
    """
    if isinstance(spec, str):
        try:
            return crontab_parser(max_, min_).parse(spec)
        except ParseException as exc:
            raise ParseException(f"crontab({name}={spec!r}): {exc}") from None
    values: set[Any] | None = None
    if isinstance(spec, int):
        values = {spec}
    elif isinstance(spec, Iterable) and not isinstance(spec, (bytes, bytearray)):
        values = set(spec)
    if values is None or not all(isinstance(value, int) for value in values):
        raise TypeError(
            f"crontab({name}={spec!r}): give a number, text such as '*/5', or a collection of numbers."
        )
    if not values:
        raise ParseException(f"crontab({name}={spec!r}): it is empty, so it would never be due.")
    for value in values:
        if not min_ <= value < min_ + max_:
            span = f"{min_}-{max_ + min_ - 1}"
            raise ParseException(f"crontab({name}={spec!r}): {value} is out of the range {span}.")
    return values
