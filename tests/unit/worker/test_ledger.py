"""The ledger: what it says while a child lives, after it died, and after everybody died."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from celeriac.worker import ledger as module
from celeriac.worker.ledger import RING_SIZE, Ledger, ledger_folder, orphans


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(tmp_path / "a.ledger", 3, create=True)
    made.sign("c:1", ["first", "second"], node="n", store="s")
    yield made
    made.close()


def start(
    page: Ledger, slot: int, tag: int, queue: str = "first", id_: str = "id", name: str = "task"
) -> None:
    page.start(slot, queue, tag, 1.0, 2.0, 3.0, id_.encode(), name.encode())


def test_it_says_what_runs(page: Ledger) -> None:
    assert not page.busy()
    start(page, 0, 7)
    start(page, 2, 8, "second", "other", "näme")
    assert page.busy()
    first, second = page.running()
    assert first == (0, "first", 7, 1.0, 2.0, 3.0, "id", "task", False)
    assert (second.slot, second.queue, second.tag, second.id, second.name) == (
        2,
        "second",
        8,
        "other",
        "näme",
    )
    page.end(0)
    assert [run.slot for run in page.running()] == [2]
    assert page.unsettled() == []  # what ended may owe a result: it runs again


def test_it_says_what_is_done_and_not_settled(page: Ledger) -> None:
    for tag in (5, 6):
        start(page, 1, tag, "second")
        page.done(1, "second", tag)
    mark = page.mark()
    page.done(0, "first", 9)
    assert page.unsettled() == [("second", 5), ("second", 6), ("first", 9)]
    page.settled(mark)
    assert page.unsettled() == [("first", 9)]
    page.settled(page.mark())
    assert page.unsettled() == []
    assert not page.busy()


def test_the_ring_keeps_the_newest(page: Ledger) -> None:
    for tag in range(RING_SIZE + 10):
        page.done(0, "first", tag)
    assert [tag for _, tag in page.unsettled()] == list(range(10, RING_SIZE + 10))


def test_another_process_reads_the_same(page: Ledger) -> None:
    start(page, 1, 4, id_="x" * 300)
    page.done(0, "second", 3)
    page.count(17)
    page.lease_taken()
    other = Ledger(page.path)
    assert (other.slots, other.consumer, other.queues) == (3, "c:1", ("first", "second"))
    assert other.owner["store"] == "s"
    assert other.running() == page.running()
    assert other.running()[0].id == "x" * 64
    assert other.unsettled() == [("second", 3)]
    assert (other.processed, other.leased) == (17, True)
    assert abs(other.last_pulse - time.monotonic()) < 5
    other.done(0, "first", 1)  # goes on where the first one was
    assert page.unsettled() == [("second", 3), ("first", 1)]
    other.close()


def test_a_page_that_was_not_signed_belongs_to_nobody(tmp_path: Path) -> None:
    made = Ledger(tmp_path / "a.ledger", create=True)
    assert (made.consumer, made.leased, made.queues) == (None, False, ())
    made.close()


def test_more_queues_than_fit_are_refused(page: Ledger) -> None:
    with pytest.raises(ValueError, match="too many queues"):
        page.sign("c", [f"queue-{n}" for n in range(1000)])


def test_only_one_can_lock(page: Ledger) -> None:
    other = Ledger(page.path)
    assert not other.lock()
    page.close()
    assert other.lock()
    other.close(remove=True)
    assert not page.path.exists()
    other.close()  # twice has the effect of once


def test_it_is_found_only_when_it_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[Path]] = []
    lock = Ledger.lock

    def look_first(self: Ledger) -> bool:
        seen.append(list(tmp_path.glob("*.ledger")))
        return lock(self)

    monkeypatch.setattr(Ledger, "lock", look_first)
    Ledger(tmp_path / "a.ledger", create=True).close()
    assert seen == [[]]
    assert [path.name for path in tmp_path.iterdir()] == ["a.ledger"]


def test_orphans_are_those_whose_owner_is_dead(tmp_path: Path) -> None:
    alive = Ledger(tmp_path / "alive.ledger", create=True)
    dead = Ledger(tmp_path / "dead.ledger", create=True)
    dead.sign("c:dead", ["q"])
    dead.close()
    (tmp_path / "empty.ledger").touch()
    (tmp_path / "foreign.ledger").write_bytes(struct.pack("<II", 1, 1) + bytes(10_000))
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    found = list(orphans(tmp_path))
    assert [ledger.consumer for ledger in found] == ["c:dead"]
    assert list(orphans(tmp_path)) == []  # taken
    found[0].close()
    if before:
        assert len(os.listdir("/proc/self/fd")) == before
    alive.close()


def test_a_kill_between_two_writes_tears_nothing(tmp_path: Path) -> None:
    """A child that writes as fast as it can is killed at any moment; what is read is always one state."""
    code = """
import sys
from pathlib import Path
from celeriac.worker.ledger import Ledger
page = Ledger(Path(sys.argv[1]))
page.sign("c", ["q"])
page.lease_taken()
tag = 0
while True:
    tag += 1
    page.start(0, "q", tag, tag, tag, tag, str(tag).encode(), str(tag).encode())
    page.done(0, "q", tag)
    page.settled(page.mark() - 1)
"""
    for n in range(5):
        page = Ledger(tmp_path / f"{n}.ledger", create=True)
        child = subprocess.Popen([sys.executable, "-c", code, str(page.path)])
        deadline = time.monotonic() + 20
        while not page.unsettled() and time.monotonic() < deadline:
            pass
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert page.consumer == "c"
        for run in page.running():
            assert run.id == run.name == str(run.tag)
            assert run.started == run.soft == run.hard == run.tag
        done = [tag for _, tag in page.unsettled()]
        assert done == list(range(done[0], done[0] + len(done)))
        assert len(done) <= 2
        page.close(remove=True)


def test_readers_see_no_number_half_written(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from celeriac.worker.ledger import Ledger
page = Ledger(Path(sys.argv[1]))
page.count(7)
while True:
    page.pulse()
    page.count(7)
"""
    page = Ledger(tmp_path / "a.ledger", create=True)
    child = subprocess.Popen([sys.executable, "-c", code, str(page.path)])
    try:
        begun = time.monotonic()
        while page.processed != 7 and time.monotonic() < begun + 20:
            pass
        for _ in range(300_000):
            assert page.last_pulse > begun - 60
            assert page.processed == 7
    finally:
        child.kill()
        child.wait()
        page.close(remove=True)


def test_it_notices_that_its_descriptor_was_closed(tmp_path: Path) -> None:
    page = Ledger(tmp_path / "a.ledger", create=True)
    assert page.intact()
    copy = os.dup(page.fd)
    os.close(page.fd)
    assert not page.intact()
    other = os.open("/dev/null", os.O_RDONLY)
    if other != page.fd:
        os.dup2(other, page.fd)
        os.close(other)
    assert not page.intact()  # the number is in use again, by another file
    os.dup2(copy, page.fd)
    os.close(copy)
    assert page.intact()
    page.close()


def test_the_folder_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERIAC_RUN_DIR", str(tmp_path / "deep" / "run"))
    folder = ledger_folder()
    assert folder == tmp_path / "deep" / "run"
    assert folder.stat().st_mode & 0o077 == 0


def test_a_record_fits_its_slot() -> None:
    assert module._slot.size <= module.SLOT_SIZE
    assert module._head.size <= module._owner_offset
    assert module._ring.size == module.RING_ITEM
