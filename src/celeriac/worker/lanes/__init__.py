"""Lanes: where bodies run. User code lives here and nowhere else in the worker.

    base.py     what all have          main.py     prefork and solo: the main thread
    limits.py   coroutines and limits  threads.py  threads        loop.py  asyncio

Each lane takes deliveries from the courier (`put`), gives back what it has not started (`take_back`), posts a
settlement for each, and enforces soft limits itself. A hard limit is enforced by killing the child where the
child runs one body (the supervisor does it, by the ledger), and by giving up the slot where it runs many.

Not here: what a message means and what follows from an outcome (`request.py`).
"""

from __future__ import annotations

from celeriac.worker.lanes.base import Lane
from celeriac.worker.lanes.loop import LoopLane
from celeriac.worker.lanes.main import MainLane
from celeriac.worker.lanes.threads import ThreadLane

__all__ = ["Lane", "LoopLane", "MainLane", "ThreadLane"]
