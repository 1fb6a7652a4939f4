"""The transitions, one Lua script each. The head of a script lists every key it touches."""

from __future__ import annotations

import os
from typing import Final

from celeriac.transport.redis.pool import Script

__all__ = [
    "ARM", "BEAT", "BURY", "DROP", "EXCHANGE", "GIVE_BACK", "LAPSED", "PUBLISH", "PURGE", "REGISTER",
    "REVIVE", "REVOKE", "REVOKED",
]  # fmt: skip


def _script(*names: str) -> Script:
    """The script of the last name, with the functions of those before it."""
    # The loader reads from archives too; importlib.resources would, at 9 ms for every start.
    folder = os.path.dirname(__file__)
    paths = [os.path.join(folder, f"{name}.lua") for name in names]
    return Script("\n".join(__loader__.get_data(path).decode() for path in paths))  # type: ignore[name-defined]


ARM: Final = _script("arm")
BEAT: Final = _script("beat")
BURY: Final = _script("bury")
DROP: Final = _script("drop")
EXCHANGE: Final = _script("whole", "exchange")
GIVE_BACK: Final = _script("whole", "give_back")
LAPSED: Final = _script("lapsed")
PUBLISH: Final = _script("publish")
PURGE: Final = _script("purge")
REGISTER: Final = _script("register")
REVIVE: Final = _script("revive")
REVOKE: Final = _script("revoke")
REVOKED: Final = _script("revoked")
