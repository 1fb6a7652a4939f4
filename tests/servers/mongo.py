"""A stand-in for MongoDB: ``nx-27017``, which speaks its wire protocol over SQLite.

`MongoServer`: a server of its own; fresh databases. It is an emulator: what passes here is not proven on
MongoDB. It has no change streams and no replica sets, and it cannot replace a document by one with binary
fields; for that it is mended when it is started.
"""

from __future__ import annotations

import importlib.util
import socket
import sys

from tests.servers.process import Server

__all__ = ["MongoServer"]

#: Inserts know binary fields, replacements do not: JSON is what the documents become.
_PROGRAM = """
import sys
from neosqlite.collection.query_helper import crud_operations as crud, utils
from nx_27017.nx_27017 import main

kind = next(each for each in vars(crud).values() if hasattr(each, "_internal_replace"))
replace = kind._internal_replace
kind._internal_replace = lambda self, id_, row: replace(self, id_, utils._convert_bytes_to_binary(row))
sys.exit(main())
"""


class MongoServer(Server):
    """Its data are in memory.

    Attributes:
        url: ``mongodb://127.0.0.1:<port>``.
    """

    patience = 60.0

    def __init__(self) -> None:
        super().__init__("mongo")
        if importlib.util.find_spec("nx_27017") is None:
            raise RuntimeError("No nx-27017 was found. Install the package of that name.")
        self._databases = 0
        self.url = f"mongodb://127.0.0.1:{self.port}"
        try:
            self.start()
        except BaseException:
            self.stop()
            raise

    def command(self) -> list[str]:
        files = ["--log-file", str(self.folder / "server.log"), "--pid-file", str(self.folder / "pid")]
        return [sys.executable, "-c", _PROGRAM, "--data-dir", "memory", "-p", str(self.port), *files]

    def answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), 10):
            return True

    def database(self) -> str:
        """URL of a database that is empty."""
        self._databases += 1
        return f"{self.url}/d{self._databases}"
