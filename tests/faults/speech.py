"""Protocols, understood as far as it takes to lose the answer to one command that the server has carried out.

1. `Trap`: which command's answer is to be lost; shared by all connections of a network.
2. `Resp`, `Amqp`, `Postgres`, `Bytes`: what one connection says. `up` sees what the client sends, `down`
   passes on what the server sends, or says that the connection is to be cut here.
"""

from __future__ import annotations

import struct
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import hiredis

__all__ = ["Amqp", "Bytes", "Passed", "Postgres", "Resp", "Speech", "Trap"]


class Trap:
    """Catches the answer to the `nth` command from now on that contains `word`; `sprung` is set then."""

    def __init__(self) -> None:
        self.sprung = threading.Event()
        self._word: bytes | None = None
        self._left = 0

    def set(self, word: bytes, nth: int = 1) -> None:
        self.sprung.clear()
        self._left = nth
        self._word = word

    def catches(self, command: bytes) -> bool:
        """True when this is the command; it is caught once."""
        if self._word is None or self._word not in command:
            return False
        self._left -= 1
        if self._left:
            return False
        self._word = None
        return True


class Passed(NamedTuple):
    """What reaches the client, and whether the connection ends with it."""

    data: bytes
    cut: bool = False


class Speech(Protocol):
    def __init__(self, trap: Trap) -> None: ...

    def up(self, data: bytes) -> bool:
        """The client has sent this; True: cut as soon as the server has it (there is no answer to lose)."""

    def down(self, data: bytes) -> Passed: ...


class Bytes:
    """Any protocol: a chunk that contains the word is a command, and what comes next its answer."""

    def __init__(self, trap: Trap) -> None:
        self._trap = trap
        self._caught = False

    def up(self, data: bytes) -> bool:
        self._caught = self._caught or self._trap.catches(data)
        return False

    def down(self, data: bytes) -> Passed:
        return Passed(b"", cut=True) if self._caught else Passed(data)


class Resp:
    """Redis: commands and replies are counted."""

    def __init__(self, trap: Trap) -> None:
        self._trap = trap
        self._commands, self._replies = hiredis.Reader(), hiredis.Reader()
        self._asked = self._answered = 0
        self._caught = 0  # the number of the command whose reply is to be lost
        self._listens = False

    def up(self, data: bytes) -> bool:
        self._commands.feed(data)
        while (command := self._next(self._commands)) is not None:
            if not isinstance(command, list):
                continue
            self._asked += 1
            self._listens = self._listens or b"SUBSCRIBE" in bytes(command[0]).upper()
            if self._trap.catches(b" ".join(command)):
                self._caught = self._asked
        return False

    def down(self, data: bytes) -> Passed:
        if self._listens:  # what it hears is no reply
            return Passed(data)
        self._replies.feed(data)
        while (reply := self._next(self._replies)) is not None:
            if not isinstance(reply, hiredis.PushNotification):
                self._answered += 1
        lost = self._caught and self._answered >= self._caught
        return Passed(b"", cut=True) if lost else Passed(data)

    @staticmethod
    def _next(reader: Any) -> Any:
        """The next value; None when there is none. (A null reply counts as well.)"""
        value = reader.gets()
        if value is False:
            return None
        return value if value is not None else 0


