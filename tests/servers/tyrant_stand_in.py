"""A stand-in for Tokyo Tyrant: the part of its binary protocol that the result store speaks, over a dict.

Run as a script with the port; knows nothing of the rest of the tests. What passes here is not proven on a
real server: none is packaged any more.
"""

from __future__ import annotations

import socketserver
import struct
import sys
import threading

records: dict[bytes, bytes] = {}
lock = threading.Lock()


class Handler(socketserver.StreamRequestHandler):
    """A connection. A request is the magic byte, a command, sizes, data; an answer begins with 0 for done."""

    def handle(self) -> None:
        while self.rfile.read(1) == b"\xc8":
            command = self.rfile.read(1)[0]
            with lock:
                self.wfile.write(self.answer(command))

    def numbers(self, count: int) -> tuple[int, ...]:
        return struct.unpack(f">{count}I", self.rfile.read(4 * count))

    def answer(self, command: int) -> bytes:
        if command in (0x10, 0x11, 0x12):  # put, putkeep, putcat
            key_size, value_size = self.numbers(2)
            key, value = self.rfile.read(key_size), self.rfile.read(value_size)
            if command == 0x11 and key in records:
                return b"\x01"
            records[key] = records.get(key, b"") + value if command == 0x12 else value
            return b"\x00"
        if command == 0x20:  # out
            return b"\x01" if records.pop(self.rfile.read(*self.numbers(1)), None) is None else b"\x00"
        if command == 0x31:  # mget
            keys = [self.rfile.read(*self.numbers(1)) for _ in range(*self.numbers(1))]
            found = [key for key in keys if key in records]
            pairs = (struct.pack(">II", len(key), len(records[key])) + key + records[key] for key in found)
            return b"\x00" + struct.pack(">I", len(found)) + b"".join(pairs)
        if command == 0x58:  # fwmkeys
            size, most = self.numbers(2)
            prefix = self.rfile.read(size)
            found = [key for key in records if key.startswith(prefix)][:most]
            names = (struct.pack(">I", len(key)) + key for key in found)
            return b"\x00" + struct.pack(">I", len(found)) + b"".join(names)
        if command == 0x72:  # vanish: all records
            records.clear()
            return b"\x00"
        return b"\x01"


class StandIn(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    StandIn(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
