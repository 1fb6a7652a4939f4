"""What a result store does when its server, which forgets everything, goes and comes back."""

from __future__ import annotations

import pytest
from tests.servers.process import Server

from celeriac.backends.base import ResultBackend, StoredResult
from celeriac.exceptions import OperationalError


def says_and_survives_outages(backend: ResultBackend, server: Server, name: str) -> None:
    """`backend` waits for an answer no longer than a second; `name` is what it calls `server`."""
    backend.store([StoredResult("a", b"1", 60)])
    server.kill()
    with pytest.raises(OperationalError, match=f"{name} cannot be reached"):
        backend.load(["a"])
    server.start()
    backend.store([StoredResult("b", b"2", 60)])
    assert backend.load(["a", "b"]) == {"b": b"2"}
    server.kill()
    server.start()
    assert backend.load(["b"]) == {}  # over a connection that was lost meanwhile
    server.freeze()
    with pytest.raises(OperationalError, match="timed out"):
        backend.load(["b"])
    server.thaw()
    backend.close()
