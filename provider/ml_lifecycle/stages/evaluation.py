"""A trained model in; what it does on rows it never saw, whether that is enough, and its registered version out."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ml_lifecycle.backends.callables import load_callable
from ml_lifecycle.backends.evaluation.rows import ScoredRows
from ml_lifecycle.backends.evaluation.rules import measure_rules
from ml_lifecycle.backends.files import file_digest, read_parquet, write_parquet
from ml_lifecycle.backends.models.metrics import measure, paired_difference, roc_curve
from ml_lifecycle.backends.models.skops import SkopsFormat
from ml_lifecycle.core.contracts import (
    ChampionResult,
    Contract,
    Evaluation,
    GateCheck,
    GateDecision,
    GateRule,
    MeasurementSpec,
    Metric,
    ModelVersion,
    RunRequest,
    TrainedModel,
    ValidationReport,
    Verdict,
)
from ml_lifecycle.core.errors import ChampionError, ColumnError, DigestMismatchError, LifecycleError, PassingError
from ml_lifecycle.core.evaluation import decide
from ml_lifecycle.stages.champion import Champion, LoadedModel, champion_of, check_features, load_trained
from ml_lifecycle.stages.runner import Tools
from ml_lifecycle.stages.training import TAG, Inputs, build_inputs, split

if TYPE_CHECKING:
    import pandas as pd

CANDIDATE: Final = "candidate"
CHAMPION: Final = "champion"
TARGET: Final = "target"
MOST_SLICE_VALUES: Final = 100
"""Slices travel with the evaluation over XCom and are read by people."""


class EvaluationJob(Contract):
    """What is measured; the champion of the ledger is measured on the same rows."""

    model: TrainedModel
    metrics: tuple[str, ...] = ("roc_auc", "log_loss", "brier")
    slices: tuple[str, ...] = ()
    spec: MeasurementSpec = MeasurementSpec()
    versions: tuple[int, ...] = ()
    """Versions that a rule compares with."""
    baseline: bool = False
    """Whether a rule compares with the baseline."""


class GateJob(Contract):
    """The rules that a candidate is held to."""

    evaluation: Evaluation
    rules: tuple[GateRule, ...]


class RegistrationJob(Contract):
    """What is registered, and why it was trained."""

    request: RunRequest
    decision: GateDecision
    validation: ValidationReport | None = None


# --- Evaluate --------------------------------------------------------------------------------------------------------


def evaluate(job: EvaluationJob, tools: Tools) -> Evaluation:
    """Measure the candidate on its holdout, and the champion beside it.

    :raises ChampionError: there is a champion, and it cannot be read or scored.
    :raises ColumnError: a slice names a column that the dataset does not have.
    """
    scored = _score_holdout(job, tools)
    metrics = {name: _metric(name, scored.table[TARGET], scored.table[CANDIDATE]) for name in job.metrics}
    slices = {column: _by_value(scored, column, job.metrics, CANDIDATE) for column in job.slices}
    against = _against_champion(scored, scored.champion, job) if scored.champion is not None else None
    measured = _Measured(metrics, slices, against)
    uri, digest = _keep(job, scored.table, measured, tools)
    evaluation = Evaluation(
        model=job.model,
        metrics=metrics,
        slices=slices,
        champion=against,
        predictions_uri=uri,
        predictions_digest=digest,
    )
    _log_metrics(evaluation, tools)
    return evaluation


@dataclass(frozen=True)
class _Measured:
    """All numbers of one evaluation."""

    metrics: dict[str, Metric]
    slices: dict[str, dict[str, dict[str, Metric]]]
    champion: ChampionResult | None


@dataclass(frozen=True)
class _Scored:
    """The holdout with what both models say about it."""

    table: pd.DataFrame
    """Key, target as 0 and 1 (or a number), candidate's score, champion's score where there is one."""
    rows: pd.DataFrame
    """The dataset's columns of the same rows."""
    champion: Champion | None


