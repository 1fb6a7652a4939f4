"""`xmap`, `xstarmap`, `chunks`: one task over many arguments in one message, or in a few.

They are carried out by the built-in tasks ``celery.map`` and ``celery.starmap``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from celeriac.canvas.base import Signature, maybe_signature
from celeriac.canvas.group import group

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac

__all__ = ["chunks", "xmap", "xstarmap"]


class _OverItems(Signature[list[Any]]):
    """A task and the items it is called with."""

    builtin: ClassVar[str] = ""

    def __init__(self, task: Any, it: Iterable[Any], **options: Any) -> None:
        app: Celeriac | None = options.pop("app", None)
        parts = {"task": _signature_of(task, app), "it": list(it)}
        super().__init__(
            self.builtin, (), parts, subtask_type=self.subtask_kind, immutable=True, app=app, options=options
        )

    @classmethod
    def _rebuild(cls, d: Mapping[str, Any], app: Celeriac | None) -> Signature[Any]:
        parts = d["kwargs"]
        if not isinstance(parts.get("task"), dict) or not isinstance(parts.get("it"), list | tuple):
            raise ValueError(
                f"this is not a canvas of kind {cls.subtask_kind}, its task or items cannot be used"
            )
        return cls._of(parts, app, d["options"])

    @classmethod
    def _of(
        cls, parts: Mapping[str, Any], app: Celeriac | None, options: Mapping[str, Any]
    ) -> Signature[Any]:
        return cls(maybe_signature(parts["task"], app), parts["it"], app=app, **options)

    def apply_async(self, args: Any = None, kwargs: Any = None, **opts: Any) -> Any:  # type: ignore[override]
        """Send it; the arguments are its task and items, whatever is given here."""
        return super().apply_async(args, kwargs, **opts)

    @property
    def app(self) -> Any:
        """Its app: its own, or its task's."""
        return self._app if self._app is not None else self["kwargs"]["task"].app

    def __repr__(self) -> str:
        task = self["kwargs"]["task"]["task"]
        return f"[{task}(x) for x in {self['kwargs']['it']!r}]"


class xmap(_OverItems):
    """One message that runs ``[task(item) for item in it]``."""

    subtask_kind: ClassVar[str | None] = "xmap"
    builtin = "celery.map"


class xstarmap(_OverItems):
    """One message that runs ``[task(*item) for item in it]``."""

    subtask_kind: ClassVar[str | None] = "xstarmap"
    builtin = "celery.starmap"

    def __repr__(self) -> str:
        task = self["kwargs"]["task"]["task"]
        return f"[{task}(*x) for x in {self['kwargs']['it']!r}]"


class chunks(_OverItems):
    """`it` in parts of `n` items, one ``celery.starmap`` message for each."""

    subtask_kind: ClassVar[str | None] = "chunks"
    builtin = "celery.chunks"

    def __init__(self, task: Any, it: Iterable[Any], n: int, **options: Any) -> None:
        if n < 1:
            raise ValueError(f"chunks must have at least one item, not {n}")
        super().__init__(task, it, **options)
        self["kwargs"]["n"] = n

    @classmethod
    def _of(
        cls, parts: Mapping[str, Any], app: Celeriac | None, options: Mapping[str, Any]
    ) -> Signature[Any]:
        n = parts.get("n")
        if not isinstance(n, int):
            raise ValueError("this is not a canvas of kind chunks, its size is not a number")
        return cls(maybe_signature(parts["task"], app), parts["it"], n, app=app, **options)

    def group(self) -> group:
        """The messages, as a group."""
        task, items, n = (self["kwargs"][key] for key in ("task", "it", "n"))
        parts = itertools.batched(items, n) if hasattr(itertools, "batched") else _batched(items, n)
        return group((xstarmap(task, part, app=self._app) for part in parts), app=self._app)

    def _members(self) -> Iterable[Signature[Any]]:
        return self.group()._members()

    def _closed(self) -> Signature[Any]:
        return self.group()._closed()

    def __call__(self, **options: Any) -> Any:
        return self.apply_async(**options)

    def apply_async(self, args: Any = None, kwargs: Any = None, **opts: Any) -> Any:  # type: ignore[override]
        """Send all parts in one batch; returns a `GroupResult`."""
        return self.group().apply_async(args, kwargs, **{**self["options"], **opts})

    def apply(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        return self.group().apply(args, kwargs, **options)

    def sendings(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        return self.group().sendings(args, kwargs, **{**self["options"], **options})

    @classmethod
    def apply_chunks(cls, task: Any, it: Iterable[Any], n: int, app: Celeriac | None = None) -> Any:
        return cls(task, it, n, app=app)()


def _batched(items: list[Any], n: int) -> Iterable[tuple[Any, ...]]:
    return (tuple(items[start : start + n]) for start in range(0, len(items), n))


def _signature_of(task: Any, app: Celeriac | None) -> Signature[Any]:
    if isinstance(task, dict):
        return maybe_signature(task, app)  # type: ignore[no-any-return]
    return Signature(task, app=app)
