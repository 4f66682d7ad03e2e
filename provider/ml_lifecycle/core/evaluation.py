"""Whether a measured candidate is good enough."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import NormalDist
from typing import Final

from ml_lifecycle.core.contracts import (
    Evaluation,
    GateCheck,
    GateDecision,
    GateRule,
    Measured,
    MeasurementSpec,
    Verdict,
    digest_of,
)

HIGHER_IS_BETTER: Final[Mapping[str, bool]] = {
    "roc_auc": True,
    "average_precision": True,
    "accuracy": True,
    "balanced_accuracy": True,
    "precision": True,
    "recall": True,
    "f1": True,
    "log_loss": False,
    "brier": False,
    "calibration_error": False,
    "cost": False,
    "mae": False,
    "rmse": False,
    "mape": False,
    "wape": False,
    "r2": True,
}
"""Metrics of quality, and which way is better."""
RATES: Final = ("selection_rate", "true_positive_rate", "false_positive_rate", "mean_prediction", "bias")
"""Metrics that no way is better for by itself: limits and gaps between groups can be set for them."""
OPERATIONAL: Final = ("latency_p95_ms", "model_mb", "peak_mb")
"""Measured when the packaged model is loaded as a server would."""
METRICS: Final = (*HIGHER_IS_BETTER, *RATES)
"""Everything that can be measured on rows."""
PERIODS: Final = ("hour", "day", "week", "month")
"""Of the time column, by which rows may be clustered."""
POWER: Final = 0.8
"""Of the number of rows that would decide: in four of five cases."""
_MOST_ROWS: Final = 1e9
_ALMOST_CERTAIN: Final = math.nextafter(1.0, 0.0)


def decide(
    rules: Sequence[GateRule],
    evaluation: Evaluation,
    measured: Sequence[Measured],
    *,
    judged: int = 1,
    first_release: bool | None = None,
) -> GateDecision:
    """Judge the candidate: one failed check fails it, one unknown leaves it to a human.

    Rules that compare with the champion do not apply to a first release, which has none. Where nothing else was
    asked, nothing is known, and a human decides.

    :param measured: What each rule is held against, with bounds at the confidence of :func:`pass_confidence`.
    :param judged: How many candidates the holdout has judged, this one included.
    :param first_release: Whether there is no champion to compare with; ``None``: where the evaluation has none.
    """
    first_release = evaluation.champion is None if first_release is None else first_release
    found = {index: [one for one in measured if one.rule == index] for index in range(len(rules))}
    applied = [
        (rule, check)
        for index, rule in enumerate(rules)
        for check in _apply(rule, found[index], evaluation, pass_confidence(rule, judged), first_release=first_release)
    ]
    known = [
        check.verdict
        for rule, check in applied
        if not (first_release and rule.versus == "champion" and check.verdict is Verdict.PASS)
    ]
    checks = [check for _, check in applied]
    if evaluation.serving is not None:
        checks.append(_serving(evaluation))
        # That it can be loaded says nothing about how good it is: where no rule was set, a human decides.
        known += [checks[-1].verdict] if known or checks[-1].verdict is not Verdict.PASS else []
    return GateDecision(
        evaluation=evaluation,
        verdict=Verdict.worst(known),
        checks=tuple(checks),
        policy_digest=policy_digest(rules, evaluation.spec),
        judged=judged,
    )


def judge_limit(rule: GateRule, measured: Measured) -> GateCheck:
    """One limit, held against what was measured on all rows."""
    return _judge(rule, measured, rule.confidence, broken=bool(_broken(rule, [measured])))


def policy_digest(rules: Sequence[GateRule], spec: MeasurementSpec | None = None) -> str:
    """Digest of the rules, in the order in which they are applied, and of how they are measured."""
    digests = [rule.content_digest() for rule in rules]
    if spec is not None and spec != MeasurementSpec():
        digests.append(spec.content_digest())
    return digest_of(digests)


def pass_confidence(rule: GateRule, judged: int) -> float:
    """The one-sided confidence that a pass needs on a holdout that has judged so many candidates, this one included.

    The chance of a wrong pass is divided by the square of the number: however often the holdout is used, all wrong
    passes together stay below 1.65 times the first one's chance, as the inverse squares sum to pi squared over 6.
    """
    # Short of certainty, which no bound has: after so many candidates the difference is beyond a float.
    return min(_ALMOST_CERTAIN, 1 - (1 - rule.confidence) / judged**2)


def limit_of(rule: GateRule) -> tuple[float, bool]:
    """What the value is held against, and whether it has to lie above it."""
    if rule.at_most is not None:
        return rule.at_most, False
    if rule.at_least is not None:
        return rule.at_least, True
    return -rule.margin, True


def _apply(
    rule: GateRule, measured: Sequence[Measured], evaluation: Evaluation, confidence: float, *, first_release: bool
) -> Iterator[GateCheck]:
    if rule.versus == "champion" and first_release:
        yield _first_release(rule, evaluation)
        return
    if len([said for said in (rule.at_least, rule.at_most, rule.versus) if said is not None]) != 1:
        detail = "the rule has to say exactly one of at_least, at_most and versus"
        yield _check(rule, Verdict.INCONCLUSIVE, "", detail=detail)
        return
    kept = [one for one in measured if not (rule.few_rows == "ignore" and one.rows < rule.min_rows)]
    if not kept:
        detail = f"nothing was measured by {rule.each or rule.between or 'it'}"
        yield _check(rule, Verdict.INCONCLUSIVE, "", detail=detail)
    broken = _broken(rule, kept)
    for one in kept:
        yield _judge(rule, one, confidence, broken=one in broken)


def _first_release(rule: GateRule, evaluation: Evaluation) -> GateCheck:
    metric = evaluation.metrics.get(rule.metric)
    if metric is None or metric.value is None:
        return _check(rule, Verdict.FAIL, "", detail=f"{rule.metric} was not measured")
    detail = "first release: no champion to compare with"
    return _check(rule, Verdict.PASS, "", observed=metric.value, detail=detail)


def _judge(rule: GateRule, one: Measured, confidence: float, *, broken: bool) -> GateCheck:
    if (unknown := _unknown(rule, one)) is not None:
        return unknown
    if broken:
        return _of(rule, one, Verdict.FAIL, confidence)
    if _holds(rule, one):
        return _of(rule, one, Verdict.PASS, confidence)
    return _of(rule, one, Verdict.INCONCLUSIVE, confidence, more=more_rows(rule, one, confidence))


def _unknown(rule: GateRule, one: Measured) -> GateCheck | None:
    """The answer where there is no value, none that is a number, or too few rows."""
    if (rule.each or rule.between) and one.rows < rule.min_rows:
        detail = f"{one.rows} rows are too few, {rule.min_rows} are needed"
        return _check(rule, Verdict.INCONCLUSIVE, one.place, observed=_finite(one.value), rows=one.rows, detail=detail)
    if _finite(one.value) is None:
        # A limit needs a measured value. A difference may be unknown because of what it is compared with.
        verdict = Verdict.FAIL if rule.versus is None else Verdict.INCONCLUSIVE
        detail = one.detail or f"{rule.metric} was not measured"
        return _check(rule, verdict, one.place, rows=one.rows, detail=detail)
    if any(bound is not None and not math.isfinite(bound) for bound in (one.low, one.high)):
        detail = "its bounds are not finite"
        return _check(rule, Verdict.INCONCLUSIVE, one.place, observed=one.value, rows=one.rows, detail=detail)
    if not _has_error(one) and rule.metric not in OPERATIONAL:
        # What was measured on rows has an error. Without knowing it, the value shows nothing.
        detail = one.detail or "its error is not known"
        return _check(rule, Verdict.INCONCLUSIVE, one.place, observed=one.value, rows=one.rows, detail=detail)
    return None


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _holds(rule: GateRule, one: Measured) -> bool:
    limit, above = limit_of(rule)
    if rule.claim == "not_worse" and rule.versus is not None:
        # It was not shown to be worse, which is all that the rule asks.
        return True
    bound = (one.low if above else one.high) if _has_error(one) else one.value
    if bound is None:
        return False
    if rule.versus is None:
        return bound >= limit if above else bound <= limit
    # No difference at all is no loss, and no gain either.
    same = one.low == one.high == one.value == limit == 0 and rule.claim == "non_inferior"
    return bound > limit or same


def _has_error(one: Measured) -> bool:
    return one.low is not None or one.high is not None


def _broken(rule: GateRule, measured: Sequence[Measured]) -> list[Measured]:
    """Those that are shown to break the rule; of many slices, after Holm, Scand. J. Statist. 6 (1979).

    Only the failing side is corrected: a pass needs every slice to hold, and that all of them do so by luck is no
    likelier than that one does (Berger, Technometrics 24, 1982).
    """
    alpha = 1 - rule.confidence
    ranked = sorted((one for one in measured if _unknown(rule, one) is None), key=lambda one: _p_broken(rule, one))
    many = len(ranked) if rule.each and rule.correction == "holm" else 1
    levels = (alpha / max(many - place, 1) for place in range(len(ranked)))
    tested = [_p_broken(rule, one) < level for one, level in zip(ranked, levels, strict=True)]
    if many > 1 and False in tested:
        tested = [place < tested.index(False) for place in range(len(tested))]
    return [one for one, broken in zip(ranked, tested, strict=True) if broken]


def _p_broken(rule: GateRule, one: Measured) -> float:
    """The p-value that was measured; else 0 or 1 by whether the better bound, or the value itself, misses the limit."""
    if one.p_broken is not None:
        return one.p_broken
    limit, above = limit_of(rule)
    found = one.high if above else one.low
    best = one.value if found is None else found
    return float(best is not None and not (best < limit if above else best > limit))


def more_rows(rule: GateRule, one: Measured, confidence: float) -> int | None:
    """How many more rows would decide in four of five cases, if the estimate is right; ``None`` where none would.

    The error shrinks with the root of the rows, so that ``((z of the confidence + z of the power) * error /
    distance)`` squared times as many rows are needed: the sample size of a one-sided test for a mean, as in Chow, Shao
    and Wang, Sample Size Calculations in Clinical Research (2008), section 3.1. For paired decisions the error is that
    of the observed disagreement.
    """
    limit, _ = limit_of(rule)
    if one.value is None or not one.standard_error or one.rows == 0:
        return None
    distance = abs(one.value - limit)
    if distance == 0:
        return None
    normal = NormalDist()
    reach = (normal.inv_cdf(confidence) + normal.inv_cdf(POWER)) * one.standard_error
    more = one.rows * ((reach / distance) ** 2 - 1)
    return max(1, math.ceil(more)) if more <= _MOST_ROWS else None


def _serving(evaluation: Evaluation) -> GateCheck:
    serving = evaluation.serving
    assert serving is not None  # noqa: S101  # the caller looked
    return GateCheck(
        rule="the packaged model loads in a process of its own and repeats training's predictions",
        verdict=serving.verdict,
        observed=serving.largest_difference,
        limit=serving.tolerance,
        at_most=True,
        rows=serving.rows,
        detail=serving.detail,
        metric="serving",
    )


def _of(rule: GateRule, one: Measured, verdict: Verdict, confidence: float, *, more: int | None = None) -> GateCheck:
    check = _check(rule, verdict, one.place, observed=one.value, low=one.low, high=one.high, rows=one.rows)
    notes = [one.detail, _in_rows(more) if verdict is Verdict.INCONCLUSIVE else ""]
    return check.model_copy(
        update={
            "confidence": confidence if _has_error(one) else None,
            "method": one.method,
            "more_rows": more,
            "detail": "; ".join(note for note in notes if note),
        }
    )


def _in_rows(more: int | None) -> str:
    if more is None:
        return "more rows would hardly decide it: the estimate lies almost on the limit"
    return f"about {rounded(more)} more rows would decide it"


def rounded(rows: int) -> str:
    """Two digits are all that such an estimate is worth: 1,234 gives ``1,300``."""
    step = 10 ** max(0, len(str(rows)) - 2)
    return f"{math.ceil(rows / step) * step:,}"


def _check(
    rule: GateRule,
    verdict: Verdict,
    place: str,
    *,
    observed: float | None = None,
    low: float | None = None,
    high: float | None = None,
    rows: int = 0,
    detail: str = "",
) -> GateCheck:
    return GateCheck(
        rule=in_words(rule, place),
        verdict=verdict,
        observed=observed,
        low=low,
        high=high,
        detail=detail,
        metric=rule.metric,
        place=place,
        versus=str(rule.versus or ""),
        limit=limit_of(rule)[0],
        at_most=not limit_of(rule)[1],
        rows=rows,
    )


def chief_metric(decision: GateDecision) -> str | None:
    """The measured metric that the gate looks at first, else any; ``None`` where nothing was measured."""
    return next(iter(in_gates_order(decision)), None)


def in_gates_order(decision: GateDecision) -> tuple[str, ...]:
    """The measured metrics as the gate looks at them, then the others as :data:`METRICS` has them.

    The order in which a mapping holds them is lost on the way through the ledger.
    """
    metrics = decision.evaluation.metrics
    judged = dict.fromkeys(check.metric for check in decision.checks if check.metric in metrics)
    known = [name for name in METRICS if name in metrics]
    return tuple(dict.fromkeys([*judged, *known, *sorted(metrics)]))


def rows_that_judge(evaluation: Evaluation) -> int:
    """How many rows the candidate was measured on."""
    measured = max((metric.rows for metric in evaluation.metrics.values()), default=0)
    return evaluation.holdout.rows if evaluation.holdout is not None else measured


def metrics_named(rules: Sequence[GateRule]) -> tuple[str, ...]:
    """What rules ask to be measured on rows."""
    return tuple(dict.fromkeys(rule.metric for rule in rules if rule.metric not in OPERATIONAL))


def columns_named(rules: Sequence[GateRule]) -> tuple[str, ...]:
    """Columns by whose values rules are applied, or compare."""
    named = (column for rule in rules for column in (rule.each, rule.between) if column is not None)
    return tuple(dict.fromkeys(named))


def in_words(rule: GateRule, place: str = "") -> str:
    """A rule as a person says it, such as ``roc_auc at least 0.6 for origin=JFK``."""
    limits = list(_limits(rule))
    gap = f"gap between {rule.between}: " if rule.between else ""
    where = f" for {place}" if place and not rule.between else ""
    return f"{gap}{rule.metric} {' and '.join(limits) or 'without a limit'}{where}"


def _limits(rule: GateRule) -> Iterable[str]:
    if rule.versus is not None:
        yield f"{_claim(rule)} {_opponent(rule)} ({rule.confidence:.0%} confidence)"
    if rule.at_least is not None:
        yield f"at least {rule.at_least:g}"
    if rule.at_most is not None:
        yield f"at most {rule.at_most:g}"


def _claim(rule: GateRule) -> str:
    if rule.claim == "superior":
        return "better than"
    if rule.claim == "not_worse":
        return f"not shown to be more than {rule.margin:g} worse than" if rule.margin else "not shown to be worse than"
    return f"at most {rule.margin:g} worse than"


def _opponent(rule: GateRule) -> str:
    return f"version {rule.versus}" if isinstance(rule.versus, int) else f"the {rule.versus}"
