"""Calls as values, and what can be made of them.

`Signature` (one call), `chain` (one after the other), `group` (at the same time), `chord` (a group, then one
more), `xmap`, `xstarmap`, `chunks` (one task over many arguments). `StampingVisitor` puts stamps on them.
"""

from __future__ import annotations

from celeriac.canvas.base import Signature, maybe_signature, signature
from celeriac.canvas.chain import chain
from celeriac.canvas.chord import chord
from celeriac.canvas.group import group
from celeriac.canvas.maps import chunks, xmap, xstarmap
from celeriac.canvas.shape import Sending, waiting_ids
from celeriac.canvas.stamping import StampingVisitor

__all__ = [
    "Sending",
    "Signature",
    "StampingVisitor",
    "chain",
    "chord",
    "chunks",
    "group",
    "maybe_signature",
    "maybe_subtask",
    "signature",
    "subtask",
    "waiting_ids",
    "xmap",
    "xstarmap",
]

#: Celery's older names.
subtask = signature
maybe_subtask = maybe_signature
