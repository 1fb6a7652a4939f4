"""Result stores that are written against Celery's interface.

1. `adapter.py`: one of them, behind the seam of ours.
2. `bases.py`, `keyvalue.py`: the classes that they are derived from. ``celeriac.backends.base`` has them,
   too, as Celery's module of that name does.
"""

from celeriac._state import get_current_task
from celeriac.app.foreign.bases import Backend, BaseBackend, SyncBackendMixin
from celeriac.app.foreign.keyvalue import BaseKeyValueStoreBackend, KeyValueStoreBackend
from celeriac.backends.disabled import DisabledBackend

__all__ = [
    "Backend",
    "BaseBackend",
    "BaseDictBackend",
    "BaseKeyValueStoreBackend",
    "DisabledBackend",
    "KeyValueStoreBackend",
    "SyncBackendMixin",
    "get_current_task",
]

BaseDictBackend = BaseBackend
