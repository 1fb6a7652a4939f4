"""The transitions, one Lua script each. The head of a script lists every key it touches."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from celeriac.transport.redis.pool import Script

__all__ = [
    "ARM", "BEAT", "DROP", "EXCHANGE", "GIVE_BACK", "LAPSED", "PUBLISH", "PURGE", "REGISTER", "REVIVE",
    "REVOKE", "REVOKED",
]  # fmt: skip


def _script(name: str) -> Script:
    return Script(files(__name__).joinpath(f"{name}.lua").read_text(encoding="utf-8"))


ARM: Final = _script("arm")
BEAT: Final = _script("beat")
DROP: Final = _script("drop")
EXCHANGE: Final = _script("exchange")
GIVE_BACK: Final = _script("give_back")
LAPSED: Final = _script("lapsed")
PUBLISH: Final = _script("publish")
PURGE: Final = _script("purge")
REGISTER: Final = _script("register")
REVIVE: Final = _script("revive")
REVOKE: Final = _script("revoke")
REVOKED: Final = _script("revoked")
