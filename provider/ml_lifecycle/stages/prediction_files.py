"""Files of predictions in; what they are worth and whether that is enough out: no model, no ledger, no server."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ml_lifecycle.backends.evaluation.intervals import difference, metric_of
from ml_lifecycle.backends.evaluation.metrics import check_metric
from ml_lifecycle.backends.evaluation.prediction_files import FileRows, named
from ml_lifecycle.backends.evaluation.rows import CANDIDATE, CHAMPION, ScoredRows, Task
from ml_lifecycle.backends.evaluation.rules import measure_rules
from ml_lifecycle.backends.files import file_digest
from ml_lifecycle.core.contracts import (
    ChampionResult,
    Columns,
    Contender,
    DatasetRef,
    Difference,
    Evaluation,
    GateDecision,
    GateRule,
    HoldoutSpec,
    Measured,
    MeasurementSpec,
    Metric,
    TrainedModel,
)
from ml_lifecycle.core.evaluation import OPERATIONAL, decide

DEFAULT_METRICS: Final[Mapping[Task, tuple[str, ...]]] = {
    "binary": ("roc_auc", "log_loss", "brier"),
    "multiclass": ("accuracy", "log_loss", "f1"),
    "regression": ("rmse", "mae", "r2"),
}


@dataclass(frozen=True)
class Wanted:
    """What is measured, and by what."""

    metrics: tuple[str, ...] = ()
    """Empty: those that are usual for the task."""
    spec: MeasurementSpec = field(default_factory=MeasurementSpec)
    own: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    """The team's own metrics, by name."""


# --- Judge and measure -----------------------------------------------------------------------------------------------


def gate_files(
    read: FileRows, rules: Sequence[GateRule], wanted: Wanted, *, judged: int = 1, first_release: bool = False
) -> GateDecision:
    """Judge a candidate's predictions by rules, as the gate of a pipeline does.

    A contender that was not measured on the same rows leaves what compares with it inconclusive.

    :param judged: How many candidates these rows have judged, this one included.
    :param first_release: There is no champion yet: rules that compare with it do not apply.
    :raises UnknownMetricError: a metric does not fit the task.
    """
    evaluation = evaluate_files(read, wanted)
    absent = {index: why for index, rule in enumerate(rules) if (why := _absent(rule, read)) is not None}
    kept = [index for index in range(len(rules)) if index not in absent]
    found = measure_rules([rules[index] for index in kept], evaluation, read.rows, judged=judged, own=wanted.own)
    measured = [one.model_copy(update={"rule": kept[one.rule]}) for one in found]
    measured += [Measured(rule=index, value=None, rows=len(read.rows), detail=why) for index, why in absent.items()]
    return decide(rules, evaluation, measured, judged=judged, first_release=first_release)


def _absent(rule: GateRule, read: FileRows) -> str | None:
    """Why there is nothing to hold the rule against; ``None`` where there may be."""
    contender = str(rule.versus) if rule.versus is not None else CANDIDATE
    if rule.metric in OPERATIONAL:
        return f"a file of predictions says nothing about {rule.metric}"
    if contender in read.rows.scores:
        return None
    return read.apart.get(contender, f"no file holds what {named(contender)} predicts")


def evaluate_files(read: FileRows, wanted: Wanted) -> Evaluation:
    """Measure every contender with 95% intervals, also by slice.

    What an evaluation says about a model and about its training is empty: files tell nothing of either. Digests are
    those of the files.

    :raises UnknownMetricError: a metric does not fit the task.
    """
    names = wanted.metrics or DEFAULT_METRICS[read.rows.task]
    for name in names:
        check_metric(name, read.rows.task)
    scores, path = read.rows.scores, read.files.candidate
    digest = file_digest(path)
    others = {
        name: Contender(
            version=int(name) if name.isdigit() else None,
            digest=file_digest(read.files.others[name]) if name in read.files.others else None,
            metrics=_metrics(read.rows, name, names, wanted),
            differences=_differences(read.rows, name, names, wanted),
        )
        for name in scores
        if name not in (CANDIDATE, CHAMPION)
    }
    return Evaluation(
        model=_model(read, digest),
        metrics=_metrics(read.rows, CANDIDATE, names, wanted),
        slices=_by_slice(read.rows, CANDIDATE, names, wanted),
        champion=_champion(read, names, wanted) if CHAMPION in scores else None,
        predictions_uri=str(path),
        predictions_digest=digest,
        task=read.rows.task,
        classes=read.rows.classes,
        spec=wanted.spec,
        others=others,
    )


def _champion(read: FileRows, names: Sequence[str], wanted: Wanted) -> ChampionResult:
    return ChampionResult(
        version=0,  # no registry knows it
        digest=file_digest(read.files.others[CHAMPION]),
        metrics=_metrics(read.rows, CHAMPION, names, wanted),
        differences=_differences(read.rows, CHAMPION, names, wanted),
        slices=_by_slice(read.rows, CHAMPION, names, wanted),
    )


def _metrics(rows: ScoredRows, contender: str, names: Sequence[str], wanted: Wanted) -> dict[str, Metric]:
    return {name: metric_of(name, rows, contender, spec=wanted.spec, own=wanted.own) for name in names}


def _differences(rows: ScoredRows, other: str, names: Sequence[str], wanted: Wanted) -> dict[str, Difference]:
    return {name: difference(name, rows, CANDIDATE, other, spec=wanted.spec, own=wanted.own) for name in names}


def _by_slice(
    rows: ScoredRows, contender: str, names: Sequence[str], wanted: Wanted
) -> dict[str, dict[str, dict[str, Metric]]]:
    return {
        column: {
            value: _metrics(rows.part(values == value), contender, names, wanted)
            for value in sorted({str(one) for one in values})
        }
        for column, values in rows.slices.items()
    }


def _model(read: FileRows, digest: str) -> TrainedModel:
    columns = Columns(key=read.columns.key or "", time=read.columns.time, target=read.columns.target)
    path = read.files.candidate
    dataset = DatasetRef(uri=str(path), rows=len(read.rows), fingerprint=digest, columns=columns, partitions=())
    return TrainedModel(
        name=path.stem,
        uri=str(path),
        digest=digest,
        training_key=digest,
        run_id="",
        dataset=dataset,
        holdout=HoldoutSpec(by="given"),
        training_rows=0,
    )
