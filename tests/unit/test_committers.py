from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ml_lifecycle.backends.git import committers_of

ADA = {"GIT_AUTHOR_NAME": "Ada Lovelace", "GIT_AUTHOR_EMAIL": "Ada@example.com"}
MERGER = {"GIT_COMMITTER_NAME": "The Website", "GIT_COMMITTER_EMAIL": "noreply@example.com"}


def git(folder: Path, *arguments: str, **environment: str) -> None:
    env = {**os.environ, **ADA, **MERGER, "GIT_CONFIG_GLOBAL": "/dev/null", **environment}
    subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, env=env)  # noqa: S607  # a test's own repository


def commit(file: Path, text: str = "model: one", **environment: str) -> Path:
    file.write_text(text)
    git(file.parent, "add", file.name, **environment)
    git(file.parent, "commit", "-q", "-m", "change", **environment)
    return file


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "team"
    folder.mkdir()
    git(folder, "init", "-q")
    return folder


def test_author_and_committer_are_known_by_name_address_and_its_user(repository: Path) -> None:
    found = committers_of(commit(repository / "flights.yaml"))

    assert found == ("Ada Lovelace", "Ada@example.com", "Ada", "The Website", "noreply@example.com", "noreply")


@pytest.mark.parametrize(
    ("address", "user"),
    [("123+eve@users.noreply.github.com", "eve"), ("eve+work@example.com", "eve"), ("eve", "eve")],
)
def test_the_user_of_an_address_with_a_plus_is_found(repository: Path, address: str, user: str) -> None:
    file = commit(repository / "flights.yaml", GIT_AUTHOR_EMAIL=address)

    assert user in committers_of(file)


def test_whoever_changed_another_file_does_not_count(repository: Path) -> None:
    file = commit(repository / "flights.yaml", GIT_AUTHOR_NAME="Bob")
    commit(repository / "other.yaml", GIT_AUTHOR_NAME="Eve")

    found = committers_of(file)

    assert "Bob" in found
    assert "Eve" not in found


def test_a_linked_folder_is_followed_and_the_git_of_the_caller_is_not(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(repository / "flights.yaml")
    (tmp_path / "current").symlink_to(repository)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))

    assert "Ada Lovelace" in committers_of(tmp_path / "current" / "flights.yaml")


def test_nothing_is_known_without_a_repository_a_commit_or_git(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "alone.yaml").write_text("model: one")
    (repository / "fresh.yaml").write_text("model: one")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))

    assert committers_of(tmp_path / "alone.yaml") == ()
    assert committers_of(repository / "fresh.yaml") == ()
    commit(repository / "other.yaml")
    assert committers_of(repository / "fresh.yaml") == ()
    assert committers_of(tmp_path / "nowhere" / "one.yaml") == ()
    monkeypatch.setenv("PATH", "")
    assert committers_of(repository / "other.yaml") == ()


def test_a_shallow_clone_says_nothing_of_what_it_does_not_reach(repository: Path, tmp_path: Path) -> None:
    commit(repository / "flights.yaml", GIT_AUTHOR_NAME="Bob")
    commit(repository / "other.yaml", GIT_AUTHOR_NAME="Eve")
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{repository}", "shallow")
    git(tmp_path, "clone", "-q", f"file://{repository}", "whole")

    assert committers_of(tmp_path / "shallow" / "flights.yaml") == ()
    assert "Bob" in committers_of(tmp_path / "whole" / "flights.yaml")


def test_a_repository_cannot_make_git_run_anything(repository: Path, tmp_path: Path) -> None:
    commit(repository / "flights.yaml")
    trap = tmp_path / "trap.sh"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path / 'sprung'}\n")
    trap.chmod(0o755)
    for setting in ("core.fsmonitor", "core.pager", "gpg.program", "diff.external", "core.sshCommand", "pager.log"):
        git(repository, "config", setting, str(trap))
    git(repository, "config", "log.showSignature", "true")

    assert "Ada Lovelace" in committers_of(repository / "flights.yaml")
    assert not (tmp_path / "sprung").exists()


def test_a_name_cannot_be_taken_for_an_option_or_a_pattern(repository: Path) -> None:
    file = commit(repository / "x.yaml", GIT_AUTHOR_NAME="Bob").rename(repository / "--output=taken.yaml")

    assert committers_of(file) == ()
    assert committers_of(repository / "*.yaml") == ()
    assert not (repository / "taken.yaml").exists()


def test_another_author_written_over_a_commit_is_not_believed(repository: Path) -> None:
    file = commit(repository / "flights.yaml", GIT_AUTHOR_NAME="Bob")
    git(repository, "branch", "true")
    git(repository, "commit", "-q", "--amend", "--reset-author", "--no-edit", GIT_AUTHOR_NAME="Eve")
    git(repository, "replace", "true", "HEAD")
    git(repository, "checkout", "-q", "true")

    assert "Bob" in committers_of(file)
