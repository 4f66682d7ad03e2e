"""What is known about a step: what both versions did, and what their labelled answers were worth."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, Literal

import pandas as pd  # noqa: TID253  # no DAG file imports a test
import pyarrow as pa  # noqa: TID253  # as above
import pytest

from ml_lifecycle.backends.data.local import LocalStore
from ml_lifecycle.backends.deployment.base import Means, Serving, SplittingTarget
from ml_lifecycle.backends.monitoring.prediction_log import FOLDER, Origin, label_table, prediction_table, write_log
from ml_lifecycle.backends.monitoring.served_labels import label_answers
from ml_lifecycle.core.contracts import Losses, Move, Observation, PairedScores, StepEvidence
from ml_lifecycle.serving.request_log import Answered, LogOptions, RequestLog, Segment
from ml_lifecycle.stages import step_evidence
from ml_lifecycle.stages.runner import Tools
from ml_lifecycle.stages.shadow import ShadowJob, replay
from ml_lifecycle.stages.step_evidence import EvidenceJob, gather
from tests.fakes.answering_models import NOON, asked, late, package, says
from tests.fakes.answering_models import move as released

QUALITY = {"quality": {"metric": "accuracy"}}
SECOND, DAY = timedelta(seconds=1), timedelta(days=1)


class _Untouched:
    def _never(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("looking changes nothing")

    deploy = promote = destroy = restore = rehearse = set_split = retire = _never


class ToldTarget(_Untouched, SplittingTarget):
    """Two versions of which a test says what they did; nothing is ever written to it."""

    backend: Literal["told"] = "told"
    seen: ClassVar[Mapping[int, Observation]] = {
        1: Observation(version=1, requests=900, errors=3),
        2: Observation(version=2, requests=100, errors=1),
    }
    fault: str = ""

    def status(self, model: str, means: Means) -> Serving:
        return Serving(traffic={1: 90, 2: 10}, fault=self.fault)

    def observe(self, model: str, since: datetime, means: Means) -> Mapping[int, Observation]:
        assert since == NOON
        return self.seen


@pytest.fixture(autouse=True)
def _told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        step_evidence, "target_of", lambda move, otherwise: ToldTarget.model_validate({**otherwise, **move.target})
    )


def move(version: int, **changes: Any) -> Move:
    values = {
        "model": "flights",
        "environment": "test",
        "epoch": version,
        "kind": "release",
        "version": version,
        "digest": str(version) * 64,
        "uri": "runs:/1/model",
        "moved_by": "ada",
        "moved_at": NOON,
    }
    return Move.model_validate({**values, **changes})


def gathered(tools: Tools, **changes: Any) -> StepEvidence:
    values = {"model": "flights", "move": move(2), "previous": move(1), "percent": 10, "began_at": NOON}
    job = EvidenceJob.model_validate({**values, "target": {"backend": "told"}, "policy": QUALITY, **changes})
    return gather(job, tools)


def origin(version: int, **changes: Any) -> Origin:
    told = {"endpoint": "flights", "partition": "p", "model_version": version, "model_digest": str(version) * 64}
    return Origin(**{**told, **changes})


def answer(
    tools: Tools,
    version: int,
    labels: Sequence[str],
    *,
    begin: datetime = NOON,
    root: Path | None = None,
    by: tuple[str, str] | None = ("request_id", "r"),
    **told: Any,
) -> None:
    """One answer a second.

    :param by: The column that shows that they answered requests, and its value.
    """
    answers = pd.DataFrame({"key": range(len(labels)), "score": [0.9 if label == "late" else 0.1 for label in labels]})
    answers = answers.assign(label=list(labels), at=[begin + place * SECOND for place in range(len(labels))])
    source = origin(version, data_digest=str(begin), **told)
    table = prediction_table(answers, source, key="key", time="at", classes=("on time", "late"))
    if by is not None:
        table = table.append_column(by[0], pa.array([by[1]] * len(table), pa.string()))
    write = tools.data.write_file if root is None else LocalStore(root).write_file
    write_log(lambda uri, content: write(f"{FOLDER}/{uri}", content), "predictions", source, table)


def turn_out(
    tools: Tools,
    version: int,
    truth: Sequence[str | None],
    *,
    begin: datetime = NOON,
    recorded: int = 0,
    predicted: Origin | None = None,
) -> None:
    table = pd.DataFrame({"key": range(len(truth)), "truth": list(truth), "at": [begin] * len(truth)})
    source = origin(version, data_digest=f"{list(truth)}{recorded}", recorded=recorded)
    predicted = origin(version) if predicted is None else predicted
    labels = label_table(table, source, key="key", time="at", target="truth", predicted=predicted)
    write_log(lambda uri, content: tools.data.write_file(f"{FOLDER}/{uri}", content), "labels", source, labels)


def serve(root: Path, folder: Path, by: Move, table: pd.DataFrame) -> None:
    """Log as a model server does that answers the table's rows, a request each."""
    names = ["far", "wind"]
    segment = Segment(
        endpoint="flights",
        version=by.version,
        digest=by.digest,
        inputs=dict.fromkeys(names, "number"),
        classes=(False, True),
        writer=by.version,
    )
    kept = RequestLog(LogOptions(root), segment)
    for place, score in enumerate(says(folder, table)):
        row = table.iloc[[place]]
        columns = {name: row[name].tolist() for name in names}
        at = (NOON + place * SECOND).timestamp()
        kept.put(Answered(at, f"r{by.version}-{place}", row["key"].tolist(), columns, 1, [float(score)], 1.0, None))
    kept.close()