def _score_holdout(job: EvaluationJob, tools: Tools) -> _Scored:
    import pandas as pd

    candidate = load_trained(job.model, tools)
    check_features(candidate.info, tools)
    inputs = build_inputs(job.model.dataset, candidate.info.features, tools)
    held = split(inputs.rows, job.model.dataset.columns, job.model.holdout)
    rows = inputs.rows[held].reset_index(drop=True)
    _check_slices(rows, job)
    columns: dict[str, Any] = {
        job.model.dataset.columns.key: rows[job.model.dataset.columns.key],
        TARGET: _truth(rows, candidate),
        CANDIDATE: candidate.predict(inputs.features[held]),
    }
    champion = champion_of(job.model.name, tools)
    if champion is not None:
        columns[CHAMPION] = _champion_scores(champion, candidate, inputs, held, tools)
    return _Scored(pd.DataFrame(columns), rows, champion)


def _champion_scores(champion: Champion, candidate: LoadedModel, inputs: Inputs, held: Any, tools: Tools) -> Any:
    """The champion on the same rows, fed by its own feature code."""
    dataset = candidate.trained.dataset
    where = f"version {champion.version} of {candidate.trained.name}"
    try:
        if champion.info.classes != candidate.info.classes:
            theirs, ours = champion.info.classes or "numbers", candidate.info.classes or "numbers"
            raise ChampionError(
                f"it predicts {theirs}, and the candidate {ours}",
                way_out="give a model of another target another name",
            )
        same = champion.info.features == candidate.info.features
        own = inputs if same else build_inputs(dataset, champion.info.features, tools)
        return champion.predict(own.features[held])
    except PassingError:
        raise
    except LifecycleError as error:
        raise ChampionError(
            f"the champion cannot be scored: {error.what}", where=where, way_out=error.way_out
        ) from error


def _check_slices(rows: pd.DataFrame, job: EvaluationJob) -> None:
    missing = [column for column in job.slices if column not in rows.columns]
    if missing:
        raise ColumnError(
            f"the dataset has no column {', '.join(map(repr, missing))} to slice by",
            where="evaluation.slices",
            way_out=f"it has {', '.join(map(str, rows.columns))}",
        )
    for column in job.slices:
        values = rows[column].nunique(dropna=False)
        if values > MOST_SLICE_VALUES:
            raise ColumnError(
                f"{column!r} has {values:,} values in the holdout, and at most {MOST_SLICE_VALUES} are measured apart",
                where="evaluation.slices",
                way_out="slice by a coarser column, made by whoever lands the data",
            )


def _truth(rows: pd.DataFrame, candidate: LoadedModel) -> Any:
    """The target as the metrics take it: 1.0 for the second class, or the number itself."""
    name, where = candidate.trained.dataset.columns.target, candidate.trained.dataset.uri
    if name not in rows.columns:
        raise ColumnError(f"there is no target column {name!r} to judge by", where=where, way_out="check data.target")
    target = rows[name]
    if not candidate.info.classes:
        return target.astype("float64")
    known = {_plain(label) for label in candidate.info.classes}
    found = target.map(_plain)
    strange = sorted({str(value) for value in found[~found.isin(known)]})
    if strange:
        raise ColumnError(
            f"the holdout's target holds {', '.join(strange[:5])}, which training never saw",
            where=where,
            way_out="make a binary target",
        )
    return (found == _plain(candidate.info.classes[1])).astype("float64")


def _plain(label: Any) -> str:
    """True, 1 and 1.0 are one label, however a file stores it."""
    return str(float(label)) if isinstance(label, bool | int | float) or hasattr(label, "dtype") else str(label)


def _metric(name: str, target: Any, score: Any) -> Metric:
    return Metric(value=measure(name, target, score), rows=len(target))


def _by_value(scored: _Scored, column: str, metrics: Sequence[str], score: str) -> dict[str, dict[str, Metric]]:
    names = scored.rows[column].astype(object).where(scored.rows[column].notna(), "(missing)").map(str)
    return {
        str(value): {name: _metric(name, part[TARGET], part[score]) for name in metrics}
        for value, part in scored.table.groupby(names, sort=True)
    }


def _against_champion(scored: _Scored, champion: Champion, job: EvaluationJob) -> ChampionResult:
    table = scored.table
    return ChampionResult(
        version=champion.version,
        digest=champion.move.digest,
        metrics={name: _metric(name, table[TARGET], table[CHAMPION]) for name in job.metrics},
        differences={
            name: paired_difference(name, table[TARGET], table[CANDIDATE], table[CHAMPION]) for name in job.metrics
        },
        slices={column: _by_value(scored, column, job.metrics, CHAMPION) for column in job.slices},
    )


