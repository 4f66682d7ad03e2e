"""What was asked before is asked of a new version, and the answers are compared request by request."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from pathlib import Path

import numpy as np  # noqa: TID253  # no DAG file imports a test
import pandas as pd  # noqa: TID253  # as above
import pyarrow as pa  # noqa: TID253  # as above
import pyarrow.parquet as pq  # noqa: TID253  # as above
import pytest

from ml_lifecycle.backends.monitoring.prediction_log import FOLDER
from ml_lifecycle.core.contracts import AnalysisPolicy, PairedScores
from ml_lifecycle.core.errors import DigestMismatchError
from ml_lifecycle.stages.runner import Tools
from ml_lifecycle.stages.shadow import ShadowJob, replay, requests_logged
from tests.fakes.answering_models import NOON, asked, log, move, package, says


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return package(tmp_path / "old")


def shadow(old: Path, new: Path, tools: Tools, **changes: object) -> PairedScores:
    values = {"model": "flights", "candidate": move(new, 2, epoch=2), "previous": move(old, 1), **changes}
    return replay(ShadowJob.model_validate(values), tools)


def log_of(tools: Tools) -> Path:
    return Path(tools.data.filesystem(FOLDER)[1])


# --- Compared --------------------------------------------------------------------------------------------------------


def test_a_version_that_answers_the_same_shows_no_difference(old: Path, tools: Tools, tmp_path: Path) -> None:
    log(log_of(tools), old, asked(600))

    found = shadow(old, package(tmp_path / "again"), tools)

    assert (found.rows, found.failed, found.mismatched, found.detail) == (600, 0, 0, "")
    assert (found.distance, found.p_value, found.mean_difference, found.flipped) == (0.0, 1.0, 0.0, 0.0)


def test_a_version_that_says_more_is_told_with_bounds(old: Path, tools: Tools, tmp_path: Path) -> None:
    table = asked(600)
    log(log_of(tools), old, table)
    new = package(tmp_path / "new", shift=1.0)

    found = shadow(old, new, tools)

    before, after = (says(one, table) for one in (old, new))
    assert found.mean_difference == pytest.approx((after - before).mean())
    assert found.flipped == pytest.approx(((before >= 0.5) != (after >= 0.5)).mean())
    assert found.low is not None
    assert found.low > 0.1
    assert found.p_value == pytest.approx(0.001)


def test_of_several_classes_the_label_that_changes_counts(tools: Tools, tmp_path: Path) -> None:
    table = asked(200)
    old, new = (
        package(tmp_path / name, inputs, kind="multiclass")
        for name, inputs in (("old", ["far", "wind"]), ("new", ["far"]))
    )
    log(log_of(tools), old, table)

    found = shadow(old, new, tools)

    before, after = (says(one, table).argmax(axis=1) for one in (old, new))
    assert found.flipped == pytest.approx((before != after).mean())
    assert found.mismatched == 0


def test_numbers_have_no_labels_that_could_change(tools: Tools, tmp_path: Path) -> None:
    table = asked(50)
    old, new = (
        package(tmp_path / name, kind="regression", shift=shift) for name, shift in (("old", 0.0), ("new", 2.0))
    )
    log(log_of(tools), old, table)

    found = shadow(old, new, tools)

    assert found.flipped is None
    assert found.mean_difference == pytest.approx(2.0)


def test_the_newest_requests_of_the_serving_version_are_asked(old: Path, tools: Tools, tmp_path: Path) -> None:
    root, day = log_of(tools), timedelta(days=1)
    other = package(tmp_path / "other", shift=3.0)
    log(root, old, asked(40, seed=5), begin=NOON - day, partition="yesterday")
    log(root, old, asked(40, seed=6), partition="today")
    log(root, other, asked(40, seed=7), begin=NOON + day, version=9, partition="tomorrow")

    found = [shadow(old, package(tmp_path / "new", shift=1.0), tools, requests=count) for count in (40, 60, 500)]

    assert [one.rows for one in found] == [40, 60, 80]
    today = asked(40, seed=6)
    before, after = (says(one, today) for one in (old, tmp_path / "new"))
    assert found[0].mean_difference == pytest.approx((after - before).mean())


def test_the_same_log_always_gives_the_same_result(old: Path, tools: Tools, tmp_path: Path) -> None:
    log(log_of(tools), old, asked(300))
    new = package(tmp_path / "new", shift=0.2)

    assert shadow(old, new, tools) == shadow(old, new, tools)


def test_requests_are_not_looked_for_further_back_than_asked(old: Path, tools: Tools, tmp_path: Path) -> None:
    log(log_of(tools), old, asked(60))
    later = dataclasses.replace(tools, clock=lambda: NOON + timedelta(seconds=90))

    found = shadow(old, package(tmp_path / "new"), later, window="1m")

    assert found.rows == 30


def test_what_the_servers_of_this_machine_logged_counts_too(old: Path, tools: Tools, tmp_path: Path) -> None:
    home = tmp_path / "home"
    log(home / FOLDER, old, asked(30))
    log(log_of(tools), old, asked(20, seed=3), partition="batch")

    found = shadow(old, package(tmp_path / "new"), dataclasses.replace(tools, serving_home=home))

    assert found.rows == 50


def test_captured_requests_that_do_not_name_who_answered_are_asked_again(
    old: Path, tools: Tools, tmp_path: Path
) -> None:
    log(log_of(tools), old, asked(30), version=None, digest="")

    found = shadow(old, package(tmp_path / "new"), tools)

    assert (found.rows, found.detail) == (30, "")


# --- Requests that cannot be answered --------------------------------------------------------------------------------


def test_requests_that_break_the_candidate_are_counted_and_the_others_compared(
    old: Path, tools: Tools, tmp_path: Path
) -> None:
    table = asked(100)
    table.loc[[3, 50, 99], "carrier"] = "ZZ"
    log(log_of(tools), old, table)
    new = package(tmp_path / "new", ["far", "wind", "carrier"])

    found = shadow(old, new, tools)

    assert (found.rows, found.failed) == (97, 3)
    assert found.distance is not None


def test_a_candidate_that_breaks_on_every_request_answers_none(old: Path, tools: Tools, tmp_path: Path) -> None:
    log(log_of(tools), old, asked(2500).assign(carrier="ZZ"))
    new = package(tmp_path / "new", ["far", "wind", "carrier"])

    found = shadow(old, new, tools, requests=2500)

    assert (found.rows, found.failed, found.distance) == (0, 2500, None)
    assert found.detail == "there is no request that both versions answered"


def test_answers_that_are_no_numbers_are_failures(old: Path, tools: Tools, tmp_path: Path) -> None:
    log(log_of(tools), old, asked(20))
    new = package(tmp_path / "new", shift=float("nan"))

    found = shadow(old, new, tools)

    assert (found.rows, found.failed) == (0, 20)


# --- What cannot be compared -----------------------------------------------------------------------------------------


def test_without_a_log_nothing_is_concluded_and_it_says_how_to_get_one(old: Path, tools: Tools, tmp_path: Path) -> None:
    found = shadow(old, package(tmp_path / "new"), tools)

    assert (found.rows, found.distance, found.p_value) == (0, None, None)
    assert "the log holds no request that version 1 answered" in found.detail
    assert "ml-lifecycle capture" in found.detail


def test_how_many_requests_there_are_is_known_without_a_model(old: Path, tools: Tools, tmp_path: Path) -> None:
    gone = move(old, 1).model_copy(update={"uri": str(tmp_path / "gone")})
    job = ShadowJob(model="flights", candidate=gone, previous=gone, requests=50)
    counts = [requests_logged(job, tools)]
    for seed in (1, 2):
        log(log_of(tools), old, asked(30, seed=seed), partition=f"p{seed}")
        counts.append(requests_logged(job, tools))

    assert counts == [0, 30, 50]
    assert "the log holds no request" in replay(job.model_copy(update={"model": "trains"}), tools).detail


def test_a_policy_that_wants_many_answers_asks_for_more_than_that_many(old: Path) -> None:
    first, second = move(old, 1), move(old, 2, epoch=2)

    jobs = [ShadowJob.of(second, first, AnalysisPolicy(min_requests=wanted)) for wanted in (500, 5000, 1_000_000)]

    assert [(job.requests, job.at_least) for job in jobs] == [(2000, 500), (10_000, 5000), (100_000, 100_000)]
    assert (jobs[0].candidate, jobs[0].previous) == (second, first)


def test_with_fewer_requests_than_wanted_no_model_is_asked(old: Path, tools: Tools, tmp_path: Path) -> None:
    log(log_of(tools), old, asked(30))
    gone = move(old, 2).model_copy(update={"uri": str(tmp_path / "gone")})

    found = shadow(old, old, tools, candidate=gone, at_least=31)

    assert found.detail == "the log holds 30 requests so far, and 31 are wanted"


def test_before_a_first_release_there_is_nothing_to_compare_with(old: Path, tools: Tools) -> None:
    found = shadow(old, old, tools, previous=None)

    assert found.rows == 0
    assert "nothing serves" in found.detail


def test_inputs_that_the_log_does_not_hold_are_named(old: Path, tools: Tools, tmp_path: Path) -> None:
    log(log_of(tools), old, asked(20)[["far", "wind"]])

    found = shadow(old, package(tmp_path / "new", ["far", "carrier"]), tools)

    assert found.rows == 0
    assert found.detail.startswith("version 2 takes inputs that the log does not hold: carrier;")


def test_a_log_without_inputs_cannot_be_asked_again(old: Path, tools: Tools, tmp_path: Path) -> None:
    table = asked(20)
    log(log_of(tools), old, table)
    for file in log_of(tools).rglob("*.parquet"):
        pq.write_table(pq.read_table(file, partitioning=None).drop(["input_far", "input_wind"]), file)

    found = shadow(old, package(tmp_path / "new"), tools)

    assert "version 1 takes inputs that the log does not hold: far, wind;" in found.detail


def test_a_log_that_holds_other_answers_than_the_serving_versions_proves_nothing(
    old: Path, tools: Tools, tmp_path: Path
) -> None:
    log(log_of(tools), old, asked(100), scores=np.full(100, 0.5))

    found = shadow(old, package(tmp_path / "new"), tools)

    assert (found.rows, found.mismatched, found.distance) == (0, 100, None)
    assert "100 of 100 logged answers are not what version 1 answers" in found.detail


def test_one_wrong_answer_in_a_hundred_is_left_out_and_told(old: Path, tools: Tools, tmp_path: Path) -> None:
    table = asked(200)
    scores = says(old, table)
    scores[7], scores[8] = 0.123, np.nan
    log(log_of(tools), old, table, scores=scores)

    found = shadow(old, package(tmp_path / "new"), tools)

    assert (found.rows, found.mismatched, found.detail) == (198, 2, "")


def test_versions_that_tell_different_things_are_not_compared(old: Path, tools: Tools, tmp_path: Path) -> None:
    log(log_of(tools), old, asked(20))

    found = shadow(old, package(tmp_path / "new", kind="regression"), tools)

    assert "version 1 tells the classes False, True apart, and version 2 a number" in found.detail


def test_a_log_that_cannot_be_read_is_told_and_proves_nothing(old: Path, tools: Tools, tmp_path: Path) -> None:
    log(log_of(tools), old, asked(20))
    next(log_of(tools).rglob("*.parquet")).write_bytes(b"no parquet")

    found = shadow(old, package(tmp_path / "new"), tools)

    assert found.rows == 0
    assert "the log cannot be read" in found.detail


def test_inputs_whose_types_no_column_can_hold_together_are_told(old: Path, tools: Tools, tmp_path: Path) -> None:
    log(log_of(tools), old, asked(20))
    log(log_of(tools), old, asked(20, seed=2), begin=NOON + timedelta(hours=1), partition="later")
    later = next(log_of(tools).rglob("later*.parquet"))
    table = pq.read_table(later, partitioning=None)
    place = table.schema.get_field_index("input_far")
    pq.write_table(table.set_column(place, "input_far", pa.array([[1.0]] * 20)), later)

    found = shadow(old, package(tmp_path / "new"), tools)

    assert found.rows == 0
    assert "the log cannot be read" in found.detail


def test_a_log_of_another_hand_is_asked_by_what_it_holds(old: Path, tools: Tools, tmp_path: Path) -> None:
    table = asked(30)
    folder = log_of(tools) / "predictions" / "endpoint=flights" / "dt=2026-03-01"
    folder.mkdir(parents=True)
    written = pd.DataFrame(
        {
            "prediction_id": [f"mine {number}" for number in range(30)],
            "at": pd.date_range("2026-03-01T08:00", periods=30, freq="s"),
            "model_version": [1.0] * 30,
            "score": says(old, table),
            "probabilities": ["none"] * 30,
            **{f"input_{name}": table[name] for name in ("far", "wind")},
        }
    )
    written.to_parquet(folder / "mine.parquet", index=False)

    found = shadow(old, package(tmp_path / "new"), tools)

    assert (found.rows, found.detail) == (30, "")


def test_a_package_that_was_changed_is_refused(old: Path, tools: Tools, tmp_path: Path) -> None:
    log(log_of(tools), old, asked(20))
    new = package(tmp_path / "new")
    candidate = move(new, 2, epoch=2)
    (new / "model.skops").write_bytes(b"other bytes")

    with pytest.raises(DigestMismatchError, match="the model package has digest"):
        shadow(old, new, tools, candidate=candidate)
