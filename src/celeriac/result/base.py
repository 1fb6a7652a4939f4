"""What all results have in common.

1. `ResultBase`, the base of one result and of many.
2. `result_from_tuple`: results from their stored form. It may come from a result store that others write to,
   so its shape is checked.
3. `read_document`: a result document with its exception rebuilt; `exception_of`: that exception, to raise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from celeriac import states
from celeriac.wire.results import ResultMeta, decode_result, rebuild_exception

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac

__all__ = ["ResultBase", "exception_of", "read_document", "result_from_tuple"]


class ResultBase:
    """Base of results. `parent` is the result of what came before in a chain."""

    #: ``one`` and ``group`` → the class of such results.
    kinds: ClassVar[dict[str, Callable[..., Any]]] = {}

    parent: Any = None

    def __init_subclass__(cls, kind: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if kind is not None:
            ResultBase.kinds[kind] = cls


def result_from_tuple(r: Any, app: Celeriac | None = None) -> Any:
    """Rebuild a result, or the results of a group, from what `as_tuple` gave.

    Raises:
        ValueError: `r` does not have that shape.

    Example:
        >>> from celeriac import Celeriac
        >>> from celeriac.result import result_from_tuple
        >>> app = Celeriac("example", broker="memory://", set_as_current=False)
        >>> result_from_tuple([["group-id", None], [[["task-id", None], None]]], app)
        <GroupResult: group-id [task-id]>
    """
    if isinstance(r, ResultBase):
        return r
    match r:
        case [[str() as id, parent], None | list() | tuple() as nodes]:
            up = result_from_tuple(parent, app) if parent else None
        case [str() as id, None | list() | tuple() as nodes]:
            up = None
        case _:
            raise ValueError(f"this is not the stored form of a result: {str(r)[:200]}")
    if nodes is None:
        return ResultBase.kinds["one"](id, app=app, parent=up)
    return ResultBase.kinds["group"](id, [result_from_tuple(node, app) for node in nodes], parent=up, app=app)


def read_document(document: bytes, serializer: str) -> ResultMeta:
    """What a result document says; the result of a failure is its exception.

    Raises:
        DecodeError: it is not a result document.
    """
    meta = decode_result(document, serializer)
    if meta.status in states.EXCEPTION_STATES:
        return meta._replace(result=rebuild_exception(meta.result))
    return meta


def exception_of(meta: ResultMeta) -> Exception:
    """The exception of a failure, with the worker's traceback as its note."""
    exc = meta.result
    if not isinstance(exc, Exception):
        return Exception(exc)
    if meta.traceback and not getattr(exc, "__notes__", None):
        exc.add_note(f"The worker's traceback:\n{meta.traceback}")
    return exc.with_traceback(None)
