"""Lifelines: the supervisor keeps connections of its children alive while their bodies hold the interpreter.

1. `pass_on`: a child passes the connection that its consumer has now (a descriptor, over its control socket).
2. `Lifelines`: the supervisor's side: hears of them, writes the pulse for a child whose courier is silent,
   and cuts the connection of a dead child, which the broker would not notice before.

Only for brokers without leases: else the heart beats, on a connection of its own.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Mapping, Sequence

from celeriac.brokers.base import Lifeline
from celeriac.worker.children import Child

__all__ = ["Lifelines", "pass_on"]

#: Seconds for which a courier may be silent at least: it sleeps nearly as long when there is nothing to do.
SILENT = 2.5


def pass_on(control: socket.socket, line: Lifeline | None) -> None:
    """Give the supervisor a duplicate of the connection; None: the last one is of no use any more."""
    if line is None:
        control.sendall(b'{"lifeline": null}\n')
        return
    message = json.dumps({"lifeline": {"pulse": line.pulse.hex(), "every": line.every}})
    socket.send_fds(control, [message.encode() + b"\n"], [line.fd])


class _Line:
    """A duplicate of a child's connection."""

    def __init__(self, fd: int, pulse: bytes, every: float) -> None:
        self.socket = socket.socket(fileno=fd)
        self.pulse = pulse
        self.every = every
        self.last = 0.0

    def beat(self) -> None:
        try:
            sent = self.socket.send(self.pulse, socket.MSG_DONTWAIT)
        except BlockingIOError:  # full: much is on its way, which keeps it alive as well
            return
        except OSError:  # dead: the child notices by itself
            return
        if sent < len(self.pulse):  # half a frame: nothing after it could be understood
            self.end()

    def end(self) -> None:
        """End the connection, whoever else has a descriptor of it (what a body forked, for one)."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


class Lifelines:
    """The supervisor's duplicates, by child. Used by its main loop only."""

    def __init__(self, needed: bool) -> None:
        self.needed = needed
        self._lines: dict[int, _Line] = {}
        self._unread: dict[int, bytes] = {}
        self._mute: set[int] = set()

    def ears(self, children: Mapping[int, Child]) -> Sequence[int]:
        """Descriptors on which children may say something."""
        if not self.needed:
            return ()
        return [
            child.control.fileno()
            for child in children.values()
            if child.ledger is not None and child.pid not in self._mute
        ]

    def hear(self, children: Mapping[int, Child], ready: Sequence[int]) -> None:
        """Take what children have passed on."""
        if not self.needed:
            return
        for child in children.values():
            if child.ledger is not None and child.control.fileno() in ready:
                self._hear(child)

    def _hear(self, child: Child) -> None:
        try:
            data, fds, _, _ = socket.recv_fds(child.control, 65536, 16)
        except OSError:
            return  # it is dead, which the template tells
        if not data:  # dead, or a body has closed what it found open
            self._mute.add(child.pid)
            return
        *messages, self._unread[child.pid] = (self._unread.get(child.pid, b"") + data).split(b"\n")
        for message in map(json.loads, messages):
            if "lifeline" in message:
                self._drop(child)
                line = message["lifeline"]
                if line is not None and fds:
                    self._lines[child.pid] = _Line(fds.pop(0), bytes.fromhex(line["pulse"]), line["every"])

    def keep(self, child: Child, now: float) -> None:
        """Write the pulse, when the child's courier has written nothing for long and writes nothing now."""
        line = self._lines.get(child.pid)
        if line is None or child.ledger is None:
            return
        silent = now - child.ledger.last_pulse > max(line.every, SILENT)
        if silent and now - line.last >= line.every and not child.ledger.writing[0]:
            line.last = now
            line.beat()

    def cut(self, child: Child) -> None:
        """The child is dead: end its connection."""
        self._drop(child)
        self._unread.pop(child.pid, None)
        self._mute.discard(child.pid)

    def _drop(self, child: Child) -> None:
        """End the duplicate that there is."""
        line = self._lines.pop(child.pid, None)
        if line is not None:
            line.end()
