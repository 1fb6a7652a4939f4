"""`elasticsearch+http://` keeps the contracts of result stores and chords, on a stand-in of few calls."""

from __future__ import annotations

from typing import Any

import pytest

from celeriac.conformance import ChordContract, ResultBackendContract

pytest.importorskip("elasticsearch")

from celeriac.backends.elasticsearch import ElasticBackend


class TestElasticsearch(ResultBackendContract, ChordContract):
    backend_class = ElasticBackend

    @pytest.fixture
    def url(self, elastic_server: Any) -> str:
        return str(elastic_server.index())
