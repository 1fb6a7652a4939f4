"""The supervisor keeps a child's connection alive, and ends it with the child."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from celeriac.brokers.base import Lifeline
from celeriac.worker.children import Child
from celeriac.worker.ledger import Ledger
from celeriac.worker.lifelines import SILENT, Lifelines, pass_on


class Scene:
    """A child with a connection to a server, which is the test."""

    def __init__(self, folder: Path) -> None:
        ours, self.control = socket.socketpair()
        self.ledger = Ledger(folder / "a.ledger", create=True)
        self.child = Child("child", 0, os.getpid(), ours, self.ledger)
        self.children = {self.child.pid: self.child}
        self.lines = Lifelines(True)
        self.server, self.connection = socket.socketpair()
        self.server.settimeout(5)

    def pass_on(self, line: Lifeline | None) -> None:
        pass_on(self.control, line)
        ears = self.lines.ears(self.children)
        self.lines.hear(self.children, ears)

    def keep(self, silent: float) -> None:
        self.lines.keep(self.child, self.ledger.last_pulse + silent)

    def heard(self) -> bytes:
        self.server.setblocking(False)
        try:
            return self.server.recv(100)
        except BlockingIOError:
            return b""


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.lines.cut(made.child)
    made.ledger.close(remove=True)
    for end in (made.control, made.child.control, made.server, made.connection):
        end.close()


def test_the_pulse_is_written_for_a_silent_child_only(scene: Scene) -> None:
    scene.pass_on(Lifeline(scene.connection.fileno(), b"pulse!", 2.0))
    scene.keep(SILENT - 0.1)
    assert scene.heard() == b""
    scene.keep(SILENT + 0.1)
    scene.keep(SILENT + 0.2)
    assert scene.heard() == b"pulse!"
    scene.keep(SILENT + 2.2)
    assert scene.heard() == b"pulse!"


def test_never_into_the_middle_of_a_write(scene: Scene) -> None:
    scene.pass_on(Lifeline(scene.connection.fileno(), b"pulse!", 2.0))
    scene.ledger.writing[0] = 1
    scene.keep(60.0)
    assert scene.heard() == b""


def test_a_dead_childs_connection_ends_even_if_somebody_else_has_it(scene: Scene) -> None:
    scene.pass_on(Lifeline(scene.connection.fileno(), b"pulse!", 2.0))
    scene.lines.cut(scene.child)
    assert scene.server.recv(1) == b""


def test_another_connection_takes_the_place_of_the_last(scene: Scene) -> None:
    scene.pass_on(Lifeline(scene.connection.fileno(), b"old", 2.0))
    server, connection = socket.socketpair()
    with server, connection:
        scene.pass_on(Lifeline(connection.fileno(), b"new", 2.0))
        assert scene.server.recv(1) == b""
        scene.keep(60.0)
        server.settimeout(5)
        assert server.recv(10) == b"new"
        scene.pass_on(None)
        assert server.recv(10) == b""


def test_a_child_that_closed_its_control_socket_is_not_listened_to(scene: Scene) -> None:
    scene.control.close()
    ears = scene.lines.ears(scene.children)
    scene.lines.hear(scene.children, ears)
    assert scene.lines.ears(scene.children) == []


def test_where_there_are_leases_nobody_listens(scene: Scene) -> None:
    lines = Lifelines(False)
    assert lines.ears(scene.children) == ()
    lines.keep(scene.child, time.monotonic() + 60)
    lines.cut(scene.child)
