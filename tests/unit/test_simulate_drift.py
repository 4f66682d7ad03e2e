"""The simulation behind the figures of the documentation runs, and tells a missed goal."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np  # noqa: TID253  # no DAG file imports a test
import pytest

import simulate_drift as simulation
from simulate_drift import Scene


def test_a_quiet_quarter_has_few_alarms_and_a_moved_one_is_found() -> None:
    quiet = simulation.run(Scene(rows=1_000, replicates=3), seed=1)
    shifted = simulation.run(Scene(rows=1_000, shift=0.5, shifted=30, replicates=2), seed=1)

    assert quiet["alarms_per_quarter"] <= 5
    assert quiet["by_chance_alone"] >= quiet["alarms_per_quarter"]
    assert (shifted["median_days"], shifted["within_3_days"], shifted["never"]) == (1, 1.0, 0.0)


def test_the_same_seed_gives_the_same_figures() -> None:
    scene = Scene(rows=200, correlated=True, replicates=2)

    assert simulation.run(scene, seed=5) == simulation.run(scene, seed=5)


def test_longer_windows_and_alike_days_are_looked_at_as_production_does() -> None:
    scene = Scene(rows=200, windows=(1, 7), day_effect=0.1, alike_days=0.5, block=True, replicates=2)

    found = simulation.run(scene, seed=3)

    assert found["reference_days"] == 60
    assert found["alarms_per_quarter"] < 10


def test_correlated_features_keep_their_distribution() -> None:
    rng = np.random.default_rng(0)

    counts = simulation.draw(Scene(rows=500, correlated=True), 200, rng, np.zeros((300, 200)))

    assert (counts.sum(axis=-1) == 500).all()
    assert counts.mean(axis=1) / 500 == pytest.approx(simulation.cell_shares(), abs=0.02)
    # Features of a group share seven tenths of their rows' values.
    together = np.asarray(np.corrcoef(counts[:40, :, 0]))
    assert together[0, 1:10].mean() == pytest.approx(0.7, abs=0.1)
    assert together[0, 10:].mean() == pytest.approx(0.0, abs=0.1)


def test_a_goal_that_is_missed_is_told() -> None:
    alarms = {"rows": 200, "block": False, "day_effect": 0.0, "alarms_per_quarter": 2.0, "standard_error": 0.1}
    found = {"rows": 5_000, "shift": 0.2, "shifted": 30, "day_effect": 0.0, "within_3_days": 0.5}

    assert simulation.missed({"false_alarms": [alarms], "detection": [found]}) == [
        "2.00 alarms per quarter at 200 rows a day",
        "a shift of 0.2 in 30 features is found within 3 days in 50%",
    ]


def test_figures_that_were_kept_are_drawn(tmp_path: Path) -> None:
    kept = json.loads(simulation.OUTPUT.read_text(encoding="utf-8"))

    simulation.plot(kept, tmp_path / "plot.png")

    assert (tmp_path / "plot.png").stat().st_size > 10_000
