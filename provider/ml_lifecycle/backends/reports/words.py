"""What a report calls things: numbers, metrics and verdicts as somebody says them who does not code."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ml_lifecycle.core.contracts import Evaluation, GateCheck, GateDecision, HoldoutSpec, Verdict
from ml_lifecycle.core.evaluation import HIGHER_IS_BETTER, rounded, rows_that_judge

NOTHING: Final = "–"  # noqa: RUF001  # a dash marks what is not known
LONGEST: Final = 80
"""Characters of a value that are shown; a longer one ends in an ellipsis."""
VERDICTS: Final[Mapping[Verdict, str]] = {
    Verdict.PASS: "Passed",
    Verdict.FAIL: "Refused",
    Verdict.INCONCLUSIVE: "Held for a person",
}
MARKS: Final[Mapping[Verdict, str]] = {
    Verdict.PASS: "pass",
    Verdict.FAIL: "fail",
    Verdict.INCONCLUSIVE: "undecided",
}
_LARGE, _MIDDLE, _SMALL = 1000.0, 10.0, 0.001
_MOST_DIGITS = 7
_LEAST, _WHOLE = 0.01, 10
"""Percent: what is told at all, and from where on without a decimal."""


@dataclass(frozen=True)
class Wording:
    """A metric's name and what it means."""

    label: str
    meaning: str


METRICS: Final[Mapping[str, Wording]] = {
    "roc_auc": Wording(
        "ROC AUC",
        "How often a random case that came true gets a higher score than one that did not: 0.5 is guessing, 1 perfect.",
    ),
    "average_precision": Wording(
        "Average precision",
        "The share of true cases among those with the highest scores, averaged over all cut-offs; guessing gives the "
        "share of true cases in the data.",
    ),
    "accuracy": Wording("Accuracy", "The share of rows whose predicted label is right."),
    "balanced_accuracy": Wording("Balanced accuracy", "The share that is right, averaged over the labels."),
    "precision": Wording("Precision", "Of the rows that the model called positive, the share that were."),
    "recall": Wording("Recall", "Of the rows that were positive, the share that the model found."),
    "f1": Wording("F1", "The harmonic mean of precision and recall."),
    "log_loss": Wording("Log loss", "How wrong the probabilities are; being sure and wrong costs most. 0 is perfect."),
    "brier": Wording("Brier score", "The mean squared distance between probability and outcome. 0 is perfect."),
    "calibration_error": Wording(
        "Calibration error", "How far, on average, the predicted share lies from the share that came true."
    ),
    "cost": Wording("Cost", "What the decisions cost per row, by the pipeline's own cost table."),
    "mae": Wording("Mean absolute error", "How far a prediction lies from the truth on average, in the target's unit."),
    "rmse": Wording("Root mean squared error", "As the mean absolute error, but large errors weigh more."),
    "mape": Wording("Mean absolute percentage error", "How far a prediction lies from the truth, as a share of it."),
    "wape": Wording("Weighted absolute percentage error", "The sum of all errors over the sum of all true values."),
    "r2": Wording("R squared", "The share of the target's variation that is explained: 0 is the mean, 1 perfect."),
    "selection_rate": Wording("Selection rate", "The share of rows that the model calls positive."),
    "true_positive_rate": Wording("True positive rate", "Of the positive rows, the share that the model finds."),
    "false_positive_rate": Wording("False positive rate", "Of the negative rows, the share that is called positive."),
    "mean_prediction": Wording("Mean prediction", "The average of what the model says."),
    "bias": Wording("Bias", "The average of predicted minus true: above 0, the model says too much."),
    "latency_p95_ms": Wording(
        "Latency, 95th percentile (ms)", "19 of 20 requests with one row are answered within this time."
    ),
    "model_mb": Wording("Model size (MB)", "Of the package on disk."),
    "peak_mb": Wording("Memory (MB)", "The most that the serving process used, libraries included."),
}


GLOSSARY: Final[Mapping[str, str]] = {
    "Candidate and champion": (
        "The candidate was just trained. The champion is the version that serves now, and that it would replace."
    ),
    "Holdout": "Rows that were kept back: no training saw them, so they show how a model does on unknown ones.",
    "Interval": (
        "Measured on other rows, the number would have come out a little differently. A 95% interval is made so that "
        "it holds the true value in 95 of 100 such cases; more rows make it narrower."
    ),
    "Pass, fail, undecided": (
        "A check passes when even the worse end of its bar keeps the limit, and fails when even the better end breaks "
        "it. Between the two the rows do not say, and a person decides."
    ),
    "Better by": (
        "Both models were compared row by row. Above 0 the candidate is better, whichever way the metric points. A "
        "check with a margin tolerates a loss up to that margin."
    ),
    "Baseline": "The simplest prediction, such as the usual share. A model that does not beat it is of no use.",
}
"""What a report's readers may not know, in the order in which it is told."""


def label(metric: str) -> str:
    """A metric's name for people; a metric of the team's own keeps its name."""
    return METRICS[metric].label if metric in METRICS else clean(metric)


def direction(metric: str) -> str:
    """Which way is better, in words; empty where no way is by itself."""
    higher = HIGHER_IS_BETTER.get(metric)
    return "" if higher is None else "higher is better" if higher else "lower is better"


def clean(value: object, *, longest: int = LONGEST) -> str:
    """A value from data or people in one short line: no control, right-to-left or invisible character survives."""
    text = str(value)[: 20 * longest]
    shown = "".join(char if char.isprintable() else " " for char in text)
    line = " ".join(shown.split())
    return line if len(line) <= longest and len(str(value)) <= len(text) else f"{line[: longest - 1]}…"


