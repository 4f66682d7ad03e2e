"""Retrains the flights' model month by month through 2013 and lets the demo's gate judge each candidate.

The candidate of a month is trained on all months up to it and judged on the last fifth of these rows, beside the last
candidate that passed. What the next month's labels said about that is kept as a history that ``ml-lifecycle backtest``
reads. Results go to ``benchmarks/flights_gates.json``, the picture to ``docs/images/gates_on_flights.png``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_lifecycle.backends.data.local import LocalStore
from ml_lifecycle.backends.evaluation.prediction_files import FileColumns, Files, read_files
from ml_lifecycle.backends.ledger.sql import SqlLedger
from ml_lifecycle.backends.tracking.local import LocalTracking
from ml_lifecycle.core.backtest import OUTCOMES, Backtest, judge
from ml_lifecycle.core.contracts import (
    Columns,
    DatasetRef,
    GateDecision,
    GateRule,
    MeasurementSpec,
    RunRequest,
    TrainedModel,
)
from ml_lifecycle.pipeline.loader import read_pipeline
from ml_lifecycle.stages.backtest import Policy, backtest
from ml_lifecycle.stages.champion import load_trained
from ml_lifecycle.stages.data import SnapshotJob, snapshot
from ml_lifecycle.stages.holdout import split
from ml_lifecycle.stages.prediction_files import Wanted, gate_files
from ml_lifecycle.stages.runner import Tools, record, run
from ml_lifecycle.stages.training import TrainingJob, build_inputs, train

if TYPE_CHECKING:
    import pandas as pd

    from ml_lifecycle.pipeline.spec import Pipeline

REPOSITORY = Path(__file__).resolve().parent.parent
PIPELINE = REPOSITORY / "dags" / "flight_delays.yaml"
RESULT = REPOSITORY / "benchmarks" / "flights_gates.json"
PICTURE = REPOSITORY / "docs" / "images" / "gates_on_flights.png"
MONTHS = 12
METRIC = "roc_auc"
COLOURS = {"pass": "#1a7f4b", "inconclusive": "#b7791f", "fail": "#b3261e"}


@dataclass(frozen=True)
class Study:
    """What every step needs."""

    pipeline: Pipeline
    tools: Tools
    history: Path

    @property
    def spec(self) -> MeasurementSpec:
        """As the pipeline measures; flights of one day are not independent of each other."""
        spec = self.pipeline.evaluation.spec
        return spec if spec.cluster is not None else spec.model_copy(update={"cluster": "day"})

    @property
    def columns(self) -> FileColumns:
        """What the history's columns mean."""
        data = self.pipeline.data
        return FileColumns(key=data.key, time=data.time, target=data.target)

    @property
    def slices(self) -> tuple[str, ...]:
        """Those that a rule looks at."""
        rules = self.pipeline.evaluation.gate
        return tuple(dict.fromkeys(column for rule in rules if (column := rule.each or rule.between) is not None))

    def policy(self, rules: Sequence[GateRule]) -> Policy:
        """These rules, measured as the pipeline says."""
        wanted = Wanted(metrics=(METRIC,), spec=self.spec)
        return Policy(tuple(rules), self.columns, self.slices, wanted, METRIC)


def say(text: str) -> None:
    """Tell whoever waits."""
    print(text, file=sys.stderr, flush=True)


def dataset_of(study: Study, months: Sequence[str]) -> DatasetRef:
    """The months' flights with what turned out."""
    data = study.pipeline.data
    job = SnapshotJob(
        model=study.pipeline.model,
        partitions=tuple(months),
        source=data.source,
        labels=data.labels,
        related=data.related,
        columns=Columns(key=data.key, time=data.time, target=data.target),
        drop=data.drop,
    )
    return run(snapshot, job, study.tools, model=study.pipeline.model)


def trained(study: Study, dataset: DatasetRef) -> TrainedModel:
    """A candidate by the demo's own training."""
    pipeline = study.pipeline
    request = RunRequest(model=pipeline.model, partition=dataset.partitions[-1], partitions=dataset.partitions)
    record("resolve", request, study.tools, model=pipeline.model)
    job = TrainingJob(
        request=request,
        dataset=dataset,
        features=pipeline.training.features,
        estimator=pipeline.training.estimator,
        hyperparameters=pipeline.training.values,
        seed=pipeline.training.seed,
        holdout=pipeline.data.holdout,
    )
    return run(train, job, study.tools, model=pipeline.model)


def kept_rows(study: Study, rows: pd.DataFrame) -> pd.DataFrame:
    """What the gate looks at of the flights."""
    data = study.pipeline.data
    chosen: pd.DataFrame = rows[[data.key, data.time, data.target, *study.slices]].reset_index(drop=True)
    return chosen


