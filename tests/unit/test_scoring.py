"""A partition is scored by the champion, exactly once."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd  # noqa: TID253  # no DAG file imports a test
import pytest

from ml_lifecycle.core.contracts import ScoredPartition, Source
from ml_lifecycle.core.errors import (
    ChampionError,
    DataError,
    DigestMismatchError,
    LifecycleError,
    PartitionMissingError,
    RequestError,
)
from ml_lifecycle.stages import runner
from ml_lifecycle.stages.champion import load_trained
from ml_lifecycle.stages.runner import Tools
from ml_lifecycle.stages.scoring import ScoringJob, score, score_with
from ml_lifecycle.stages.training import build_inputs
from tests.fakes.small_model import COLUMNS, FEATURES, dataset, released, request, rows, trained, weather, with_project


@pytest.fixture
def tools(tools: Tools, tmp_path: Path) -> Tools:
    return with_project(tools, tmp_path / "project")


@pytest.fixture
def landed(tools: Tools, tmp_path: Path) -> pd.DataFrame:
    """An unlabelled partition, and the weather beside it."""
    table: pd.DataFrame = rows(60, seed=2).drop(columns=["late"])
    for folder, content in (("flights", table), ("weather", weather())):
        (tmp_path / "data" / folder).mkdir(parents=True)
        content.to_parquet(tmp_path / "data" / folder / "2013-02.parquet", index=False)
    return table


def scoring_job(partition: str = "2013-02") -> ScoringJob:
    return ScoringJob(
        request=request(stream="score", partition=partition),
        source=Source(uri="flights/{{ partition }}.parquet"),
        related={"weather": Source(uri="weather/{{ partition }}.parquet")},
        columns=COLUMNS,
        output=Source(uri="scored/{{ partition }}"),
    )


def read(tools: Tools, scored: ScoredPartition) -> pd.DataFrame:
    with tools.data.folder(scored.uri, scored.fingerprint) as folder:
        table: pd.DataFrame = pd.read_parquet(folder / "predictions.parquet")
    return table


def test_every_row_is_scored_and_stamped_with_the_version_and_its_digest(tools: Tools, landed: pd.DataFrame) -> None:
    model = trained(tools)
    released(tools, model)

    scored = score(scoring_job(), tools)

    table = read(tools, scored)
    assert list(table.columns) == ["id", "at", "score", "label", "model_version", "model_digest", "partition"]
    assert table["id"].tolist() == landed["id"].tolist()
    assert table["score"].between(0, 1).all()
    assert (table["label"] == (table["score"] >= 0.5)).all()
    assert set(table["model_version"]) == {1}
    assert set(table["model_digest"]) == {model.digest}
    assert set(table["partition"]) == {"2013-02"}
    assert (scored.rows, scored.version, scored.digest) == (60, 1, model.digest)
    assert scored.classes == (False, True)


def test_of_several_classes_each_has_a_probability_and_the_most_probable_one_is_the_label(
    tools: Tools, landed: pd.DataFrame
) -> None:
    table = rows().assign(late=lambda table: table["carrier"].fillna("AA"))
    released(tools, trained(tools, dataset(tools, table)))

    scored = score(scoring_job(), tools)

    found = read(tools, scored)
    probabilities = found[["score_AA", "score_B6", "score_UA"]]
    assert scored.classes == ("AA", "B6", "UA")
    assert probabilities.sum(axis=1).tolist() == pytest.approx([1.0] * 60)
    assert found["score"].tolist() == probabilities.max(axis=1).tolist()
    assert found["label"].tolist() == probabilities.idxmax(axis=1).str.removeprefix("score_").tolist()


def test_a_row_scores_what_the_evaluation_would_have_said(tools: Tools, tmp_path: Path, landed: pd.DataFrame) -> None:
    model = trained(tools)
    released(tools, model)
    same = dataset(tools, rows(60, seed=2), uri="datasets/same")

    found = read(tools, score(scoring_job(), tools))

    expected = load_trained(model, tools).predict(build_inputs(same, FEATURES, tools).features)
    assert found["score"].tolist() == expected.tolist()


def test_a_partition_is_scored_once_whoever_is_champion_later(tools: Tools, landed: pd.DataFrame) -> None:
    found = dataset(tools)
    released(tools, trained(tools, found))
    first = score(scoring_job(), tools)
    released(tools, trained(tools, found, seed=8))

    second = score(scoring_job(), tools)

    assert second == first
    assert second.version == 1


def test_without_a_release_nothing_is_scored(tools: Tools, landed: pd.DataFrame) -> None:
    with pytest.raises(ChampionError, match=r"no version was released yet.*approve a release first"):
        score(scoring_job(), tools)

    assert tools.data.published("scored/2013-02") is None


def test_a_partition_that_is_not_there_leaves_nothing_published(tools: Tools, landed: pd.DataFrame) -> None:
    released(tools, trained(tools))

    with pytest.raises(PartitionMissingError, match="2013-03"):
        score(scoring_job("2013-03"), tools)

    assert tools.data.published("scored/2013-03") is None


def test_a_partition_that_lacks_a_column_leaves_nothing_published(
    tools: Tools, landed: pd.DataFrame, tmp_path: Path
) -> None:
    released(tools, trained(tools))
    landed.drop(columns=["distance"]).to_parquet(tmp_path / "data" / "flights" / "2013-02.parquet", index=False)

    with pytest.raises(LifecycleError, match="distance"):
        score(scoring_job(), tools)

    assert tools.data.published("scored/2013-02") is None


def test_a_request_without_a_partition_is_refused(tools: Tools) -> None:
    with pytest.raises(RequestError, match="no partition"):
        score(scoring_job(""), tools)


def test_something_else_that_lies_at_the_output_is_not_taken_for_predictions(tools: Tools) -> None:
    def write(folder: Path) -> None:
        (folder / "origin.json").write_text(json.dumps({"model": "flights"}))

    tools.data.publish("scored/2013-02", write)

    with pytest.raises(DataError, match=r"origin.json cannot be read"):
        score(scoring_job(), tools)


def test_the_predictions_of_another_model_are_not_taken_for_ones_own(tools: Tools, landed: pd.DataFrame) -> None:
    released(tools, trained(tools))
    scored = score(scoring_job(), tools)
    own = scoring_job()
    other = own.model_copy(update={"request": own.request.model_copy(update={"model": "trains"})})

    with pytest.raises(DataError, match=r"predictions of flights for 2013-02 lie where those of trains for 2013-02 go"):
        score(other, tools)

    assert tools.data.published(scored.uri) == scored.fingerprint


def test_predictions_that_were_changed_after_scoring_are_not_reported_as_scored(
    tools: Tools, landed: pd.DataFrame, tmp_path: Path
) -> None:
    released(tools, trained(tools))
    runner.run(score, scoring_job(), with_request(tools), model="flights")
    file = tmp_path / "data" / "scored" / "2013-02" / "predictions.parquet"
    pd.read_parquet(file).assign(score=1.0).to_parquet(file, index=False)

    with pytest.raises(DigestMismatchError, match="changed after scoring"):
        score(scoring_job(), tools)


def with_request(tools: Tools) -> Tools:
    """The ledger knows the request, as it does after a run's first task."""
    runner.record("resolve", scoring_job().request, tools, model="flights")
    return tools


def test_a_model_that_is_nobodys_champion_scores_as_version_0(tools: Tools, landed: pd.DataFrame) -> None:
    model = trained(tools)

    scored = score_with(scoring_job(), model, tools)

    assert (scored.version, scored.digest) == (0, model.digest)
    assert score_with(scoring_job(), model, tools) == scored
