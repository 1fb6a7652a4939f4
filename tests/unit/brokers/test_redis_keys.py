"""Names of keys: Celery's where it has one, ours beside them."""

from __future__ import annotations

import pytest

from celeriac.brokers.redis.keys import (
    Layout,
    binding_member,
    split_crashes,
    split_letter,
)
from celeriac.exceptions import ImproperlyConfigured


def test_lists_are_named_as_celery_names_them() -> None:
    names = Layout({}).queue("celery")
    assert names.lists == (b"celery", b"celery\x06\x163", b"celery\x06\x166", b"celery\x06\x169")
    options = {"global_keyprefix": "pfx:", "sep": ":", "priority_steps": [0, 1, 2]}
    assert Layout(options).queue("celery").lists == (b"pfx:celery", b"pfx:celery:1", b"pfx:celery:2")


@pytest.mark.parametrize(
    ("priority", "index"), [(0, 0), (1, 0), (3, 1), (5, 1), (6, 2), (9, 3), (-4, 0), (255, 3)]
)
def test_a_priority_goes_to_the_highest_step_that_is_not_above_it(priority: int, index: int) -> None:
    assert Layout({}).index(priority) == index


@pytest.mark.parametrize("steps", [[], [1, 2], [0, 3, 3], [3, 0], list(range(16))])
def test_steps_that_make_no_sense_are_refused(steps: list[int]) -> None:
    with pytest.raises(ImproperlyConfigured, match="priority_steps"):
        Layout({"priority_steps": steps})


def test_bindings_and_channels_are_celerys() -> None:
    layout = Layout({}, db=2)
    assert layout.binding("celery") == b"_kombu.binding.celery"
    assert layout.permanent_binding("celery") == b"_kombu.binding_permanent.celery"
    assert binding_member("\x06\x16", "celery", "celery", "direct") == "celery\x06\x16\x06\x16celery"
    assert layout.channel("celery.pidbox") == b"/2.celery.pidbox"
    assert layout.channel("celeryev", "task.sent") == b"/2.celeryev/task.sent"
    assert Layout({"fanout_prefix": False}).channel("x") == b"x"


def test_ours_do_not_meet_celerys() -> None:
    names = Layout({"global_keyprefix": "p:"}).queue("q")
    ours = [*names[:-1], names.held_by("c")]
    assert all(key.startswith(b"p:celeriac:{q}:") for key in ours)
    assert len(set(ours)) == len(ours)


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (b'{"a":1}', (0, b'{"a":1}')),
        (b'{"celeriac-crashes":12,"a":1}', (12, b'{"a":1}')),
        (b'{"celeriac-crashes":1,}', (1, b"{}")),
        (b'{"celeriac-crashes":1,\x00rubbish', (1, b"rubbish")),
        (b"", (0, b"")),
    ],
)
def test_crash_counts(stored: bytes, expected: tuple[int, bytes]) -> None:
    assert split_crashes(stored) == expected


def test_letters() -> None:
    reason = "zu viel: ä"
    stored = b"3:%d:%b%b" % (len(reason.encode()), reason.encode(), b'{"a":":1:"}')
    assert split_letter(stored) == (3, reason, b'{"a":":1:"}')