def number(value: float | None, *, sign: bool = False) -> str:
    """As many digits as a person compares; a dash for what is not known."""
    if value is None or not math.isfinite(value):
        return NOTHING
    size, plus = abs(value), "+" if sign else ""
    if size >= _LARGE:
        return f"{value:{plus},.0f}"
    if size >= _MIDDLE:
        return f"{value:{plus}.2f}"
    if size >= _SMALL or size == 0:
        return f"{value:{plus}.4f}"
    digits = 1 - math.floor(math.log10(size))
    return f"{value:{plus}.{digits}f}" if digits <= _MOST_DIGITS else f"below {10.0**-_MOST_DIGITS:.{_MOST_DIGITS}f}"


def limit(value: float, *, sign: bool = False) -> str:
    """A number that somebody set, with the digits that it has."""
    text = f"{value or 0.0:{'+' if sign and value else ''},.7f}".rstrip("0").rstrip(".")
    return text or "0"


def rule(check: GateCheck) -> str:
    """A check in words, its metric by the name that people know."""
    text = check.rule.replace(check.metric, METRICS[check.metric].label, 1) if check.metric in METRICS else check.rule
    return clean(text, longest=200)


def is_difference(check: GateCheck) -> bool:
    """Whether what was observed is a difference; a first release has nothing to differ from."""
    return bool(check.versus) and (check.low is not None or check.high is not None)


def interval(low: float | None, high: float | None, *, sign: bool = False) -> str:
    """Both ends; empty where there are none."""
    return "" if low is None and high is None else f"{number(low, sign=sign)} to {number(high, sign=sign)}"


def share(value: float) -> str:
    """A confidence such as ``99.97%``: as many nines as it has."""
    text = f"{100 * value:.4f}".rstrip("0").rstrip(".")
    return f"{text}%"


def percent(value: float | None) -> str:
    """A share of rows with the digits that tell: ``0.04%``, ``12%``; a dash for what is not known."""
    if value is None or not math.isfinite(value):
        return NOTHING
    many = 100 * value
    if 0 < many < _LEAST:
        return f"below {_LEAST}%"
    return f"{many:.0f}%" if many >= _WHOLE or many == 0 else f"{many:.2g}%"


def count(many: int, one: str, more: str = "") -> str:
    """``1 row``, ``2,000 rows``."""
    return f"{many:,} {one if many == 1 else more or one + 's'}"


def headline(decision: GateDecision) -> str:
    """The judgement in one sentence."""
    checks, said = decision.checks, VERDICTS[decision.verdict]
    failed = [check for check in checks if check.verdict is Verdict.FAIL]
    open_ones = [check for check in checks if check.verdict is Verdict.INCONCLUSIVE]
    if decision.verdict is Verdict.PASS:
        holds = "the one check holds" if len(checks) == 1 else f"all {len(checks)} checks hold"
        return f"{said}: {holds}."
    if decision.verdict is Verdict.FAIL:
        more = f"; {len(open_ones)} more undecided" if open_ones else ""
        return f"{said}: {_of(len(failed), len(checks), 'fails', 'fail')}{more}."
    if not open_ones:
        return f"{said}: no check says whether this model is good enough."
    undecided = _of(len(open_ones), len(checks), "is undecided", "are undecided")
    return f"{said}: {undecided}{_more_rows(open_ones, rows_that_judge(decision.evaluation))}."


def _of(some: int, every: int, one: str, more: str) -> str:
    return f"{some} of {count(every, 'check')} {one if some == 1 else more}"


def _more_rows(checks: Sequence[GateCheck], rows: int) -> str:
    """How many rows like these would decide all of them; a slice gets its share of them only."""
    needed = [
        None if check.more_rows is None else check.more_rows * (rows / check.rows if check.place and check.rows else 1)
        for check in checks
    ]
    known = [more for more in needed if more is not None]
    if len(known) < len(checks):
        return ""
    return f"; about {rounded(math.ceil(max(known)))} more rows would decide {'it' if len(checks) == 1 else 'them'}"


def reuse(decision: GateDecision) -> str:
    """What it means that these rows judged other candidates before; empty where this is the first."""
    judged = decision.judged
    if judged <= 1:
        return ""
    asked = {
        (share(1 - (1 - check.confidence) * judged**2), share(check.confidence))
        for check in decision.checks
        if check.confidence is not None
    }
    raised = "; ".join(f"where {before} was asked, a pass needs {after}" for before, after in sorted(asked))
    why = "The more candidates are tried on the same rows, the likelier one looks good by luck"
    return (
        f"This holdout has judged {judged} candidates, this one included. {why}, so a pass needs more certainty"
        f"{': ' + raised if raised else ''}. Fresh rows would set this back."
    )


def of_files(evaluation: Evaluation) -> bool:
    """Whether only predictions were handed in, so that nothing is known of model and training."""
    return not evaluation.model.run_id


def split(spec: HoldoutSpec) -> str:
    """How the rows were kept back, in words."""
    if spec.by == "time":
        return f"the last {spec.share:.0%} of the rows by time"
    if spec.by == "random":
        return f"{spec.share:.0%} of the rows, drawn by a hash of the key"
    if spec.by == "group":
        return f"{spec.share:.0%} of the groups of {clean(spec.column)}, each whole"
    return f"the rows that {clean(spec.column)} marks"
