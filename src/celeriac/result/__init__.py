"""Results: what calls came to, or will.

`AsyncResult` is one call's, `EagerResult` one that was run here and now, `ResultSet` and `GroupResult` are
several. `Update` and `Progress` are what streams of them give.
"""

from __future__ import annotations

from celeriac.execution.progress import Progress
from celeriac.result.base import ResultBase, result_from_tuple
from celeriac.result.eager import EagerResult
from celeriac.result.groups import GroupResult
from celeriac.result.many import ResultSet
from celeriac.result.one import AsyncResult
from celeriac.result.streams import Update
from celeriac.result.waiting import allow_join_result, denied_join_result

__all__ = [
    "AsyncResult",
    "EagerResult",
    "GroupResult",
    "Progress",
    "ResultBase",
    "ResultSet",
    "Update",
    "allow_join_result",
    "denied_join_result",
    "result_from_tuple",
]
