"""From a function to a task: names, options, lazy registration, sharing."""

from __future__ import annotations

import copy
import inspect
import pickle
import threading
from typing import Any

import pytest

from celeriac import Celeriac, Task, current_app, current_task, shared_task
from celeriac.exceptions import DuplicateTaskNameWarning, InvalidTaskError, NotRegistered
from celeriac.signals import task_prerun


def test_a_task_is_named_after_module_and_function(app: Celeriac) -> None:
    @app.task
    def add(x: int, y: int) -> int:
        """Sum."""
        return x + y

    assert add.name == f"{__name__}.add"
    assert add.__name__ == "add"
    assert add.__doc__ == "Sum."
    assert add(2, 3) == 5
    assert repr(add) == f"<@task: {__name__}.add of proj>"


def test_the_apps_name_stands_for_the_script(app: Celeriac) -> None:
    assert app.gen_task_name("add", "__main__") == "proj.add"
    assert app.gen_task_name("add", "some.module") == "some.module.add"


def test_gen_task_name_may_be_overridden() -> None:
    class Shouting(Celeriac):
        def gen_task_name(self, name: str, module: str | None) -> str:
            return name.upper()

    app = Shouting("proj", broker="memory://")

    @app.task
    def add() -> None: ...

    assert add.name == "ADD"


def test_options_become_attributes(app: Celeriac) -> None:
    @app.task(name="x", bind=True, max_retries=7, queue="q", colour="red")
    def probe(self: Any, n: int) -> tuple[Any, int]:
        return self, n

    assert (probe.name, probe.max_retries) == ("x", 7)
    assert probe.colour == "red"  # type: ignore[attr-defined]
    assert probe(1) == (probe, 1)
    assert list(inspect.signature(probe).parameters) == ["n"]


def test_what_is_not_set_comes_from_the_settings(app: Celeriac) -> None:
    @app.task(time_limit=5)
    def one() -> None: ...

    @app.task
    def two() -> None: ...

    app.conf.update(task_time_limit=30, task_soft_time_limit=20, task_serializer="pickle")
    assert two.time_limit == 30  # before it is bound, too
    app.finalize()
    assert (one.time_limit, one.soft_time_limit, one.serializer) == (5, 20, "pickle")
    assert (two.time_limit, two.acks_late, two.ignore_result) == (30, True, False)
    assert Task.time_limit is None


def test_tasks_wait_for_finalisation_and_then_register_at_once(app: Celeriac) -> None:
    @app.task(name="early")
    def early() -> None: ...

    assert not app.finalized
    assert "early" in app.tasks
    assert app.finalized

    @app.task(name="late")
    def late() -> None: ...

    assert app.tasks["late"] is late
    with pytest.raises(NotRegistered, match="nothing"):
        app.tasks["nothing"]


def test_autofinalize_off_wants_an_explicit_word() -> None:
    app = Celeriac("proj", broker="memory://", autofinalize=False)

    @app.task
    def add() -> None: ...

    with pytest.raises(RuntimeError, match="finalize"):
        add.delay()
    app.finalize()
    assert add.delay().id


def test_two_functions_of_one_name_warn_and_the_first_stays(app: Celeriac) -> None:
    @app.task(name="same")
    def one() -> int:
        return 1

    with pytest.warns(DuplicateTaskNameWarning, match="'same'"):

        @app.task(name="same")
        def two() -> int:
            return 2

    assert two() == 1


def test_decorating_the_same_function_again_is_silent(app: Celeriac) -> None:
    def add() -> None: ...

    assert app.task(add) is app.task(add)


def test_the_decorator_says_what_it_was_given() -> None:
    app = Celeriac("proj", broker="memory://")
    with pytest.raises(TypeError, match="takes a function, not 'name'"):
        app.task("name")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="not 2 arguments"):
        app.task(print, print)  # type: ignore[call-overload]


def test_filter_decides_what_the_name_is_bound_to(app: Celeriac) -> None:
    @app.task(filter=lambda task: ("filtered", task.name), name="x")
    def probe() -> None: ...

    assert probe == ("filtered", "x")
    assert "x" in app.tasks


def test_tasks_that_are_classes(app: Celeriac) -> None:
    class Add(Task[[int, int], int]):
        name = "class.add"

        def run(self, x: int, y: int) -> int:
            return x + y

    class Nameless(Task[[], None]):
        def run(self) -> None: ...

    add = app.register_task(Add())
    assert app.tasks["class.add"] is add
    assert add(1, 2) == 3
    assert app.register_task(Nameless).name == f"{__name__}.Nameless"
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'y'"):
        add.delay(1)


