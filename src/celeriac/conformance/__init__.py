"""The contracts of the seams as test classes, shipped; a new broker or backend subclasses them.

1. `BrokerContract`, `ResultBackendContract`, `ChordContract`: every sentence of the seams' docstrings is
   a test.
2. `broker_machine`: random histories of a broker, checked after every step against a pure model.

Bind an implementation in a test module of its own (needs pytest and hypothesis):

    class TestMine(BrokerContract):
        broker_class = MyBroker
        backend_class = MyBackend

        @pytest.fixture
        def url(self, tmp_path):
            return f"mine://{tmp_path}"

        def plant(self, url, queue, raw):
            ...  # put raw bytes on the queue as a foreign producer could
"""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite(
    "celeriac.conformance.administration",
    "celeriac.conformance.chords",
    "celeriac.conformance.connections",
    "celeriac.conformance.kit",
    "celeriac.conformance.leasing",
    "celeriac.conformance.machine",
    "celeriac.conformance.publishing",
    "celeriac.conformance.receiving",
    "celeriac.conformance.results",
)

from celeriac.conformance.administration import AdministrationContract  # noqa: E402
from celeriac.conformance.chords import ChordContract  # noqa: E402
from celeriac.conformance.connections import ConnectionContract  # noqa: E402
from celeriac.conformance.leasing import LeaseContract  # noqa: E402
from celeriac.conformance.publishing import PublishContract  # noqa: E402
from celeriac.conformance.receiving import ReceiveContract  # noqa: E402
from celeriac.conformance.results import ResultBackendContract  # noqa: E402

__all__ = ["BrokerContract", "ChordContract", "ResultBackendContract"]


class BrokerContract(
    PublishContract, ReceiveContract, LeaseContract, ConnectionContract, AdministrationContract
):
    """Everything a broker promises. Subclass it; see the head of this package."""
