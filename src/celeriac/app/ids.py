"""Names that messages need: of calls, and of the process that makes them.

1. `new_id`: a task's id. `origin`: the process that published.
2. `reply_id`: the thread that waits for replies; forgotten in a forked child.
"""

from __future__ import annotations

import os
import threading
import uuid

from celeriac.utils.identity import origin
from celeriac.utils.identity import uuid as new_id

__all__ = ["local", "new_id", "origin", "reply_id"]

#: This thread's ids, for code that cannot afford a call; `reply_id` fills it.
local = threading.local()


def reply_id() -> str:
    """An id of this thread of this process, the same for its whole life (the `reply_to` of messages)."""
    known: str | None = getattr(local, "reply_id", None)
    if known is None:
        node = f"{uuid.getnode():x}-{os.getpid():x}-{threading.get_ident():x}"
        known = local.reply_id = str(uuid.uuid3(uuid.NAMESPACE_OID, node))
    return known


def _forget() -> None:
    vars(local).clear()  # the thread that forked is the only one left


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