def worth(found: Losses | None) -> tuple[int, int, float] | None:
    return None if found is None else (found.version, found.rows, found.total)


def test_both_versions_are_told_as_the_target_tells_them(tools: Tools) -> None:
    found = gathered(tools)

    assert found.old == ToldTarget.seen[1]
    assert found.new == ToldTarget.seen[2]
    assert (found.percent, found.began_at, found.fault, found.notes) == (10, NOON, "", ())


def test_a_first_release_has_no_old_version(tools: Tools) -> None:
    found = gathered(tools, previous=None)

    assert (found.old, found.old_losses) == (None, None)
    assert found.new == ToldTarget.seen[2]
    assert worth(found.new_losses) == (2, 0, 0.0)


def test_what_the_target_found_wrong_is_handed_on(tools: Tools) -> None:
    found = gathered(tools, target={"backend": "told", "fault": "the server of version 2 died"})

    assert found.fault == "the server of version 2 died"


def test_what_the_shadow_found_stands_beside_it(tools: Tools) -> None:
    paired = PairedScores(rows=2000, distance=0.02)

    assert gathered(tools, paired=paired).paired == paired


def test_without_a_policy_for_quality_no_label_is_read(tools: Tools) -> None:
    answer(tools, 2, ["late"])
    turn_out(tools, 2, ["late"])

    found = gathered(tools, policy={})

    assert (found.old_losses, found.new_losses) == (None, None)


def test_labelled_answers_of_each_version_are_counted_and_the_others_are_not(tools: Tools) -> None:
    answer(tools, 1, ["late", "late", "on time", "late"])
    answer(tools, 2, ["late", "on time"])
    turn_out(tools, 1, ["late", "on time", "late"])
    turn_out(tools, 2, ["late"])

    found = gathered(tools)

    assert worth(found.old_losses) == (1, 3, 2.0)
    assert worth(found.new_losses) == (2, 1, 0.0)


def test_answers_from_before_the_step_do_not_count(tools: Tools) -> None:
    answer(tools, 2, ["late"] * 5, begin=NOON - 2 * SECOND)
    turn_out(tools, 2, ["on time"] * 5)

    assert worth(gathered(tools).new_losses) == (2, 3, 3.0)


def test_a_step_that_began_in_another_time_zones_evening_finds_its_answers(tools: Tools) -> None:
    from zoneinfo import ZoneInfo

    midnight = datetime(2026, 3, 2, 1, tzinfo=ZoneInfo("Europe/Berlin"))
    answer(tools, 2, ["late"], begin=midnight)
    turn_out(tools, 2, ["on time"], begin=midnight)

    losses, _ = step_evidence._losses(
        EvidenceJob.model_validate(
            {"model": "flights", "move": move(2), "percent": 10, "began_at": midnight, "policy": QUALITY}
        ),
        tools,
    )

    assert worth(losses["new"]) == (2, 1, 1.0)


def test_a_label_that_tells_no_more_than_the_day_finds_its_answer(tools: Tools) -> None:
    answer(tools, 2, ["late"])
    turn_out(tools, 2, ["on time"], begin=NOON.replace(hour=0))

    assert worth(gathered(tools).new_losses) == (2, 1, 1.0)


def test_labels_that_come_a_day_late_belong_to_their_answers(tools: Tools) -> None:
    answer(tools, 2, ["late", "late"])
    before = gathered(tools)
    turn_out(tools, 2, ["late", "on time"])
    after = gathered(tools)

    assert worth(before.new_losses) == (2, 0, 0.0)
    assert worth(after.new_losses) == (2, 2, 1.0)


def test_of_several_labels_the_one_recorded_last_counts_and_one_taken_back_does_not(tools: Tools) -> None:
    answer(tools, 2, ["late", "late"])
    turn_out(tools, 2, ["on time", "on time"])
    turn_out(tools, 2, ["late", None], recorded=1)

    assert worth(gathered(tools).new_losses) == (2, 1, 0.0)


