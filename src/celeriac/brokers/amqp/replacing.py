"""What takes the place of a delivery that came back.

1. `replacement`: the copy to publish for a verdict (`suspects.py`), or None. Pure.

Not here: the copies themselves (`copies.py`), publishing and acknowledging (`intake.py`).
"""

from __future__ import annotations

from celeriac.brokers.amqp import copies
from celeriac.brokers.amqp.publisher import Post
from celeriac.brokers.amqp.suspects import ASKS, Doubtful
from celeriac.brokers.base import Outgoing
from celeriac.wire.amqp import AGAIN, BY_COPY, PARKED, count_of

__all__ = ["replacement"]


def replacement(doubt: Doubtful, what: str, *, is_here: bool = False) -> Post | Outgoing | None:
    """The copy that takes the place of a delivery that came back; None when it is handed out here, or is
    no more. `is_here`: another copy of the same publish is at this consumer as well."""
    queue, message, crashes = doubt.queue, doubt.message, doubt.crashes
    times = count_of(doubt.marks, PARKED) + 1
    if what == "copy":
        return copies.perhaps(queue, message, crashes, is_suspect=doubt.is_suspect)
    if what == "move":  # behind the first one, if that is there
        again = copies.perhaps(queue, message, crashes + 1, is_suspect=True)
        return again or copies.suspect(queue, message, crashes + 1)
    if what == "park":
        marks = {AGAIN: 1} if AGAIN in doubt.marks else {}
        return copies.parked(queue, message, crashes, times, copies.PARKS[min(times, 3) - 1], **marks)
    if is_here and not doubt.is_suspect and what in ("run", "crash"):
        return copies.parked(queue, message, crashes, times, copies.apart(), **{AGAIN: 1})
    in_turmoil = doubt.patience > ASKS
    may_wait = AGAIN in doubt.marks and not (doubt.is_suspect and doubt.came_back)
    if what == "run" and may_wait and times <= (4 if in_turmoil else 1):
        # The first copy is there, has been given back as well, and comes first; unless the server has died.
        return copies.parked(queue, message, crashes, times, copies.apart(), **{AGAIN: 1})
    if what == "run" and crashes:
        return copies.suspect(queue, message, crashes)
    if what != "crash":
        return None
    if doubt.is_suspect and not doubt.came_back:
        if times == 1:  # once behind all others: another copy, which nobody has read, may be among them
            return copies.suspect(queue, message, crashes, rename=False, **{AGAIN: 1, PARKED: 1})
        return copies.suspect(queue, message, crashes)  # nobody has known it all the time: it runs next
    if doubt.came_back and not (AGAIN in doubt.marks and times <= 2):
        if doubt.words or doubt.is_suspect or AGAIN not in doubt.marks:
            return copies.suspect(queue, message, crashes + 1)
        # The first copy may be about to run: asked once more. Not for all, since suspects are asked about one
        # by one; where the first one becomes a suspect, it does so under another name, and this one is done.
        return copies.suspect(queue, message, crashes + 1, rename=False, **{AGAIN: 1})
    # A publish was in doubt, and the first copy is not known anywhere: it may be waiting before this one.
    if times > 1:
        return None
    # What a dead process gave back is before this copy in the same queue: somebody is about to read it.
    by_copy = doubt.is_unread and doubt.marks.get(AGAIN) == BY_COPY
    seconds = copies.apart(copies.PARKS[0] if by_copy else copies.PARKS[-1])
    return copies.parked(queue, message, crashes, times, seconds, **{AGAIN: 1})
