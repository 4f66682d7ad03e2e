"""The shortcut past the tables gives the model's own answers, bit for bit, or is not taken."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253  # no DAG file imports a test
import pandas as pd  # noqa: TID253  # as above
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer  # noqa: TID253  # as above
from sklearn.ensemble import (  # noqa: TID253  # as above
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression, Ridge  # noqa: TID253  # as above
from sklearn.pipeline import Pipeline  # noqa: TID253  # as above
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder  # noqa: TID253  # as above
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it ships no types

from ml_lifecycle.backends.models.inputs import predict, prepare
from ml_lifecycle.core.errors import ModelAnswerError
from ml_lifecycle.serving.scorer import Scorer
from ml_lifecycle.serving.shortcut import MOST_ROWS, shortcut_of
from ml_lifecycle.serving.values import columns_of
from tests.fakes.served_model import INPUTS, Kind, fitted, info_of, inputs, write_package

ESTIMATORS: dict[str, tuple[Any, Kind]] = {
    "boosting": (HistGradientBoostingClassifier(max_iter=9, random_state=1), "late or not"),
    "logistic": (LogisticRegression(), "late or not"),
    "several classes": (LogisticRegression(), "one of three"),
    "forest": (RandomForestClassifier(n_estimators=5, random_state=1), "one of three"),
    "numbers by trees": (HistGradientBoostingRegressor(max_iter=9, random_state=1), "a number"),
    "numbers by lines": (Ridge(), "a number"),
}
NUMBERS = st.one_of(st.none(), st.floats(-1e6, 1e6))
TEXTS = st.one_of(st.none(), st.sampled_from(["AA", "B6", "UA", "ZZ", "", "1"]))


@pytest.fixture(autouse=True, scope="module")
def _as_in_the_server() -> Iterator[None]:
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="module")
def scorers(_as_in_the_server: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Scorer]:
    """Each of the estimators, from its package, warm."""
    found = {}
    for name, (estimator, kind) in ESTIMATORS.items():
        folder: Path = tmp_path_factory.mktemp("package") / "p"
        digest = write_package(folder, fitted(estimator, kind), kind)
        found[name] = Scorer.load(folder, digest, trusted_types=())
        found[name].warm_up(folder)
    return found


@pytest.mark.parametrize("name", ESTIMATORS)
def test_what_training_builds_has_a_shortcut(scorers: dict[str, Scorer], name: str) -> None:
    assert scorers[name].has_shortcut


@settings(deadline=None, max_examples=25)
@given(st.sampled_from(sorted(ESTIMATORS)), st.lists(st.tuples(NUMBERS, TEXTS, NUMBERS), min_size=1, max_size=5))
def test_any_rows_are_answered_as_the_whole_model_does(
    scorers: dict[str, Scorer], name: str, rows: list[tuple[Any, ...]]
) -> None:
    scorer = scorers[name]
    values = {column: [row[place] for row in rows] for place, column in enumerate(INPUTS)}

    found = scorer.scores(columns_of(values, INPUTS), len(rows))

    table = pd.DataFrame({column: pd.Series(held, dtype=object) for column, held in values.items()})
    np.testing.assert_array_equal(found, predict(scorer._model, scorer.info, table))


def test_many_rows_go_the_models_own_way_to_the_same_answers(scorers: dict[str, Scorer]) -> None:
    table = inputs(MOST_ROWS + 1)
    values = {name: table[name].where(table[name].notna(), None).tolist() for name in INPUTS}

    found = scorers["boosting"].scores(columns_of(values, INPUTS), len(table))

    np.testing.assert_array_equal(found, predict(scorers["boosting"]._model, info_of(), table))


def test_a_pipeline_of_another_shape_has_none() -> None:
    table = prepare(inputs(), INPUTS, where="here")
    bare = LogisticRegression().fit(table[["distance"]], table["distance"] > 0)
    sparse = Pipeline(
        [
            ("columns", ColumnTransformer([("categories", OneHotEncoder(handle_unknown="ignore"), ["carrier"])])),
            ("model", LogisticRegression()),
        ]
    ).fit(table, table["distance"] > 0)

    assert shortcut_of(bare, info_of(), table) is None
    assert shortcut_of(sparse, info_of(), table) is None


def test_a_pipeline_whose_answers_it_would_change_has_none() -> None:
    table = prepare(inputs(), INPUTS, where="here")
    rare = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2, max_categories=2
    )
    columns = ColumnTransformer([("numbers", "passthrough", ["distance"]), ("categories", rare, ["carrier"])])
    model = Pipeline([("columns", columns), ("model", HistGradientBoostingClassifier(max_iter=9))])
    model.fit(table, (table["carrier"] == "B6").to_numpy() ^ (table["distance"] > 0).to_numpy())

    assert shortcut_of(model, info_of(), table) is None


def test_a_model_that_answers_nan_has_failed(tmp_path: Path) -> None:
    model = fitted(Ridge(), "a number")
    digest = write_package(tmp_path / "p", model, "a number")
    scorer = Scorer.load(tmp_path / "p", digest, trusted_types=())
    scorer._model.named_steps["model"].coef_[:] = np.nan

    with pytest.raises(ModelAnswerError, match="answered NaN"):
        scorer.scores(columns_of({"distance": [1.0], "carrier": ["AA"], "temp": [1.0]}, INPUTS), 1)


def test_a_model_that_cannot_take_a_row_has_failed(tmp_path: Path) -> None:
    digest = write_package(tmp_path / "p", fitted(LogisticRegression()))
    scorer = Scorer.load(tmp_path / "p", digest, trusted_types=())
    scorer._model.named_steps["columns"].transformers_ = []

    with pytest.raises(ModelAnswerError, match="the model failed on this request"):
        scorer.scores(columns_of({"distance": [1.0], "carrier": ["AA"], "temp": [1.0]}, INPUTS), 1)
