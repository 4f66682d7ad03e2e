"""The simulation behind the figures of the documentation runs, and tells a missed goal."""

from __future__ import annotations

import numpy as np  # noqa: TID253  # no DAG file imports a test
import pytest

import simulate_rollouts as simulation
from simulate_rollouts import Scene


def test_a_version_that_is_much_worse_is_back_soon_and_a_good_one_gets_all_traffic() -> None:
    worse = simulation.rollout(Scene("worse", slower=3.0), np.random.default_rng(1))
    good = simulation.rollout(Scene("good", shape="steady", margin=0.1), np.random.default_rng(1))

    assert (worse["end"], worse["because"]) == ("back", ["latency ratio"])
    assert worse["answered"] < 1_000
    assert good["end"] == "through"
    # 500 answers at 10% of the traffic and as many at 50%.
    assert 6_000 <= good["at"] <= 20_000


def test_the_same_seed_gives_the_same_figures() -> None:
    scene = Scene("worse", errors=0.1)

    assert simulation.run(scene, 5, range(2)) == simulation.run(scene, 5, range(2))


def test_labels_that_are_a_day_late_are_not_known_before() -> None:
    scene = Scene("late", wrong=0.4, labels_after=20_000, requests=30_000)

    found = simulation.rollout(scene, np.random.default_rng(1))

    assert found["end"] == "back"
    assert found["at"] > 20_000


def test_users_stay_on_their_side() -> None:
    requests = simulation.requests_of(Scene("users", users=50, requests=1_000), np.random.default_rng(1))

    assert len(set(requests.draw.tolist())) <= 50


@pytest.mark.parametrize("shape", simulation.SHAPES)
def test_every_shape_of_times_is_slower_by_as_much_as_it_says(shape: str) -> None:
    scene = Scene("slow", shape=shape, slower=1.5, requests=50_000)

    old, new = np.quantile(simulation.requests_of(scene, np.random.default_rng(1)).times, 0.95, axis=1)

    assert new / old == pytest.approx(1.5, rel=0.05)


def test_a_goal_that_is_missed_is_told() -> None:
    # Of 400 rollouts at 5%, two standard errors are 2.2%.
    lines = [
        {"name": "worse", "goal": "caught", "caught": 0.9, "rolled_back": 1.0, "replicates": 400},
        {"name": "good", "goal": "spared", "caught": 0.0, "rolled_back": 0.08, "replicates": 400},
        {"name": "fine", "goal": "spared", "caught": 0.0, "rolled_back": 0.07, "replicates": 400},
    ]

    assert simulation.missed(lines) == [
        "worse: 90.0% rolled back before 20,000 answers",
        "good: 8.0% rolled back",
    ]