def write_history(
    study: Study, name: str, candidate: TrainedModel, champion: TrainedModel | None, later: Sequence[str]
) -> Path:
    """What is known about one candidate: its holdout's predictions, the champion's, and the next month's of both."""
    folder = study.history / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    models = {"candidate": load_trained(candidate, study.tools)}
    if champion is not None:
        models["champion"] = load_trained(champion, study.tools)
    inputs = build_inputs(candidate.dataset, study.pipeline.training.features, study.tools)
    held = split(inputs.rows, candidate.dataset.columns, candidate.holdout)
    rows = kept_rows(study, inputs.rows[held])
    for who, model in models.items():
        rows.assign(score=model.predict(inputs.features[held])).to_parquet(folder / f"{who}.parquet", index=False)
    if later and champion is not None:
        inputs = build_inputs(dataset_of(study, later), study.pipeline.training.features, study.tools)
        scores = {who: model.predict(inputs.features) for who, model in models.items()}
        kept_rows(study, inputs.rows).assign(**scores).to_parquet(folder / "later.parquet", index=False)
    return folder


def judged(study: Study, folder: Path, spec: MeasurementSpec) -> GateDecision:
    """The demo's gate on one candidate's files."""
    champion = folder / "champion.parquet"
    others = {"champion": champion} if champion.exists() else {}
    files = Files(folder / "candidate.parquet", others)
    read = read_files(files, study.columns, spec=spec, slices=study.slices)
    wanted = Wanted(metrics=(METRIC,), spec=spec)
    return gate_files(read, study.pipeline.evaluation.gate, wanted, first_release=not others)


def candidates(study: Study, last: int) -> Iterator[dict[str, Any]]:
    """Each month's candidate and its judgement; whatever passes is the next one's champion."""
    champion: TrainedModel | None = None
    names = [f"2013-{month:02d}" for month in range(1, last + 1)]
    for place, name in enumerate(names):
        say(f"{name}: training on {place + 1} months")
        candidate = trained(study, dataset_of(study, names[: place + 1]))
        folder = write_history(study, name, candidate, champion, names[place + 1 : place + 2])
        decision = judged(study, folder, study.spec)
        naive = judged(study, folder, study.spec.model_copy(update={"cluster": None}))
        outcome = OUTCOMES[decision.verdict]
        (folder / "decision.json").write_text(
            json.dumps({"outcome": outcome, "verdict": decision.verdict.value}) + "\n"
        )
        say(f"{name}: {decision.verdict.value}")
        yield {
            "month": name,
            "training_rows": candidate.training_rows,
            "rows": decision.evaluation.metrics[METRIC].rows,
            "champion": champion.dataset.partitions[-1] if champion is not None else None,
            "verdict": decision.verdict.value,
            "metrics": {who: metric.to_xcom() for who, metric in decision.evaluation.metrics.items()},
            "checks": [check.to_xcom() for check in decision.checks],
            "if_flights_were_independent": {
                "verdict": naive.verdict.value,
                "checks": [check.to_xcom() for check in naive.checks],
            },
        }
        if outcome == "promoted":
            champion = candidate


# --- Policies that might have been -----------------------------------------------------------------------------------


def policies() -> dict[str, list[GateRule]]:
    """What else the champion's comparison could have asked, beside the least quality."""
    versus = {
        "margin 0.005": GateRule(metric=METRIC, versus="champion", margin=0.005),
        "margin 0.02": GateRule(metric=METRIC, versus="champion", margin=0.02),
        "a gain has to be shown": GateRule(metric=METRIC, versus="champion", claim="superior"),
        "the higher number wins": GateRule(metric=METRIC, versus="champion", confidence=0.5),
    }
    return {name: [GateRule(metric=METRIC, at_least=0.6), rule] for name, rule in versus.items()}


def replayed(study: Study) -> dict[str, Backtest]:
    """Every policy on the history."""
    return {name: backtest(study.history, study.policy(rules)) for name, rules in policies().items()}


def shown(found: Backtest) -> dict[str, Any]:
    """A backtest as it is kept: outcomes and how they turned out."""
    candidates = [
        {
            "candidate": one.candidate,
            "outcome": one.outcome,
            "later": one.later.to_xcom() if one.later is not None else None,
            "judgement": judge(one.outcome, one.later),
        }
        for one in found.candidates
    ]
    return {"candidates": candidates, "summary": found.summary.to_xcom()}


# --- What people see -------------------------------------------------------------------------------------------------


def comparison(judged: dict[str, Any]) -> dict[str, Any] | None:
    """The check against the champion, where there was one."""
    checks: list[dict[str, Any]] = judged["checks"]
    return next((check for check in checks if check["versus"] == "champion" and check["low"] is not None), None)


