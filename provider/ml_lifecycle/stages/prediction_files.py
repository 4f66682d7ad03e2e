"""Files of predictions in; what they are worth and whether that is enough out: no model, no ledger, no server."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ml_lifecycle.backends.evaluation.measurements import Measurements
from ml_lifecycle.backends.evaluation.prediction_files import FileRows, named
from ml_lifecycle.backends.evaluation.rows import CANDIDATE, CHAMPION
from ml_lifecycle.backends.evaluation.rules import measure_rules
from ml_lifecycle.backends.files import file_digest
from ml_lifecycle.core.contracts import (
    Columns,
    DatasetRef,
    Evaluation,
    GateDecision,
    GateRule,
    HoldoutSpec,
    Measured,
    MeasurementSpec,
    TrainedModel,
)
from ml_lifecycle.core.evaluation import OPERATIONAL, decide


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
    measured = Measurements(read.rows, wanted.metrics, spec=wanted.spec, own=wanted.own)
    path = read.files.candidate
    digest, others = file_digest(path), {name: file_digest(read.files.others[name]) for name in read.files.others}
    return Evaluation(
        model=_model(read, digest),
        metrics=measured.metrics(CANDIDATE),
        slices=measured.slices(CANDIDATE),
        # No registry knows a version of it.
        champion=measured.champion(0, others[CHAMPION]) if CHAMPION in read.rows.scores else None,
        predictions_uri=str(path),
        predictions_digest=digest,
        task=read.rows.task,
        classes=read.rows.classes,
        spec=wanted.spec,
        others=measured.others(others),
    )


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
