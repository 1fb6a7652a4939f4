"""Blocking calls of ours, made for coroutines.

1. `in_thread`: runs one in a small pool of threads that is kept for that, under the caller's context.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, TypeVar

__all__ = ["in_thread"]

R = TypeVar("R")

#: Threads, and thereby connections to the broker, that coroutines of one process share.
_THREADS: Final = 4

_pool: ThreadPoolExecutor | None = None


async def in_thread(function: Callable[..., R], *args: Any, **kwargs: Any) -> R:
    """Return ``function(*args, **kwargs)``; the event loop goes on meanwhile.

    Cancelling the coroutine does not stop the call: a message may have been stored.
    """
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="celeriac-publish")
    call = partial(contextvars.copy_context().run, function, *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_pool, call)


def _forget() -> None:
    global _pool
    _pool = None  # its threads are not in a forked child


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
