"""Whether a measured candidate is good enough."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import NormalDist
from typing import Final

from ml_lifecycle.core.contracts import (
    Difference,
    Evaluation,
    GateCheck,
    GateDecision,
    GateRule,
    Metric,
    Verdict,
    digest_of,
)

HIGHER_IS_BETTER: Final[Mapping[str, bool]] = {
    "roc_auc": True,
    "accuracy": True,
    "log_loss": False,
    "brier": False,
    "mae": False,
    "rmse": False,
}
"""Every metric that can be measured, and which way is better."""


def decide(rules: Sequence[GateRule], evaluation: Evaluation) -> GateDecision:
    """Judge the candidate: one failed check fails it, one unknown leaves it to a human.

    Rules that compare with the champion do not apply to a first release, which has none. Where nothing else was
    asked, nothing is known, and a human decides.
    """
    applied = [(rule, check) for rule in rules for check in _apply(rule, evaluation)]
    first_release = evaluation.champion is None
    known = (check.verdict for rule, check in applied if not (first_release and rule.versus and _holds(check)))
    return GateDecision(
        evaluation=evaluation,
        verdict=Verdict.worst(known),
        checks=tuple(check for _, check in applied),
        policy_digest=policy_digest(rules),
    )


def policy_digest(rules: Sequence[GateRule]) -> str:
    """Digest of the rules, in the order in which they are applied."""
    return digest_of([rule.content_digest() for rule in rules])


def _holds(check: GateCheck) -> bool:
    return check.verdict is Verdict.PASS


def _apply(rule: GateRule, evaluation: Evaluation) -> Iterator[GateCheck]:
    if rule.versus is not None:
        yield _versus_champion(rule, evaluation)
    elif rule.each is None:
        yield _against_limit(rule, evaluation.metrics.get(rule.metric), of=rule.metric)
    else:
        yield from _by_slice(rule, rule.each, evaluation.slices.get(rule.each, {}))


def _by_slice(rule: GateRule, column: str, values: Mapping[str, Mapping[str, Metric]]) -> Iterator[GateCheck]:
    if not values:
        yield _check(rule, Verdict.INCONCLUSIVE, f"each {column}", detail=f"nothing was measured by {column}")
    for value, metrics in sorted(values.items()):
        metric = metrics.get(rule.metric)
        if metric is not None and metric.rows < rule.min_rows:
            detail = f"{metric.rows} rows are too few, {rule.min_rows} are needed"
            yield _check(rule, Verdict.INCONCLUSIVE, f"{column}={value}", observed=metric.value, detail=detail)
        else:
            yield _against_limit(rule, metric, of=f"{column}={value}")


def _against_limit(rule: GateRule, metric: Metric | None, *, of: str) -> GateCheck:
    value = metric.value if metric is not None else None
    if value is None or not math.isfinite(value):
        return _check(rule, Verdict.FAIL, of, detail=f"{rule.metric} was not measured")
    holds = [
        *([value >= rule.at_least] if rule.at_least is not None else []),
        *([value <= rule.at_most] if rule.at_most is not None else []),
    ]
    if not holds:
        return _check(rule, Verdict.INCONCLUSIVE, of, observed=value, detail="the rule sets no limit")
    return _check(rule, Verdict.PASS if all(holds) else Verdict.FAIL, of, observed=value)


def _versus_champion(rule: GateRule, evaluation: Evaluation) -> GateCheck:
    candidate = evaluation.metrics.get(rule.metric)
    if candidate is None or candidate.value is None:
        return _check(rule, Verdict.FAIL, rule.metric, detail=f"{rule.metric} was not measured")
    if evaluation.champion is None:
        detail = "first release: no champion to compare with"
        return _check(rule, Verdict.PASS, rule.metric, observed=candidate.value, detail=detail)
    difference = evaluation.champion.differences.get(rule.metric)
    if difference is None or difference.estimate is None or difference.standard_error is None:
        detail = "the difference to the champion could not be measured"
        return _check(rule, Verdict.INCONCLUSIVE, rule.metric, detail=detail)
    return _bounded(rule, difference, difference.estimate, difference.standard_error)


def _bounded(rule: GateRule, difference: Difference, estimate: float, standard_error: float) -> GateCheck:
    reach = NormalDist().inv_cdf(rule.confidence) * standard_error
    low, high = estimate - reach, estimate + reach
    if not (math.isfinite(low) and math.isfinite(high)):
        return _check(rule, Verdict.INCONCLUSIVE, rule.metric, detail="the difference's bounds are not finite")
    # A margin of 0 against the champion itself: no difference at all is no loss.
    if low > -rule.margin or low == high == -rule.margin == 0:
        verdict, detail = Verdict.PASS, ""
    elif high < -rule.margin:
        verdict, detail = Verdict.FAIL, ""
    else:
        verdict, detail = Verdict.INCONCLUSIVE, _rows_needed(rule, difference, estimate, reach)
    return _check(rule, verdict, rule.metric, observed=estimate, low=low, high=high, detail=detail)


def _rows_needed(rule: GateRule, difference: Difference, estimate: float, reach: float) -> str:
    """How many rows would settle it, if the estimate stayed: the bound's reach shrinks with the root of the rows."""
    distance = abs(estimate + rule.margin)
    if distance == 0 or difference.rows == 0:
        return "the estimate lies on the margin: no number of rows would settle it"
    factor = (reach / distance) ** 2
    more = difference.rows * (factor - 1)
    if more > _MOST_ROWS:
        return "more rows would hardly settle it: the estimate lies almost on the margin"
    return f"about {_rounded(more)} more rows needed"


_MOST_ROWS: Final = 1e9


def _rounded(rows: float) -> str:
    """Two digits are all that such an estimate is worth: 1,234.5 gives ``1,300``."""
    whole = max(1, math.ceil(rows))
    step = 10 ** max(0, len(str(whole)) - 2)
    return f"{math.ceil(whole / step) * step:,}"


def _check(
    rule: GateRule,
    verdict: Verdict,
    of: str,
    *,
    observed: float | None = None,
    low: float | None = None,
    high: float | None = None,
    detail: str = "",
) -> GateCheck:
    return GateCheck(rule=_in_words(rule, of), verdict=verdict, observed=observed, low=low, high=high, detail=detail)


def _in_words(rule: GateRule, of: str) -> str:
    limits = []
    if rule.versus is not None:
        limits.append(f"at most {rule.margin:g} worse than the champion ({rule.confidence:.0%} confidence)")
    if rule.at_least is not None:
        limits.append(f"at least {rule.at_least:g}")
    if rule.at_most is not None:
        limits.append(f"at most {rule.at_most:g}")
    place = "" if of == rule.metric else f" for {of}"
    return f"{rule.metric} {' and '.join(limits) or 'without a limit'}{place}"
