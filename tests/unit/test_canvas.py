"""Canvas: signatures, chains, groups, chords, maps; what they send, and what is sent of them in bodies."""

from __future__ import annotations

import copy
import itertools
import json
import pickle
from collections.abc import Iterator
from typing import Any

import pytest

from celeriac import _state
from celeriac.app.base import Celeriac
from celeriac.canvas import (
    Signature,
    chain,
    chord,
    chunks,
    group,
    maybe_signature,
    signature,
    subtask,
    waiting_ids,
    xmap,
    xstarmap,
)
from celeriac.execution.call import Context
from celeriac.result import AsyncResult, GroupResult
from celeriac.wire import protocol
from celeriac.wire.json import dumps
from celeriac.wire.message import Message
from celeriac.wire.protocol import Call

names = itertools.count()
ACCEPT = frozenset({"application/json"})


@pytest.fixture
def app() -> Iterator[Celeriac]:
    name = f"canvas-{next(names)}"
    made = Celeriac(name, broker=f"memory://{name}", backend=f"memory://{name}", set_as_current=False)

    @made.task(name="add")
    def add(x: int, y: int = 0) -> int:
        return x + y

    @made.task(name="total")
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    @made.task(name="fail")
    def fail(*args: Any) -> None:
        raise ValueError("fail")

    made.finalize()
    yield made
    made.close()


@pytest.fixture
def add(app: Celeriac) -> Any:
    return app.tasks["add"]


@pytest.fixture
def total(app: Celeriac) -> Any:
    return app.tasks["total"]


def sent(app: Celeriac, queue: str = "celery") -> list[Call]:
    """The calls that wait in the queue, in the order they were sent; the queue is empty afterwards."""
    messages = app.broker.browse(queue, 10_000)
    app.broker.purge(queue)
    assert all(isinstance(message, Message) for message in messages)
    return [protocol.read(message, ACCEPT) for message in messages if isinstance(message, Message)]


def plain(value: Any) -> Any:
    """What a peer reads of `value`."""
    return json.loads(dumps(value))


