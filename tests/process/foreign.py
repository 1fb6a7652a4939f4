"""A result store that keeps results and can do nothing else."""

from __future__ import annotations

from celeriac.backends.base import BackendCapabilities
from celeriac.backends.memory import MemoryBackend

__all__ = ["PlainBackend"]


class PlainBackend(MemoryBackend):
    capabilities = BackendCapabilities()