def test_an_answer_that_was_logged_twice_counts_once(tools: Tools, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with_servers = dataclasses.replace(tools, serving_home=home)
    answer(tools, 2, ["late", "late"])
    answer(tools, 2, ["late", "late"], root=home)
    turn_out(tools, 2, ["on time", "late"])

    assert worth(gathered(with_servers).new_losses) == (2, 2, 1.0)


def test_what_only_the_servers_of_this_machine_logged_counts(tools: Tools, tmp_path: Path) -> None:
    home = tmp_path / "home"
    answer(tools, 2, ["late"], root=home)
    turn_out(tools, 2, ["on time"])

    assert worth(gathered(dataclasses.replace(tools, serving_home=home)).new_losses) == (2, 1, 1.0)


def test_what_scoring_predicted_was_no_request_and_does_not_count(tools: Tools) -> None:
    answer(tools, 2, ["late"], by=None)
    turn_out(tools, 2, ["on time"])

    assert worth(gathered(tools).new_losses) == (2, 0, 0.0)


def test_what_was_captured_belongs_to_the_version_that_its_variant_names(tools: Tools) -> None:
    captured: dict[str, Any] = {"model_version": None, "model_digest": ""}
    for version, labels in ((1, ["late", "late"]), (2, ["late"])):
        told = {**captured, "partition": f"hour-{version}"}
        variant = f"v{version}-{str(version) * 8}"
        answer(tools, version, labels, by=("variant", variant), **told)
        turn_out(tools, version, ["on time"] * len(labels), predicted=origin(version, **told))

    found = gathered(tools)

    assert worth(found.old_losses) == (1, 2, 2.0)
    assert worth(found.new_losses) == (2, 1, 1.0)


def test_what_another_variant_answered_is_nobodys(tools: Tools) -> None:
    told: dict[str, Any] = {"model_version": None, "model_digest": ""}
    answer(tools, 2, ["late"], by=("variant", "AllTraffic"), **told)
    turn_out(tools, 2, ["on time"], predicted=origin(2, **told))

    assert worth(gathered(tools).new_losses) == (2, 0, 0.0)


def test_the_same_version_number_with_other_bytes_is_another_model(tools: Tools) -> None:
    answer(tools, 2, ["late"])
    turn_out(tools, 2, ["on time"])

    found = gathered(tools, move=move(2, digest="9" * 64))

    assert worth(found.new_losses) == (2, 0, 0.0)


def test_a_log_that_cannot_be_read_leaves_quality_unknown_and_says_why(tools: Tools) -> None:
    answer(tools, 2, ["late"])
    turn_out(tools, 2, ["late"])
    folder = Path(tools.data.filesystem(FOLDER)[1])
    next((folder / "labels").rglob("*.parquet")).write_bytes(b"no parquet")

    found = gathered(tools)

    assert (found.old_losses, found.new_losses) == (None, None)
    assert found.new == ToldTarget.seen[2]
    assert "no label is known" in found.notes[0]
    assert "the log cannot be read" in found.notes[0]


def test_labels_that_no_loss_can_be_told_of_are_named(tools: Tools) -> None:
    answer(tools, 2, ["late"])
    turn_out(tools, 2, ["late"])

    found = gathered(tools, policy={"quality": {"metric": "absolute_error"}})

    assert found.notes == ("1 labelled answers of version 2 have no absolute error",)


def test_what_a_server_answered_is_worth_what_its_labels_say(tools: Tools, tmp_path: Path) -> None:
    home, old, new = tmp_path / "home", package(tmp_path / "old"), package(tmp_path / "new", shift=1.0)
    table, moves = asked(60), {1: released(old, 1), 2: released(new, 2)}
    for version, folder in ((1, old), (2, new)):
        serve(home / FOLDER, folder, moves[version], table.assign(key=[f"{version}/{row}" for row in range(60)]))
    truth = late(table)
    labels = pd.DataFrame({"id": [f"{version}/{row}" for version in (1, 2) for row in range(60)], "late": [*truth] * 2})
    label_answers(home / FOLDER, "flights", labels, key="id", label="late", recorded=1)
    on = dataclasses.replace(tools, serving_home=home)

    found = gathered(on, move=moves[2], previous=moves[1])
    shown = replay(ShadowJob(model="flights", candidate=moves[2], previous=moves[1]), on)

    assert worth(found.old_losses) == (1, 60, float(((says(old, table) >= 0.5) != truth).sum()))
    assert worth(found.new_losses) == (2, 60, float(((says(new, table) >= 0.5) != truth).sum()))
    assert (shown.rows, shown.mismatched, shown.detail) == (60, 0, "")
    assert shown.mean_difference == pytest.approx((says(new, table) - says(old, table)).mean())
