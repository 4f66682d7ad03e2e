"""Watches the flights' model through 2013, month by month, and retrains it when monitoring asks for it.

January's model is released. From February on each month is scored by whichever version serves, compared with what
that version was trained on, and, once its labels are in, measured; what monitoring asks for is done: trained on all
months so far, judged by the demo's gate, and released unless the gate fails it. Beside it stands January's model, which
is never retrained. Results go to ``benchmarks/flights_monitoring.json``, the picture to
``docs/images/monitoring_on_flights.png``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from flights_gates import METRIC, REPOSITORY, Study, dataset_of, land, say, study_below
from ml_lifecycle.backends.evaluation.metrics import measure
from ml_lifecycle.core.contracts import (
    Ask,
    Columns,
    DriftReport,
    ModelVersion,
    MonitoringResponse,
    PerformanceReport,
    RunRequest,
    Source,
    TrainedModel,
    Verdict,
    Vote,
)
from ml_lifecycle.core.data import end_of
from ml_lifecycle.stages.champion import load_trained
from ml_lifecycle.stages.drift import DriftJob, detect_drift
from ml_lifecycle.stages.evaluation import EvaluationJob, GateJob, RegistrationJob, evaluate, gate, register
from ml_lifecycle.stages.performance import PerformanceJob, measure_performance
from ml_lifecycle.stages.response import ResponseJob, respond
from ml_lifecycle.stages.runner import Tools, record, run
from ml_lifecycle.stages.scoring import ScoringJob, score
from ml_lifecycle.stages.training import TrainingJob, build_inputs, train

RESULT = REPOSITORY / "benchmarks" / "flights_monitoring.json"
PICTURE = REPOSITORY / "docs" / "images" / "monitoring_on_flights.png"
MONTHS = tuple(f"2013-{month:02d}" for month in range(1, 13))
SCORED = Source(uri="scored/{{ partition }}")


def at(study: Study, month: str, stream: str) -> Tools:
    """The deployment on the day after the month's labels came in, in a run of its own."""
    moment = end_of(month, "monthly") + study.pipeline.data.labels_after + timedelta(days=1)
    return replace(study.tools, clock=lambda: moment, run=f"{study.pipeline.model}_{stream}/{month}")


def request_of(study: Study, month: str, stream: Any, tools: Tools, **more: Any) -> RunRequest:
    """What the run was asked, as the ledger knows it."""
    request = RunRequest(
        model=study.pipeline.model, stream=stream, partition=month, partitions=(month,), run_id=tools.run, **more
    )
    record("resolve", request, tools, model=study.pipeline.model)
    return request


def columns_of(study: Study) -> Columns:
    """What the rows' columns mean."""
    data = study.pipeline.data
    return Columns(key=data.key, time=data.time, target=data.target)


# --- Training and release --------------------------------------------------------------------------------------------


def candidate(study: Study, months: Sequence[str], reason: str) -> tuple[TrainedModel, ModelVersion | None]:
    """A version trained on these months; none where the gate fails it."""
    pipeline, tools = study.pipeline, at(study, months[-1], "train")
    study = replace(study, tools=tools)
    request = request_of(study, months[-1], "train", tools, reason=reason)
    job = TrainingJob(
        request=request,
        dataset=dataset_of(study, months),
        features=pipeline.training.features,
        estimator=pipeline.training.estimator,
        hyperparameters=pipeline.training.values,
        seed=pipeline.training.seed,
        holdout=pipeline.data.holdout,
    )
    model = run(train, job, tools, model=pipeline.model)
    measured = EvaluationJob(model=model, metrics=(METRIC,), slices=study.slices, spec=study.spec, rehearse=False)
    evaluation = run(evaluate, measured, tools, model=pipeline.model)
    decision = run(gate, GateJob(evaluation=evaluation, rules=pipeline.evaluation.gate), tools, model=pipeline.model)
    # A version that the gate fails is no version.
    version: ModelVersion | None = run(
        register,  # type: ignore[type-var]
        RegistrationJob(request=request, decision=decision),
        tools,
        model=pipeline.model,
    )
    return model, version


