"""Plain functions: their own parameters and results."""

from typing import reveal_type

from celeriac import Celeriac, shared_task

app = Celeriac("proj")


@app.task
def add(x: int, y: int = 1) -> int:
    return x + y


@app.task(name="proj.named", max_retries=5)
def named(text: str) -> list[str]:
    return [text]


@shared_task
def shared(x: float) -> str:
    return str(x)


@shared_task(ignore_result=True)
def quiet(*names: str, loud: bool = False) -> None: ...


reveal_type(add.delay(1, 2).get())  # reveals: "?int"?
reveal_type(add(1))  # reveals: "?int"?
reveal_type(named.delay("x").get())  # reveals: "?list\[str\]"?
reveal_type(shared.delay(1.5).get(timeout=3))  # reveals: "?str"?
reveal_type(add.apply_async((1,), countdown=3).get())  # reveals: "?int"?
reveal_type(add.apply((1,)).get())  # reveals: "?int"?
reveal_type(add.apply_many([(1, 2)])[0].get())  # reveals: "?int"?
quiet.delay("a", "b", loud=True)

add.delay("1")  # expect: (incompatible type|cannot be assigned)
add.delay()  # expect: (Missing positional|Argument missing)
add.delay(1, z=2)  # expect: (Unexpected keyword|No parameter named)
named.delay(1)  # expect: (incompatible type|cannot be assigned)
shared(None)  # expect: (incompatible type|cannot be assigned)
