"""A sample of the kills that `make soak` lives through: of a process, and of a supervisor whose task lives on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from kills import Kill, Shooting, Stage
from trial import names, pipeline_text

pytestmark = pytest.mark.integration

SAMPLE: tuple[tuple[Stage, str, str, str], ...] = (
    ("ask", "ledger: ask", "after", "supervisor"),
    ("answer", "the end", "before", "task"),
    ("deploy", "ledger: release", "after", "supervisor"),
    ("deploy", "MLflow: set_alias", "before", "task"),
    ("rollback", "ledger: rollback", "after", "supervisor"),
)


@pytest.fixture(scope="module")
def shooting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shooting]:
    """A deployment whose tasks can be killed."""
    models = {model: pipeline_text(model) for model in names("k", len(SAMPLE) + 2)}
    running = Shooting(tmp_path_factory.mktemp("kills"), models)
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def effects(shooting: Shooting) -> Mapping[Stage, tuple[str, ...]]:
    """What each stage does while nobody is killed."""
    return shooting.effects()


def test_every_invariant_holds_after_a_kill_of_the_task_or_of_its_supervisor(
    shooting: Shooting, effects: Mapping[Stage, tuple[str, ...]]
) -> None:
    kills = [Kill(stage, effects[stage].index(label) + 1, moment, victim) for stage, label, moment, victim in SAMPLE]

    with ThreadPoolExecutor(len(kills)) as pool:
        mistakes = [mistake for found in pool.map(shooting.suffer, kills) for mistake in found]

    assert mistakes == []


def test_the_effects_that_are_killed_hold_the_move_and_all_that_follows_from_it(
    effects: Mapping[Stage, tuple[str, ...]],
) -> None:
    done = effects["deploy"]

    assert done.index("ledger: release") < done.index("MLflow: set_alias") < len(done) - 1
    assert done[-1] == "the end"
    assert "Airflow: form" in effects["ask"]
    assert "ledger: rollback" in effects["rollback"]
