"""Tasks that every app has, under Celery's names.

1. `celery.backend_cleanup`: deletes results that have expired, where the store does not do it by itself.
2. `celery.map`, `celery.starmap`, `celery.chunks`, `celery.group`, `celery.accumulate`: what canvases send.
3. `celery.chord_unlock`: polls for the members of a chord that nothing counts; `celeriac.chord_body`: sends
   the body of one whose last member ran on a worker of Celery's.
4. `celery.chain`, `celery.chord`: names only; they are never run as tasks.
5. `celeriac.errback`: calls an errback with (request, exception, traceback).

Not here: canvases (`canvas/`).
"""

from __future__ import annotations

from collections.abc import Iterable
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, NoReturn

from celeriac.app.chords import BODY
from celeriac.app.followups import ERRBACK
from celeriac.app.polling import UNLOCK, unlock
from celeriac.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from celeriac.app.base import Celeriac
    from celeriac.app.task import Task

__all__ = ["add_builtins"]


def add_builtins(app: Celeriac) -> None:
    """Register the built-in tasks with `app`."""
    for name, options, make in (
        ("celery.backend_cleanup", {}, _backend_cleanup),
        ("celery.map", {}, _map),
        ("celery.starmap", {}, _starmap),
        ("celery.chunks", {}, _chunks),
        ("celery.group", {"bind": True}, _group),
        ("celery.accumulate", {}, _accumulate),
        (UNLOCK, {"bind": True, "ignore_result": True, "max_retries": None}, _unlock),
        (BODY, {"bind": True, "ignore_result": True}, _body),
        ("celery.chain", {}, _refused),
        ("celery.chord", {}, _refused),
        (ERRBACK, {"ignore_result": True}, _errback),
    ):
        app.adopt(make(app), {"name": name, "typing": False, "shared": False, **options})


def _backend_cleanup(app: Celeriac) -> Any:
    def backend_cleanup() -> int:
        return app.backend.expire()

    return backend_cleanup


def _item_task(app: Celeriac, task: Any) -> Task[..., Any]:
    from celeriac.canvas import maybe_signature

    found: Task[..., Any] = maybe_signature(task, app).type
    return found


async def _each(values: Iterable[Any]) -> list[Any]:
    return [await value if isawaitable(value) else value for value in values]


def _collect(task: Task[..., Any], calls: Iterable[Any]) -> Any:
    """The results of `calls`; of coroutine tasks they are awaited one after the other."""
    from celeriac.execution.run import is_coroutine_task

    if is_coroutine_task(task):
        import asyncio

        return asyncio.run(_each(calls))
    return list(calls)


def _map(app: Celeriac) -> Any:
    def xmap(task: Any, it: Iterable[Any]) -> Any:
        call = _item_task(app, task)
        return _collect(call, (call(item) for item in it))

    return xmap


def _starmap(app: Celeriac) -> Any:
    def xstarmap(task: Any, it: Iterable[Any]) -> Any:
        call = _item_task(app, task)
        return _collect(call, (call(*item) for item in it))

    return xstarmap


def _chunks(app: Celeriac) -> Any:
    def chunks(task: Any, it: Iterable[Any], n: int) -> list[Any]:
        call = _item_task(app, task)
        items = list(it)
        parts = [items[start : start + n] for start in range(0, len(items), n)]
        return [_collect(call, (call(*item) for item in part)) for part in parts]

    return chunks


def _group(app: Celeriac) -> Any:
    def group(self: Any, tasks: Any, result: Any, group_id: str, partial_args: Any, **rest: Any) -> Any:
        from celeriac.canvas import maybe_signature

        request = self.request
        common = {"group_id": group_id, "root_id": request.root_id, "parent_id": request.id}
        sendings = [
            sending
            for task in tasks
            for sending in maybe_signature(task, app).sendings(tuple(partial_args or ()), None, **common)
        ]
        app.producer.send(sendings)
        return result

    return group


def _accumulate(app: Celeriac) -> Any:
    def accumulate(*args: Any, **kwargs: Any) -> Any:
        index = kwargs.get("index")
        return args if index is None else args[index]

    return accumulate


def _unlock(app: Celeriac) -> Any:
    def chord_unlock(
        self: Any,
        group_id: str,
        callback: Any,
        interval: float | None = None,
        max_retries: int | None = None,
        result: Any = None,
        **rest: Any,
    ) -> None:
        unlock(self, group_id, callback, interval, max_retries, result)

    return chord_unlock


def _body(app: Celeriac) -> Any:
    def chord_body(self: Any, values: Any, chord_id: str) -> None:
        from celeriac.app.chords import body_of
        from celeriac.canvas import maybe_signature

        store = app.chord_store
        found = store.load_chord(chord_id) if store is not None else None
        if found is None or found.body is None:
            raise ImproperlyConfigured(
                f"The body of chord {chord_id} is not in the store; was it sent by this app?"
            )
        body = maybe_signature(dict(body_of(app, found.body)), app)
        request = self.request
        app.producer.send(body.sendings((values,), None, root_id=request.root_id, parent_id=request.id))

    return chord_body


def _refused(app: Celeriac) -> Any:
    def refused(*args: Any, **kwargs: Any) -> NoReturn:
        raise ImproperlyConfigured("Chains and chords are not run as tasks: their members are sent.")

    return refused


def _errback(app: Celeriac) -> Any:
    def errback(link: Any, request: dict[str, Any], failure: Any, traceback: str | None) -> None:
        from celeriac.canvas import maybe_signature
        from celeriac.execution.call import Context
        from celeriac.wire.errors import rebuild_exception

        exc = rebuild_exception(failure)
        maybe_signature(link, app)(Context(request, called_directly=False), exc, traceback)

    return errback
