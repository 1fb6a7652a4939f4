"""A stand-in for DynamoDB: the server of ``moto``.

`DynamoServer`: fresh tables in it. It is an emulator: what passes here is not proven on AWS.
"""

from __future__ import annotations

from tests.servers.moto import MotoServer

__all__ = ["DynamoServer"]


class DynamoServer(MotoServer):
    """Takes any key and secret. Its data are in memory."""

    def __init__(self) -> None:
        super().__init__()
        self._tables = 0

    def table(self) -> str:
        """URL of a table that does not exist yet."""
        self._tables += 1
        return f"dynamodb://key:secret@127.0.0.1:{self.port}/table{self._tables}"
