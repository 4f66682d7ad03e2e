"""What Airflow learns about the provider."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from importlib.metadata import entry_points, metadata
from pathlib import Path
from typing import Any

import airflow
import jsonschema  # type: ignore[import-untyped]  # it ships no types
import pytest

from ml_lifecycle.provider_info import get_provider_info

SCHEMA = Path(airflow.__file__).with_name("provider_info.schema.json")


def test_the_description_has_the_form_that_airflow_asks_for() -> None:
    jsonschema.validate(get_provider_info(), json.loads(SCHEMA.read_text()))


def test_the_package_is_found_under_the_name_that_it_is_installed_by() -> None:
    name = get_provider_info()["package-name"]

    (found,) = entry_points(group="apache_airflow_provider", name="provider_info").select(
        value="ml_lifecycle.provider_info:get_provider_info"
    )
    assert found.dist is not None
    assert found.dist.name == name
    assert metadata(name)["Name"] == name


@pytest.mark.parametrize("kind", ["operators", "sensors", "hooks", "triggers"])
def test_every_module_of_a_ring_is_listed_and_exists(kind: str) -> None:
    listed = {name for entry in get_provider_info()[kind] for name in entry["python-modules"]}

    for name in listed:
        importlib.import_module(name)
    if kind in ("operators", "sensors"):
        folder = Path(importlib.import_module(f"ml_lifecycle.{kind}").__file__ or "").parent
        shared = {"__init__", "base", "assets"}
        assert {name.rpartition(".")[2] for name in listed} == {file.stem for file in folder.glob("*.py")} - shared


def test_every_link_of_an_operator_is_registered() -> None:
    from ml_lifecycle import links

    registered = set(get_provider_info()["extra-links"])

    assert registered == {f"ml_lifecycle.links.{name}" for name in vars(links) if name.endswith("Link")} - {
        "ml_lifecycle.links.BaseOperatorLink"
    }


def test_the_defaults_of_the_options_are_those_that_the_code_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    from ml_lifecycle.hooks import settings

    used: dict[str, str] = {}

    def get(section: str, name: str, fallback: Any) -> Any:
        used[name] = fallback
        return fallback

    monkeypatch.setattr("ml_lifecycle.hooks.settings.conf.get", get)
    settings.read_settings()

    options = get_provider_info()["config"]["ml_lifecycle"]["options"]
    assert used == {name: option["default"] for name, option in options.items()}


def test_airflow_lists_the_connection_type_with_its_fields() -> None:
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()  # type: ignore[no-untyped-call]

    assert manager.field_behaviours["mlflow"]["relabeling"]["password"] == "Password or token"
    assert {"extra__mlflow__ui_url", "extra__mlflow__timeout_s"} <= set(manager.connection_form_widgets)
    assert "ml_lifecycle.links.ReportLink" in manager.extra_links_class_names


def test_discovery_imports_nothing_but_the_description() -> None:
    program = (
        "import sys; from ml_lifecycle.provider_info import get_provider_info; get_provider_info();"
        "print([m for m in ('airflow', 'pydantic', 'yaml', 'sqlalchemy') if m in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.strip() == "[]"
