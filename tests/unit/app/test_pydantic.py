"""Models as arguments and results of tasks."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError
from tests.unit.app.conftest import Sent

from celeriac import Celeriac
from celeriac.exceptions import ImproperlyConfigured


class Item(BaseModel):
    name: str
    size: int = 1


class Order(BaseModel):
    items: list[Item]


def test_models_travel_as_plain_values(app: Celeriac, sent: Sent) -> None:
    @app.task(pydantic=True)
    def probe(item: Item, *, more: list[Item] | None = None) -> Order:
        assert isinstance(item, Item)
        return Order(items=[item, *(more or [])])

    probe.delay(Item(name="a"), more=[Item(name="b", size=2)])
    call = sent.one()
    assert (call.args, call.kwargs) == (
        [{"name": "a", "size": 1}],
        {"more": [{"name": "b", "size": 2}]},
    )
    result = probe.apply(call.args, call.kwargs).get()
    assert result == {"items": [{"name": "a", "size": 1}, {"name": "b", "size": 2}]}
    probe.apply_many([(Item(name="c"),)])
    probe.s(Item(name="d")).apply_async()
    assert [call.args[0]["name"] for call in sent.calls()] == ["a", "c", "d"]


@pytest.mark.parametrize("value", [{"a": {"name": "x"}}, {"a": Item(name="x")}])
def test_models_anywhere_in_an_annotation(app: Celeriac, value: Any) -> None:
    @app.task(pydantic=True)
    def probe(items: dict[str, Item], number: int) -> Any:
        assert isinstance(items["a"], Item)
        return [items, number]

    assert probe.apply((value, "3")).get() == [{"a": {"name": "x", "size": 1}}, "3"]


def test_optional_models_may_be_none(app: Celeriac) -> None:
    @app.task(pydantic=True, bind=True)
    def probe(self: Any, item: Item | None = None) -> Any:
        return item

    assert probe.apply((None,)).get() is None
    assert probe.apply(({"name": "x"},)).get() == {"name": "x", "size": 1}
    assert probe.apply().get() is None


def test_wrong_values_fail_the_task(app: Celeriac) -> None:
    @app.task(pydantic=True)
    def probe(item: Item) -> None: ...

    result = probe.apply(({"size": "many"},))
    assert result.state == "FAILURE"
    assert isinstance(result.result, ValidationError)


def test_strictness_context_and_dumping_are_options(app: Celeriac, sent: Sent) -> None:
    contexts = []

    class Watching(BaseModel):
        n: int

        def model_post_init(self, context: Any) -> None:
            contexts.append(context)

    globals()["Watching"] = Watching

    @app.task(
        pydantic=True,
        pydantic_strict=True,
        pydantic_context={"who": "me"},
        pydantic_dump_kwargs={"exclude": {"size"}},
    )
    def probe(item: Item, watching: Watching | None = None) -> Item:
        return item

    assert isinstance(probe.apply(({"name": "x", "size": "2"},)).result, ValidationError)
    assert probe.apply(({"name": "x", "size": 2}, {"n": 1})).get() == {"name": "x"}
    assert contexts == [{"who": "me"}]
    probe.delay(Item(name="x"))
    assert sent.one().args == [{"name": "x"}]


async def test_coroutines(app: Celeriac) -> None:
    @app.task(pydantic=True)
    async def probe(item: Item) -> Item:
        return item

    assert await probe(Item(name="x")) == {"name": "x", "size": 1}  # type: ignore[comparison-overlap]


def test_annotations_that_cannot_be_evaluated_are_explained(app: Celeriac) -> None:
    @app.task(pydantic=True)
    def probe(item: NotDefinedAnywhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    result = probe.apply((1,))
    assert isinstance(result.result, ImproperlyConfigured)
    assert "TYPE_CHECKING" in str(result.result)


def test_calls_are_checked_before_anything_is_sent(app: Celeriac, sent: Sent) -> None:
    @app.task(pydantic=True, bind=True)
    def probe(self: Any, item: Item) -> None: ...

    with pytest.raises(TypeError, match="missing 1 required positional argument: 'item'"):
        probe.delay()
    assert sent.messages() == []
