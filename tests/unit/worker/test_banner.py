"""What a worker says of itself."""

from __future__ import annotations

from celeriac.brokers.base import Queue
from celeriac.worker.banner import Facts, banner, headline

FACTS = Facts(
    hostname="w1@box",
    version="1.2",
    platform="Linux",
    app="proj",
    transport="redis://user:secret@db:6379/0",
    results="redis://:secret@db/1",
    concurrency=4,
    pool="prefork",
    queues=[Queue("celery"), Queue("mail", "out", "mail.#", "topic")],
    tasks=["proj.mul", "celery.chord", "proj.add"],
    server="Redis 7.0.15",
    time_limit=30,
    warnings=["eviction is on"],
)


def test_names_what_a_celery_user_looks_for() -> None:
    text = banner(FACTS)
    for line in (
        ".> app:         proj",
        ".> transport:   redis://user:********@db:6379/0  (Redis 7.0.15)",
        ".> results:     redis://:********@db/1",
        ".> concurrency: 4 (prefork)",
        ".> task events: OFF",
        ".> celery  exchange=celery(direct) key=celery",
        ".> mail    exchange=out(topic) key=mail.#",
    ):
        assert f" {line}\n" in text
    assert "warning: eviction is on" in text
    assert "hard 30 s" in text


def test_lists_the_applications_tasks_in_order() -> None:
    assert banner(FACTS).index("  . proj.add\n  . proj.mul\n") > 0
    assert "celery.chord" not in banner(FACTS)
    assert "[tasks]" not in banner(FACTS, show_tasks=False)


def test_never_shows_a_password() -> None:
    assert "secret" not in banner(FACTS) + headline(FACTS)


def test_colors_only_when_asked() -> None:
    assert "\x1b" not in banner(FACTS)
    assert "\x1b" in banner(FACTS, color=True)


def test_says_how_messages_are_acknowledged() -> None:
    assert "at least once" in banner(FACTS)
    assert "at most once" in banner(FACTS._replace(acks_late=False))


def test_headline_is_one_line() -> None:
    line = headline(FACTS)
    assert "\n" not in line
    assert line.startswith("w1@box v1.2: app=proj transport=redis://")
    assert line.endswith("queues=celery,mail tasks=2")
