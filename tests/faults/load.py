"""Every way in which a task can end, and what must be true of all of them afterwards.

1. `Load`: publishes; names the failpoints that fire once each; checks.
2. `CHILD`, `SUPERVISOR`: the failpoints of a worker, with counts that are reached.
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

from tests.faults.conftest import Store
from tests.faults.harness import Journal, publish_many
from tests.faults.residue import drained, residue

from celeriac import Celeriac, states
from celeriac.result import AsyncResult

#: Points of a child, which dies alone; with the counts at which it does.
CHILD = [
    ("register.before", (1,)),
    ("register.sent", (1,)),
    ("register.done", (1,)),
    ("take.before", (1, 2)),
    ("take.sent", (1, 2)),
    ("take.done", (1, 2)),
    ("start.before", (1, 9, 12)),
    ("start.after", (1, 9, 12)),
    ("outcome.concluded", (1, 9, 12)),
    ("outcome.noted", (1, 9, 12)),
    ("settle.before", (1, 3, 4)),
    ("settle.sent", (1, 3, 4)),
    ("settle.done", (1, 3, 4)),
    ("followup.before", (1, 2)),
    ("followup.sent", (1, 2)),
    ("followup.done", (1, 2)),
    ("close.before", (1,)),
    ("close.sent", (1,)),
    ("close.done", (1,)),
]
#: Points of the supervisor, whose death is that of the whole node.
SUPERVISOR = [
    f"{operation}.{stage}"
    for operation in ("beat", "release", "sweep")
    for stage in ("before", "sent", "done")
]
PLAIN = [f"k{i}" for i in range(80)]
ASKED = [f"r{i}" for i in range(6)]
FLAKY = [f"f{i}" for i in range(6)]
LINKED = [f"l{i}" for i in range(3)]
ENDS = {*PLAIN, *ASKED, *FLAKY, *LINKED, *(f"cb-{key}" for key in LINKED)}


class Load:
    """Every way in which a task can end, and what has to be true afterwards."""

    def __init__(self, client: Celeriac, journal: Journal, store: Store, folder: Path) -> None:
        self.client = client
        self.journal = journal
        self.store = store
        self.folder = folder
        folder.mkdir()
        send = client.send_task
        self.results: list[AsyncResult[object]] = [send("record", (key,), task_id=key) for key in ASKED]
        self.results += [send("flaky", (key, 1, 0.2 * (i % 2)), task_id=key) for i, key in enumerate(FLAKY)]
        for key in LINKED:
            after = client.signature("record", (f"cb-{key}",), immutable=True, task_id=f"cb-{key}")
            self.results.append(send("record", (key,), task_id=key, link=after))
            self.results.append(AsyncResult(f"cb-{key}", app=client))
        publish_many(client, "record", [(key, 0.001) for key in PLAIN])

    def environ(self, *entries: str) -> dict[str, str]:
        return {"FAILPOINT": ",".join(entries), "FAILPOINT_FOLDER": str(self.folder)}

    def fired(self) -> dict[str, int]:
        """What has fired → in which process."""
        return {
            path.name: int(text) for path in self.folder.iterdir() if (text := path.read_text()).isdigit()
        }

    def ended(self) -> bool:
        """All have run, and nothing is left to run: neither in a queue nor, what a second copy of a task that
        retries sends off once more, on its way between two."""
        if not self.journal.count("end").keys() >= ENDS or not self.is_drained():
            return False
        return all(result.state == states.SUCCESS for result in self.results)

    def is_drained(self) -> bool:
        """What a server moves from one queue to another is in none of them for a moment: looks twice."""
        if not drained(self.client):
            return False
        time.sleep(0.25)  # longer than that moment
        return drained(self.client)

    def check(self, entry: str | None, killed: set[int] | None) -> None:
        """Nothing lost, nothing run too often, nothing left.

        Args:
            entry: what must have fired.
            killed: the processes in which a body may have begun that runs again elsewhere; None: all.
        """
        assert entry is None or entry in self.fired(), f"{entry} was never reached"
        events = self.journal.events()
        assert {event.key for event in events} == ENDS
        again = Counter(event.key for event in events if event.what == "start")
        again.subtract({key: 2 if key in FLAKY else 1 for key in ENDS})
        if killed is not None:
            excused = Counter(e.key for e in events if e.what == "start" and e.pid in killed)
            if not self.client.broker.capabilities.atomic_settle:
                # It died between publishing the retry (the callback) and acknowledging: both run.
                excused.update({key: excused[key] for key in FLAKY})
                excused.update({f"cb-{key}": excused[key] for key in LINKED})
            assert {key for key, times in again.items() if times > excused[key]} == set()
        for result in self.results:
            assert result.state == states.SUCCESS, result.id
        assert self.client.broker.stats(["faults"])[0].dead == 0
        assert residue(self.store) == []
