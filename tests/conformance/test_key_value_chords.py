"""Chords in a store of keys and values keep the contract, whatever the store."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from celeriac.backends.base import BackendCapabilities
from celeriac.backends.chords import KeyValueChords
from celeriac.backends.memory import MemoryBackend
from celeriac.conformance import ChordContract

SHARED: dict[str, tuple[threading.Lock, dict[str, tuple[bytes, float | None]]]] = {}


class Dictionary:
    """The least that a store can do."""

    def __init__(self, name: str) -> None:
        self._lock, self._values = SHARED.setdefault(name, (threading.Lock(), {}))

    def get_many(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        with self._lock:
            found = {key: self._find(key) for key in keys}
            return {key: value for key, value in found.items() if value is not None}

    def put(self, key: str, value: bytes, ttl: float | None) -> None:
        with self._lock:
            self._values[key] = (value, None if ttl is None else time.monotonic() + ttl)

    def add(self, key: str, value: bytes, ttl: float | None) -> bool:
        with self._lock:
            if self._find(key) is not None:
                return False
            self._values[key] = (value, None if ttl is None else time.monotonic() + ttl)
            return True

    def delete(self, keys: Sequence[str]) -> None:
        with self._lock:
            for key in keys:
                self._values.pop(key, None)

    def _find(self, key: str) -> bytes | None:
        value, expires = self._values.get(key, (None, None))
        return None if expires is not None and expires <= time.monotonic() else value


class DictionaryBackend(MemoryBackend):
    capabilities = BackendCapabilities(native_chord=True)

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        super().__init__(url, options)
        self.chords = KeyValueChords(Dictionary(url))  # type: ignore[assignment]

    def expire(self) -> int:
        return 0


class TestKeyValueChords(ChordContract):
    backend_class = DictionaryBackend

    @pytest.fixture
    def url(self) -> str:
        return f"memory://{uuid.uuid4().hex}"
