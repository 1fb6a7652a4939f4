"""The row about chords: F29, while workers and their processes are killed."""

from __future__ import annotations

import time
from collections import defaultdict

from tests.canvas.run import Killer
from tests.faults.ground import Ground
from tests.faults.harness import until

from celeriac import states
from celeriac.canvas import chord
from celeriac.wire.results import decode_result

__all__ = ["chords"]


def chords(ground: Ground, count: int, members: int, kills: int, every: float = 0.4) -> str:
    """Chords whose members give another value each time they run: each body is sent once, with the values of
    all members in order; it runs again only if its process was killed, and then under the same id."""
    nodes = [
        ground.node("-c", "2", conf={"task_delivery_limit": 20}, app="tests.canvas.proj") for _ in range(2)
    ]
    client, began = ground.client, time.monotonic()
    bodies = {}
    for at in range(count):
        run = f"chord{at}"
        header = [client.signature("part", (index,), {"run": run}) for index in range(members)]
        bodies[run] = chord(
            header, client.signature("whole", (), {"run": run, "size": members})
        ).apply_async()
    killer = Killer(nodes, ground.chance, kills, every)
    missing = {result.id: run for run, result in bodies.items()}

    def all_there() -> bool:
        killer()
        for id_, document in client.backend.load(list(missing)).items():
            if decode_result(document).status in states.READY_STATES:
                del missing[id_]
        return not missing

    until(all_there, 60 + count * members / 50, "every body has ended", every=0.1)
    until(ground.drained, 30, "nothing is left")
    seconds = time.monotonic() - began
    ground.stop()
    wrong = [
        run for run, result in bodies.items() if result.state != states.SUCCESS or result.result != members
    ]
    assert not wrong, f"{len(wrong)} bodies ended badly, as {bodies[wrong[0]].result!r}"
    starts = defaultdict(list)
    for event in ground.journal.events():
        if event.what == "body":
            run, _, id_ = event.key.split(":")
            starts[run].append(id_)
    twice = [run for run, ids in starts.items() if len(set(ids)) > 1]
    assert not twice, f"the bodies of {len(twice)} chords were sent more than once"
    again = sum(len(ids) > 1 for ids in starts.values())
    return (
        f"{killer.kills} kills, {count} chords of {members} in {seconds:.0f} s: {len(starts)} bodies, "
        f"each sent once, {again} of them started again"
    )