class TestSignature:
    def test_its_shape_is_the_wires(self, add: Any) -> None:
        assert plain(add.s(1, y=2).set(queue="q")) == {
            "task": "add",
            "args": [1],
            "kwargs": {"y": 2},
            "options": {"queue": "q"},
            "subtask_type": None,
            "immutable": False,
        }

    def test_from_task_name_dict_and_signature(self, add: Any) -> None:
        for made in (
            signature(add, args=(1,), countdown=2),
            signature("add", (1,), None, {"countdown": 2}),
            signature({"task": "add", "args": [1], "options": {"countdown": 2}}),
            signature(add.s(1).set(countdown=2)),
            subtask("add", args=[1], countdown=2),
            Signature("add", (1,), countdown=2),
        ):
            assert made == signature("add", (1,), countdown=2)
            assert made.args == (1,)

    def test_maybe_signature(self, app: Celeriac, add: Any) -> None:
        assert maybe_signature(None) is None
        assert maybe_signature(3) == 3
        sig = add.s(1)
        assert maybe_signature(sig) is sig
        assert maybe_signature(sig, clone=True) is not sig
        made = maybe_signature(dict(sig), app)
        assert made == sig
        assert made.app is app

    @pytest.mark.parametrize(
        "bad",
        [
            {},
            {"task": 1},
            {"task": "t", "args": "abc"},
            {"task": "t", "kwargs": [1]},
            {"task": "t", "options": 1},
            {"task": "t", "subtask_type": "bomb"},
            {"task": "t", "subtask_type": ["chain"]},
            {"task": "celery.group", "subtask_type": "group", "kwargs": {"tasks": "abc"}},
            {"task": "celery.chain", "subtask_type": "chain", "kwargs": {"tasks": [1]}},
            {"task": "celery.chord", "subtask_type": "chord", "kwargs": {"header": 1}},
            {"task": "celery.map", "subtask_type": "xmap", "kwargs": {"task": "t", "it": []}},
            {
                "task": "celery.chunks",
                "subtask_type": "chunks",
                "kwargs": {"task": {"task": "t"}, "it": [], "n": "1"},
            },
        ],
    )
    def test_what_is_no_signature(self, bad: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=r"not a signature|not a kind|not a (group|chain|chord|canvas)"):
            maybe_signature(bad)

    def test_partial_arguments_come_first(self, app: Celeriac, add: Any) -> None:
        result = add.s(2).apply_async((1,))
        assert isinstance(result, AsyncResult)
        add.s(y=8).apply_async((1,), {"y": 9})
        first, second = sent(app)
        assert (first.name, first.args, first.kwargs, first.id) == ("add", [1, 2], {}, result.id)
        assert (second.args, second.kwargs) == ([1], {"y": 9})

    def test_an_immutable_one_drops_what_comes(self, app: Celeriac, add: Any) -> None:
        add.si(1, 2).delay(7, z=8)
        add.s(1).set(immutable=True).delay(7)
        assert [(call.args, call.kwargs) for call in sent(app)] == [([1, 2], {}), ([1], {})]

    def test_options_of_the_call_overrule_its_own(self, app: Celeriac, add: Any) -> None:
        sig = add.s(1, 2).set(queue="a")
        sig.apply_async(queue="b")
        sig.delay()
        assert (len(sent(app, "a")), len(sent(app, "b"))) == (1, 1)
        assert sig.options == {"queue": "a"}

    def test_unknown_tasks_are_sent_by_name(self, app: Celeriac) -> None:
        app.signature("elsewhere", (1,)).delay()
        assert sent(app)[0].name == "elsewhere"

    def test_calling_and_applying_run_it_here(self, add: Any) -> None:
        assert add.s(2)(1) == 3
        assert add.s(2).apply((1,)).get() == 3

    def test_clone_and_replace_leave_it_alone(self, add: Any) -> None:
        sig = add.s(2).set(link=add.s(5))
        other = sig.clone((1,), {"y": 3}, queue="q")
        assert (other.args, other.kwargs, other.options["queue"]) == ((1, 2), {"y": 3}, "q")
        other.link(add.s(6))
        assert sig.options == {"link": add.s(5)}
        assert sig.replace(args=(9,)).args == (9,)
        assert sig.replace(options={}).options == {}
        assert copy.deepcopy(sig) == sig
        assert pickle.loads(pickle.dumps(sig)) == sig
        assert isinstance(pickle.loads(pickle.dumps(add.s(1) | add.s(2))), chain)

    def test_freeze_fixes_the_id(self, app: Celeriac, add: Any) -> None:
        sig = add.s(1, 2)
        result = sig.freeze()
        assert sig.id == result.id
        assert sig.delay().id == result.id
        assert sent(app)[0].id == result.id
        assert add.s(1, 2).freeze("mine").id == "mine"

    def test_links(self, app: Celeriac, add: Any) -> None:
        sig = add.s(1, 2)
        assert sig.link(add.s(10)) == add.s(10)
        sig.link(add.s(10))
        sig.link(add.si(1, 1))
        assert sig.on_error(app.tasks["fail"].s()) is sig
        sig.delay()
        (call,) = sent(app)
        assert call.callbacks == [plain(add.s(10)), plain(add.si(1, 1))]
        assert call.errbacks == [plain(app.tasks["fail"].s())]
        assert sig.flatten_links() == [sig, add.s(10), add.si(1, 1)]

    def test_stamps(self, app: Celeriac, add: Any) -> None:
        sig = add.s(1, 2)
        sig.stamp(batch="b1")
        sig.stamp(append_stamps=True, batch="b2", who="me")
        sig.delay()
        (call,) = sent(app)
        assert call.headers["stamped_headers"] == ["batch", "who"]
        assert call.headers["stamps"] == {"batch": ["b2", "b1"], "who": "me"}

    def test_text(self, add: Any) -> None:
        assert repr(add.s(1, y=2)) == "add(1, y=2)"
        assert repr(add.s(1, 2) | add.s(4)) == "add(1, 2) | add(4)"
        assert repr(group(add.s(1))) == "group([add(1)])"
        assert repr(group()) == "group(<empty>)"
        assert repr(xmap(add, [1])) == "[add(x) for x in [1]]"


