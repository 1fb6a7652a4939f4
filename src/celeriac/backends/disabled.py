"""No result store: every result is thrown away.

URL: ``disabled://``; also what no `result_backend` means beside a broker that is not SQLite. Asking for a
result is refused where it is asked (`result/one.py`); this class only has to be there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from celeriac.backends.base import BackendCapabilities, ResultTarget, StoredResult

__all__ = ["DisabledBackend"]


class DisabledBackend:
    """The seam, without a store behind it.

    Example:
        >>> from celeriac.backends.base import StoredResult
        >>> backend = DisabledBackend("disabled://", {})
        >>> backend.store([StoredResult("id-1", b"{}")])
        >>> backend.load(["id-1"])
        {}
    """

    capabilities: BackendCapabilities = BackendCapabilities(push=False, expiry=False, stores=False)

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        """`url` and `options` have nothing to say here."""

    def store(self, batch: Sequence[StoredResult]) -> None:
        """Throw them away."""

    def load(self, ids: Sequence[str]) -> Mapping[str, bytes]:
        return {}

    def forget(self, ids: Sequence[str]) -> None:
        """Nothing is stored."""

    def watch(self, ids: Iterable[str] = ()) -> NoReturn:
        raise NotImplementedError(_NO_STORE)

    def target(self) -> ResultTarget | None:
        return None

    def save_group(self, group_id: str, document: bytes, ttl: float | None) -> None:
        raise NotImplementedError(_NO_STORE)

    def load_group(self, group_id: str) -> bytes | None:
        raise NotImplementedError(_NO_STORE)

    def delete_group(self, group_id: str) -> None:
        """Nothing is stored."""

    def expire(self) -> int:
        return 0

    def describe(self) -> str:
        return "disabled://"

    def close(self) -> None:
        """Nothing is open."""


_NO_STORE = (
    "No result backend is configured, so results cannot be waited for or saved. Set `result_backend`, for "
    "example to 'redis://' or 'sqlite://'."
)
