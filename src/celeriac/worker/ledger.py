"""The ledger: a page of shared memory per child that says what it runs, since when, and what is done.

1. Written by the child's lanes (well under a microsecond per record), read by the supervisor, and, after the
   whole node was killed, by whoever finds the file: it outlives every process.
2. A slot per concurrent body: queue, tag, start, soft and hard deadline, task id and name.
3. A ring of deliveries that are done and owe nothing (no result, no follow-up), but are not settled yet: they
   are settled, not run again, when the child dies.
4. A lock on the file, held by the supervisor: whoever can take it knows that the supervisor is dead.
5. Room for the trail of a consumer without a lease and for its claims (`trail.py`), and a byte that says
   whether it writes to its connection just now.
6. A mark by the supervisor that the child is killed on purpose and nothing that it holds is to blame.

Times are `time.monotonic()`, which all processes of a machine share (Linux, macOS).

Layout (little endian): a header of HEADER_SIZE, slots of SLOT_SIZE each, a ring of RING_SIZE items, a trail
of TRAIL_SIZE words, CLAIMS words and as many times.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import struct
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Ledger", "Running", "ledger_folder", "lock_file"]

MAGIC = 0xCE1E0003
HEADER_SIZE = 4096
SLOT_SIZE = 256
RING_SIZE = 4096
RING_ITEM = 16
TRAIL_SIZE = 8192
CLAIMS = 1024
#: Bytes that are kept of a task id.
ID_SIZE = 64

# magic, slots, unused, done (written), settled (written), pulse, processed; bytes: the lease is taken, a
# write to the connection is under way, killed on purpose, the broker is away; a word: steps of the trail
# (written)
_head = struct.Struct("<IIqQQdQ")
_owner_offset = 512
_slot = struct.Struct("<BBHxxxxQddd64s128s")
_ring = struct.Struct("<QHxxxxxx")
_u64 = struct.Struct("<Q")
#: Places in the header, in words of eight bytes.
_DONE, _SETTLED, _PULSE, _PROCESSED, _STEPS, _WATCHED = 2, 3, 4, 5, 7, 8
#: Places in the header, in bytes.
_LEASED, _WRITING, _INNOCENT, _AWAY = 48, 49, 50, 51

FREE, BUSY = 0, 1


class Running(NamedTuple):
    """One busy slot. `started`, `soft`, `hard`: monotonic seconds; 0 means no limit. `early`: acknowledged
    before it ran, so nobody else will run it."""

    slot: int
    queue: str
    tag: int
    started: float
    soft: float
    hard: float
    id: str
    name: str
    early: bool = False


def ledger_folder() -> Path:
    """Where the ledgers of this user's nodes lie; made on first use, private to the user."""
    base = os.environ.get("CELERIAC_RUN_DIR")
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(base) if base else Path(tempfile.gettempdir()) / f"celeriac-{user}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if hasattr(os, "getuid") and folder.stat().st_uid != user:  # somebody else made it: keep out
        folder = Path(tempfile.mkdtemp(prefix="celeriac-"))
    return folder


