"""A trained model in; what it does on rows it never saw, whether that is enough, and its registered version out."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ml_lifecycle.backends.callables import own_metrics
from ml_lifecycle.backends.evaluation.measurements import Measurements
from ml_lifecycle.backends.evaluation.rows import CANDIDATE, ScoredRows
from ml_lifecycle.backends.evaluation.rules import measure_rules
from ml_lifecycle.backends.files import file_digest, read_parquet, write_parquet
from ml_lifecycle.backends.models.skops import SkopsFormat
from ml_lifecycle.core.approval import cell, number
from ml_lifecycle.core.contracts import (
    ChampionResult,
    Contender,
    Contract,
    Evaluation,
    GateCheck,
    GateDecision,
    GateRule,
    MeasurementSpec,
    Metric,
    ModelPurpose,
    ModelVersion,
    RunRequest,
    ServingCheck,
    TrainedModel,
    ValidationReport,
    Verdict,
)
from ml_lifecycle.core.errors import DigestMismatchError
from ml_lifecycle.core.evaluation import OPERATIONAL, decide, rows_that_judge
from ml_lifecycle.stages.contenders import Comparison, score_holdout
from ml_lifecycle.stages.rehearsal import rehearsing
from ml_lifecycle.stages.report import publish
from ml_lifecycle.stages.runner import Tools
from ml_lifecycle.stages.training import TAG

_LONGEST: Final = 600
"""Of a text on a version's page."""


class EvaluationJob(Contract):
    """What is measured; the champion of the ledger is measured on the same rows."""

    model: TrainedModel
    metrics: tuple[str, ...] = ()
    """Empty: those that are usual for the task."""
    slices: tuple[str, ...] = ()
    spec: MeasurementSpec = MeasurementSpec()
    versions: tuple[int, ...] = ()
    """Versions that a rule compares with."""
    baseline: bool = False
    """Whether a rule compares with the baseline."""
    rehearse: bool = True
    """Whether the package is loaded in a process of its own, as a server would load it."""


class GateJob(Contract):
    """The rules that a candidate is held to."""

    evaluation: Evaluation
    rules: tuple[GateRule, ...]
    purpose: ModelPurpose = ModelPurpose()
    """What the model card says about the model's use."""


class RegistrationJob(Contract):
    """What is registered, and why it was trained."""

    request: RunRequest
    decision: GateDecision
    validation: ValidationReport | None = None


# --- Evaluate --------------------------------------------------------------------------------------------------------


def evaluate(job: EvaluationJob, tools: Tools) -> Evaluation:
    """Measure the candidate on its holdout, and everything that it is compared with beside it.

    :raises ChampionError: the champion, or a version that a rule names, cannot be read or scored.
    :raises ColumnError: a column that is asked for is missing or unusable, or a row stands on both sides of the split.
    """
    with _rehearsal(job, tools) as rehearsed:
        evaluation = _measure(job, tools)
        evaluation = evaluation.model_copy(update={"serving": rehearsed()})
    _log_metrics(evaluation, tools)
    return evaluation


def _measure(job: EvaluationJob, tools: Tools) -> Evaluation:
    comparison = Comparison(job.model, job.spec, job.slices, job.versions, job.baseline)
    scored = score_holdout(comparison, tools)
    names = [name for name in job.metrics if name not in OPERATIONAL]
    measurements = Measurements(scored.rows, names, spec=job.spec, own=own_metrics(names, tools.project))
    champion, digests = scored.champion, {name: loaded.trained.digest for name, loaded in scored.others.items()}
    measured = _Measured(
        metrics=measurements.metrics(CANDIDATE),
        slices=measurements.slices(CANDIDATE),
        champion=measurements.champion(champion.version, champion.move.digest) if champion is not None else None,
        others=measurements.others(digests),
    )
    uri, digest = _keep(job, scored.rows, measured, tools)
    return Evaluation(
        model=job.model,
        metrics=measured.metrics,
        slices=measured.slices,
        champion=measured.champion,
        predictions_uri=uri,
        predictions_digest=digest,
        task=scored.rows.task,
        classes=scored.rows.classes,
        spec=job.spec,
        holdout=scored.holdout,
        others=measured.others,
    )


