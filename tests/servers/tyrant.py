"""`TyrantServer`: the stand-in for Tokyo Tyrant (`tyrant_stand_in.py`) as a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.servers.process import Server

__all__ = ["TyrantServer"]


class TyrantServer(Server):
    """Its records are in memory.

    Attributes:
        url: ``tyrant://127.0.0.1:<port>``.
    """

    def __init__(self) -> None:
        super().__init__("tyrant")
        self.url = f"tyrant://127.0.0.1:{self.port}"
        self.start()

    def command(self) -> list[str]:
        return [sys.executable, "-S", str(Path(__file__).with_name("tyrant_stand_in.py")), str(self.port)]

    def answers(self) -> bool:
        return self.ask(b"\xc8\x72") == b"\x00"

    def flush(self) -> None:
        """Delete all records."""
        assert self.ask(b"\xc8\x72") == b"\x00"
