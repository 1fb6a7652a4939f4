"""`Document`: a result as the stores that share a transaction with a broker take it."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Document"]


class Document(Protocol):
    """What `StoredResult` is; `ttl` in seconds, None for ever."""

    @property
    def task_id(self) -> str: ...
    @property
    def document(self) -> bytes: ...
    @property
    def ttl(self) -> float | None: ...