def release(study: Study, month: str, version: ModelVersion) -> None:
    """Let somebody approve the version."""
    tools = at(study, month, "release")
    head = tools.ledger.head(version.name, tools.environment)
    fields = version.model_dump(
        include={"version", "digest", "dataset_fingerprint", "metrics_digest", "gate_verdict", "policy_digest"}
    )
    ask = Ask(model=version.name, environment=tools.environment, epoch=head.epoch if head else 0, **fields)
    now = tools.clock()
    tools.ledger.ask(ask, requested_by=None, at=now, expires_at=now + timedelta(days=3))
    vote = Vote(ask_id=ask.ask_id, outcome="approve", person="approver", channel="signed", at=now)
    decision = tools.ledger.vote(vote)
    if decision is None:
        raise RuntimeError(f"version {version.version} was not decided")
    tools.ledger.release(version, decision, moved_by="approver", at=now)


# --- Watching --------------------------------------------------------------------------------------------------------


def watched(study: Study, month: str, min_weighted: float) -> tuple[DriftReport, PerformanceReport, MonitoringResponse]:
    """One month, scored and looked at as the demo's pipeline says."""
    pipeline, data = study.pipeline, study.pipeline.data
    monitoring = pipeline.monitoring
    if monitoring is None or monitoring.performance is None or data.labels is None:
        raise RuntimeError("the demo's pipeline watches drift and performance")
    tools, columns = at(study, month, "score"), columns_of(study)
    rows = {"source": data.source, "related": data.related, "columns": columns}
    scoring = ScoringJob(request=request_of(study, month, "score", tools), output=SCORED, **rows)
    run(score, scoring, tools, model=pipeline.model)
    tools = at(study, month, "monitor")
    request = request_of(study, month, "monitor", tools)
    policy = monitoring.policy(time=data.time).model_copy(update={"min_weighted": min_weighted})
    looked = DriftJob(request=request, every="monthly", policy=policy, scored=SCORED, **rows)
    drift = run(detect_drift, looked, tools, model=pipeline.model)
    rule = monitoring.performance
    held = PerformanceJob(
        request=request,
        scored=SCORED,
        labels=data.labels,
        columns=columns,
        drop=data.drop,
        metric=rule.metric,
        at_least=rule.at_least,
        spec=study.spec,
    )
    performance = run(measure_performance, held, tools, model=pipeline.model)
    answer = ResponseJob(
        request=request,
        drift=drift,
        performance=performance,
        on_drift=monitoring.on_drift,
        every="monthly",
        # A training reads all months so far: of those, the newest are looked at.
        window=data.window,
        labels=data.labels,
        **rows,
    )
    return drift, performance, run(respond, answer, tools, model=pipeline.model)


def auc_of(study: Study, model: TrainedModel, month: str) -> float | None:
    """What a model would have been worth on the month."""
    from ml_lifecycle.backends.evaluation.rows import CANDIDATE, ScoredRows

    inputs = build_inputs(dataset_of(study, [month]), study.pipeline.training.features, study.tools)
    target = str(study.pipeline.data.target)
    rows = ScoredRows(
        task="binary",
        truth=inputs.rows[target].to_numpy("float64"),
        scores={CANDIDATE: load_trained(model, study.tools).predict(inputs.features)},
        keys=inputs.rows[study.pipeline.data.key].to_numpy(),
    )
    return measure(METRIC, rows)


def year(study: Study, last: int, min_weighted: float) -> Iterator[dict[str, Any]]:
    """Each month: what was reported, what was asked for, and what came of it."""
    say("2013-01: training the first version")
    january, version = candidate(study, MONTHS[:1], "the first one")
    if version is None:
        raise RuntimeError("January's model fails the gate")
    release(study, MONTHS[0], version)
    serving, before = january, None
    for place, month in enumerate(MONTHS[1:last], start=1):
        drift, performance, response = watched(study, month, min_weighted)
        say(f"{month}: {response.action}: {response.reason}")
        trained, released = None, False
        if response.action == "retrain":
            model, retrained = candidate(study, MONTHS[: place + 1], response.reason)
            trained = "failed by the gate" if retrained is None else retrained.gate_verdict.value
            if retrained is not None and retrained.gate_verdict is not Verdict.FAIL:
                release(study, month, retrained)
                released = True
        yield {
            "month": month,
            "version": performance.version,
            "drift": drift.verdict.value,
            "alpha": drift.alpha,
            "compared": drift.compared,
            "drifted": drift.drifted,
            "weighted_drift": drift.weighted_drift,
            "columns": [column.to_xcom() for column in drift.columns],
            "performance": performance.verdict.value,
            "metric": performance.metrics[METRIC].to_xcom(),
            "estimate": performance.estimate.to_xcom() if performance.estimate else None,
            "before": auc_of(study, before, month) if before is not None else None,
            "frozen": auc_of(study, january, month),
            "action": response.action,
            "reason": response.reason,
            "healthy": response.healthy,
            "attempts": response.attempts,
            "retrained": trained,
            "released": released,
        }
        if released:
            serving, before = model, serving