class Amqp:
    """AMQP 0-9-1. Words are method names: ``basic.publish``, ``basic.ack``, ``queue.declare`` …

    The answer to a publish is the confirm that covers it; an acknowledgement has none, so the connection is
    cut when the server has it.
    """

    NAMES = {
        (20, 10): "channel.open",
        (40, 10): "exchange.declare",
        (50, 10): "queue.declare",
        (50, 20): "queue.bind",
        (60, 10): "basic.qos",
        (60, 20): "basic.consume",
        (60, 40): "basic.publish",
        (60, 70): "basic.get",
        (60, 80): "basic.ack",
        (60, 90): "basic.reject",
        (60, 120): "basic.nack",
        (85, 10): "confirm.select",
    }
    UNANSWERED = ("basic.ack", "basic.reject", "basic.nack")

    def __init__(self, trap: Trap) -> None:
        self._trap = trap
        self._up, self._down = b"", b""
        self._published: dict[int, int] = {}  # channel → publishes since it asked for confirms
        self._caught: tuple[int, str, int] | None = None  # channel, method, number of the publish
        self._greeted = False

    def up(self, data: bytes) -> bool:
        self._up += data
        if not self._greeted:
            if len(self._up) < 8:
                return False
            self._greeted, self._up = True, self._up[8:]
        cut = False
        for kind, channel, payload in self._frames("_up"):
            if kind != 1:
                continue
            name = self.NAMES.get(struct.unpack_from(">HH", payload), "")
            if name == "confirm.select":
                self._published[channel] = 0
            elif name == "basic.publish" and channel in self._published:
                self._published[channel] += 1
            if name and self._trap.catches(name.encode()):
                self._caught = (channel, name, self._published.get(channel, 0))
                cut = cut or name in self.UNANSWERED
        return cut

    def down(self, data: bytes) -> Passed:
        self._down += data
        before = len(self._down)
        whole, cut = self._down, False
        at = 0
        for kind, channel, payload in self._frames("_down"):
            if kind == 1 and self._answers(channel, payload):
                cut = True
                break
            at += len(payload) + 8
        if cut:
            return Passed(whole[:at], cut=True)
        return Passed(whole[: before - len(self._down)])

    def _answers(self, channel: int, payload: bytes) -> bool:
        if self._caught is None or self._caught[0] != channel:
            return False
        _, name, number = self._caught
        class_id, method = struct.unpack_from(">HH", payload)
        if name == "basic.publish":
            if (class_id, method) not in ((60, 80), (60, 120)):
                return False
            tag, flags = struct.unpack_from(">QB", payload, 4)
            return tag == number or (tag > number and bool(flags & 1))
        asked = next(key for key, value in self.NAMES.items() if value == name)
        return class_id == asked[0] and asked[1] < method <= asked[1] + 2

    def _frames(self, side: str) -> Iterator[tuple[int, int, bytes]]:
        data: bytes = getattr(self, side)
        at = 0
        found = []
        while len(data) - at >= 8:
            kind, channel, size = struct.unpack_from(">BHL", data, at)
            if len(data) - at < size + 8:
                break
            found.append((kind, channel, data[at + 7 : at + 7 + size]))
            at += size + 8
        setattr(self, side, data[at:])
        return iter(found)


class Postgres:
    """PostgreSQL, version 3 without TLS. Words are in the text of statements, e.g. ``COMMIT``, ``INSERT``.

    What is lost is the whole answer up to the moment when the statement is known to be committed: the first
    ReadyForQuery after it that says "idle".
    """

    SPECIAL = {80877102, 80877103, 80877104}  # cancel, TLS?, GSS?

    def __init__(self, trap: Trap) -> None:
        self._trap = trap
        self._up, self._down = b"", b""
        self._started = False
        self._expect_byte = 0
        self._asked = self._ready = 0  # how often the client asked for ReadyForQuery, and got it
        self._caught: int | None = None
        self._statements: dict[bytes, bytes] = {}
        self._held: deque[bytes] = deque()

    def up(self, data: bytes) -> bool:
        self._up += data
        while not self._started and len(self._up) >= 8:
            size, code = struct.unpack_from(">II", self._up)
            if len(self._up) < size:
                return False
            self._up = self._up[size:]
            if code in self.SPECIAL:
                self._expect_byte += 1
            else:
                self._started = True
                self._asked += 1  # after the login
        while self._started and len(self._up) >= 5:
            size = struct.unpack_from(">I", self._up, 1)[0] + 1
            if len(self._up) < size:
                break
            self._heard(self._up[:1], self._up[5:size])
            self._up = self._up[size:]
        return False

    def _heard(self, kind: bytes, payload: bytes) -> None:
        statement = b""
        if kind == b"Q":
            self._asked += 1
            statement = payload
        elif kind == b"P":
            name, text = payload.split(b"\0", 2)[:2]
            self._statements[name] = text
        elif kind == b"B":
            statement = self._statements.get(payload.split(b"\0", 2)[1], b"")
        elif kind == b"S":
            self._asked += 1
        if statement and self._trap.catches(statement):
            self._caught = self._asked if kind == b"Q" else self._asked + 1

    def down(self, data: bytes) -> Passed:
        self._down += data
        out = b""
        while self._down:
            if self._expect_byte:
                self._expect_byte -= 1
                out, self._down = out + self._down[:1], self._down[1:]
                continue
            if len(self._down) < 5:
                break
            size = struct.unpack_from(">I", self._down, 1)[0] + 1
            if len(self._down) < size:
                break
            message, self._down = self._down[:size], self._down[size:]
            if message[:1] == b"Z":
                self._ready += 1
            if self._caught is None or self._ready < self._caught - 1:
                out += message
                continue
            self._held.append(message)
            if message[:1] == b"Z" and self._ready >= self._caught:
                if message[5:6] == b"I":
                    return Passed(out, cut=True)
                out += b"".join(self._held)
                self._held.clear()
        return Passed(out)
