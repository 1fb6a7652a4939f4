"""async def: the result is what is awaited; in-process it is a coroutine."""

from typing import reveal_type

from celeriac import Celeriac, shared_task

app = Celeriac("proj")


@app.task
async def fetch(url: str) -> bytes:
    return url.encode()


@shared_task(name="x")
async def shared(n: int) -> int:
    return n


async def main() -> None:
    reveal_type(fetch.delay("x").get())  # reveals: "?bytes"?
    reveal_type(await fetch("x"))  # reveals: "?bytes"?
    reveal_type(await shared(1))  # reveals: "?int"?
    result = await fetch.adelay("x")
    reveal_type(await result)  # reveals: "?bytes"?
    reveal_type((await shared.aapply_async((1,))).get())  # reveals: "?int"?
    await fetch.adelay(1)  # expect: (incompatible type|cannot be assigned)
