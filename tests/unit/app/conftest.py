"""An app of its own for each test, over a memory store that nobody else uses."""

from __future__ import annotations

import pytest

from celeriac import Celeriac
from celeriac.wire import protocol
from celeriac.wire.message import Message
from celeriac.wire.protocol import Call


@pytest.fixture(autouse=True)
def _own_state(own_state: None) -> None: ...


@pytest.fixture
def app(request: pytest.FixtureRequest) -> Celeriac:
    url = f"memory://{request.node.name}"
    return Celeriac("proj", broker=url, backend=url)


class Sent:
    """What an app has published to its queues."""

    def __init__(self, app: Celeriac) -> None:
        self.app = app

    def messages(self, queue: str = "celery") -> list[Message]:
        found = self.app.broker.browse(queue, 1000)
        assert all(isinstance(message, Message) for message in found)
        return [message for message in found if isinstance(message, Message)]

    def calls(self, queue: str = "celery") -> list[Call]:
        accept = frozenset({"application/json", "application/x-python-serialize"})
        return [protocol.read(message, accept) for message in self.messages(queue)]

    def one(self, queue: str = "celery") -> Call:
        (call,) = self.calls(queue)
        return call


@pytest.fixture
def sent(app: Celeriac) -> Sent:
    return Sent(app)