def _keep(job: EvaluationJob, table: pd.DataFrame, measured: _Measured, tools: Tools) -> tuple[str, str]:
    """Put predictions, metrics and figure on the run; returns the predictions' place and digest."""
    with tempfile.TemporaryDirectory(prefix="ml-lifecycle-") as temporary:
        folder = Path(temporary)
        predictions = folder / "predictions.parquet"
        write_parquet(table, predictions)
        digest = file_digest(predictions)
        summary = {
            "metrics": _plain_metrics(measured.metrics),
            "slices": {
                column: {value: _plain_metrics(found) for value, found in values.items()}
                for column, values in measured.slices.items()
            },
            "champion": measured.champion.to_xcom() if measured.champion is not None else None,
        }
        (folder / "metrics.json").write_text(json.dumps(summary, indent=1, sort_keys=True) + "\n")
        _draw(table, measured, folder / "evaluation.png", title=f"{job.model.name}: holdout of {len(table):,} rows")
        # A path of its own per digest: an evaluation against another champion leaves this one as it is.
        uri = tools.tracking.upload(job.model.run_id, folder, f"evaluation/{digest[:12]}")
    return f"{uri}/predictions.parquet", digest


def _plain_metrics(metrics: Mapping[str, Metric]) -> dict[str, Any]:
    return {name: metric.to_xcom() for name, metric in metrics.items()}


def _log_metrics(evaluation: Evaluation, tools: Tools) -> None:
    champion = evaluation.champion
    logged = {f"holdout_{name}": metric.value for name, metric in evaluation.metrics.items()}
    if champion is not None:
        logged |= {f"champion_{name}": metric.value for name, metric in champion.metrics.items()}
    rows = max((metric.rows for metric in evaluation.metrics.values()), default=0)
    compared = str(champion.version) if champion is not None else "none"
    tools.tracking.log(
        evaluation.model.run_id,
        metrics={**logged, "holdout_rows": rows},
        tags={f"{TAG}compared_with_version": compared, f"{TAG}predictions_digest": evaluation.predictions_digest},
    )


# --- Gate ------------------------------------------------------------------------------------------------------------


def gate(job: GateJob, tools: Tools) -> GateDecision:
    """Judge the evaluation by its row-level predictions, note the verdict on the run, and publish the report.

    :raises DigestMismatchError: the predictions are not those that the evaluation left.
    """
    rows = read_predictions(job.evaluation, tools)
    judged = candidates_judged(job.evaluation, tools)
    own = own_metrics((rule.metric for rule in job.rules), tools)
    measured = measure_rules(job.rules, job.evaluation, rows, judged=judged, own=own)
    decision = decide(job.rules, job.evaluation, measured, judged=judged)
    _note(job, decision, tools)
    return decision


def read_predictions(evaluation: Evaluation, tools: Tools) -> ScoredRows:
    """The rows that an evaluation left, their bytes checked.

    :raises DigestMismatchError: they are not those that it left.
    """
    folder_uri, _, name = evaluation.predictions_uri.rpartition("/")
    with tempfile.TemporaryDirectory(prefix="ml-lifecycle-") as temporary:
        file = tools.tracking.download(folder_uri, Path(temporary)) / name
        found = file_digest(file) if file.is_file() else "no file"
        if found != evaluation.predictions_digest:
            raise DigestMismatchError(
                "the row-level predictions",
                expected=evaluation.predictions_digest,
                found=found,
                where=evaluation.predictions_uri,
                way_out="they were changed after the evaluation; evaluate again, and find out who changed them",
            )
        table = read_parquet(file)
    return ScoredRows.from_table(table, task=evaluation.task, classes=evaluation.classes)


def candidates_judged(evaluation: Evaluation, tools: Tools) -> int:
    """How many candidates were measured on this holdout up to this one, this one included."""
    if evaluation.holdout is None:
        return 1
    measured = tools.ledger.results(
        tools.environment,
        evaluation.model.name,
        "evaluate",
        holdout__fingerprint=evaluation.holdout.fingerprint,
    )
    order = list(dict.fromkeys(str(result["content"]["model"]["digest"]) for result in measured))
    digest = evaluation.model.digest
    return order.index(digest) + 1 if digest in order else len(order) + 1


