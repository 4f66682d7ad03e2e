"""``ml-lifecycle gate`` and ``evaluate`` on files of predictions, made by whatever tool."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_lifecycle.commands.output import counted, print_json, publish_text
from ml_lifecycle.core.errors import RequestError

if TYPE_CHECKING:
    from ml_lifecycle.backends.evaluation.prediction_files import FileColumns, FileRows
    from ml_lifecycle.core.contracts import Difference, Evaluation, GateCheck, GateDecision, GateRule, Metric
    from ml_lifecycle.pipeline.rules import Rules
    from ml_lifecycle.stages.prediction_files import Wanted

_COLUMNS = ("key", "time", "target", "score", "positive", "task")
OPTIONS = ("champion", "baseline", "against", "html", "weight", "cluster", *_COLUMNS)
"""What means something for files of predictions only."""


def add_columns(parser: argparse.ArgumentParser) -> None:
    """Add what says which column is what; an option wins over the rules file."""
    group = parser.add_argument_group("columns of the files, where they are not declared by the rules file")
    group.add_argument("--key", metavar="COLUMN", help="names a row uniquely (default: key or id)")
    group.add_argument("--time", metavar="COLUMN", help="when the row's event takes place")
    group.add_argument(
        "--target", "--label", metavar="COLUMN", help="what turned out (default: target, label or truth)"
    )
    group.add_argument(
        "--score",
        "--prediction",
        metavar="COLUMN",
        help="a probability, number or label (default: score, prediction or probability; or score:<label> per class)",
    )
    group.add_argument("--positive", metavar="LABEL", help="of two labels, the one that the score is about")
    group.add_argument("--task", choices=("binary", "multiclass", "regression"), help="default: by the labels")
    group.add_argument("--weight", metavar="COLUMN", help="how much a row counts")
    group.add_argument("--cluster", metavar="COLUMN", help="rows that share it are not independent; or day, week, ...")


# --- gate ------------------------------------------------------------------------------------------------------------


def gate(options: argparse.Namespace, more: Sequence[GateRule]) -> GateDecision:
    """Judge the files by the rules file and by further rules, and print the judgement."""
    from ml_lifecycle.core.evaluation import columns_named, metrics_named
    from ml_lifecycle.stages.prediction_files import gate_files

    judged = 1 if options.judged is None else options.judged
    if judged < 1:
        raise RequestError(f"{judged} is not 1 or more", where="--judged", way_out="count this candidate, too")
    if options.first_release and options.champion is not None:
        raise RequestError("there is a champion", where="--first-release", way_out="leave one of the two out")
    rules = _rules(options.rules)
    gate_rules = (*(rules.gate if rules is not None else ()), *more)
    read, wanted = _read(options, rules, options.candidate, metrics=metrics_named(more), slices=columns_named(more))
    decision = gate_files(read, gate_rules, wanted, judged=judged, first_release=options.first_release)
    if options.html is not None:
        publish_text(page(decision, read), options.html)
    if options.json:
        print_json(
            {
                "verdict": decision.verdict.value,
                "checks": [check.to_xcom() for check in decision.checks],
                "judged": decision.judged,
                "rows": len(read.rows),
                "apart": dict(read.apart),
                "policy_digest": decision.policy_digest,
            }
        )
    else:
        print("\n".join(told(decision)))
    return decision


def told(decision: GateDecision) -> Iterator[str]:
    """A judgement for people, line by line."""
    from ml_lifecycle.core.evaluation import rows_that_judge

    undecided = sum(check.verdict.value == "inconclusive" for check in decision.checks)
    failed = sum(check.verdict.value == "fail" for check in decision.checks)
    parts = [
        counted(rows_that_judge(decision.evaluation), "row"),
        f"{counted(len(decision.checks), 'check')}, {failed} failed, {undecided} undecided",
    ]
    if decision.judged > 1:
        parts.append(f"these rows have judged {decision.judged} candidates")
    yield f"{decision.verdict.value.upper()}: {'; '.join(parts)}"
    for check in decision.checks:
        yield f"  {check.verdict.value:<12}  {check.rule}"
        if line := "; ".join(_facts(check)):
            yield f"{'':16}{line}"


def _facts(check: GateCheck) -> Iterator[str]:
    if check.observed is not None:
        known = " to ".join(f"{value:.5g}" for value in (check.low, check.high) if value is not None)
        confidence = f" (pass at {check.confidence:.4g})" if check.confidence is not None else ""
        yield f"observed {check.observed:.5g}" + (f", bounds {known}{confidence}" if known else "")
    if check.rows:
        yield counted(check.rows, "row")
    if check.method:
        yield check.method
    if check.detail:
        yield check.detail


# --- evaluate --------------------------------------------------------------------------------------------------------


def evaluate(options: argparse.Namespace, metrics: tuple[str, ...], slices: tuple[str, ...]) -> None:
    """Measure a file of predictions, and print what was found."""
    from ml_lifecycle.core.evaluation import decide
    from ml_lifecycle.stages.prediction_files import evaluate_files

    rules = _rules(options.rules)
    read, wanted = _read(options, rules, options.predictions, metrics=metrics, slices=slices)
    evaluation = evaluate_files(read, wanted)
    if options.html is not None:
        publish_text(page(decide((), evaluation, ()), read), options.html)
    if options.json:
        print_json(
            {
                "rows": len(read.rows),
                "task": evaluation.task,
                "classes": list(evaluation.classes),
                "metrics": {name: metric.to_xcom() for name, metric in evaluation.metrics.items()},
                "slices": evaluation.to_xcom()["slices"],
                "champion": evaluation.to_xcom()["champion"],
                "others": evaluation.to_xcom()["others"],
                "apart": dict(read.apart),
            }
        )
    else:
        print("\n".join((*measured(evaluation), *(f"not compared: {why}" for why in read.apart.values()))))


def measured(evaluation: Evaluation) -> Iterator[str]:
    """Metrics for people, line by line."""
    yield from _metric_lines(evaluation.metrics, "")
    if evaluation.champion is not None:
        yield from _difference_lines(evaluation.champion.differences)
    for column, values in evaluation.slices.items():
        for value, metrics in values.items():
            yield from _metric_lines(metrics, f" for {column}={value}")


def _metric_lines(metrics: dict[str, Metric], where: str) -> Iterable[str]:
    for name, metric in metrics.items():
        value = "not measurable" if metric.value is None else f"{metric.value:.4f}"
        known = metric.low is not None and metric.high is not None
        bounds = f", 95% interval {metric.low:.4f} to {metric.high:.4f}" if known else ""
        yield f"{name}{where}: {value}{bounds} ({metric.rows:,} rows)"


def _difference_lines(differences: dict[str, Difference]) -> Iterable[str]:
    for name, found in differences.items():
        if found.estimate is None:
            yield f"{name}, better than the champion by: not measurable"
            continue
        known = found.low is not None and found.high is not None
        bounds = f", 95% interval {found.low:+.4f} to {found.high:+.4f}" if known else ""
        yield f"{name}, better than the champion by: {found.estimate:+.4f}{bounds}"


# --- Both ------------------------------------------------------------------------------------------------------------


def page(decision: GateDecision, read: FileRows) -> str:
    """The evaluation report: HTML that loads nothing and runs nothing."""
    from ml_lifecycle.backends.reports.report import make_report

    return make_report(decision, read.rows).page


def _rules(path: Path | None) -> Rules | None:
    from ml_lifecycle.pipeline.rules import read_rules

    return read_rules(path) if path is not None else None


def _read(
    options: argparse.Namespace,
    rules: Rules | None,
    candidate: Path,
    *,
    metrics: tuple[str, ...],
    slices: tuple[str, ...],
) -> tuple[FileRows, Wanted]:
    """The files' rows, and what is measured on them: what the rules file asks for, and what is asked for beside it."""
    from ml_lifecycle.backends.callables import own_metrics
    from ml_lifecycle.backends.evaluation.prediction_files import Files, read_files
    from ml_lifecycle.core.contracts import MeasurementSpec
    from ml_lifecycle.stages.prediction_files import Wanted

    spec = rules.spec if rules is not None else MeasurementSpec()
    spec = spec.model_copy(update=_given(options, "weight", "cluster"))
    names = tuple(dict.fromkeys((*(rules.metrics if rules is not None else ()), *metrics)))
    columns = tuple(dict.fromkeys((*(rules.slices if rules is not None else ()), *slices)))
    own = own_metrics(names, options.project)
    read = read_files(Files(candidate, _others(options)), _columns(options, rules), spec=spec, slices=columns)
    return read, Wanted(metrics=names, spec=spec, own=own)


def _others(options: argparse.Namespace) -> dict[str, Path]:
    """Every other contender's file, by what rules call it."""
    found = {name: path for name in ("champion", "baseline") if (path := getattr(options, name)) is not None}
    for text in options.against:
        number, equals, path = text.partition("=")
        if not (equals and path and number.isascii() and number.isdigit()):
            raise RequestError(f"{text!r} names no version", where="--against", way_out="write 3=predictions.parquet")
        found[str(int(number))] = Path(path)
    return found


def _columns(options: argparse.Namespace, rules: Rules | None) -> FileColumns:
    from ml_lifecycle.backends.evaluation.prediction_files import FileColumns

    declared = rules.columns if rules is not None else FileColumns()
    return declared.model_copy(update=_given(options, *_COLUMNS))


def _given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    return {name: value for name in names if (value := getattr(options, name)) is not None}
