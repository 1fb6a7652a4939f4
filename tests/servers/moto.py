"""A stand-in for S3: the server of ``moto``.

1. `MotoServer`: a server of its own.
2. `S3Server`: fresh buckets in it. It is an emulator: what passes here is not proven on AWS.
"""

from __future__ import annotations

import importlib.util
import sys
import urllib.request

from tests.servers.process import Server

__all__ = ["MotoServer", "S3Server"]


class MotoServer(Server):
    """Its data are in memory.

    Attributes:
        url: ``http://127.0.0.1:<port>``, the endpoint.
    """

    patience = 60.0

    def __init__(self) -> None:
        missing = [name for name in ("moto", "flask", "flask_cors") if not importlib.util.find_spec(name)]
        if missing:
            raise RuntimeError(f"No {missing[0]} was found. Install moto[s3], flask and flask-cors.")
        super().__init__("moto")
        self.url = f"http://127.0.0.1:{self.port}"
        try:
            self.start()
        except BaseException:
            self.stop()
            raise

    def command(self) -> list[str]:
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]

    def answers(self) -> bool:
        return self.ask(b"GET /moto-api/ HTTP/1.0\r\n\r\n").startswith(b"HTTP/")


class S3Server(MotoServer):
    """Takes any key and secret."""

    def __init__(self) -> None:
        super().__init__()
        self._buckets = 0

    def bucket(self) -> str:
        """Make a fresh, empty bucket; its name."""
        self._buckets += 1
        name = f"bucket-{self._buckets}"
        request = urllib.request.Request(f"{self.url}/{name}", method="PUT")
        with urllib.request.urlopen(request, timeout=20):
            return name
