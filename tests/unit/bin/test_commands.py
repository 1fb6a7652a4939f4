"""Commands that talk to a broker, on the one in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from celeriac import Celeriac
from celeriac.bin.context import CLIContext
from celeriac.bin.main import celeriac
from celeriac.brokers.base import DEAD, ConsumerSpec, Settlement, StoredResult
from celeriac.signals import user_preload_options
from celeriac.wire.results import encode_result


@pytest.fixture
def app(request: pytest.FixtureRequest) -> Iterator[Celeriac]:
    store = request.node.name
    with Celeriac("proj", broker=f"memory://{store}", backend=f"cache+memory://{store}") as app:

        @app.task(name="proj.add", shared=False)
        def add(x: int, y: int) -> int:
            return x + y

        yield app


def run(app: Any, *arguments: str, **options: Any) -> Result:
    return CliRunner().invoke(celeriac, list(arguments), obj=CLIContext(app), **options)


def bury(app: Celeriac, *reasons: str) -> list[str]:
    """Make one dead letter of each reason; return their ids."""
    for number in range(len(reasons)):
        app.send_task("proj.add", (number, 1))
    consumer = app.broker.consumer(ConsumerSpec("undertaker", ["celery"]))
    taken = consumer.exchange([], len(reasons)).deliveries
    consumer.exchange(
        [Settlement("celery", each.tag, DEAD, reason) for each, reason in zip(taken, reasons, strict=True)], 0
    )
    consumer.close()
    return [letter.id for letter in app.broker.dead("celery")]


def store(app: Celeriac, task_id: str, state: str, value: Any, traceback: str | None = None) -> None:
    document = encode_result(task_id, state, value, traceback=traceback)
    app.backend.store([StoredResult(task_id, document)])


class TestCall:
    def test_sends_the_task_and_prints_its_id(self, app: Celeriac) -> None:
        result = run(app, "call", "proj.add", "-a", "[1]", "-k", '{"y": 2}')
        assert result.exit_code == 0
        (message,) = app.broker.browse("celery", 10)
        assert message.headers["id"] == result.output.strip()  # type: ignore[union-attr]
        assert message.headers["task"] == "proj.add"  # type: ignore[union-attr]

    def test_routing_and_delay(self, app: Celeriac) -> None:
        assert run(app, "call", "proj.add", "--queue", "mail", "--countdown", "60").exit_code == 0
        (stats,) = app.broker.stats(["mail"])
        assert (stats.depth, stats.delayed) == (0, 1)

    def test_wait_that_is_too_short_says_where_to_look(self, app: Celeriac) -> None:
        result = run(app, "call", "proj.add", "--wait", "0.01")
        assert result.exit_code == 69
        assert "`celeriac queues` tells" in result.output


class TestResult:
    def test_prints_the_value(self, app: Celeriac) -> None:
        store(app, "abc", "SUCCESS", 42)
        assert run(app, "result", "abc").output == "42\n"

    def test_a_failed_task_ends_with_one(self, app: Celeriac) -> None:
        store(app, "abc", "FAILURE", ValueError("no"), traceback="Traceback of it")
        result = run(app, "result", "abc")
        assert result.exit_code == 1
        assert "ValueError('no')" in result.output
        assert "Traceback of it" in run(app, "result", "abc", "--traceback").output

    def test_gives_up_after_the_timeout(self, app: Celeriac) -> None:
        assert run(app, "result", "abc", "--timeout", "0.01").exit_code == 69


class TestQueues:
    def test_a_queue_with_work_and_without_a_worker_is_marked(self, app: Celeriac) -> None:
        app.send_task("proj.add", (1, 2))
        line = run(app, "queues").output.splitlines()[1]
        assert line.split()[:2] == ["celery", "1"]
        assert line.endswith("NO WORKER")

    def test_a_queue_that_is_taken_from_is_not(self, app: Celeriac) -> None:
        app.send_task("proj.add", (1, 2))
        app.broker.consumer(ConsumerSpec("w1", ["celery"]))
        assert "NO WORKER" not in run(app, "queues").output

    def test_json(self, app: Celeriac) -> None:
        app.send_task("proj.add", (1, 2), countdown=60)
        bury(app, "reason")
        (found,) = json.loads(run(app, "queues", "--json").output)
        assert found == {
            "queue": "celery",
            "depth": 0,
            "oldest_age": None,
            "in_flight": 0,
            "delayed": 1,
            "dead": 1,
            "consumers": 0,
            "unattended": True,
        }

    def test_chosen_queues(self, app: Celeriac) -> None:
        app.send_task("proj.add", (1, 2), queue="mail")
        found = json.loads(run(app, "queues", "--json", "-Q", "mail").output)
        assert [stats["queue"] for stats in found] == ["mail"]


class TestPurge:
    def test_drops_what_waits(self, app: Celeriac) -> None:
        for _ in range(3):
            app.send_task("proj.add", (1, 2))
        result = run(app, "purge", "--force")
        assert result.output == "Purged 3 messages from 1 queue.\n"
        assert app.broker.depth("celery") == 0
        assert run(app, "purge", "--force").output == "No messages purged from 1 queue.\n"

    def test_asks_first(self, app: Celeriac) -> None:
        app.send_task("proj.add", (1, 2))
        result = run(app, "purge", input="n\n")
        assert result.exit_code == 1
        assert "celery" in result.output
        assert app.broker.depth("celery") == 1

    def test_excluded_queues_stay(self, app: Celeriac) -> None:
        app.send_task("proj.add", (1, 2), queue="mail")
        assert run(app, "purge", "-f", "-Q", "celery,mail", "-X", "mail").exit_code == 0
        assert app.broker.depth("mail") == 1
        assert "all were excluded" in run(app, "purge", "-f", "-X", "celery,mail").output


class TestDead:
    def test_list(self, app: Celeriac) -> None:
        assert run(app, "dead", "list").output == "There are no dead letters.\n"
        bury(app, "crashed 3 times", "no such task\nsecond line")
        lines = run(app, "dead", "list").output.splitlines()
        assert "crashed 3 times" in lines[1]
        assert lines[2].endswith("no such task")
        assert all("proj.add" in line for line in lines[1:])

    def test_list_as_json(self, app: Celeriac) -> None:
        (letter,) = bury(app, "crashed")
        (found,) = json.loads(run(app, "dead", "list", "--json").output)
        assert (found["id"], found["reason"], found["task"]) == (letter, "crashed", "proj.add")

    def test_show(self, app: Celeriac) -> None:
        (letter,) = bury(app, "crashed")
        output = run(app, "dead", "show", letter).output
        assert "reason:   crashed" in output
        assert '"task": "proj.add"' in output
        assert "[[0, 1]" in output

    def test_reasons_cannot_drive_the_terminal(self, app: Celeriac) -> None:
        bury(app, "bad \x1b]0;title\x07")
        assert "\x1b" not in run(app, "dead", "list", color=True, env={"NO_COLOR": "1"}).output

    def test_show_an_id_that_is_not_there(self, app: Celeriac) -> None:
        result = run(app, "dead", "show", "nope")
        assert result.exit_code == 1
        assert "no dead letter 'nope'" in result.output

    def test_retry_by_id(self, app: Celeriac) -> None:
        first, second = bury(app, "a", "b")
        assert run(app, "dead", "retry", first).output == "1 sent again.\n"
        assert [letter.id for letter in app.broker.dead("celery")] == [second]
        assert app.broker.depth("celery") == 1

    def test_retry_all_takes_every_page(self, app: Celeriac, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("celeriac.bin.dead.PAGE", 2)
        bury(app, *"abcde")
        assert run(app, "dead", "retry", "--all").output == "5 sent again.\n"
        assert app.broker.depth("celery") == 5

    def test_drop_all_asks_first(self, app: Celeriac) -> None:
        bury(app, "a", "b")
        assert run(app, "dead", "drop", "--all", input="n\n").exit_code == 1
        assert run(app, "dead", "drop", "--all", "--force").output == "2 deleted.\n"
        assert app.broker.dead("celery") == []

    def test_ids_that_are_gone_are_counted(self, app: Celeriac) -> None:
        (letter,) = bury(app, "a")
        result = run(app, "dead", "drop", letter, "gone")
        assert result.exit_code == 0
        assert "1 of the 2 ids" in result.output
        assert run(app, "dead", "drop", "gone").exit_code == 1

    @pytest.mark.parametrize("arguments", [["retry"], ["retry", "--all", "x"], ["drop"]])
    def test_which_ones_has_to_be_said(self, app: Celeriac, arguments: list[str]) -> None:
        result = run(app, "dead", *arguments)
        assert result.exit_code == 2
        assert "say --all" in result.output


class TestListAndReport:
    def test_tasks_are_the_applications_own(self, app: Celeriac) -> None:
        names = run(app, "list", "tasks").output.splitlines()
        assert "proj.add" in names
        assert not any(name.startswith(("celery.", "celeriac.")) for name in names)

    def test_bindings(self, app: Celeriac) -> None:
        assert "celery(direct)" in run(app, "list", "bindings").output

    def test_report_hides_passwords(self) -> None:
        with Celeriac("proj", broker="redis://user:secret@localhost:1/0") as app:
            output = run(app, "report").output
        assert "celeriac:" in output
        assert "secret" not in output


class TestErrors:
    def test_a_broker_that_is_down(self) -> None:
        with Celeriac("proj", broker="redis://user:secret@127.0.0.1:1/0") as app:
            result = run(app, "queues")
        assert result.exit_code == 69
        assert "Traceback" not in result.output
        assert "secret" not in result.output
        assert "name another" in result.output

    def test_a_wrong_url(self) -> None:
        with Celeriac("proj", broker="rediss-typo://x") as app:
            result = run(app, "queues")
        assert result.exit_code == 1
        assert "Did you mean" in result.output


class TestUserOptions:
    def test_preload_options_reach_the_signal(self, app: Celeriac) -> None:
        app.user_options["preload"].add(click.Option(["--tenant"], help="Which tenant."))
        seen = []

        def receiver(options: dict[str, Any], **named: Any) -> None:
            seen.append((named["app"], options))

        user_preload_options.connect(receiver)
        try:
            assert run(app, "queues", "--tenant", "acme").exit_code == 0
        finally:
            user_preload_options.disconnect(receiver)
        assert seen == [(app, {"tenant": "acme"})]

    def test_they_are_in_the_help(self, app: Celeriac) -> None:
        app.user_options["worker"].add(click.Option(["--shard"], help="Which shard."))
        assert "--shard" in run(app, "worker", "--help").output
        assert "--shard" not in run(app, "queues", "--help").output


class TestFindingTheApplication:
    @pytest.fixture(autouse=True)
    def project(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend(str(tmp_path))
        return tmp_path

    def write(self, folder: Path, name: str, text: str) -> str:
        (folder / f"{name}.py").write_text(text)
        return name

    @pytest.mark.parametrize("behind", [False, True])
    def test_the_option_may_stand_behind_the_command(self, project: Path, behind: bool) -> None:
        name = self.write(
            project,
            f"found{behind}",
            "from celeriac import Celeriac\napp = Celeriac('found', broker='memory://found')\n"
            "@app.task(name='found.it')\ndef it(): pass\n",
        )
        words = ["list", "tasks", "-A", name] if behind else ["-A", name, "list", "tasks"]
        assert "found.it" in run(None, *words).output.splitlines()

    def test_no_such_module(self) -> None:
        result = run(None, "-A", "nosuchmodule", "queues")
        assert result.exit_code == 2
        assert "There is no module 'nosuchmodule'" in result.output
        assert "--workdir" in result.output

    def test_no_application_in_it(self, project: Path) -> None:
        name = self.write(project, "emptymodule", "")
        result = run(None, "-A", name, "queues")
        assert result.exit_code == 2
        assert "holds no application" in result.output

    def test_a_module_that_imports_something_missing_shows_where(self, project: Path) -> None:
        name = self.write(project, "brokenmodule", "import not_installed_at_all\n")
        result = run(None, "-A", name, "queues")
        assert result.exit_code == 2
        assert "brokenmodule.py" in result.output
        assert "application's own code" in result.output

    def test_a_wrong_setting_is_one_line_with_its_place(self, project: Path) -> None:
        name = self.write(
            project,
            "wrongsetting",
            "from celeriac import Celeriac\napp = Celeriac('x')\napp.conf.task_ack_late = True\n",
        )
        result = run(None, "-A", name, "queues")
        assert result.exit_code == 1
        assert "task_acks_late" in result.output
        assert "wrongsetting.py, line 3" in result.output
        assert "Traceback" not in result.output

    def test_help_does_not_need_a_sound_project(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.argv", ["celeriac", "-A", "nosuchmodule", "worker", "--help"])
        assert run(None, "-A", "nosuchmodule", "worker", "--help").exit_code == 0


def test_no_color_from_the_environment(app: Celeriac) -> None:
    plain = run(app, "queues", env={"NO_COLOR": "yes"}, color=True)
    assert "\x1b" not in plain.output
    assert "\x1b" in run(app, "queues", color=True, env={"NO_COLOR": ""}).output