class TestChain:
    def test_the_first_step_carries_the_others_in_reverse(self, app: Celeriac, add: Any) -> None:
        result = (add.s(1, 2) | add.s(3) | add.s(4)).delay()
        (call,) = sent(app)
        assert (call.args, call.id, call.root_id, call.parent_id) == (
            [1, 2],
            result.parent.parent.id,
            call.id,
            None,
        )

        def step(n: int, task_id: str) -> dict[str, Any]:
            options = {"task_id": task_id, "reply_to": call.reply_to}
            return {**plain(add.s(n)), "options": options}

        assert call.chain == [step(4, result.id), step(3, result.parent.id)]
        assert (call.callbacks, call.errbacks, call.chord) == (None, None, None)

    def test_all_ways_to_write_one(self, add: Any) -> None:
        a, b, c = add.s(1), add.s(2), add.s(3)
        for made in (
            a | b | c,
            a | (b | c),
            chain(a, b, c),
            chain([a, b, c]),
            chain(sig for sig in (a, b, c)),
            chain(chain(a, b), chain(c)),
            chain(a, group(b), c),
            maybe_signature(plain(a | b | c)),
        ):
            assert isinstance(made, chain)
            assert made.tasks == [a, b, c]
        assert plain(a | b) == {
            "task": "celery.chain",
            "args": [],
            "kwargs": {"tasks": [plain(a), plain(b)]},
            "options": {},
            "subtask_type": "chain",
            "immutable": False,
        }
        with pytest.raises(TypeError):
            a | 3

    def test_arguments_and_options_go_to_the_first_step(self, app: Celeriac, add: Any) -> None:
        (add.s(1) | add.s(2)).apply_async((9,), queue="q")
        (call,) = sent(app, "q")
        assert call.args == [9, 1]
        assert call.chain is not None
        assert call.chain[0]["args"] == [2]
        assert "queue" not in call.chain[0]["options"]

    def test_sending_it_twice_makes_new_ids(self, app: Celeriac, add: Any) -> None:
        both = add.s(1, 1) | add.s(2)
        assert both.delay().id != both.delay().id
        first, second = sent(app)
        assert first.id != second.id

    def test_freeze(self, app: Celeriac, add: Any) -> None:
        both = add.s(1, 1) | add.s(2)
        result = both.freeze("last")
        assert result.id == "last" == both.id == both.tasks[1].id
        assert result.parent.id == both.tasks[0].id
        assert both.delay() == result
        assert sent(app)[0].id == result.parent.id

    def test_the_id_given_is_the_last_steps(self, app: Celeriac, add: Any) -> None:
        assert (add.s(1, 1) | add.s(2)).apply_async(task_id="x").id == "x"
        assert sent(app)[0].chain[0]["options"]["task_id"] == "x"  # type: ignore[index]

    def test_run_takes_what_celerys_does_in_its_order(self, app: Celeriac, add: Any) -> None:
        result = (add.s(1, 1) | add.s(2)).run((), {}, "g", None, "x", add.s(7), add.si(8))
        assert result.id == "x"
        (call,) = sent(app)
        assert call.errbacks == [plain(add.si(8))]
        assert call.chain is not None
        last = call.chain[0]["options"]
        assert (last["task_id"], last["group_id"], last["link"]) == ("x", "g", [plain(add.s(7))])

    def test_links_belong_to_the_last_step_and_error_links_to_all(self, app: Celeriac, add: Any) -> None:
        steps = add.s(1, 1) | add.s(2)
        steps.link(add.s(5))
        steps.link_error(add.si(6))
        steps.apply_async(link=add.s(7), link_error=add.si(8))
        (call,) = sent(app)
        assert call.callbacks is None
        assert call.chain is not None
        assert [link["args"] for link in call.chain[0]["options"]["link"]] == [[5], [7]]
        for errbacks in (call.errbacks, call.chain[0]["options"]["link_error"]):
            assert [link["args"] for link in errbacks] == [[6], [8]]

    def test_links_of_an_inner_chain_stay_with_it(self, app: Celeriac, add: Any) -> None:
        inner = chain(add.s(1, 1), add.s(2), link=[add.s(5)])
        (inner | add.s(3)).delay()
        chain_of = sent(app)[0].chain
        assert chain_of is not None
        assert [link["args"] for link in chain_of[1]["options"]["link"]] == [[5]]
        assert "link" not in chain_of[0]["options"]

    def test_a_chain_that_goes_on_elsewhere(self, app: Celeriac, add: Any) -> None:
        outer = [dict(add.s(9))]
        (sending,) = (add.s(1, 1) | add.s(2)).sendings(chain=outer)
        assert [step["args"] for step in plain(sending.options["chain"])] == [[9], [2]]

    def test_it_may_end_in_a_group(self, app: Celeriac, add: Any) -> None:
        result = (add.s(1, 1) | group(add.s(2), add.s(3))).delay()
        assert isinstance(result, GroupResult)
        (call,) = sent(app)
        assert call.chain is not None
        last = maybe_signature(call.chain[0], app)
        sendings = last.sendings((2,), root_id=call.root_id, parent_id=call.id, chain=[])
        assert [one.args for one in sendings] == [(2, 2), (2, 3)]
        assert [one.options["task_id"] for one in sendings] == [one.id for one in result]
        assert {one.options["group_id"] for one in sendings} == {result.id}
        assert {one.options["root_id"] for one in sendings} == {call.root_id}

    def test_the_ids_that_wait_in_a_message(self, app: Celeriac, add: Any, total: Any) -> None:
        steps = chain(add.s(1, 1), add.s(2), group(add.s(3), add.s(4)))
        result = steps.delay()
        (call,) = sent(app)
        assert set(waiting_ids(call.chain)) == {result.parent.id, *(one.id for one in result)}
        made = group(add.s(1), add.s(2)) | total.s()
        body = made.freeze()
        assert set(waiting_ids([plain(made)])) == {body.id, *(one.id for one in body.parent)}
        assert waiting_ids(None) == waiting_ids([1, {}, {"options": 3}, {"task": "t"}]) == []  # type: ignore[list-item]

    def test_one_step_and_none(self, app: Celeriac, add: Any) -> None:
        assert chain(add.s(1, 1)).delay().id == sent(app)[0].id
        assert chain().apply_async() is None
        assert chain().sendings() == []

    def test_eager(self, app: Celeriac, add: Any) -> None:
        steps = add.s(1, 2) | add.s(3) | add.s(4)
        result = steps.apply()
        assert (result.get(), result.parent.get(), result.parent.parent.get()) == (10, 6, 3)
        app.conf.task_always_eager = True
        assert steps.delay().get() == 10
        assert sent(app) == []

    def test_stamps_reach_every_step(self, app: Celeriac, add: Any) -> None:
        steps = add.s(1, 2) | add.s(3)
        steps.stamp(monitoring_id="m-1")
        steps.delay()
        (call,) = sent(app)
        assert call.headers["stamps"] == {"monitoring_id": "m-1"}
        assert call.chain is not None
        options = call.chain[0]["options"]
        assert (options["stamped_headers"], options["monitoring_id"]) == (["monitoring_id"], "m-1")


