"""Suspects that had come to their end: the process died between storing the result and settling.

1. `success_of`: the stored success of a suspect's call, when it can be believed.

Not here: what follows from it (`request.py`).
"""

from __future__ import annotations

import logging
from datetime import datetime

from celeriac import states
from celeriac.backends.base import ResultBackend
from celeriac.brokers.base import Delivery
from celeriac.exceptions import DecodeError, OperationalError
from celeriac.execution.outcome import SUCCEEDED, Outcome
from celeriac.wire import results
from celeriac.wire.message import Message

__all__ = ["success_of"]

logger = logging.getLogger("celeriac.worker")


def success_of(delivery: Delivery, id_: str, backend: ResultBackend, serializer: str) -> Outcome | None:
    """The outcome that is stored for a delivery that is suspected of having killed its process; None: it is
    not known, and the body runs (again).

    Believed is only a success that is younger than the message (its property ``timestamp``, whole seconds):
    the id may have been used for an earlier call. A failure runs again; that costs no more than what is
    suspected.
    """
    sent = delivery.message.properties.get("timestamp") if isinstance(delivery.message, Message) else None
    if not isinstance(sent, (int, float)):
        return None
    try:
        document = backend.load([id_]).get(id_)
        if document is None:
            return None
        found = results.decode_result(document, serializer)
        done = datetime.fromisoformat(found.date_done or "")
    except (OperationalError, DecodeError, ValueError) as exc:
        logger.debug("Nothing is known of the end of %s: %s", id_, exc)
        return None
    if found.status != states.SUCCESS or done.tzinfo is None or done.timestamp() < sent + 1:
        return None
    return Outcome(SUCCEEDED, found.result)
