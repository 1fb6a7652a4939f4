"""`mongodb://` keeps the contracts of result stores and chords, on an emulator of MongoDB's protocol."""

from __future__ import annotations

from typing import Any

import pytest

from celeriac.conformance import ChordContract, ResultBackendContract

pytest.importorskip("pymongo")

from celeriac.backends.mongodb import MongoBackend


class TestMongoDB(ResultBackendContract, ChordContract):
    backend_class = MongoBackend

    @pytest.fixture
    def url(self, mongo_server: Any) -> str:
        return str(mongo_server.database())