def test_base_classes_keep_their_own_call(app: Celeriac) -> None:
    entered = []

    class Base(Task[..., Any]):
        abstract = True

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            entered.append(self.name)
            return super().__call__(*args, **kwargs)

    @app.task(base=Base, name="x")
    def probe(n: int) -> int:
        return n

    assert isinstance(probe, Base)
    assert probe(3) == 3
    assert probe.apply((4,)).get() == 4
    assert entered == ["x", "x"]


def test_the_apps_task_class_may_be_replaced(app: Celeriac) -> None:
    @app.task
    def before() -> None: ...

    class ContextTask(app.Task):  # type: ignore[name-defined, misc]
        pass

    app.Task = ContextTask

    @app.task
    def after() -> None: ...

    assert isinstance(before, ContextTask)
    assert isinstance(after, ContextTask)


def test_task_cls_is_the_base_of_shared_tasks_too() -> None:
    class Base(Task[..., Any]): ...

    @shared_task(name="shared.one")
    def one() -> None: ...

    app = Celeriac("proj", broker="memory://", task_cls=Base)
    assert isinstance(app.tasks["shared.one"], Base)


def test_a_shared_task_is_the_current_apps() -> None:
    @shared_task(bind=True, name="shared.whose")
    def whose(self: Any) -> Any:
        return self.app

    first = Celeriac("first", broker="memory://first")
    assert whose() is first
    second = Celeriac("second", broker="memory://second")
    assert whose() is second
    first.set_current()
    assert whose() is first
    assert whose.app is first
    assert isinstance(whose, Task)
    assert whose.apply().get() is first


def test_shared_tasks_join_apps_that_are_finalised_already(app: Celeriac) -> None:
    app.finalize()

    @shared_task(name="shared.later")
    def later() -> None: ...

    assert app.tasks["shared.later"].name == later.name


def test_tasks_are_shared_with_other_apps_unless_they_say_no(app: Celeriac) -> None:
    @app.task(name="given")
    def given() -> None: ...

    @app.task(name="kept", shared=False)
    def kept() -> None: ...

    other = Celeriac("other", broker="memory://")
    assert "given" in other.tasks
    assert other.tasks["given"] is not given
    assert "kept" not in other.tasks


def test_signals_know_a_shared_task_by_its_declaration(app: Celeriac) -> None:
    seen = []

    @shared_task(name="shared.seen")
    def probe() -> None: ...

    @task_prerun.connect(sender=probe)
    def receive(task: Any, **named: Any) -> None:
        seen.append(task.name)

    @app.task(name="another")
    def another() -> None: ...

    probe.apply()
    another.apply()
    assert seen == ["shared.seen"]
    task_prerun.disconnect(receive, sender=probe)


def test_current_app_and_current_task(app: Celeriac) -> None:
    @app.task
    def probe() -> tuple[Any, Any]:
        return current_task.name, current_app.main

    assert probe.apply().get() == (probe.name, "proj")
    assert not current_task


def test_tasks_are_pickled_and_copied_by_name(app: Celeriac) -> None:
    @app.task
    def add() -> None: ...

    assert pickle.loads(pickle.dumps(add)) is add
    assert copy.deepcopy(add) is add


def test_a_task_class_without_name_cannot_be_registered_directly(app: Celeriac) -> None:
    class Nameless(Task[[], None]): ...

    with pytest.raises(InvalidTaskError, match="has no name"):
        app.tasks.register(Nameless)


def test_registry_unregisters_and_filters(app: Celeriac) -> None:
    @app.task(name="x")
    def probe() -> None: ...

    assert "x" in app.tasks.regular()
    assert app.tasks.periodic() == {}
    app.tasks.unregister(probe)
    with pytest.raises(NotRegistered):
        app.tasks.unregister("x")


def test_annotations_change_tasks(app: Celeriac) -> None:
    def doubled(run: Any) -> Any:
        return lambda *args: 2 * run(*args)

    @app.task(name="x")
    def probe(n: int) -> int:
        return n

    app.conf.task_annotations = [
        {"*": {"max_retries": 9}},
        {"x": {"@__call__": doubled, "rate_limit": "1/s"}},
    ]
    app.finalize()
    assert (probe.max_retries, probe.rate_limit, probe(3)) == (9, "1/s", 6)


def test_finalising_from_many_threads_happens_once() -> None:
    app = Celeriac("proj", broker="memory://")
    times = []
    app.on_after_finalize.connect(lambda sender, **named: times.append(sender), weak=False)

    @app.task(name="x")
    def probe() -> None: ...

    barrier = threading.Barrier(8)

    def use() -> None:
        barrier.wait()
        assert "x" in app.tasks

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert times == [app]
