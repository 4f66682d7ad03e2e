from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import false_discovery_control  # noqa: TID253  # no DAG file imports a test

from ml_lifecycle.core.contracts import ColumnDrift, Rate, Verdict
from ml_lifecycle.core.data import Every
from ml_lifecycle.core.monitoring import adjusted, alpha_of, judge, weigh


def column(
    p_value: float | None, distance: float | None = 0.2, name: str = "x", *, window: int = 1, role: str = "feature"
) -> ColumnDrift:
    return ColumnDrift.model_validate(
        {
            "column": name,
            "method": "ks",
            "distance": distance,
            "threshold": 0.03,
            "drifted": False,
            "p_value": p_value,
            "window": window,
            "role": role,
        }
    )


@pytest.mark.parametrize(
    ("rate", "every", "alpha"),
    [
        (Rate(count=1, per="quarter"), "daily", 4 / 365.25),
        (Rate(count=1, per="year"), "daily", 1 / 365.25),
        (Rate(count=1, per="quarter"), "hourly", 4 / 365.25 / 24),
        (Rate(count=0.5, per="year"), "monthly", 0.5 / 12),
        (Rate(count=2, per="month"), "daily", 0.05),
        (Rate(count=1, per="quarter"), "monthly", 0.05),
    ],
)
def test_a_look_may_spend_its_part_of_the_budget_and_five_percent_at_most(
    rate: Rate, every: Every, alpha: float
) -> None:
    assert alpha_of(rate, every) == pytest.approx(alpha)


def test_p_values_are_adjusted_as_benjamini_and_hochberg_have_it() -> None:
    # Worked by hand: 0.01 * 4 / 1, 0.02 * 4 / 2, 0.04 * 4 / 3 capped by 0.05 * 4 / 4 from above.
    assert adjusted([0.02, 0.05, 0.01, 0.04]) == pytest.approx([0.04, 0.05, 0.04, 0.05])
    assert adjusted([0.5, 0.02], tried=10) == pytest.approx([1.0, 0.2])
    assert adjusted([]) == []


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), max_size=40))
def test_adjusting_agrees_with_scipy(values: list[float]) -> None:
    expected = false_discovery_control(values).tolist() if values else []

    assert adjusted(values) == pytest.approx(expected)


def test_a_difference_that_is_certain_and_matters_is_drift() -> None:
    found = judge([column(1e-6), column(0.4, name="y")], alpha=0.01)

    assert found.verdict is Verdict.FAIL
    assert [one.drifted for one in found.columns] == [True, False]
    assert [one.adjusted for one in found.columns] == pytest.approx([2e-6, 0.4])


@pytest.mark.parametrize(("distance", "drifted"), [(0.03, True), (0.0299, False)])
def test_a_difference_too_small_to_matter_is_no_drift_however_certain(distance: float, *, drifted: bool) -> None:
    found = judge([column(1e-300, distance)], alpha=0.01)

    assert found.columns[0].drifted is drifted
    assert found.verdict is (Verdict.FAIL if drifted else Verdict.PASS)


@pytest.mark.parametrize(("p_value", "drifted"), [(0.01, True), (0.0100001, False)])
def test_the_limit_itself_is_drift(p_value: float, *, drifted: bool) -> None:
    assert judge([column(p_value)], alpha=0.01).columns[0].drifted is drifted


def test_among_many_columns_a_small_p_value_says_little() -> None:
    columns = [column(1e-4, name="x0"), *(column(0.5, name=f"x{place}") for place in range(1, 300))]

    assert judge(columns, alpha=0.01).verdict is Verdict.PASS


@pytest.mark.parametrize(
    "columns",
    [
        [],
        [column(None)],
        [column(0.5), column(None, name="y")],
        [column(0.5), column(0.5, None, name="y")],
    ],
)
def test_what_could_not_be_told_leaves_the_look_inconclusive(columns: list[ColumnDrift]) -> None:
    assert judge(columns, alpha=0.01).verdict is Verdict.INCONCLUSIVE


def test_drift_is_drift_whatever_else_is_unknown() -> None:
    assert judge([column(1e-9), column(None, name="y")], alpha=0.01).verdict is Verdict.FAIL


def test_a_column_reports_the_window_that_says_most() -> None:
    windows = [column(0.5), column(1e-8, window=7), column(0.01, window=28)]

    found = judge(windows, alpha=0.01, windows=(1, 7, 28))

    assert [(one.column, one.window, one.drifted) for one in found.columns] == [("x", 7, True)]
    assert found.columns[0].adjusted == pytest.approx(3e-8)


def test_a_window_in_which_it_drifted_comes_before_one_that_is_only_more_certain() -> None:
    windows = [column(1e-6, 0.05), column(1e-12, 0.01, window=28)]

    found = judge(windows, alpha=0.01, windows=(1, 28))

    assert [(one.window, one.drifted) for one in found.columns] == [(1, True)]


def test_a_column_is_known_if_one_of_its_windows_is() -> None:
    found = judge([column(None), column(0.5, window=7)], alpha=0.01, windows=(1, 7))

    assert found.verdict is Verdict.PASS
    assert [one.window for one in found.columns] == [7]


def test_windows_that_could_not_be_filled_make_no_look_less_strict() -> None:
    found = judge([column(0.005)], alpha=0.01, windows=(1, 7, 28))

    assert found.columns[0].adjusted == pytest.approx(0.015)
    assert found.verdict is Verdict.PASS


def test_a_prediction_and_a_feature_of_one_name_are_two_columns() -> None:
    found = judge([column(0.5), column(1e-9, role="prediction")], alpha=0.01)

    assert [(one.role, one.drifted) for one in found.columns] == [("feature", False), ("prediction", True)]


@pytest.mark.parametrize(
    ("weighted", "verdict"),
    [(0.009, Verdict.PASS), (0.01, Verdict.FAIL), (0.5, Verdict.FAIL), (None, Verdict.FAIL)],
)
def test_drift_of_what_the_model_hardly_uses_is_none_where_the_policy_says_so(
    weighted: float | None, verdict: Verdict
) -> None:
    found = judge([column(1e-9), column(0.5, name="y")], alpha=0.01)

    assert weigh(found, weighted=weighted, least=0.01) is verdict


def test_drifted_predictions_count_whatever_the_model_uses() -> None:
    found = judge([column(1e-9), column(1e-9, role="prediction")], alpha=0.01)

    assert weigh(found, weighted=0.0, least=0.01) is Verdict.FAIL


def test_unimportant_drift_hides_nothing_that_could_not_be_told() -> None:
    found = judge([column(1e-9), column(None, name="y")], alpha=0.01)

    assert weigh(found, weighted=0.0, least=0.01) is Verdict.INCONCLUSIVE