def own_metrics(names: Iterable[str], tools: Tools) -> dict[str, Callable[..., Any]]:
    """The team's own metrics among these, by name.

    :raises CallableNotFoundError: one of them is not there.
    """
    return {name: load_callable(name, tools.project) for name in names if ":" in name}


def _note(job: GateJob, decision: GateDecision, tools: Tools) -> None:
    run_id = job.evaluation.model.run_id
    note = {
        "verdict": decision.verdict.value,
        "policy_digest": decision.policy_digest,
        "judged": decision.judged,
        "rules": [rule.to_xcom() for rule in job.rules],
        "checks": [check.to_xcom() for check in decision.checks],
    }
    with tempfile.TemporaryDirectory(prefix="ml-lifecycle-") as temporary:
        folder = Path(temporary)
        (folder / "gate.json").write_text(json.dumps(note, indent=1) + "\n")
        tools.tracking.upload(run_id, folder, "gate")
    tools.tracking.log(
        run_id, tags={f"{TAG}gate": decision.verdict.value, f"{TAG}policy_digest": decision.policy_digest}
    )


# --- Register --------------------------------------------------------------------------------------------------------


def register(job: RegistrationJob, tools: Tools) -> ModelVersion | None:
    """Register the candidate once per training key; ``None`` where the gate failed it.

    :raises DigestMismatchError: the version of this training key holds another model.
    """
    decision, model = job.decision, job.decision.evaluation.model
    if decision.verdict is Verdict.FAIL:
        return None
    tags = _version_tags(job, tools)
    found = tools.registry.ensure_version(
        model.name,
        training_key=model.training_key,
        uri=model.uri,
        run_id=model.run_id,
        tags=tags,
        description=describe(job),
    )
    registered = found.tags.get(f"{TAG}digest", "")
    if registered != model.digest:
        raise DigestMismatchError(
            f"version {found.version} of {model.name}",
            expected=model.digest,
            found=registered or "no digest",
            where=found.url,
            way_out="delete that version, or train with another seed",
        )
    changed = {name: value for name, value in tags.items() if found.tags.get(name) != value}
    if changed:
        tools.registry.tag_version(model.name, found.version, changed)
    tools.tracking.log(model.run_id, tags={f"{TAG}version": str(found.version)})
    return ModelVersion(
        name=model.name,
        version=found.version,
        digest=model.digest,
        training_key=model.training_key,
        uri=model.uri,
        run_id=model.run_id,
        dataset_fingerprint=model.dataset.fingerprint,
        metrics_digest=decision.evaluation.content_digest(),
        gate_verdict=decision.verdict,
        policy_digest=decision.policy_digest,
        reason=job.request.reason,
    )


def _version_tags(job: RegistrationJob, tools: Tools) -> dict[str, str]:
    model = job.decision.evaluation.model
    run = tools.tracking.get_run(model.run_id).tags
    copied = (
        "code_version",
        "features",
        "features_digest",
        "environment_digest",
        "hardware",
        "reason",
        "requester",
    )
    parameters = {"hyperparameters": run.get(f"{TAG}hyperparameters", "{}"), "seed": run.get(f"{TAG}seed", "")}
    own = {
        "digest": model.digest,
        "format": SkopsFormat.name,
        "training_key": model.training_key,
        "dataset_fingerprint": model.dataset.fingerprint,
        "partitions": ", ".join(model.dataset.partitions),
        "gate": job.decision.verdict.value,
        "policy_digest": job.decision.policy_digest,
        "metrics_digest": job.decision.evaluation.content_digest(),
        "environment": tools.environment,
    }
    validation = {"validation": job.validation.verdict.value} if job.validation is not None else {}
    tags = {**{name: run.get(f"{TAG}{name}", "") for name in copied}, **parameters, **own, **validation}
    return {f"{TAG}{name}": value for name, value in tags.items() if value}


