"""bind=True: the task itself is no parameter of a call."""

from typing import Any, reveal_type

from celeriac import Celeriac, Task, shared_task

app = Celeriac("proj")


@app.task(bind=True)
def probe(self: Task[..., Any], x: int) -> str:
    return f"{self.request.id}{x}"


@shared_task(bind=True, max_retries=3)
def untyped_self(self, x: int) -> str:  # type: ignore[no-untyped-def]
    raise self.retry(countdown=x)


@app.task(bind=True)
async def coroutine(self: Any, x: int) -> float:
    return float(x)


reveal_type(probe.delay(1).get())  # reveals: "?str"?
reveal_type(probe(1))  # reveals: "?str"?
reveal_type(coroutine.delay(1).get())  # reveals: "?float"?
probe.delay("1")  # expect: (incompatible type|cannot be assigned)
probe.delay(1, 2)  # expect: (Too many|Expected 1 positional)
