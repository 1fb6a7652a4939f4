"""Result stores of somebody else, written as Celery's users write theirs. `tests/conformance/test_foreign.py`
uses them.

1. `Drawer`: a key-value store.
2. `Ledger`: one that is derived from `BaseBackend` and keeps the parts of a result apart.
"""

from __future__ import annotations

import threading
from typing import Any

from celeriac.backends.base import BaseBackend, KeyValueStoreBackend

_lock = threading.Lock()
#: Contents by URL: what is shared by all who open the same.
_drawers: dict[str, dict[Any, Any]] = {}


def _contents(url: str | None) -> dict[Any, Any]:
    with _lock:
        return _drawers.setdefault(url or "", {})


class Drawer(KeyValueStoreBackend):
    def get(self, key):
        return _contents(self.url).get(key)

    def mget(self, keys):
        return [self.get(key) for key in keys]

    def set(self, key, value):
        if b"unbearable" in (value if isinstance(value, bytes) else value.encode()):
            raise OverflowError("this drawer does not take that")
        _contents(self.url)[key] = value

    def delete(self, key):
        _contents(self.url).pop(key, None)


class Ledger(BaseBackend):
    def _store_result(self, task_id, result, state, traceback=None, request=None, **kwargs):
        meta = self._get_result_meta(result, state, traceback, request)
        _contents(self.url)["task", task_id] = {**meta, "result": self.encode(result), "status": state}
        return result

    def _get_task_meta_for(self, task_id):
        row = _contents(self.url).get(("task", task_id))
        if row is None:
            return {"status": "PENDING", "result": None}
        return self.meta_from_decoded({**row, "result": self.decode(row["result"]), "task_id": task_id})

    def _forget(self, task_id):
        _contents(self.url).pop(("task", task_id), None)

    def _save_group(self, group_id, result):
        _contents(self.url)["group", group_id] = result
        return result

    def _restore_group(self, group_id):
        found = _contents(self.url).get(("group", group_id))
        return None if found is None else {"result": found}

    def _delete_group(self, group_id):
        _contents(self.url).pop(("group", group_id), None)

    def cleanup(self):
        _contents(self.url).clear()
