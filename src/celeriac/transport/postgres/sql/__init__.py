"""The SQL of each version of the tables. `{s}` stands for schema and prefix (`Server.sql`)."""

from __future__ import annotations

import os

__all__ = ["read"]


def read(name: str) -> str:
    """The text of ``name.sql``."""
    # The loader reads from archives too; importlib.resources would, at 9 ms for every start.
    path = os.path.join(os.path.dirname(__file__), f"{name}.sql")
    return str(__loader__.get_data(path).decode())  # type: ignore[name-defined]
