"""What result stores in Celery's style are derived from: `Backend`, `BaseBackend`, `SyncBackendMixin`.

A subclass overrides `_store_result`, `_get_task_meta_for`, `_forget`, `_save_group`, `_restore_group`,
`_delete_group` and `cleanup`. What it inherits turns values into what is stored and back, and answers
questions about one result. Imported as ``celeriac.backends.base``, where Celery has these names.

Not here: retries, chords. They are the package's own business; `adapter.py` uses of a store only what stores
and loads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from celeriac import exceptions, states
from celeriac._state import get_current_task
from celeriac.app.settings_values import mask_url
from celeriac.result import result_from_tuple
from celeriac.wire import serialization
from celeriac.wire.errors import describe_exception, rebuild_exception

__all__ = ["Backend", "BaseBackend", "SyncBackendMixin"]

_PENDING: Final = {"status": states.PENDING, "result": None}


class Backend:
    """A result store, as Celery makes one: called with the application and, where there was one, a URL.

    Args:
        app: the application.
        serializer: in place of the setting `result_serializer`.
        accept: serializers that may be read; by default those of the settings.
        expires: seconds or a timedelta, in place of the setting `result_expires`.
        url: where it is.
    """

    READY_STATES = states.READY_STATES
    UNREADY_STATES = states.UNREADY_STATES
    EXCEPTION_STATES = states.EXCEPTION_STATES
    TimeoutError = exceptions.TimeoutError

    #: Seconds between two looks, for stores that want another pause than the caller's.
    subpolling_interval: float | None = None
    supports_native_join = False
    supports_autoexpire = False
    persistent = True

    def __init__(
        self,
        app: Any,
        serializer: str | None = None,
        max_cached_results: int | None = None,
        accept: Any = None,
        expires: Any = None,
        expires_type: Callable[[Any], Any] | None = None,
        url: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.app = app
        self.serializer = serializer or app.conf.result_serializer
        codec = serialization.find(self.serializer)
        self.content_type, self.content_encoding = codec.content_type, codec.content_encoding
        named = accept or app.conf.result_accept_content or app.conf.accept_content
        self.accept = serialization.content_types([self.serializer, *named])
        self.expires = self.prepare_expires(expires, expires_type)
        self.url = url

    def as_uri(self, include_password: bool = False) -> str:
        """Where it is, for people."""
        url = self.url or f"{type(self).__module__}.{type(self).__qualname__}"
        return url if include_password else mask_url(url)

    # -- values ----------------------------------------------------------------------------------------------

    def encode(self, data: Any) -> Any:
        """`data` as text, or as bytes where the serializer writes bytes."""
        return self._encode(data)[2]

    def _encode(self, data: Any) -> tuple[str, str, Any]:
        content_type, encoding, raw = serialization.dumps(data, self.serializer)
        return content_type, encoding, raw.decode() if encoding == "utf-8" else raw

    def decode(self, payload: Any) -> Any:
        """What `encode` was given."""
        raw = payload.encode() if isinstance(payload, str) else bytes(payload)
        return serialization.loads(raw, self.content_type, self.content_encoding, self.accept)

    def encode_result(self, result: Any, state: str) -> Any:
        if state in self.EXCEPTION_STATES and isinstance(result, BaseException):
            return self.prepare_exception(result)
        return self.prepare_value(result)

    def decode_result(self, payload: Any) -> dict[str, Any]:
        return self.meta_from_decoded(self.decode(payload))

    def prepare_exception(self, exc: BaseException, serializer: str | None = None) -> dict[str, Any]:
        return describe_exception(exc)

    def prepare_value(self, result: Any) -> Any:
        """A value as it can be stored: a result stands for its id."""
        as_tuple = getattr(result, "as_tuple", None)
        return as_tuple() if as_tuple is not None and hasattr(result, "children") else result

    def exception_to_python(self, exc: Any) -> Any:
        return exc if exc is None or isinstance(exc, BaseException) else rebuild_exception(exc)

    def meta_from_decoded(self, meta: dict[str, Any]) -> dict[str, Any]:
        """With exceptions, and results for children."""
        if meta.get("status") in self.EXCEPTION_STATES:
            meta["result"] = self.exception_to_python(meta.get("result"))
        children = meta.get("children") or ()
        meta["children"] = [result_from_tuple(child, self.app) for child in children]
        return meta

    def _get_result_meta(
        self,
        result: Any,
        state: str,
        traceback: Any,
        request: Any,
        format_date: bool = True,
        encode: bool = False,
    ) -> dict[str, Any]:
        """What is kept of a task."""
        done: Any = datetime.now(UTC) if state in self.READY_STATES else None
        meta = {
            "status": state,
            "result": result,
            "traceback": traceback,
            "children": self.current_task_children(request),
            "date_done": done.isoformat() if done is not None and format_date else done,
        }
        for name, attribute in (("group_id", "group"), ("parent_id", "parent_id")):
            if getattr(request, attribute, None):
                meta[name] = getattr(request, attribute)
        if request is not None and self.app.conf.result_extended:
            meta |= {
                "name": getattr(request, "task", None),
                "args": getattr(request, "args", None),
                "kwargs": getattr(request, "kwargs", None),
                "worker": getattr(request, "hostname", None),
                "retries": getattr(request, "retries", None),
                "queue": (getattr(request, "delivery_info", None) or {}).get("routing_key"),
            }
        return meta

    def current_task_children(self, request: Any = None) -> list[Any]:
        request = request or getattr(get_current_task(), "request", None)
        return [child.as_tuple() for child in getattr(request, "children", None) or ()]

    def prepare_expires(self, value: Any, type: Callable[[Any], Any] | None = None) -> Any:
        """Seconds after which results expire, None for never."""
        value = self.app.conf.result_expires if value is None else value
        if isinstance(value, timedelta):
            value = value.total_seconds()
        return type(value) if value is not None and type is not None else value

    # -- one task --------------------------------------------------------------------------------------------

    def store_result(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **kwargs: Any
    ) -> Any:
        """Store a value, or an exception; returns what was stored of it."""
        result = self.encode_result(result, state)
        self._store_result(task_id, result, state, traceback, request=request, **kwargs)
        return result

    def get_task_meta(self, task_id: str, cache: bool = True) -> dict[str, Any]:
        """What is stored: at least `status` and `result`."""
        return self._get_task_meta_for(task_id) or dict(_PENDING)

    def get_result(self, task_id: str) -> Any:
        return self.get_task_meta(task_id).get("result")

    def get_state(self, task_id: str) -> str:
        return str(self.get_task_meta(task_id)["status"])

    get_status = get_state

    def get_traceback(self, task_id: str) -> Any:
        return self.get_task_meta(task_id).get("traceback")

    def get_children(self, task_id: str) -> Any:
        return self.get_task_meta(task_id).get("children")

    def task_result_exists(self, task_id: str) -> bool:
        return self.get_state(task_id) != states.PENDING

    def reload_task_result(self, task_id: str) -> None:
        """Nothing is cached."""

    def is_cached(self, task_id: str) -> bool:
        return False

    def forget(self, task_id: str) -> None:
        self._forget(task_id)

    # What a task came to; with `store_result` false nothing is stored. Errbacks are called by workers.

    def mark_as_started(self, task_id: str, **meta: Any) -> Any:
        return self.store_result(task_id, meta, states.STARTED)

    def mark_as_done(
        self,
        task_id: str,
        result: Any,
        request: Any = None,
        store_result: bool = True,
        state: str = states.SUCCESS,
    ) -> None:
        if store_result:
            self.store_result(task_id, result, state, request=request)

    def mark_as_failure(
        self,
        task_id: str,
        exc: Any,
        traceback: Any = None,
        request: Any = None,
        store_result: bool = True,
        call_errbacks: bool = True,
        state: str = states.FAILURE,
    ) -> None:
        if store_result:
            self.store_result(task_id, exc, state, traceback=traceback, request=request)

    def mark_as_retry(
        self,
        task_id: str,
        exc: Any,
        traceback: Any = None,
        request: Any = None,
        store_result: bool = True,
        state: str = states.RETRY,
    ) -> None:
        self.mark_as_failure(task_id, exc, traceback, request, store_result, state=state)

    def mark_as_revoked(
        self,
        task_id: str,
        reason: str = "",
        request: Any = None,
        store_result: bool = True,
        state: str = states.REVOKED,
    ) -> None:
        exc = exceptions.TaskRevokedError(reason)
        self.mark_as_failure(task_id, exc, None, request, store_result, state=state)

    def chord_error_from_stack(self, callback: Any, exc: BaseException | None = None) -> None:
        """Let what waits for a chord's body see that it failed."""
        self.mark_as_failure(callback.id, exc or exceptions.ChordError("the chord failed"))

    # -- groups ----------------------------------------------------------------------------------------------

    def save_group(self, group_id: str, result: Any) -> Any:
        return self._save_group(group_id, result)

    def restore_group(self, group_id: str, cache: bool = True) -> Any:
        """The group's result, None when there is none."""
        return (self.get_group_meta(group_id, cache) or {}).get("result")

    def get_group_meta(self, group_id: str, cache: bool = True) -> Mapping[str, Any] | None:
        found: Mapping[str, Any] | None = self._restore_group(group_id)
        return found

    def delete_group(self, group_id: str) -> None:
        self._delete_group(group_id)

    # -- what subclasses override ----------------------------------------------------------------------------

    def _store_result(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **kwargs: Any
    ) -> Any:
        raise self._missing("_store_result")

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        raise self._missing("_get_task_meta_for")

    def _forget(self, task_id: str) -> None:
        raise self._missing("_forget")

    def _save_group(self, group_id: str, result: Any) -> Any:
        raise self._missing("_save_group")

    def _restore_group(self, group_id: str) -> Any:
        raise self._missing("_restore_group")

    def _delete_group(self, group_id: str) -> None:
        raise self._missing("_delete_group")

    def _missing(self, name: str) -> NotImplementedError:
        return NotImplementedError(f"The result store {type(self).__qualname__} has no method {name!r}.")

    def cleanup(self) -> Any:
        """Delete what has expired."""

    def process_cleanup(self) -> None:
        """Called when a process is done with it."""

    def exception_safe_to_retry(self, exc: Exception) -> bool:
        """Called with what storing or loading raised; a place to drop a dead connection. Storing is tried
        again whatever it answers."""
        return False

    def apply_chord(self, header_result_args: Any, body: Any, **kwargs: Any) -> None:
        """Never called: chords are counted by polling for their members."""

    def on_chord_part_return(self, request: Any, state: str, result: Any, **kwargs: Any) -> None:
        """Never called, as `apply_chord`."""


