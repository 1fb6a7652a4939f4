"""What each process makes for itself; parts of long sequences."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from collections.abc import Callable

import pytest

from celeriac.utils.batches import batches, sized_batches
from celeriac.utils.perprocess import PerProcess

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


class Client:
    def __init__(self) -> None:
        self.owner = os.getpid()
        self.closed = False

    def close(self) -> None:
        self.closed = True


def in_child(check: Callable[[], bool]) -> bool:
    """What `check` says in a forked child."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if check() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_it_is_made_once_by_whoever_comes_first() -> None:
    made: list[Client] = []
    begin = threading.Barrier(4)
    client = PerProcess(lambda: made.append(Client()) or made[-1], Client.close)  # type: ignore[func-returns-value]

    def use() -> None:
        begin.wait(10)
        client()

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(made) == 1
    assert client() is made[0]


def test_closed_it_is_made_anew() -> None:
    client = PerProcess(Client, Client.close)
    client.close()  # nothing has been made
    first = client()
    client.close()
    assert first.closed
    assert client() is not first
    assert not client().closed


def test_what_cannot_be_made_is_tried_again() -> None:
    answers = iter([OSError("not yet"), None])

    def make() -> Client:
        if answer := next(answers):
            raise answer
        return Client()

    client = PerProcess(make, Client.close)
    with pytest.raises(OSError, match="not yet"):
        client()
    assert client().owner == os.getpid()


def test_a_child_has_its_own_and_leaves_the_parents_alone() -> None:
    client = PerProcess(Client, Client.close)
    parents = client()

    def check() -> bool:
        own = client()
        client.close()
        return own.owner == os.getpid() and own.closed and not parents.closed

    assert in_child(check)
    assert client() is parents


def test_a_child_that_closes_it_at_once_leaves_the_parents_alone() -> None:
    client = PerProcess(Client, Client.close)
    parents = client()
    assert in_child(lambda: client.close() is None and not parents.closed)  # type: ignore[func-returns-value]


@pytest.mark.parametrize("keeps", [True, False])
def test_what_a_parent_made_is_kept_in_its_children_if_that_is_wanted(keeps: bool) -> None:
    client = PerProcess(Client, Client.close, keeps=keeps)
    parents = weakref.ref(client())

    def check() -> bool:
        client()
        gc.collect()
        return (parents() is not None) == keeps

    assert in_child(check)
    assert parents() is not None


def test_a_child_forked_while_it_is_made_is_not_kept_waiting() -> None:
    making, go_on = threading.Event(), threading.Event()

    def make() -> Client:
        if threading.current_thread() is not threading.main_thread():
            making.set()
            go_on.wait(10)
        return Client()

    client = PerProcess(make, Client.close)
    thread = threading.Thread(target=client)
    thread.start()
    assert making.wait(10)
    try:
        assert in_child(lambda: client().owner == os.getpid())
    finally:
        go_on.set()
        thread.join(10)


def test_parts_of_a_sequence() -> None:
    assert list(batches([], 2)) == []
    assert list(batches([1, 2], 2)) == [[1, 2]]
    assert list(batches((1, 2, 3), 2)) == [(1, 2), (3,)]


def test_parts_no_larger_than_what_is_taken() -> None:
    def sized(*sizes: int) -> list[list[int]]:
        return list(sized_batches(sizes, lambda size: size, most=3, most_bytes=10))

    assert sized() == []
    assert sized(5, 5, 1) == [[5, 5], [1]]
    assert sized(1, 1, 1, 1) == [[1, 1, 1], [1]]
    assert sized(1, 30, 1) == [[1], [30], [1]]