def table(result: dict[str, Any]) -> str:
    """The candidates as a Markdown table."""
    later = {one["candidate"]: one["later"] for one in next(iter(result["backtests"].values()))["candidates"]}
    lines = [
        "| up to | holdout | ROC AUC | champion | candidate minus champion | verdict | by rows alone | next month |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in result["candidates"]:
        check, after = comparison(one), later[one["month"]]
        difference = "-" if check is None else _with_bounds(check["observed"], check["low"], check["high"])
        turned_out = "-" if after is None else _with_bounds(after["estimate"], after["low"], after["high"])
        auc = one["metrics"][METRIC]["value"]
        lines.append(
            f"| {one['month']} | {one['rows']:,} | {auc:.3f} | {one['champion'] or 'none'} | {difference} "
            f"| **{one['verdict']}** | {_naive(one)} | {turned_out} |"
        )
    return "\n".join(lines)


def _naive(candidate: dict[str, Any]) -> str:
    naive = candidate["if_flights_were_independent"]
    check = comparison(naive)
    return "-" if check is None else f"{naive['verdict']}: {check['low']:+.4f} to {check['high']:+.4f}"


def _with_bounds(value: float, low: float, high: float) -> str:
    return f"{value:+.4f} ({low:+.4f} to {high:+.4f})"


def draw(result: dict[str, Any], path: Path) -> None:
    """Each candidate's difference from its champion, with its bounds, and what the next month showed."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    later = {one["candidate"]: one["later"] for one in next(iter(result["backtests"].values()))["candidates"]}
    figure = Figure(figsize=(10, 5.2), layout="constrained")
    axes = figure.subplots()
    axes.axhspan(-0.005, 0, color="#d9e2ec", alpha=0.6, lw=0)
    axes.axhline(0, color="#334e68", lw=0.8)
    months = [one["month"] for one in result["candidates"]]
    for place, one in enumerate(result["candidates"]):
        check, colour = comparison(one), COLOURS[one["verdict"]]
        if check is None:
            axes.text(place, 0.001, "no champion\nyet", ha="center", va="bottom", fontsize=8, color=colour)
            continue
        axes.plot([place - 0.1] * 2, [check["low"], check["high"]], color=colour, lw=2.5, solid_capstyle="butt")
        axes.plot(place - 0.1, check["observed"], "o", color=colour, ms=7)
        after = later[one["month"]]
        if after is not None:
            axes.plot([place + 0.15] * 2, [after["low"], after["high"]], color="#829ab1", lw=1.5)
            axes.plot(place + 0.15, after["estimate"], "o", color="white", mec="#486581", ms=6)
    axes.set_xticks(range(len(months)), months, rotation=30, ha="right")
    axes.set_xlim(-0.6, len(months) - 0.4)
    axes.set_ylabel("ROC AUC: candidate minus champion")
    axes.set_xlabel("trained on all months of 2013 up to")
    axes.spines[["top", "right"]].set_visible(False)
    legend = [
        Line2D([], [], color=colour, marker="o", lw=2.5, label=f"holdout, with the gate's bounds: {verdict}")
        for verdict, colour in COLOURS.items()
        if any(one["verdict"] == verdict for one in result["candidates"])
    ]
    legend.append(
        Line2D(
            [], [], color="#829ab1", marker="o", mfc="white", mec="#486581", label="next month's labels, 95% interval"
        )
    )
    axes.legend(handles=legend, frameon=False, loc="best", fontsize=9)
    axes.set_title("Which retrained models pass the gate (grey band: the tolerated loss)", loc="left", fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


# --- Running it ------------------------------------------------------------------------------------------------------


def study_below(home: Path) -> Study:
    """Real backends in one folder."""
    tracking = LocalTracking(home / "tracking")
    tools = Tools(
        data=LocalStore(home / "data"),
        project=REPOSITORY,
        tracking=tracking,
        registry=tracking,
        ledger=SqlLedger(f"sqlite:///{home / 'ledger.db'}"),
        environment="study",
    )
    return Study(read_pipeline(PIPELINE), tools, home / "history")


def land(home: Path) -> None:
    """All twelve months, as an upstream system would land them."""
    command = [sys.executable, "-m", "include.flight_delays.land", "--data-root", str(home / "data")]
    subprocess.run(command, cwd=REPOSITORY, check=True, timeout=600, stdout=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, judge, replay, and write down what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=REPOSITORY / ".flights", help="folder of data, models and history")
    parser.add_argument("--months", type=int, default=MONTHS, choices=range(2, MONTHS + 1), metavar="N", help="2 to 12")
    parser.add_argument("--output", type=Path, default=RESULT, help="where the result goes (JSON)")
    parser.add_argument("--picture", type=Path, default=PICTURE, help="where the plot goes (PNG)")
    options = parser.parse_args(arguments)
    # The study trains the same model whatever else changes in this repository.
    os.environ.setdefault("ML_LIFECYCLE_CODE_VERSION", "flights-study")
    home = options.home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    land(home)
    study = study_below(home)
    result: dict[str, Any] = {
        "cluster": study.spec.cluster,
        "rules": [rule.model_dump(mode="json", exclude_defaults=True) for rule in study.pipeline.evaluation.gate],
        "candidates": list(candidates(study, options.months)),
    }
    result["backtests"] = {name: shown(found) for name, found in replayed(study).items()}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    draw(result, options.picture)
    print(table(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
