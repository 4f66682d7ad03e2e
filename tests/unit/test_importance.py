from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253  # no DAG file imports a test
import pandas as pd  # noqa: TID253  # as above
import pytest

from ml_lifecycle.backends.monitoring import importance as backend
from ml_lifecycle.backends.monitoring.importance import permuted, shares
from ml_lifecycle.core.contracts import DatasetRef
from ml_lifecycle.core.errors import DataError, RequestError
from ml_lifecycle.stages import importance as stage
from ml_lifecycle.stages.champion import ChampionInfo, champion_info
from ml_lifecycle.stages.evaluation import EvaluationJob, evaluate
from ml_lifecycle.stages.importance import importance_of
from ml_lifecycle.stages.runner import Tools, record
from tests.fakes import small_model


def table(rows: int = 500) -> pd.DataFrame:
    generator = np.random.default_rng(1)
    drawn: pd.DataFrame = pd.DataFrame({name: generator.normal(size=rows) for name in ("much", "little", "none")})
    return drawn


def linear(features: pd.DataFrame) -> Any:
    return (3 * features["much"] + features["little"]).to_numpy()


def losses(features: pd.DataFrame, *, seed: int = 1, predict: Any = linear) -> dict[str, float]:
    truth = linear(features)

    def squared_error(scores: Any) -> float:
        return float(np.mean((scores - truth) ** 2))

    columns = list(features.columns)
    return permuted(predict, features, columns, squared_error, higher_is_better=False, seed=seed)


def test_what_is_lost_is_what_a_shuffled_column_takes_away() -> None:
    found = losses(table(20_000))

    # Two independent draws of a column with variance 1 and weight w differ by 2 w^2 on average.
    assert found["much"] == pytest.approx(18, rel=0.05)
    assert found["little"] == pytest.approx(2, rel=0.05)
    assert found["none"] == 0.0


def test_a_score_where_more_is_better_loses_the_other_way_round() -> None:
    features = table()
    truth = linear(features)

    found = permuted(
        linear,
        features,
        ["much", "none"],
        lambda scores: float(np.corrcoef(scores, truth)[0, 1]),
        higher_is_better=True,
        seed=1,
    )

    assert found["much"] > 0.5
    assert found["none"] == pytest.approx(0.0, abs=1e-12)


def test_the_same_seed_says_the_same_and_another_about_the_same() -> None:
    features = table(5000)

    assert losses(features) == losses(features)
    assert losses(features, seed=2) == pytest.approx(losses(features), rel=0.1)
    assert losses(features, seed=2) != losses(features)


def test_a_wide_table_is_shuffled_in_parts_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    features, calls = table(), []
    whole = losses(features)
    monkeypatch.setattr(backend, "_MOST_CELLS", 2 * features.size)

    def predict(part: pd.DataFrame) -> Any:
        calls.append(len(part))
        return linear(part)

    found = losses(features, predict=predict)

    # The table itself, then nine shuffles, two at a time.
    assert calls == [500, 1000, 1000, 1000, 1000, 500]
    assert found == pytest.approx(whole)


def test_categories_with_gaps_are_shuffled_with_their_gaps() -> None:
    features = pd.DataFrame({"kind": pd.Series(["a", None, "b", "a"] * 50, dtype=object), "x": np.arange(200.0)})
    seen: list[int] = []

    def predict(part: pd.DataFrame) -> Any:
        seen.extend(part["kind"].isna().to_numpy().reshape(-1, 200).sum(axis=1))
        return part["kind"].eq("a").to_numpy(dtype="float64")

    truth = predict(features)
    found = permuted(
        predict, features, ["kind", "x"], lambda scores: float(np.mean(scores == truth)), higher_is_better=True, seed=1
    )

    assert set(seen) == {50}
    assert found["kind"] > 0.3
    assert found["x"] == 0.0


def test_what_cannot_be_measured_weighs_nothing() -> None:
    found = permuted(linear, table(), ["much"], lambda _: None, higher_is_better=True, seed=1)

    assert found == {"much": 0.0}


def test_shares_sum_to_one_and_a_gain_is_no_loss() -> None:
    assert shares({"a": 3.0, "b": 1.0, "c": -2.0}) == {"a": 0.75, "b": 0.25, "c": 0.0}
    assert shares({"a": 0.0, "b": -1.0}) == {"a": 0.0, "b": 0.0}
    assert shares({}) == {}


# --- Of a champion ---------------------------------------------------------------------------------------------------


@pytest.fixture
def known(tools: Tools, tmp_path: Path) -> Tools:
    return small_model.with_project(tools, tmp_path / "project")


def champion(tools: Tools, dataset: DatasetRef | None = None) -> ChampionInfo:
    trained = small_model.trained(tools, dataset or small_model.dataset(tools, small_model.rows(1500)))
    record("evaluate", evaluate(EvaluationJob(model=trained, rehearse=False), tools), tools, model="flights")
    small_model.released(tools, trained)
    found = champion_info("flights", tools)
    assert found is not None
    return found


def test_a_champion_depends_on_what_made_its_labels(known: Tools) -> None:
    found = importance_of(champion(known), known)

    assert set(found) == {"distance", "carrier", "temp"}
    assert sum(found.values()) == pytest.approx(1.0)
    assert found["distance"] > found["carrier"] > 0.05
    # No label depends on the weather.
    assert found["temp"] < 0.02


def test_it_is_measured_once_for_a_champion(known: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    serving = champion(known)
    first = importance_of(serving, known)
    monkeypatch.setattr(stage, "permuted", lambda *_, **__: pytest.fail("measured again"))

    assert importance_of(serving, known) == first


def test_a_champion_without_a_target_says_why_it_cannot_be_measured(known: Tools) -> None:
    serving = champion(known)
    columns = serving.dataset.columns.model_copy(update={"target": None})
    blind = dataclasses.replace(serving, dataset=serving.dataset.model_copy(update={"columns": columns}))

    with pytest.raises(RequestError, match="without a target"):
        importance_of(blind, known)


def test_a_file_that_cannot_be_read_is_an_error_with_the_way_out(known: Tools, tmp_path: Path) -> None:
    serving = champion(known)
    importance_of(serving, known)
    (path,) = (tmp_path / "data/reports/importance/flights").glob("*/importance.json")
    path.write_text("[]")

    with pytest.raises(DataError, match="remove the folder"):
        importance_of(serving, known)
