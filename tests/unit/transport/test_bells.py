"""Wake-ups between processes."""

from __future__ import annotations

import os
import socket
import stat
import threading
import time
from pathlib import Path

import pytest

from celeriac.transport import bells
from celeriac.transport.bells import Bell, folder_for, ring


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return folder_for(str(tmp_path / "tasks.db"))


def test_a_ring_ends_a_wait_and_brings_its_payload(folder: str) -> None:
    bell = Bell(folder)
    threading.Timer(0.02, ring, (folder, bell.name, b"news")).start()
    assert bell.wait(10) == [b"news"]
    bell.close()


def test_rings_are_kept_until_somebody_waits(folder: str) -> None:
    bell = Bell(folder)
    for payload in (b"1", b"2", b"3"):
        assert ring(folder, bell.name, payload)
    assert bell.wait(0) == [b"1", b"2", b"3"]
    assert bell.wait(0) == []
    bell.close()


def test_the_owner_rings_itself(folder: str) -> None:
    bell = Bell(folder)
    bell.ring()
    assert bell.wait(10) == [b""]
    bell.close()


def test_a_full_bell_counts_as_rung_and_nobody_blocks(folder: str) -> None:
    bell = Bell(folder)
    begun = time.monotonic()
    assert all(ring(folder, bell.name, b"x" * 1000) for _ in range(2000))
    assert time.monotonic() - begun < 5
    assert bell.wait(0)
    bell.close()


def test_nobody_is_there_after_close(folder: str) -> None:
    bell = Bell(folder)
    bell.close()
    bell.close()
    assert not ring(folder, bell.name, b"")
    assert not ring(folder, "", b"")


def test_a_forgotten_bell_takes_its_socket_along(folder: str) -> None:
    bell = Bell(folder)
    name = bell.name
    del bell
    assert not ring(folder, name, b"")
    assert not os.path.exists(folder)


def test_the_last_one_out_removes_the_folder(folder: str) -> None:
    one, two = Bell(folder), Bell(folder)
    one.close()
    assert os.listdir(folder) == [two.name]
    two.close()
    assert not os.path.exists(folder)
    Bell(folder).close()


def test_sockets_of_the_dead_are_tidied_up(folder: str) -> None:
    os.mkdir(folder, 0o700)
    left = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    left.bind(os.path.join(folder, "1.1.dead"))
    left.close()  # the name stays, as after a kill
    assert os.listdir(folder) == ["1.1.dead"]
    bell = Bell(folder)
    assert os.listdir(folder) == [bell.name]
    bell.close()


def test_a_forked_child_leaves_its_parents_socket_alone(folder: str) -> None:
    bell = Bell(folder)
    reader, writer = os.pipe()
    if os.fork() == 0:
        bell.close()
        os.write(writer, b"x")
        os._exit(0)
    os.read(reader, 1)
    assert ring(folder, bell.name, b"still here")
    assert bell.wait(10) == [b"still here"]
    bell.close()


def test_the_folder_is_beside_the_file_and_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bells, "_LONGEST_PATH", 1000)
    folder = folder_for(str(tmp_path / "tasks.db"))
    assert folder == str(tmp_path / "tasks.db.wake")
    monkeypatch.chdir(tmp_path)  # the real limit holds for the path that is bound
    bell = Bell("tasks.db.wake")
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    bell.close()


def test_a_long_path_has_its_folder_elsewhere() -> None:
    path = f"/{'deep/' * 40}tasks.db"
    folder = folder_for(path)
    assert len(folder) < 60
    assert folder == folder_for(path)
    assert folder != folder_for(path + "2")


def test_where_there_are_no_sockets_the_owner_looks_by_itself(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bells, "_HAVE_SOCKETS", False)
    bell = Bell(folder)
    assert bell.name == ""
    begun = time.monotonic()
    assert bell.wait(10) == ()
    assert time.monotonic() - begun < 5
    bell.ring()
    bell.wait(10)
    bell.close()


def test_a_folder_that_is_no_folder_means_no_sockets(folder: str) -> None:
    Path(folder).write_text("in the way")
    bell = Bell(folder)
    assert bell.name == ""
    bell.close()
