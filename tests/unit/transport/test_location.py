"""Where an embedded store is."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from celeriac.exceptions import ImproperlyConfigured
from celeriac.transport.location import Location, make_file, network_file_system


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite://", ".celeriac/celeriac.db"),
        ("sqlite:///", ".celeriac/celeriac.db"),
        ("sqlite:///tasks.db", "tasks.db"),
        ("sqlite:///var/my%20tasks.db?synchronous=FULL", "var/my tasks.db"),
    ],
)
def test_relative_paths_start_at_the_working_directory(
    url: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Location.parse(url, {}).path == str(tmp_path / path)


def test_four_slashes_are_absolute() -> None:
    assert Location.parse("sqlite:////var/lib/tasks.db", {}).path == "/var/lib/tasks.db"


def test_options_come_from_the_url_or_the_transport_options() -> None:
    location = Location.parse("sqlite:///a.db?synchronous=full&timeout=2.5", {"visibility_timeout": 3600})
    assert (location.synchronous, location.timeout) == ("FULL", 2.5)
    assert Location.parse("sqlite:///a.db", {"synchronous": "OFF", "timeout": 3}).timeout == 3.0
    assert Location.parse("sqlite:///a.db", {}).synchronous == "NORMAL"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite://tasks.db", "three slashes"),
        ("sqlite:///:memory:", "memory://"),
        ("sqlite:///a.db?synchronus=FULL", "'synchronus'"),
        ("sqlite:///a.db?synchronous=maybe", "NORMAL, FULL"),
        ("sqlite:///a.db?timeout=soon", "seconds"),
        ("sqlite:///a.db?timeout=0", "seconds"),
    ],
)
def test_mistakes_are_named(url: str, words: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=words):
        Location.parse(url, {})


def test_the_default_folder_is_private_and_ignored_by_git(tmp_path: Path) -> None:
    path = tmp_path / ".celeriac" / "celeriac.db"
    threads = [threading.Thread(target=make_file, args=(str(path),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (path.parent / ".gitignore").read_text() == "*\n"


def test_no_other_folder_is_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        make_file(str(tmp_path / "typo" / "tasks.db"))


def test_a_local_disk_is_no_network_file_system(tmp_path: Path) -> None:
    assert network_file_system(str(tmp_path / "tasks.db")) == ""
    assert network_file_system(os.sep) == ""
