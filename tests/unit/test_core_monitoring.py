from __future__ import annotations

import pytest

from ml_lifecycle.core.contracts import ColumnDrift, Verdict
from ml_lifecycle.core.monitoring import drifted_share, judge_drift


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
