"""`dynamodb://` keeps the contracts of result stores and chords, on moto's server (an emulator)."""

from __future__ import annotations

from typing import Any

import pytest

from celeriac.conformance import ChordContract, ResultBackendContract

pytest.importorskip("boto3")

from celeriac.backends.dynamodb import DynamoBackend


class TestDynamoDB(ResultBackendContract, ChordContract):
    backend_class = DynamoBackend

    @pytest.fixture
    def url(self, dynamo_server: Any) -> str:
        return str(dynamo_server.table())
