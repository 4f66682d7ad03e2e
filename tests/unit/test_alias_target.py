"""What is true of the alias alone; what every target promises stands in its conformance suite."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path

import pytest
from pydantic import ValidationError

from ml_lifecycle.backends.deployment.alias import AliasTarget
from ml_lifecycle.backends.deployment.base import Means
from ml_lifecycle.backends.tracking.local import LocalTracking
from ml_lifecycle.core.contracts import Move
from tests.fakes.places import no_package

MOVE = Move(
    model="flights",
    environment="test",
    epoch=3,
    kind="release",
    version=1,
    digest="a" * 64,
    uri="runs:/1/model",
    decision_id="d" * 64,
    moved_by="ada",
    moved_at=datetime(2026, 3, 1, 12, tzinfo=timezone.utc),
)
FENCE = "ml_lifecycle.alias.champion"


@pytest.fixture
def registry(tmp_path: Path) -> LocalTracking:
    tracking = LocalTracking(tmp_path)
    tracking.ensure_version("flights", training_key="1" * 64, uri="runs:/1/model", run_id="1", tags={})
    return tracking


def means(registry: LocalTracking) -> Means:
    return Means(registry=registry, package=no_package)


def test_model_and_version_say_which_decision_the_alias_was_set_for(registry: LocalTracking) -> None:
    AliasTarget().promote(MOVE, means(registry))

    version = registry.version("flights", 1)
    assert version is not None
    assert version.tags[f"{FENCE}.decision"] == "d" * 64
    assert version.tags[f"{FENCE}.epoch"] == "3"
    assert json.loads(registry.model_tags("flights")[FENCE]) == {
        "environment": "test", "epoch": 3, "version": 1, "digest": "a" * 64, "decision": "d" * 64,
    }  # fmt: skip


@pytest.mark.parametrize("text", ["", "nonsense", "{}", '{"epoch": "many"}', "[" * 500])
def test_a_tag_that_somebody_made_unreadable_is_written_anew(registry: LocalTracking, text: str) -> None:
    registry.ensure_version("flights", training_key="1" * 64, uri="runs:/1/model", run_id="1", tags={})
    registry.tag_model("flights", {FENCE: text})

    AliasTarget().promote(MOVE, means(registry))

    assert registry.alias("flights", "champion") == 1
    assert AliasTarget().status("flights", means(registry)).epoch == 3


def test_aliases_of_one_model_are_fenced_apart(registry: LocalTracking) -> None:
    AliasTarget().promote(MOVE, means(registry))
    AliasTarget(alias="dark").promote(MOVE.model_copy(update={"epoch": 1, "environment": "prod"}), means(registry))

    assert AliasTarget().status("flights", means(registry)).epoch == 3
    assert AliasTarget(alias="dark").status("flights", means(registry)).epoch == 1


def test_an_alias_of_rehearsals_is_no_place_to_serve() -> None:
    with pytest.raises(ValidationError, match="as the aliases of rehearsals do"):
        AliasTarget(alias="champion-drill")