def describe(job: RegistrationJob) -> str:
    """What a person reads on the version's page, in markdown."""
    decision, evaluation = job.decision, job.decision.evaluation
    model, champion = evaluation.model, evaluation.champion
    lines = [
        f"**{model.name}**, trained on {', '.join(model.dataset.partitions)} ({model.training_rows:,} rows).",
        "",
        f"Why: {_cell(job.request.reason) or 'no reason was given'}"
        + (f", asked for by {_cell(job.request.requester)}." if job.request.requester else "."),
        "",
        f"Gate: **{decision.verdict.value}**",
        "",
        "| Check | Verdict | Observed | |",
        "|---|---|---|---|",
        *(_check_line(check) for check in decision.checks),
        "",
        "| Metric on the holdout | Candidate | " + (f"Version {champion.version} |" if champion else "Champion |"),
        "|---|---|---|",
        *(_metric_line(name, metric, champion) for name, metric in evaluation.metrics.items()),
        "",
        f"Model digest `{model.digest[:12]}`, data fingerprint `{model.dataset.fingerprint[:12]}`.",
    ]
    return "\n".join(lines)


def _check_line(check: GateCheck) -> str:
    return f"| {_cell(check.rule)} | {check.verdict.value} | {_number(check.observed)} | {_cell(check.detail)} |"


def _metric_line(name: str, metric: Metric, champion: ChampionResult | None) -> str:
    other = champion.metrics.get(name) if champion is not None else None
    return f"| {name} | {_number(metric.value)} | {_number(other.value if other else None)} |"


def _cell(text: str) -> str:
    """Slice values come from the data: no pipe ends a cell, and no tag becomes one."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("\n", " ")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"  # noqa: RUF001  # a dash marks what was not measured


# --- The figure ------------------------------------------------------------------------------------------------------


def _draw(table: pd.DataFrame, measured: _Measured, path: Path, *, title: str) -> None:
    """Discrimination, calibration and slices on one page; left out where matplotlib is not installed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError:
        return
    columns = [column for column in measured.slices if measured.slices[column]]
    # The figure is made without pyplot, whose state is shared by the whole process.
    lines = 1 + (len(columns) + 1) // 2
    figure = Figure(figsize=(10.4, 4.7 * lines))
    FigureCanvasAgg(figure)
    panels = [figure.add_subplot(lines, 2, place + 1) for place in range(2 + len(columns))]
    shown = {CANDIDATE: "candidate"}
    if measured.champion is not None:
        shown[CHAMPION] = f"champion (version {measured.champion.version})"
    if _is_binary(table):
        _draw_roc(panels[0], table, shown)
        _draw_calibration(panels[1], table, shown)
    else:
        _draw_errors(panels[0], table, shown)
        _draw_predicted(panels[1], table)
    for panel, column in zip(panels[2:], columns, strict=True):
        _draw_slices(panel, column, measured)
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=13, x=0.01, ha="left")
    # A figure that holds an engine is laid out twice while it is saved, which is half of what it costs.
    ConstrainedLayoutEngine().execute(figure)
    figure.savefig(path, dpi=110, metadata={"Software": None})


_COLOURS: Final = {CANDIDATE: "#0b6e99", CHAMPION: "#c9761a"}
_GUIDE: Final = {"color": "#9a9a9a", "linestyle": ":", "linewidth": 1, "zorder": 0}
_BINS: Final = 10
_MOST_SLICES: Final = 20
_FEW_ROWS: Final = 30
_LONGEST_LABEL: Final = 24


def _is_binary(table: pd.DataFrame) -> bool:
    return bool(table[TARGET].isin([0.0, 1.0]).all())


def _draw_roc(panel: Any, table: pd.DataFrame, shown: Mapping[str, str]) -> None:
    for column, label in shown.items():
        area = measure("roc_auc", table[TARGET], table[column])
        if area is not None:
            rates = roc_curve(table[TARGET], table[column])
            panel.plot(*rates, color=_COLOURS[column], linewidth=1.8, label=f"{label}: {area:.3f}")
    panel.plot([0, 1], [0, 1], **_GUIDE)
    panel.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(0, 1), ylim=(0, 1))
    panel.set_title("ROC curve and the area below it", loc="left", fontsize=10)
    panel.set_aspect("equal")
    if panel.get_legend_handles_labels()[0]:
        panel.legend(frameon=False, loc="lower right", fontsize=9)
    else:
        panel.text(0.5, 0.25, "undefined: the holdout has one class", ha="center", fontsize=9)


