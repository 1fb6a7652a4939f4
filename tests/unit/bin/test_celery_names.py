"""Commands, options and environment variables are Celery's; `celery_cli.json` is recorded from 5.7.0."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from celeriac.bin.base import Option
from celeriac.bin.main import celeriac

RECORDED = json.loads((Path(__file__).parent / "celery_cli.json").read_text())


def commands() -> Iterator[tuple[str, dict[str, Any], click.Context]]:
    root = click.Context(celeriac, info_name="celeriac", auto_envvar_prefix="CELERIAC")
    todo = [(celeriac, RECORDED, root)]
    while todo:
        command, recorded, ctx = todo.pop()
        yield ctx.command_path, recorded, ctx
        for name, below in recorded.get("commands", {}).items():
            assert isinstance(command, click.Group)
            found = command.get_command(ctx, name)
            assert found is not None, name
            todo.append((found, below, click.Context(found, info_name=name, parent=ctx)))


COMMANDS = {path: (recorded, ctx) for path, recorded, ctx in commands()}


def options_of(ctx: click.Context) -> dict[str, click.Option]:
    found = [param for param in ctx.command.params if isinstance(param, click.Option)]
    return {flag: option for option in found for flag in (*option.opts, *option.secondary_opts)}


@pytest.mark.parametrize("path", COMMANDS)
def test_options_have_celerys_names_and_kinds(path: str) -> None:
    recorded, ctx = COMMANDS[path]
    ours = options_of(ctx)
    for option in recorded["options"]:
        for flag in option["flags"]:
            assert flag in ours, f"{path} {flag}"
            assert ours[flag].is_flag == option["is_flag"], f"{path} {flag}"


@pytest.mark.parametrize("path", COMMANDS)
def test_options_read_celerys_variables(path: str) -> None:
    recorded, ctx = COMMANDS[path]
    ours = options_of(ctx)
    for option in recorded["options"]:
        found = ours[option["flags"][0]]
        if found.name in ("version", "no_color"):
            continue  # --version is never set by the environment; NO_COLOR has a test of its own
        assert isinstance(found, Option)
        names = found.environment_names(ctx)
        assert option["env"] in names, path
        if option["also_env"]:
            assert option["also_env"] in names, path


@pytest.mark.parametrize("path", COMMANDS)
def test_arguments_are_celerys(path: str) -> None:
    recorded, ctx = COMMANDS[path]
    ours = [param.name for param in ctx.command.params if isinstance(param, click.Argument)]
    assert ours == recorded["arguments"]


def test_every_option_of_every_command_has_a_help_text_and_a_variable() -> None:
    def walk(command: click.Command, ctx: click.Context) -> None:
        for param in command.params:
            if isinstance(param, click.Option) and not param.hidden:
                assert param.help, f"{ctx.command_path} {param.opts}"
                assert isinstance(param, Option), f"{ctx.command_path} {param.opts}"
        if isinstance(command, click.Group):
            for name in command.list_commands(ctx):
                found = command.get_command(ctx, name)
                assert found is not None
                walk(found, click.Context(found, info_name=name, parent=ctx))

    walk(celeriac, click.Context(celeriac, info_name="celeriac"))


def test_celerys_path_leads_to_the_same_command() -> None:
    from celeriac.bin.celery import celery, main

    assert celery is celeriac
    assert callable(main)
    assert set(RECORDED["commands"]) <= set(celery.commands)
