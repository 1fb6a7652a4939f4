"""Tasks that are classes, and what they offer."""

from typing import Any, reveal_type

from celeriac import Celeriac, Signature, Task, current_app, group, signature

app = Celeriac("proj")


class Add(Task[[int, int], int]):
    name = "proj.add"

    def run(self, x: int, y: int) -> int:
        return x + y

    def on_failure(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None: ...


add = Add()
app.register_task(add)
reveal_type(add.delay(1, 2).get())  # reveals: "?int"?
add.delay(1)  # expect: (Too few arguments|Expected 1 more positional)

sig: Signature[int] = add.s(1, 2)
group([add.s(1, 2), add.s(3, 4)]).apply_async()
signature("proj.add", args=(1, 2)).delay()
print(app.send_task("far.away", [1], queue="q").id)
reveal_type(current_app.main)  # reveals: (str \| None|Union\[str, None\])
reveal_type(app.conf.task_acks_late)  # reveals: Any