@dataclass(frozen=True)
class _Measured:
    """All numbers of one evaluation."""

    metrics: dict[str, Metric]
    slices: dict[str, dict[str, dict[str, Metric]]]
    champion: ChampionResult | None
    others: dict[str, Contender]


@contextmanager
def _rehearsal(job: EvaluationJob, tools: Tools) -> Iterator[Callable[[], ServingCheck | None]]:
    """What was measured of the same bytes before, else what a process finds that loads while this one measures.

    Other latencies would be other evidence, about which people would be asked again. A failure is looked at again.
    """
    known = _rehearsed_before(job.model, tools)
    if known is not None or not job.rehearse:
        yield lambda: known if job.rehearse else None
        return
    with rehearsing(job.model, tools) as conclude:
        yield conclude


def _rehearsed_before(model: TrainedModel, tools: Tools) -> ServingCheck | None:
    # Every call of the command line is called "command": those are occasions of their own.
    if "/" not in tools.run:
        return None
    earlier = tools.ledger.results(tools.environment, model.name, "evaluate", model__digest=model.digest, limit=1)
    found = (Evaluation.model_validate(result["content"]).serving for result in earlier)
    return next((check for check in found if check is not None and check.verdict is not Verdict.FAIL), None)


def _keep(job: EvaluationJob, rows: ScoredRows, measured: _Measured, tools: Tools) -> tuple[str, str]:
    """Put predictions, metrics and figure on the run; returns the predictions' place and digest."""
    with tempfile.TemporaryDirectory(prefix="ml-lifecycle-") as temporary:
        folder = Path(temporary)
        predictions = folder / "predictions.parquet"
        write_parquet(rows.to_table(), predictions)
        digest = file_digest(predictions)
        summary = {
            "metrics": _plain_metrics(measured.metrics),
            "slices": {
                column: {value: _plain_metrics(found) for value, found in values.items()}
                for column, values in measured.slices.items()
            },
            "champion": measured.champion.to_xcom() if measured.champion is not None else None,
            "others": {name: contender.to_xcom() for name, contender in measured.others.items()},
        }
        (folder / "metrics.json").write_text(json.dumps(summary, indent=1, sort_keys=True) + "\n")
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
    compared = str(champion.version) if champion is not None else "none"
    tools.tracking.log(
        evaluation.model.run_id,
        # Of a metric of the team's own, the colon is none that every store takes in a name.
        metrics={
            **{name.replace(":", "."): value for name, value in logged.items()},
            "holdout_rows": rows_that_judge(evaluation),
        },
        tags={f"{TAG}compared_with_version": compared, f"{TAG}predictions_digest": evaluation.predictions_digest},
    )


# --- Gate ------------------------------------------------------------------------------------------------------------


def gate(job: GateJob, tools: Tools) -> GateDecision:
    """Judge the evaluation by its row-level predictions, note the verdict on the run, and publish the report.

    :raises DigestMismatchError: the predictions are not those that the evaluation left.
    """
    rows = read_predictions(job.evaluation, tools)
    judged = candidates_judged(job.evaluation, tools)
    own = own_metrics((rule.metric for rule in job.rules), tools.project)
    measured = measure_rules(job.rules, job.evaluation, rows, judged=judged, own=own)
    decision = decide(job.rules, job.evaluation, measured, judged=judged)
    report_uri, card_uri = publish(decision, rows, tools, purpose=job.purpose)
    _note(job, decision, tools)
    return decision.model_copy(update={"report_uri": report_uri, "card_uri": card_uri})


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
    partitions = cell(", ".join(model.dataset.partitions), longest=_LONGEST)
    lines = [
        f"**{cell(model.name)}**, trained on {partitions} ({model.training_rows:,} rows).",
        "",
        f"Why: {cell(job.request.reason, longest=_LONGEST) or 'no reason was given'}"
        + (f", asked for by {cell(job.request.requester)}." if job.request.requester else "."),
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
    detail = cell(check.detail, longest=_LONGEST)
    return f"| {cell(check.rule)} | {check.verdict.value} | {number(check.observed)} | {detail} |"


def _metric_line(name: str, metric: Metric, champion: ChampionResult | None) -> str:
    other = champion.metrics.get(name) if champion is not None else None
    return f"| {cell(name)} | {number(metric.value)} | {number(other.value if other else None)} |"
