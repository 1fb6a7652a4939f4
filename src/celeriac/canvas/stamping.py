"""Stamps: headers that a caller puts on every call of a canvas.

1. `StampingVisitor`: decides the stamps while it is led through a canvas.
2. `with_stamps`: the headers on the way down, with what a hook adds to them.
3. `put_stamps`: headers into the options of a call. Stamps are options under their own names, and
   ``stamped_headers`` says which options are stamps.

Not here: how a canvas is walked (each class's `stamp`), stamps in messages (`app/options.py`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from celeriac.canvas.shape import as_list, joined

if TYPE_CHECKING:
    from celeriac.canvas.base import Signature
    from celeriac.canvas.chain import chain
    from celeriac.canvas.chord import chord
    from celeriac.canvas.group import group

__all__ = ["StampingVisitor", "put_stamps", "with_stamps"]

_NAMES = "stamped_headers"


class StampingVisitor(ABC):
    """Says which stamps each call of a canvas gets: ``sig.stamp(visitor)``.

    A hook returns headers. All of them are stamps, unless it returns a list ``stamped_headers`` of those that
    are; the others become options of the call. What `on_group_start`, `on_chain_start`,
    `on_chord_header_start`, `on_chord_body`, `on_callback` and `on_errback` return holds for everything
    inside as well; what `on_signature` returns, for this call alone. `headers` are the stamps so far.

    Example:
        >>> from celeriac.canvas import Signature
        >>> class Tenant(StampingVisitor):
        ...     def on_signature(self, sig, **headers):
        ...         return {"tenant": 7}
        >>> sig = Signature("proj.add", (2, 2))
        >>> sig.stamp(Tenant()).options
        {'tenant': 7, 'stamped_headers': ['tenant']}
    """

    def on_group_start(self, group: group, **headers: Any) -> dict[str, Any]:
        """Called before the members of a group."""
        return {}

    def on_group_end(self, group: group, **headers: Any) -> None:  # noqa: B027  # may be left as it is
        """Called after the members of a group."""

    def on_chain_start(self, chain: chain, **headers: Any) -> dict[str, Any]:
        """Called before the steps of a chain."""
        return {}

    def on_chain_end(self, chain: chain, **headers: Any) -> None:  # noqa: B027
        """Called after the steps of a chain."""

    @abstractmethod
    def on_signature(self, sig: Signature[Any], **headers: Any) -> dict[str, Any]:
        """Called with every single call."""

    def on_chord_header_start(self, sig: chord, **header: Any) -> dict[str, Any]:
        """Called before the header of a chord; as it stands, the header is a group like any other."""
        return self.on_group_start(sig.header, **header)

    def on_chord_header_end(self, sig: chord, **header: Any) -> None:
        """Called after the header of a chord."""
        self.on_group_end(sig.header, **header)

    def on_chord_body(self, sig: chord, **header: Any) -> dict[str, Any]:
        """Called before the body of a chord; `header` has the header's stamps, too."""
        return {}

    def on_callback(self, callback: Signature[Any], **header: Any) -> dict[str, Any]:
        """Called before each `link`."""
        return {}

    def on_errback(self, errback: Signature[Any], **header: Any) -> dict[str, Any]:
        """Called before each `link_error`."""
        return {}


def with_stamps(headers: Mapping[str, Any], found: Mapping[str, Any] | None) -> dict[str, Any]:
    """`headers` and what a hook has `found`, which goes before; all names of stamps in one list."""
    names: list[Any] = []
    merged: dict[str, Any] = {}
    for part in (headers, found or {}):
        values = {key: value for key, value in part.items() if key != _NAMES}
        named = part.get(_NAMES)
        names = joined(names, list(values) if named is None else as_list(named))
        merged.update(values)
    return {**merged, _NAMES: names}


def put_stamps(options: dict[str, Any], headers: Mapping[str, Any], append_stamps: bool) -> None:
    """Write `headers` into `options`; with `append_stamps`, values join those that are there already."""
    stamped = with_stamps(headers, None)
    names = stamped.pop(_NAMES)
    before = as_list(options.get(_NAMES))
    for key, value in stamped.items():
        if append_stamps and key in options and key in before:
            value = [*_values(value), *_values(options[key])]
        options[key] = value
    options[_NAMES] = joined(before, names)


def _values(value: Any) -> list[Any]:
    return list(value) if isinstance(value, set | frozenset) else as_list(value)
