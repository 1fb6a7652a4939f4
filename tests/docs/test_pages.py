"""Every code block of the README and of docs/ runs; every link leads somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.docs.pages import PAGES, ROOT, SERVERS, Page, steps_of
from tests.servers import MongoServer, PostgresServer, RabbitServer, RedisServer


@pytest.fixture
def redis(redis_server: RedisServer) -> str:
    redis_server.flush()
    return redis_server.url


@pytest.fixture
def rabbitmq(rabbit_server: RabbitServer) -> Iterator[str]:
    url = rabbit_server.vhost()
    yield url
    rabbit_server.drop_vhost(url)


@pytest.fixture
def postgresql(postgres_server: PostgresServer) -> Iterator[str]:
    url = postgres_server.database()
    yield url
    postgres_server.drop_database(url)


@pytest.fixture
def mongodb(mongo_server: MongoServer) -> str:
    return mongo_server.database()


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", [page for page in PAGES if steps_of(page)], ids=name_of)
def test_the_code_of_a_page_runs(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    wanted = {step.text for step in steps_of(page) if step.language == "order"} & SERVERS.keys()
    Page(page, tmp_path, {name: request.getfixturevalue(name) for name in wanted}).run()


def test_every_decision_is_in_the_index() -> None:
    folder = ROOT / "docs" / "decisions"
    index = (folder / "README.md").read_text()
    missing = [page.name for page in folder.glob("0*.md") if f"({page.name})" not in index]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", prose):
        assert (page.parent / target).exists(), f"{name_of(page)} links to {target}"