class TestGroup:
    def test_members_are_sent_in_one_batch(
        self, app: Celeriac, add: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        batches: list[int] = []
        publish = app.broker.publish
        monkeypatch.setattr(
            app.broker, "publish", lambda batch, **more: (batches.append(len(batch)), publish(batch, **more))
        )
        result = group(add.s(n, n) for n in range(3)).delay()
        assert batches == [3]
        calls = sent(app)
        assert [call.args for call in calls] == [[0, 0], [1, 1], [2, 2]]
        assert [call.id for call in calls] == [one.id for one in result]
        assert [(call.group, call.group_index) for call in calls] == [(result.id, n) for n in range(3)]
        assert [call.root_id for call in calls] == [call.id for call in calls]
        assert isinstance(result, GroupResult)

    def test_partial_arguments_and_options_are_for_all(self, app: Celeriac, add: Any) -> None:
        group([add.s(1), add.s(2), add.si(3, 4)]).apply_async((9,), queue="q")
        assert [call.args for call in sent(app, "q")] == [[9, 1], [9, 2], [3, 4]]

    def test_groups_in_groups_are_one(self, app: Celeriac, add: Any) -> None:
        result = group(add.s(1, 1), group(add.s(2, 2), group(add.s(3, 3)), queue="q")).delay()
        assert len(result) == 3
        assert [call.group_index for call in sent(app, "q")] == [1, 2]
        assert [call.group_index for call in sent(app)] == [0]

    def test_chains_and_chunks_as_members(self, app: Celeriac, add: Any) -> None:
        result = group(add.s(1, 1) | add.s(2), add.chunks([(1, 1), (2, 2)], 1), add.s(5, 5)).delay()
        first, second, third, last = sent(app)
        assert (first.args, second.name, third.name, last.args) == (
            [1, 1],
            "celery.starmap",
            "celery.starmap",
            [5, 5],
        )
        assert first.chain is not None
        end = first.chain[0]["options"]
        assert (end["task_id"], end["group_id"], end["group_index"]) == (result[0].id, result.id, 0)
        assert (first.group, last.group, last.group_index) == (None, result.id, 3)

    def test_frozen_ids_stay(self, app: Celeriac, add: Any) -> None:
        both = group(add.s(1, 1), add.s(2, 2))
        frozen = both.freeze()
        assert both.delay() == frozen
        assert [call.id for call in sent(app)] == [one.id for one in frozen]

    def test_inside_a_task_it_becomes_a_child(self, app: Celeriac, add: Any) -> None:
        request = Context(id="outer", root_id="root")
        request.called_directly = False
        token = _state.running.set((add, request))
        try:
            result = group(add.s(1, 1)).delay()
            add.s(2, 2).delay()
        finally:
            _state.running.reset(token)
        one, other = sent(app)
        assert (one.root_id, one.parent_id, other.parent_id) == ("root", "outer", "outer")
        assert request.children == [result, other.id]

    def test_links(self, app: Celeriac, add: Any) -> None:
        both = group(add.s(1, 1), add.s(2, 2))
        both.link(add.s(5))
        both.link_error(add.s(6))
        both.delay()
        first, second = sent(app)
        assert [link["immutable"] for link in first.callbacks or []] == [True]
        assert second.callbacks is None
        assert first.errbacks == second.errbacks == [plain(add.s(6))]
        for option in ("link", "link_error"):
            with pytest.raises(TypeError, match="group cannot"):
                both.apply_async(**{option: add.s(1)})

    def test_skew(self, add: Any) -> None:
        skewed = group(add.s(n) for n in range(5)).skew(start=1, stop=3)
        assert [sig.options["countdown"] for sig in skewed.tasks] == [1, 2, 1, 2, 1]

    def test_an_empty_one(self, app: Celeriac) -> None:
        with app:
            app.set_current()
            assert len(group().apply_async()) == 0

    def test_eager(self, app: Celeriac, add: Any) -> None:
        assert group(add.s(1), add.s(2)).apply((3,)).get() == [4, 5]
        app.conf.task_always_eager = True
        assert group(add.s(1), add.s(2)).delay(3).get() == [4, 5]

    def test_from_its_dict(self, app: Celeriac, add: Any) -> None:
        both = group(add.s(1), add.s(2), queue="q")
        made = maybe_signature(plain(both), app)
        assert isinstance(made, group)
        assert made == both

    def test_unknown_tasks_are_sent_by_name(self, app: Celeriac, add: Any) -> None:
        assert len(group(add.s(1, 1), app.signature("elsewhere")).delay()) == 2
        assert [call.name for call in sent(app)] == ["add", "elsewhere"]

    def test_wrong_arguments_of_any_member_send_nothing(self, app: Celeriac, add: Any) -> None:
        for wrong in (add.s(), add.s(1, 2, 3), add.s(1, z=1)):
            with pytest.raises(TypeError, match="nothing was sent"):
                group(add.s(1, 1), wrong).delay()
        assert sent(app) == []

    def test_a_task_that_sends_itself_does(self, app: Celeriac, add: Any) -> None:
        class Tagged(app.Task):  # type: ignore[name-defined,misc]
            def apply_async(self, *args: Any, **options: Any) -> Any:
                return super().apply_async(*args, **options, headers={"tag": "t"})

        @app.task(name="tagged", base=Tagged)
        def tagged(x: int) -> int:
            return x

        result = group(tagged.s(1), add.s(1, 1)).delay()
        calls = {call.id: call for call in sent(app)}
        assert calls[result[0].id].headers["tag"] == "t"
        assert calls[result[0].id].group == calls[result[1].id].group == result.id


class TestChord:
    def test_sending_changes_nothing(self, app: Celeriac, add: Any, total: Any) -> None:
        members = [add.s(1), group(add.s(2), add.s(3)), add.s(4) | add.s(5), chord([add.s(6)], total.s())]
        canvas = chord(members, total.s().set(queue="q"))
        before = copy.deepcopy(plain(canvas))
        first, second = canvas.apply_async(link=add.s(1)), canvas.apply_async(queue="other")
        assert plain(canvas) == before
        assert first.id != second.id
        ids = {child.id for result in (first, second) for child in result.parent.results}
        assert len(ids) == 2 * 5

    def test_a_group_with_something_after_it_is_one(self, add: Any, total: Any) -> None:
        made = group(add.s(1, 1), add.s(2, 2)) | total.s()
        assert isinstance(made, chord)
        assert made == chord([add.s(1, 1), add.s(2, 2)], total.s())
        longer = made | add.s(1)
        assert isinstance(longer, chord)
        assert longer.body == (total.s() | add.s(1))
        steps = chain(add.s(0, 1), group(add.s(1), add.s(2)), total.s(), add.s(1))
        assert isinstance(steps.tasks[1], chord)
        assert len(steps) == 2
        assert maybe_signature(plain(made)) == made

    def test_eager(self, app: Celeriac, add: Any, total: Any) -> None:
        made = group(add.s(1), add.s(2)) | total.s()
        assert made.apply((1,)).get() == 5
        app.conf.task_always_eager = True
        assert chord([add.s(1, 1), add.s(2, 2)])(total.s()).get() == 6
        assert (add.s(1, 1) | group(add.s(1), add.s(2)) | total.s() | add.s(1)).delay().get() == 8

    def test_the_id_given_is_the_bodys(self, app: Celeriac, add: Any, total: Any) -> None:
        made = chord([add.s(1, 1), add.s(2, 2)], total.s())
        assert made.apply_async((), {}, "x").id == made.apply_async(task_id="x").id == "x"
        again = made.run(made.header, made.body, (), app, None, 1, None, False, "y")
        assert (again.id, len(sent(app))) == ("y", 6)

    def test_freeze_links_body_to_header(self, add: Any, total: Any) -> None:
        made = group(add.s(1, 1), add.s(2, 2)) | (total.s() | add.s(1))
        result = made.freeze("body")
        assert result.id == "body"
        assert result.parent.parent == made.header.freeze()

    def test_links_belong_to_the_body(self, app: Celeriac, add: Any, total: Any) -> None:
        made = chord([add.s(1, 1), add.s(2, 2)], total.s())
        made.link(add.s(1))
        made.link_error(add.s(2))
        assert set(made.body.options) == {"link", "link_error"}
        assert made.tasks[0].options == {}
        app.conf.task_allow_error_cb_on_chord_header = True
        made.link_error(add.s(3))
        assert made.tasks[0].options["link_error"] == [add.s(3)]


class TestMaps:
    def test_shapes(self, app: Celeriac, add: Any, total: Any) -> None:
        total.map([[1, 2], [3]]).delay()
        add.starmap([(1, 2), (3, 4)]).delay()
        one, other = sent(app)
        inner = {"args": [], "kwargs": {}, "options": {}, "subtask_type": None, "immutable": False}
        assert (one.name, one.args) == ("celery.map", [])
        assert one.kwargs == {"task": {"task": "total", **inner}, "it": [[1, 2], [3]]}
        assert other.name == "celery.starmap"
        assert other.kwargs == {"task": {"task": "add", **inner}, "it": [[1, 2], [3, 4]]}

    def test_eager(self, add: Any, total: Any) -> None:
        assert total.map([[1, 2], [3]]).apply().get() == [3, 3]
        assert add.starmap((n, n) for n in range(3)).apply().get() == [0, 2, 4]
        assert add.chunks([(n, n) for n in range(5)], 2).apply().get() == [[0, 2], [4, 6], [8]]

    def test_chunks(self, app: Celeriac, add: Any) -> None:
        parts = add.chunks(((n, n) for n in range(5)), 2)
        assert isinstance(parts, chunks)
        result = parts.apply_async(queue="q")
        calls = sent(app, "q")
        assert [call.kwargs["it"] for call in calls] == [[[0, 0], [1, 1]], [[2, 2], [3, 3]], [[4, 4]]]
        assert [(call.name, call.group, call.group_index) for call in calls] == [
            ("celery.starmap", result.id, n) for n in range(3)
        ]
        assert len(parts.group().tasks) == 3
        with pytest.raises(ValueError, match="at least one"):
            add.chunks([], 0)

    @pytest.mark.parametrize("kind", [xmap, xstarmap])
    def test_from_dicts(self, app: Celeriac, add: Any, kind: Any) -> None:
        made = kind(add.s(), [1, 2], app=app).set(queue="q")
        assert maybe_signature(plain(made), app) == made
        assert type(maybe_signature(plain(made), app)) is kind
        again = maybe_signature(plain(add.chunks([(1, 1)], 3)), app)
        assert isinstance(again, chunks)
        assert len(again.group()) == 1