class SyncBackendMixin:
    """Waiting by looking again and again."""

    is_async = False

    def wait_for(
        self,
        task_id: str,
        timeout: float | None = None,
        interval: float = 0.5,
        no_ack: bool = True,
        on_interval: Callable[[], Any] | None = None,
    ) -> dict[str, Any]:
        """Return what is stored of a task when it has ended. Raises `TimeoutError` after `timeout` s."""
        store: Any = self
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            meta: dict[str, Any] = store.get_task_meta(task_id)
            if meta["status"] in states.READY_STATES:
                return meta
            if deadline is not None and time.monotonic() >= deadline:
                raise exceptions.TimeoutError(f"The result of task {task_id} did not come in time.")
            if on_interval is not None:
                on_interval()
            time.sleep(interval)

    def wait_for_pending(
        self,
        result: Any,
        timeout: float | None = None,
        interval: float = 0.5,
        no_ack: bool = True,
        on_message: Callable[[Any], Any] | None = None,
        on_interval: Callable[[], Any] | None = None,
        callback: Callable[[str, Any], Any] | None = None,
        propagate: bool = True,
    ) -> Any:
        """The value of `result`, when it is there."""
        return result.get(
            timeout=timeout,
            interval=interval,
            on_message=on_message,
            on_interval=on_interval,
            callback=callback,
            propagate=propagate,
        )


class BaseBackend(Backend, SyncBackendMixin):
    """What result stores are derived from, as a rule."""
