"""Error replies to what stores messages: found in pipelines and transactions, and explained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celeriac.transport.redis.link import Refused, ReplyError, refusal

__all__ = ["check", "forgotten"]


def forgotten(replies: Sequence[Any]) -> bool:
    """Whether the server does not know a script any more, so that nothing was done."""
    return any(str(error).startswith("NOSCRIPT") for error in _errors(replies))


def check(replies: Sequence[Any], where: str) -> None:
    """Raise for the first error; the rest follow from it (an aborted transaction says no more than that).

    Raises:
        OperationalError: of the kind that `refusal` makes.
    """
    errors = _errors(replies)
    if not errors:
        return
    error = refusal(errors[0], where)
    if isinstance(error, Refused) and error.code in ("OOM", "MISCONF"):
        error = Refused(
            f"{error} The message was not stored. Free memory or disk on the Redis server.", error.code
        )
    raise error


def _errors(replies: Sequence[Any]) -> list[ReplyError]:
    """The errors among replies and, one level down, among those of a transaction."""
    errors = [reply for reply in replies if type(reply) is ReplyError]
    if isinstance(replies[-1], list):
        errors += [reply for reply in replies[-1] if type(reply) is ReplyError]
    return errors