# --- What people see -------------------------------------------------------------------------------------------------


def table(months: Sequence[dict[str, Any]]) -> str:
    """The year as a Markdown table."""
    heads = (
        "month",
        "version",
        "drift",
        "moved most surely",
        "ROC AUC",
        "the version before",
        "January's model",
        "estimated without labels",
        "monitoring asks for",
    )
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for one in months:
        moved = [column for column in one["columns"] if column["drifted"]][:3]
        named = ", ".join(f"{column['column']} {column['distance']:.2f}" for column in moved) or "-"
        value, estimate = one["metric"], one["estimate"]
        estimated = _number(estimate["value"]) + ("" if estimate["valid"] else ", not valid") if estimate else "-"
        asked = one["action"] + (f", gate: {one['retrained']}" if one["retrained"] else "")
        lines.append(
            f"| {one['month']} | {one['version']} | **{one['drift']}** ({one['drifted']} of {one['compared']}) "
            f"| {named} "
            f"| {value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f}) | {_number(one['before'])} "
            f"| {_number(one['frozen'])} | {estimated} | {asked} |"
        )
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def draw(months: Sequence[dict[str, Any]], path: Path) -> None:
    """What served and what January's model would have been worth, with what monitoring asked for."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5.6), layout="constrained")
    top, bottom = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    places = range(len(months))
    served = [one["metric"]["value"] for one in months]
    for place, one in zip(places, months, strict=True):
        top.plot([place] * 2, [one["metric"]["low"], one["metric"]["high"]], color="#1a7f4b", lw=2)
    top.plot(places, served, "o-", color="#1a7f4b", label="the version that served, with its 95% interval")
    top.plot(
        places, [one["frozen"] for one in months], "s--", color="#829ab1", label="January's model, never retrained"
    )
    before = [float("nan") if one["before"] is None else one["before"] for one in months]
    top.plot(places, before, "D:", color="#b7791f", ms=5, label="the version before it")
    for place, one in zip(places, months, strict=True):
        if one["released"]:
            top.axvline(place + 0.5, color="#334e68", lw=1, alpha=0.6)
    top.axhline(0.58, color="#b3261e", lw=1, ls=":", label="the limit")
    top.set_ylabel("ROC AUC")
    top.legend(frameon=False, fontsize=9, loc="upper left", ncols=2)
    top.set_ylim(0.55, 0.84)
    top.set_title("A year of flights: vertical lines are retrained versions going live", loc="left", fontsize=11)
    shares = [one["drifted"] / one["compared"] for one in months]
    colours = ["#b3261e" if one["drift"] == "fail" else "#829ab1" for one in months]
    bottom.bar(places, shares, color=colours, width=0.6)
    bottom.set_ylabel("columns that\nmoved")
    bottom.set_ylim(0, 1)
    bottom.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    bottom.set_xticks(places, [one["month"] for one in months], rotation=30, ha="right")
    for axes in (top, bottom):
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


# --- Running it ------------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Live through the year, and write down what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=REPOSITORY / ".flights" / "monitoring", help="folder of the year")
    parser.add_argument("--months", type=int, default=12, choices=range(2, 13), metavar="N", help="2 to 12")
    parser.add_argument(
        "--min-weighted", type=float, default=0.0, metavar="SHARE", help="as monitoring.drift.min_weighted (default: 0)"
    )
    parser.add_argument("--output", type=Path, default=RESULT, help="where the result goes (JSON)")
    parser.add_argument("--picture", type=Path, default=PICTURE, help="where the plot goes (PNG)")
    options = parser.parse_args(arguments)
    os.environ.setdefault("ML_LIFECYCLE_CODE_VERSION", "flights-study")
    home = options.home.resolve()
    # The year is lived through once: a second one would find the first one's decisions in the ledger.
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    land(home)
    months = list(year(study_below(home), options.months, options.min_weighted))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps({"months": months}, indent=1) + "\n", encoding="utf-8")
    draw(months, options.picture)
    print(table(months))
    return 0


if __name__ == "__main__":
    sys.exit(main())
