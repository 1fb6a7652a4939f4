"""The home: the folder in which the workers of one user on one machine keep what outlives them.

1. `home_name`: its name, the same for all workers that share it, as long as the folder is there.
2. `Memory`: what a supervisor knows of dead children, as a file: when it is killed, another one of the same
   home reads it. One line per delivery and fate; a lock on the file says that its supervisor lives.
3. `neighbours`: ledgers of other supervisors, to be read and left alone.

So a single node can speak for its whole home: what nobody there knows, nobody of that home has had.

Not here: the ledger (`ledger.py`), answers (`whereabouts.py`).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Container, Iterator, Mapping
from pathlib import Path

from celeriac.brokers.base import Fate, Word
from celeriac.worker.ledger import Ledger, lock_file

__all__ = ["Memory", "home_name", "neighbours"]

#: Bytes of a memory, after which what is forgotten is left out.
LARGE = 8_000_000


def home_name(folder: Path) -> str:
    """The name of that folder: made by whoever comes first, and never another one."""
    path = folder / "home"
    with contextlib.suppress(FileExistsError):
        making = folder / f"home.{os.getpid()}-{secrets.token_hex(4)}"
        making.write_text(secrets.token_hex(8))
        try:
            os.link(making, path)  # whole or not at all
        finally:
            making.unlink()
    return path.read_text()


def neighbours(folder: Path, mine: Container[Path], store: str) -> Iterator[Ledger]:
    """Ledgers of the same store that are not `mine`, each closed after it was looked at."""
    for path in sorted(folder.glob("*.ledger")):
        if path in mine:
            continue
        try:
            ledger = Ledger(path)
        except (OSError, ValueError):  # being made or removed just now, or another version's
            continue
        try:
            if ledger.owner.get("store", store) == store:
                yield ledger
        finally:
            ledger.close()


class Memory:
    """One supervisor's file. Not thread-safe.

    Args:
        everything: all that is known now (tag → fate, seconds since), to write the file anew.
    """

    def __init__(
        self, folder: Path, store: str, everything: Callable[[], Mapping[int, tuple[Fate, float]]]
    ) -> None:
        self._folder = folder
        self._pattern = f"*.{store}.memory"
        self._path = folder / f"{os.getpid()}-{secrets.token_hex(4)}.{store}.memory"
        self._everything = everything
        self._fd = -1
        self._size = 0
        self._read: dict[Path, tuple[int, Mapping[int, tuple[Fate, float]]]] = {}  # of others, by size

    def note(self, found: Mapping[int, Fate]) -> None:
        """Write down what became of deliveries, now."""
        if not found:
            return
        if self._fd < 0 or self._size > LARGE:
            self._begin()
        now = time.time()
        self._write({tag: (fate, now) for tag, fate in found.items()})

    def adopt(self) -> Mapping[int, Word]:
        """What the memories of dead supervisors say; their files are gone then."""
        found: dict[int, Word] = {}
        for path in self._others():
            try:
                fd = os.open(path, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
            except FileNotFoundError:
                continue
            try:
                if lock_file(fd):
                    known = _parse(path.read_bytes())
                    found |= _words(known)
                    self.note({tag: fate for tag, (fate, _) in known.items()})  # first: others read it, too
                    path.unlink(missing_ok=True)
            except FileNotFoundError:  # another one was faster
                continue
            finally:
                os.close(fd)
        return found

    def of_others(self, asked: Container[int]) -> Mapping[int, Word]:
        """What the memories of other supervisors say of `asked`."""
        while True:
            with contextlib.suppress(FileNotFoundError):  # it was taken over just now: look who has it
                return self._read_others(asked)

    def _read_others(self, asked: Container[int]) -> Mapping[int, Word]:
        found: dict[int, Word] = {}
        read, self._read = self._read, {}
        for path in self._others():
            size = path.stat().st_size
            if path not in read or read[path][0] != size:
                read[path] = size, _parse(path.read_bytes())
            self._read[path] = read[path]
            found |= _words({tag: known for tag, known in read[path][1].items() if tag in asked})
        return found

    def close(self, *, remove: bool) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            if remove:
                self._path.unlink(missing_ok=True)

    def _others(self) -> list[Path]:
        return [path for path in sorted(self._folder.glob(self._pattern)) if path != self._path]

    def _begin(self) -> None:
        """Make the file, with all that is known; locked before anybody can see it."""
        making = self._path.with_suffix(".making")
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
        fd = os.open(making, flags, 0o600)
        lock_file(fd)
        making.rename(self._path)
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._size = fd, 0
        now = time.time()
        self._write({tag: (fate, now - age) for tag, (fate, age) in self._everything().items()})

    def _write(self, found: Mapping[int, tuple[Fate, float]]) -> None:
        text = "".join(f"{tag:x} {at:.3f} {fate}\n" for tag, (fate, at) in found.items()).encode()
        os.write(self._fd, text)
        self._size += len(text)


def _parse(raw: bytes) -> dict[int, tuple[Fate, float]]:
    """Tag → fate, epoch seconds; a last line that was cut off is left out."""
    found: dict[int, tuple[Fate, float]] = {}
    for line in raw.decode(errors="replace").split("\n")[:-1]:
        tag, _, rest = line.partition(" ")
        at, _, fate = rest.partition(" ")
        with contextlib.suppress(ValueError):
            found[int(tag, 16)] = (fate, float(at))
    return found


def _words(found: Mapping[int, tuple[Fate, float]]) -> dict[int, Word]:
    now = time.time()
    return {tag: Word(fate, max(0.0, now - at)) for tag, (fate, at) in found.items()}
