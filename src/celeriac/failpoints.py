"""Places in the code where a test can make a process die, stop, fail or lose its connection.

1. `on`: whether the environment variable ``FAILPOINT`` was set when this was imported. Hot code asks
   ``if failpoints.on:`` and nothing else.
2. `hit`: a point is reached. `begin` and `passed`: the three points of an operation of the broker.

``FAILPOINT=name:nth:action[,name:nth:action…]``: the nth time (from 1) that a process reaches the point,

- ``kill``: it gets SIGKILL;
- ``stop``: SIGSTOP, until somebody continues it;
- ``raise``: `Reached` is raised;
- ``drop``: the connection in use is closed; where there is none, `Reached` is raised.

``FAILPOINT_FOLDER``: each entry fires once for all processes that share this folder, and leaves a file
``name.nth`` with the pid there. Without it every process, also one that replaces a killed one, fires anew.

An operation of the broker has three points. On Redis and PostgreSQL ``NAME.before``: nothing is sent;
``NAME.sent``: sent, the reply not read; ``NAME.done``: the reply read, nobody told. On SQLite: before the
write lock; all written, not committed; committed. (A sweep that finds nothing writes nothing there.)

| NAME       | who          | what it is                                                     |
|------------|--------------|----------------------------------------------------------------|
| `publish`  | producer     | `Broker.publish`                                               |
| `register` | child        | the lease is taken; the ledger does not say so yet             |
| `take`     | child        | an exchange that settles nothing; it moves what is due as well |
| `settle`   | child        | an exchange with settlements, which may take as well           |
| `followup` | child        | an exchange with retries, callbacks, next steps of chains      |
| `close`    | child        | a stopping child gives back what it holds, and its lease       |
| `beat`     | supervisor   | all leases of the node are renewed                             |
| `release`  | supervisor   | what a dead child held is settled or goes back                 |
| `sweep`    | supervisor   | what silent nodes held goes back                               |

| point              | who                                                                            |
|--------------------|--------------------------------------------------------------------------------|
| `start.before`     | child: taken and decoded; the ledger does not show that it runs                 |
| `start.after`      | child: the ledger shows it; the body has not begun                              |
| `outcome.concluded`| child: the body has ended, its settlement is made; the ledger says it runs      |
| `outcome.noted`    | child: the ledger says it has ended; the settlement is in no outbox yet         |
| `chord.arrived`    | child: members are counted; what a complete chord sets off is not published     |
| `moved`            | child: copies of deliveries that came back are stored; they are not settled    |
| `results.stored`   | child: results are in a store of their own; the delivery is not settled         |

Points that other systems have and this one cannot have, because a settlement is one atomic step of the
broker: acknowledged but callbacks not sent, callbacks half sent, retry published but not acknowledged, result
written but not acknowledged (same store), due messages half moved, a sweep of one consumer half done.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Final

__all__ = ["Reached", "begin", "hit", "on", "passed"]

_ACTIONS: Final = ("kill", "stop", "raise", "drop")


class Reached(RuntimeError):
    """A point with the action ``raise`` was reached."""


def _parse(text: str) -> dict[str, dict[int, str]]:
    """Point → count → action.

    Example:
        >>> _parse("take.sent:2:kill,take.sent:5:stop")
        {'take.sent': {2: 'kill', 5: 'stop'}}
    """
    found: dict[str, dict[int, str]] = {}
    for entry in filter(None, text.split(",")):
        name, count, action = [*entry.strip().split(":"), "", ""][:3]
        if not name or not count.isdecimal() or action not in _ACTIONS:
            raise ValueError(f"FAILPOINT={text!r}: {entry!r} is not name:nth:action ({', '.join(_ACTIONS)}).")
        found.setdefault(name, {})[int(count)] = action
    return found


_plan: Final = _parse(os.environ.get("FAILPOINT", ""))
_folder: Final = os.environ.get("FAILPOINT_FOLDER", "")
_counts: Final = dict.fromkeys(_plan, 0)
_doing: Final = threading.local()

#: Whether any point is set.
on: Final = bool(_plan)


def begin(operation: str) -> None:
    """This thread is about to ask the broker for `operation`."""
    _doing.operation = operation
    hit(f"{operation}.before")


def passed(stage: str, drop: Callable[[], None] | None = None) -> None:
    """The operation of this thread has come to `stage`; `drop` closes its connection."""
    operation = getattr(_doing, "operation", None)
    if operation is not None:
        hit(f"{operation}.{stage}", drop)


def hit(name: str, drop: Callable[[], None] | None = None) -> None:
    """The point `name` is reached."""
    actions = _plan.get(name)
    if actions is None:
        return
    _counts[name] = count = _counts[name] + 1
    action = actions.get(count)
    if action is None or not _first(f"{name}.{count}"):
        return
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif action == "drop" and drop is not None:
        drop()
    else:
        raise Reached(f"failpoint {name}, for the {count}. time")


def _first(label: str) -> bool:
    """Leave the mark of a fired entry; False when another process was first."""
    if not _folder:
        return True
    try:
        fd = os.open(os.path.join(_folder, label), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    os.write(fd, str(os.getpid()).encode())
    os.close(fd)
    return True
