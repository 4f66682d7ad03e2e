"""The team's functions are found below the project, and nowhere else."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from ml_lifecycle.backends.callables import callable_digest, load_callable
from ml_lifecycle.core.errors import CallableNotFoundError


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "crew").mkdir(parents=True)
    (folder / "crew" / "features.py").write_text("def build(rows):\n    return ['built', rows]\n\nLIMIT = 3\n")
    return folder


def test_a_function_below_the_project_is_found(project: Path) -> None:
    build = load_callable("crew.features:build", project)

    assert build("rows") == ["built", "rows"]


def test_a_function_of_a_package_is_found(project: Path) -> None:
    (project / "crew" / "pack").mkdir()
    (project / "crew" / "pack" / "__init__.py").write_text("def build(rows):\n    return 'packed'\n")

    assert load_callable("crew.pack:build", project)("rows") == "packed"


def test_two_projects_in_one_process_each_have_their_own_module(project: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "crew").mkdir(parents=True)
    (other / "crew" / "features.py").write_text("def build(rows):\n    return 'other'\n")

    load_callable("crew.features:build", project)

    assert load_callable("crew.features:build", other)(1) == "other"
    assert load_callable("crew.features:build", project)(1) == ["built", 1]


def test_a_changed_module_is_loaded_anew(project: Path) -> None:
    load_callable("crew.features:build", project)
    (project / "crew" / "features.py").write_text("def build(rows):\n    return 'changed'\n")

    assert load_callable("crew.features:build", project)(1) == "changed"


def test_a_misspelt_function_is_named_with_the_nearest_one(project: Path) -> None:
    with pytest.raises(CallableNotFoundError, match=r"no function 'biuld'.*did you mean 'build'"):
        load_callable("crew.features:biuld", project)


def test_a_misspelt_module_is_named_with_its_place_and_the_nearest_one(project: Path) -> None:
    with pytest.raises(CallableNotFoundError, match=r"no module 'crew.feature'.*put it at .*did you mean 'features'"):
        load_callable("crew.feature:build", project)


def test_a_value_that_cannot_be_called_is_refused(project: Path) -> None:
    with pytest.raises(CallableNotFoundError, match="no function 'LIMIT'"):
        load_callable("crew.features:LIMIT", project)


@pytest.mark.parametrize("path", ["crew.features", "crew.features:", ":build", "../x:build", "crew/features:build", ""])
def test_what_names_no_function_is_refused(project: Path, path: str) -> None:
    with pytest.raises(CallableNotFoundError, match="does not name a function"):
        load_callable(path, project)


@pytest.mark.parametrize("path", ["os:system", "subprocess:run", "json:loads"])
def test_a_module_that_lies_elsewhere_is_refused(project: Path, path: str) -> None:
    with pytest.raises(CallableNotFoundError, match="there is no module"):
        load_callable(path, project)


def test_a_module_that_takes_the_name_of_an_installed_one_is_refused(project: Path) -> None:
    (project / "json.py").write_text("def loads(text):\n    return 'hidden'\n")

    with pytest.raises(CallableNotFoundError, match=r"'json' is already taken by"):
        load_callable("json:loads", project)


def test_a_link_out_of_the_project_is_refused(project: Path, tmp_path: Path) -> None:
    (tmp_path / "outside.py").write_text("def build(rows):\n    return 'outside'\n")
    (project / "crew" / "linked.py").symlink_to(tmp_path / "outside.py")

    with pytest.raises(CallableNotFoundError, match="leads out of"):
        load_callable("crew.linked:build", project)


def test_a_module_that_cannot_be_imported_names_its_cause(project: Path) -> None:
    (project / "crew" / "broken.py").write_text("import a_library_that_is_not_there\n")

    with pytest.raises(CallableNotFoundError, match=r"ModuleNotFoundError.*a_library_that_is_not_there"):
        load_callable("crew.broken:build", project)


def test_a_module_that_exits_is_told_as_any_other_mistake(project: Path) -> None:
    (project / "crew" / "leaving.py").write_text("raise SystemExit(3)\n")

    with pytest.raises(CallableNotFoundError, match=r"raised SystemExit: 3"):
        load_callable("crew.leaving:build", project)


def test_the_digest_is_of_the_file_that_holds_the_function(project: Path) -> None:
    expected = hashlib.sha256(b"def build(rows):\n    return ['built', rows]\n\nLIMIT = 3\n").hexdigest()

    assert callable_digest("crew.features:build", project) == expected


def test_a_changed_file_has_another_digest(project: Path) -> None:
    before = callable_digest("crew.features:build", project)

    (project / "crew" / "features.py").write_text("def build(rows):\n    return rows\n")

    assert callable_digest("crew.features:build", project) != before
