from __future__ import annotations

import pytest

from ml_lifecycle.core.contracts import ColumnDrift, Verdict
from ml_lifecycle.core.monitoring import drifted_share, judge_drift, judge_performance


def column(distance: float | None, name: str = "x") -> ColumnDrift:
    drifted = distance is not None and distance >= 0.1
    return ColumnDrift(column=name, method="wasserstein", distance=distance, threshold=0.1, drifted=drifted)


@pytest.mark.parametrize(
    ("distances", "verdict"),
    [
        ([0.0, 0.0, 0.0, 0.0], Verdict.PASS),
        ([0.5, 0.0, 0.0, 0.0], Verdict.PASS),
        ([0.5, 0.1, 0.0, 0.0], Verdict.FAIL),
        ([0.5, None, 0.0, 0.0], Verdict.INCONCLUSIVE),
        ([0.0, None, 0.0, 0.0], Verdict.PASS),
        ([0.5, 0.5, None, None], Verdict.FAIL),
        ([None, None], Verdict.INCONCLUSIVE),
        ([], Verdict.INCONCLUSIVE),
    ],
)
def test_data_has_drifted_when_half_of_its_columns_have(distances: list[float | None], verdict: Verdict) -> None:
    assert judge_drift([column(distance) for distance in distances], share=0.5) is verdict


def test_the_drifted_share_counts_measured_columns_only() -> None:
    assert drifted_share([column(0.5), column(0.0), column(None)]) == 0.5
    assert drifted_share([column(None)]) is None
    assert drifted_share([]) is None


@pytest.mark.parametrize(
    ("value", "at_least", "at_most", "verdict"),
    [
        (0.58, 0.58, None, Verdict.PASS),
        (0.579, 0.58, None, Verdict.FAIL),
        (0.3, None, 0.3, Verdict.PASS),
        (0.301, None, 0.3, Verdict.FAIL),
        (0.5, 0.4, 0.6, Verdict.PASS),
        (0.7, 0.4, 0.6, Verdict.FAIL),
        (None, 0.58, None, Verdict.INCONCLUSIVE),
        (float("nan"), 0.58, None, Verdict.INCONCLUSIVE),
        (float("inf"), 0.58, None, Verdict.INCONCLUSIVE),
        (0.9, None, None, Verdict.INCONCLUSIVE),
    ],
)
def test_performance_is_held_to_its_limits(
    value: float | None, at_least: float | None, at_most: float | None, verdict: Verdict
) -> None:
    assert judge_performance(value, at_least=at_least, at_most=at_most) is verdict
