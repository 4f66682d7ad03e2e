"""What the pages promise holds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ml_lifecycle import __version__
from ml_lifecycle.pipeline.loader import read_pipeline

PROJECT = Path(__file__).resolve().parent.parent.parent
PACKAGE = PROJECT / "provider" / "ml_lifecycle"
PAGES = sorted([*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md")])


def test_the_readmes_yaml_is_a_pipeline(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", (PROJECT / "README.md").read_text(), flags=re.DOTALL)
    (tmp_path / "flight_delays.yaml").write_text(block)

    pipeline = read_pipeline(tmp_path / "flight_delays.yaml")

    assert pipeline.model == "flight_delays"
    assert pipeline.approval.approvers == ("approver",)


@pytest.mark.parametrize("guide", ["monitoring", "performance", "retraining"])
def test_what_a_guide_writes_into_the_pipeline_file_makes_one(guide: str, tmp_path: Path) -> None:
    (whole,) = _yaml_of(PROJECT / "README.md")
    (part,) = _yaml_of(PROJECT / "docs" / "guides" / f"{guide}.md")
    performance = {"monitoring": {"performance": {"metric": "roc_auc", "at_least": 0.58}}}
    pipeline = {**whole, **{name: {**whole[name], **performance.get(name, {}), **part[name]} for name in part}}
    (tmp_path / "flight_delays.yaml").write_text(yaml.safe_dump(pipeline))

    read = read_pipeline(tmp_path / "flight_delays.yaml")

    assert read.monitoring is not None
    assert part["monitoring"].keys() <= read.monitoring.model_fields_set


def _yaml_of(page: Path) -> list[dict[str, Any]]:
    return [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", page.read_text(), flags=re.DOTALL)]


def test_the_guide_names_every_operator_and_every_sensor() -> None:
    guide = (PROJECT / "docs" / "guides" / "hand-written-dags.md").read_text()
    sources = [file.read_text() for ring in ("operators", "sensors") for file in (PACKAGE / ring).glob("*.py")]
    bases = {"LifecycleOperator", "QuestionOperator", "TargetOperator", "LifecycleSensor"}
    names = {
        name for text in sources for name in re.findall(r"^class ([A-Z]\w+(?:Operator|Sensor))\(", text, re.MULTILINE)
    }

    assert names - bases == set(re.findall(r"`(\w+(?:Operator|Sensor))`", guide))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    broken = [link for link in links if "://" not in link and not (page.parent / link).exists()]

    assert broken == []


def test_every_decision_has_a_number_of_its_own() -> None:
    numbers = [page.name[:4] for page in sorted((PROJECT / "docs" / "decisions").glob("*.md"))]

    assert numbers == [f"{number:04}" for number in range(1, len(numbers) + 1)]


def test_the_changelog_tells_of_the_version() -> None:
    assert f"## {__version__}" in (PROJECT / "CHANGELOG.md").read_text()


def test_no_locked_requirement_names_an_address() -> None:
    for file in (PROJECT / "requirements").glob("*.txt"):
        assert "://" not in file.read_text()


def test_the_compose_file_uses_the_settings_that_make_up_uses() -> None:
    compose = yaml.safe_load((PROJECT / "docker-compose.yaml").read_text())
    own = {"postgres"}

    for name, service in compose["services"].items():
        assert name in own or service["env_file"] == "deploy/airflow.env", name
    for name in ("api-server", "scheduler", "dag-processor", "triggerer"):
        assert compose["services"][name]["command"] == f"airflow {name}"
    published = [port for service in compose["services"].values() for port in service.get("ports", ())]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)