def _draw_calibration(panel: Any, table: pd.DataFrame, shown: Mapping[str, str]) -> None:
    """Tenths of the rows by score: what was predicted for them on average, and what share came true."""
    import numpy as np

    highest = 0.0
    for column, label in shown.items():
        order = np.argsort(table[column].to_numpy(), kind="stable")
        parts = [part for part in np.array_split(order, _BINS) if len(part)]
        said = [float(table[column].to_numpy()[part].mean()) for part in parts]
        true = [float(table[TARGET].to_numpy()[part].mean()) for part in parts]
        highest = max(highest, *said, *true)
        panel.plot(said, true, color=_COLOURS[column], linewidth=1.8, marker="o", markersize=4, label=label)
    limit = min(1.0, 1.1 * highest) or 1.0
    panel.plot([0, limit], [0, limit], **_GUIDE)
    panel.set(xlabel="mean predicted probability", ylabel="observed share", xlim=(0, limit), ylim=(0, limit))
    panel.set_title("Calibration, by tenths of the rows", loc="left", fontsize=10)
    panel.set_aspect("equal")
    panel.legend(frameon=False, loc="upper left", fontsize=9)


def _draw_errors(panel: Any, table: pd.DataFrame, shown: Mapping[str, str]) -> None:
    for column, label in shown.items():
        errors = table[column] - table[TARGET]
        panel.hist(errors, bins=40, color=_COLOURS[column], histtype="step", linewidth=1.8, label=label)
    panel.set(xlabel="predicted minus true", ylabel="rows")
    panel.set_title("Errors", loc="left", fontsize=10)
    panel.legend(frameon=False, fontsize=9)


def _draw_predicted(panel: Any, table: pd.DataFrame) -> None:
    panel.scatter(table[TARGET], table[CANDIDATE], s=4, alpha=0.3, color=_COLOURS[CANDIDATE], linewidths=0)
    limits = (float(table[TARGET].min()), float(table[TARGET].max()))
    panel.plot(limits, limits, **_GUIDE)
    panel.set(xlabel="true", ylabel="predicted by the candidate")
    panel.set_title("Predicted against true", loc="left", fontsize=10)


def _draw_slices(panel: Any, column: str, measured: _Measured) -> None:
    """The first metric by the slice's values, the largest slices on top, with their numbers of rows."""
    name = next(iter(measured.metrics))
    found = [
        (value, metric.value, metric.rows)
        for value, metric in ((value, metrics[name]) for value, metrics in measured.slices[column].items())
        if metric.value is not None
    ]
    found.sort(key=lambda entry: -entry[2])
    kept = found[:_MOST_SLICES]
    places = range(len(kept))
    values = [value for _, value, _ in kept]
    colours = [_COLOURS[CANDIDATE] if rows >= _FEW_ROWS else "#b5b5b5" for _, _, rows in kept]
    panel.scatter(values, places, color=colours, s=26, zorder=2)
    overall = measured.metrics[name].value
    if overall is not None:
        panel.axvline(overall, **_GUIDE)
        # Without a least width, slices that hardly differ would look far apart.
        low, high = min([0.95 * overall, *values]), max([1.05 * overall, *values])
        panel.set_xlim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    # Values come from the data: a dollar sign would begin a formula.
    labels = [f"{_short(value)}  ({rows:,})".replace("$", r"\$") for value, _, rows in kept]
    panel.set_yticks(places, labels, fontsize=8)
    panel.set_ylim(len(kept) - 0.4, -0.6)
    panel.grid(axis="y", color="#eeeeee", zorder=0)
    left_out = f", {len(kept)} largest of {len(found)}" if len(found) > len(kept) else ""
    panel.set_xlabel(f"{name} (dotted: all rows; grey: fewer than {_FEW_ROWS} rows)")
    panel.set_title(f"{name} by {column} (rows){left_out}", loc="left", fontsize=10)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_LABEL else f"{text[:_LONGEST_LABEL]}…"