class Ledger:
    """One child's page. The supervisor creates it (and holds its lock), the child opens it, each by path."""

    def __init__(self, path: Path, slots: int = 1, *, create: bool = False) -> None:
        self.path = path
        flags = os.O_RDWR | getattr(os, "O_CLOEXEC", 0)
        # Nobody must find it before it is locked: it would be taken for an orphan.
        making = path.with_suffix(".making") if create else path
        if create:
            flags |= os.O_CREAT | os.O_EXCL
        self.fd = os.open(making, flags, 0o600)
        try:
            if create:
                os.ftruncate(self.fd, _size(slots))
            self.page = mmap.mmap(self.fd, 0)
        except (OSError, ValueError):  # no room, or an empty file
            os.close(self.fd)
            raise
        self._file = os.fstat(self.fd)
        if create:
            _head.pack_into(self.page, 0, MAGIC, slots, 0, 0, 0, time.monotonic(), 0)
            self.lock()
            making.rename(path)
        magic, self.slots, *_ = _head.unpack_from(self.page, 0)
        if magic != MAGIC or len(self.page) < _size(self.slots):
            self.slots = 0
            self.close()
            raise ValueError(f"{path} is not a ledger of this version")
        self._ring_offset = HEADER_SIZE + self.slots * SLOT_SIZE
        # Written and read as whole words: `pack_into` clears a field before it fills it.
        self._words = memoryview(self.page)[:HEADER_SIZE].cast("Q")
        self._times = memoryview(self.page)[:HEADER_SIZE].cast("d")
        self._done = self._words[_DONE]
        trail = self._ring_offset + RING_SIZE * RING_ITEM
        claims = trail + TRAIL_SIZE * 8
        #: The trail's words, how many steps it has (at 0), claims and their times, and the byte of writing:
        #: for `trail.py`.
        self.trail = memoryview(self.page)[trail:claims].cast("Q")
        self.claims = memoryview(self.page)[claims : claims + CLAIMS * 8].cast("Q")
        self.claimed_at = memoryview(self.page)[claims + CLAIMS * 8 : claims + CLAIMS * 16].cast("d")
        self.steps = self._words[_STEPS : _STEPS + 1]
        self.writing = memoryview(self.page)[_WRITING : _WRITING + 1]
        self.queues: Sequence[str] = ()
        self._queue_index: dict[str, int] = {}
        self.owner: dict[str, Any] = {}
        if create:
            self.watch(time.monotonic())
        else:
            try:
                self._read_owner()
            except (ValueError, KeyError, TypeError):  # its child was killed while it signed
                self.owner = {}

    # -- the child's side ---------------------------------------------------------------------------------

    def sign(self, consumer: str, queues: Sequence[str], **extra: Any) -> None:
        """Write whose page this is; `queues` are named by index from now on."""
        owner = json.dumps(
            {"consumer": consumer, "queues": list(queues), "pid": os.getpid(), **extra}
        ).encode()
        if len(owner) > HEADER_SIZE - _owner_offset - 8:
            raise ValueError("too many queues for one worker's ledger: start several workers with -Q")
        self.page[_owner_offset + 8 : _owner_offset + 8 + len(owner)] = owner
        self.page[_owner_offset : _owner_offset + 8] = _u64.pack(len(owner))
        self._read_owner()

    def lease_taken(self) -> None:
        """The broker knows the lease: from now on the heart beats for it."""
        self.page[_LEASED] = 1

    def set_away(self, is_away: bool) -> None:
        """Whether the child has lost the broker and looks for it."""
        self.page[_AWAY] = is_away

    def start(
        self,
        slot: int,
        queue: str,
        tag: int,
        started: float,
        soft: float,
        hard: float,
        id: bytes,
        name: bytes,
        early: bool = False,
    ) -> None:
        """Record a body that is about to run. The busy mark is written last."""
        offset = HEADER_SIZE + slot * SLOT_SIZE
        _slot.pack_into(
            self.page,
            offset,
            FREE,
            early,
            self._queue_index.get(queue, 0),
            tag,
            started,
            soft,
            hard,
            id,
            name,
        )
        self.page[offset] = BUSY

    def end(self, slot: int) -> None:
        """The body has ended; what it owes is not settled yet."""
        self.page[HEADER_SIZE + slot * SLOT_SIZE] = FREE

    def done(self, slot: int, queue: str, tag: int) -> None:
        """The body has ended and owes nothing: settle it, never run it again."""
        index = self._done
        _ring.pack_into(
            self.page,
            self._ring_offset + (index % RING_SIZE) * RING_ITEM,
            tag,
            self._queue_index.get(queue, 0),
        )
        self._done = index + 1
        self._words[_DONE] = index + 1
        self.page[HEADER_SIZE + slot * SLOT_SIZE] = FREE

    def mark(self) -> int:
        """How many are done; `settled(mark)` later says that these are settled too."""
        return self._done

    def settled(self, mark: int) -> None:
        self._words[_SETTLED] = mark

    def intact(self) -> bool:
        """False when somebody has closed our descriptor, and so probably all others of the process."""
        try:
            return os.path.samestat(os.fstat(self.fd), self._file)
        except OSError:
            return False

    def pulse(self) -> None:
        """The courier is alive."""
        self._times[_PULSE] = time.monotonic()

    @property
    def watched(self) -> float:
        """When the supervisor was here last."""
        return self._times[_WATCHED]

    def count(self, processed: int) -> None:
        self._words[_PROCESSED] = processed

    # -- the supervisor's side ----------------------------------------------------------------------------

    def _read_owner(self) -> None:
        size = _u64.unpack_from(self.page, _owner_offset)[0]
        if 0 < size <= HEADER_SIZE - _owner_offset - 8:
            self.owner = json.loads(self.page[_owner_offset + 8 : _owner_offset + 8 + size])
            self.queues = tuple(self.owner["queues"])
            self._queue_index = {queue: index for index, queue in enumerate(self.queues)}

    @property
    def consumer(self) -> str | None:
        """The lease this page belongs to, None while the child has none yet."""
        if not self.owner:
            self._read_owner()
        return self.owner.get("consumer")

    @property
    def leased(self) -> bool:
        return self.page[_LEASED] == 1

    @property
    def away(self) -> bool:
        """The child has lost the broker and looks for it."""
        return self.page[_AWAY] == 1

    def watch(self, now: float) -> None:
        """The supervisor is here, and has not given the child up."""
        self._times[_WATCHED] = now

    @property
    def innocent(self) -> bool:
        """Killed on purpose: nothing that it held is to blame."""
        return self.page[_INNOCENT] == 1

    def absolve(self) -> None:
        """The child is about to be killed on purpose: known even if the supervisor ends, too."""
        self.page[_INNOCENT] = 1

    @property
    def processed(self) -> int:
        return self._words[_PROCESSED]

    @property
    def last_pulse(self) -> float:
        return self._times[_PULSE]

    def running(self) -> list[Running]:
        """What runs now (after the child's death: what was running)."""
        found = []
        for slot in range(self.slots):
            offset = HEADER_SIZE + slot * SLOT_SIZE
            if self.page[offset] == BUSY:
                _, early, queue, tag, start, soft, hard, id_, name = _slot.unpack_from(self.page, offset)
                place = (slot, self._queue_name(queue), tag)
                found.append(Running(*place, start, soft, hard, _text(id_), _text(name), bool(early)))
        return found

    def busy(self) -> bool:
        return any(self.page[HEADER_SIZE + slot * SLOT_SIZE] == BUSY for slot in range(self.slots))

    def unsettled(self) -> list[tuple[str, int]]:
        """(queue, tag) of deliveries that are done and owe nothing but their settlement."""
        done, settled = self._words[_DONE], self._words[_SETTLED]
        first = max(settled, done - RING_SIZE)
        items = (
            _ring.unpack_from(self.page, self._ring_offset + (index % RING_SIZE) * RING_ITEM)
            for index in range(first, done)
        )
        return [(self._queue_name(queue), tag) for tag, queue in items]

    def _queue_name(self, index: int) -> str:
        return self.queues[index] if index < len(self.queues) else ""

    def lock(self) -> bool:
        """Take the file's lock without waiting; False when another live process has it."""
        return lock_file(self.fd)

    def close(self, *, remove: bool = False) -> None:
        if self.fd >= 0:
            if self.slots:
                views = (self.steps, self.writing, self.trail, self.claims, self.claimed_at)
                for view in (*views, self._words, self._times):
                    view.release()
            with contextlib.suppress(BufferError):
                self.page.close()
            os.close(self.fd)
            self.fd = -1
        if remove:
            self.path.unlink(missing_ok=True)


def lock_file(fd: int) -> bool:
    """Lock an open file without waiting; False when another live process has it locked."""
    try:
        import fcntl
    except ImportError:  # Windows: nothing is looked for there that a dead process left
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _size(slots: int) -> int:
    return HEADER_SIZE + slots * SLOT_SIZE + RING_SIZE * RING_ITEM + TRAIL_SIZE * 8 + CLAIMS * 16


def _text(field: bytes) -> str:
    return field.rstrip(b"\0").decode(errors="replace")


def orphans(folder: Path) -> Iterator[Ledger]:
    """Ledgers in `folder` whose supervisor is dead, locked for the caller, who closes them."""
    for path in sorted(folder.glob("*.ledger")):
        try:
            ledger = Ledger(path)
        except (OSError, ValueError):  # being made or removed just now, or another version's
            continue
        if ledger.lock():
            yield ledger
        else:
            ledger.close()
