"""What key-value stores in Celery's style are derived from: `KeyValueStoreBackend`.

A subclass overrides `get`, `set` and `delete`, and `mget` where several keys can be had in one trip.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import getattr_static
from typing import Any

from celeriac import states
from celeriac.app.foreign.bases import Backend, SyncBackendMixin
from celeriac.backends.keyvalue import key_prefix
from celeriac.result import result_from_tuple

__all__ = ["BaseKeyValueStoreBackend", "KeyValueStoreBackend"]


def _bytes(key: Any) -> bytes:
    return key if isinstance(key, bytes) else str(key).encode()


class BaseKeyValueStoreBackend(Backend):
    """Keeps one document under one key for each task and each group."""

    #: What keys are turned into before `get` and the others see them.
    key_t: Callable[[Any], Any] = staticmethod(_bytes)
    task_keyprefix: Any = "celery-task-meta-"
    group_keyprefix: Any = "celery-taskset-meta-"
    chord_keyprefix: Any = "chord-unlock-"
    implements_incr = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        turn = getattr_static(self, "key_t")  # a plain function in a subclass is no method
        self.key_t = turn.__func__ if isinstance(turn, staticmethod) else turn
        prefix = key_prefix(self.app.conf.result_backend_transport_options or {})
        for name in ("task_keyprefix", "group_keyprefix", "chord_keyprefix"):
            own = getattr(self, name)
            own = own.decode() if isinstance(own, bytes) else own
            setattr(self, name, self.key_t(prefix + own))

    # -- what subclasses override ----------------------------------------------------------------------------

    def get(self, key: Any) -> Any:
        raise self._missing("get")

    def mget(self, keys: Any) -> Any:
        """Values in the order of `keys`, or by key; None where there is none."""
        return [self.get(key) for key in keys]

    def set(self, key: Any, value: Any) -> Any:
        raise self._missing("set")

    def delete(self, key: Any) -> Any:
        raise self._missing("delete")

    def incr(self, key: Any) -> Any:
        raise self._missing("incr")

    def expire(self, key: Any, value: Any) -> Any:
        raise self._missing("expire")

    # -- keys ------------------------------------------------------------------------------------------------

    def get_key_for_task(self, task_id: Any, key: Any = "") -> Any:
        return self._key(self.task_keyprefix, task_id, key)

    def get_key_for_group(self, group_id: Any, key: Any = "") -> Any:
        return self._key(self.group_keyprefix, group_id, key)

    def get_key_for_chord(self, group_id: Any, key: Any = "") -> Any:
        return self._key(self.chord_keyprefix, group_id, key)

    def _key(self, prefix: Any, id: Any, key: Any) -> Any:
        if not id:
            raise ValueError(f"a key needs an id, not {id!r}")
        return prefix[:0].join([prefix, self.key_t(id), self.key_t(key)])

    # -- tasks and groups ------------------------------------------------------------------------------------

    def _store_result(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **kwargs: Any
    ) -> Any:
        if self._get_task_meta_for(task_id)["status"] == states.SUCCESS:
            return result  # what comes late must not hide it
        meta = self._get_result_meta(result, state, traceback, request)
        meta["task_id"] = task_id
        self._set_with_state(self.get_key_for_task(task_id), self.encode(meta), state)
        return result

    def _set_with_state(self, key: Any, value: Any, state: str) -> Any:
        return self.set(key, value)

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        found = self.get(self.get_key_for_task(task_id))
        return self.decode_result(found) if found else {"status": states.PENDING, "result": None}

    def _forget(self, task_id: str) -> None:
        self.delete(self.get_key_for_task(task_id))

    def _save_group(self, group_id: str, result: Any) -> Any:
        self.set(self.get_key_for_group(group_id), self.encode({"result": result.as_tuple()}))
        return result

    def _restore_group(self, group_id: str) -> Any:
        found = self.get(self.get_key_for_group(group_id))
        if not found:
            return None
        meta = self.decode(found)
        return {**meta, "result": result_from_tuple(meta["result"], self.app)}

    def _delete_group(self, group_id: str) -> None:
        self.delete(self.get_key_for_group(group_id))


class KeyValueStoreBackend(BaseKeyValueStoreBackend, SyncBackendMixin):
    """What key-value stores are derived from."""
