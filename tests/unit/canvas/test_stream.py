"""Members from generators: made when they are needed, and not before."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from typing import Any

import pytest

from celeriac import Celeriac
from celeriac.canvas import Signature, chain, chord, group, signature
from celeriac.canvas.chord import AT_ONCE
from celeriac.canvas.stream import Stream, at_least
from celeriac.wire.json import dumps

pytestmark = pytest.mark.usefixtures("own_state")  # no tasks of other tests, and none for them


class Source:
    """A generator of calls that counts how many were asked for."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.made = 0

    def __iter__(self) -> Iterator[Signature[Any]]:
        for n in range(self.count):
            self.made += 1
            yield Signature("t", (n,))


@pytest.fixture
def source() -> Source:
    return Source(5)


def test_a_group_reads_when_it_is_read(source: Source) -> None:
    made = group(source)
    assert source.made == 0
    assert made
    assert source.made == 1
    assert made.tasks[2].args == (2,)
    assert source.made == 3
    assert len(made) == 5
    assert [task.args for task in made.tasks] == [(n,) for n in range(5)]
    assert source.made == 5


def test_joining_reads_no_more_than_it_must(source: Source) -> None:
    group(source) | Signature("after")
    chord(source, Signature("after")) | Signature("later")
    assert source.made <= 5  # copies of a chord have members of their own
    source.made = 0
    made = Signature("before") | group(source)
    assert source.made <= 2
    assert isinstance(made, chain)
    assert len(made.tasks[1].tasks) == 5  # type: ignore[attr-defined]


def test_a_header_can_be_taken_in_parts(source: Source) -> None:
    tasks: Any = chord(source, Signature("after")).header.tasks
    assert isinstance(tasks, Stream)
    assert tasks.untouched
    parts = tasks.parts(2)
    assert [task.args for task in next(parts)] == [(0,), (1,)]
    assert source.made == 2
    assert [len(part) for part in parts] == [2, 1]
    assert list(tasks) == []


def test_parts_begin_with_what_was_read(source: Source) -> None:
    tasks: Any = group(source).tasks
    assert tasks[0].args == (0,)
    assert not tasks.untouched
    assert [task.args[0] for part in tasks.parts(3) for task in part] == [0, 1, 2, 3, 4]


def test_it_equals_a_list_and_is_one_in_messages(source: Source) -> None:
    made = group(source)
    listed = group([Signature("t", (n,)) for n in range(5)])
    assert made == listed
    assert listed == made
    assert group(Source(5)) == made
    assert made != group(Source(4))
    assert dumps(made) == dumps(listed)
    assert signature(json.loads(dumps(made))) == listed
    assert pickle.loads(pickle.dumps(group(Source(5)))) == listed
    assert made.clone() == listed


def test_what_is_read_stays(source: Source) -> None:
    made = group(source)
    made.link_error(Signature("errback"))
    assert all(task.options["link_error"] for task in made.tasks)
    assert source.made == 5


def test_a_copy_has_members_of_its_own(source: Source) -> None:
    made = group(source)
    copy = made.clone()
    assert source.made == 0
    copy.tasks[0].set(countdown=3)  # type: ignore[attr-defined]
    assert made.tasks[0].options == {}
    assert made.clone().tasks == made.tasks  # type: ignore[attr-defined]


def test_a_header_is_sent_while_it_is_made_and_can_be_sent_again() -> None:
    app = Celeriac("stream", broker="memory://stream", backend="memory://stream", set_as_current=False)
    waiting: list[int] = []

    def members() -> Iterator[Signature[Any]]:
        for n in range(count):
            waiting.append(app.broker.depth("celery"))
            yield Signature("t", (n,), app=app)

    count = 2 * AT_ONCE + 10
    try:
        made = chord(members(), Signature("after", app=app), app=app)
        result = made.apply_async()
        assert len(result.parent) == count
        assert waiting[-1] >= AT_ONCE
        assert app.broker.depth("celery") == count
        again = made.apply_async()
        assert app.broker.depth("celery") == 2 * count
        assert {one.id for one in again.parent}.isdisjoint(one.id for one in result.parent)
    finally:
        app.broker.purge("celery")
        app.close()


def test_one_that_is_walked_twice_at_once(source: Source) -> None:
    tasks = group(source).tasks
    assert [one.args for one, _ in zip(tasks, tasks, strict=True)] == [(n,) for n in range(5)]
    assert tasks[-1].args == (4,)
    assert [task.args for task in tasks[1:3]] == [(1,), (2,)]


def test_texts(source: Source) -> None:
    made = group(source)
    assert repr(made.tasks) == "<Stream: …>"
    assert repr(made) == "group(<Stream: t(0), …>)"
    assert source.made == 1


def test_at_least() -> None:
    assert at_least([1, 2], 2)
    assert not at_least([1], 2)


def test_a_source_that_fails_does_so_when_it_is_read() -> None:
    made = group(Signature("t", (1 // n,)) for n in (1, 0))
    with pytest.raises(ZeroDivisionError):
        list(made.tasks)
