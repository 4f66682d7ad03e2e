"""What each rule of a gate is held against, with bounds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from ml_lifecycle.backends.evaluation.bounds import Bounds, Gap
from ml_lifecycle.backends.evaluation.intervals import Estimate, estimate, estimate_difference
from ml_lifecycle.backends.evaluation.metrics import NO_OWN, OwnMetrics, Part, check_metric
from ml_lifecycle.backends.evaluation.rows import CANDIDATE, ScoredRows
from ml_lifecycle.core.contracts import Evaluation, GateRule, Measured
from ml_lifecycle.core.evaluation import HIGHER_IS_BETTER, OPERATIONAL, limit_of, pass_confidence

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FEW: Final = "(few rows)"
"""The slice of all values that have too few rows."""
_TWO: Final = 2
_ITSELF: Final = 0.5


def measure_rules(
    rules: Sequence[GateRule],
    evaluation: Evaluation,
    rows: ScoredRows,
    *,
    judged: int = 1,
    own: OwnMetrics = NO_OWN,
) -> tuple[Measured, ...]:
    """Measure what every rule is held against, in each of its places; what cannot be measured says why.

    :param judged: How many candidates the holdout has judged, this one included.
    :raises UnknownMetricError: a rule names a metric that is unknown, or does not fit the task.
    """
    for rule in rules:
        if rule.metric not in OPERATIONAL:
            check_metric(rule.metric, rows.task)
    measurement = _Measurement(evaluation, rows, own)
    return tuple(one for number, rule in enumerate(rules) for one in _measure(number, rule, measurement, judged=judged))


def held_against(rule: GateRule, found: Estimate) -> Measured:
    """What a rule about all rows is held against, of a metric that was estimated before."""
    return _measured(0, rule, "", found, 1)


def _measure(number: int, rule: GateRule, measurement: _Measurement, *, judged: int) -> Iterator[Measured]:
    if rule.metric in OPERATIONAL:
        yield _operational(number, rule, measurement.evaluation)
    elif rule.between is not None:
        yield _measured(number, rule, "", measurement.gap(rule), judged)
    else:
        for place, part in measurement.places(rule):
            yield _measured(number, rule, place, measurement.one(rule, place, part), judged)


def _operational(number: int, rule: GateRule, evaluation: Evaluation) -> Measured:
    serving = evaluation.serving
    value = getattr(serving, rule.metric, None)
    if value is not None:
        return Measured(rule=number, value=value, rows=serving.rows if serving else 0, method="measured once")
    why = "the packaged model was not tried" if serving is None else serving.detail or "it was not measured"
    return Measured(rule=number, value=None, rows=0, detail=why)


def _measured(number: int, rule: GateRule, place: str, found: Estimate, judged: int) -> Measured:
    blank = Measured(
        rule=number,
        place=place,
        value=found.value,
        rows=found.rows,
        clusters=found.clusters,
        method=found.method,
        detail=found.detail,
    )
    return blank if found.bounds is None else blank.model_copy(update=_bounded(rule, found.bounds, judged))


def _bounded(rule: GateRule, bounds: Bounds, judged: int) -> dict[str, Any]:
    """Bounds at the confidence of their side: a pass may need more than a failure."""
    limit, above = limit_of(rule)
    to_pass, to_fail = pass_confidence(rule, judged), rule.confidence
    broken = bounds.p_below(limit) if above else bounds.p_above(limit)
    if rule.confidence == _ITSELF:
        beyond = bounds.value < limit if above else bounds.value > limit
        broken = 0.0 if beyond else 1.0
    return {
        "low": bounds.lower(to_pass if above else to_fail),
        "high": bounds.upper(to_fail if above else to_pass),
        "p_broken": broken,
        "standard_error": bounds.error,
    }


@dataclass(frozen=True)
class _Measurement:
    """Everything that rules are measured on; what two of them ask for is worked out once."""

    evaluation: Evaluation
    rows: ScoredRows
    own: OwnMetrics

    def places(self, rule: GateRule) -> Iterator[tuple[str, Part]]:
        """Where a rule applies: all rows, or each slice; those with few rows together if it says so."""
        if rule.each is None:
            yield "", self._whole
            return
        parts = self._slices(rule.each)
        pooled = rule.few_rows == "pool"
        few = [value for value, part in parts.items() if pooled and len(part.rows) < rule.min_rows]
        for value, part in parts.items():
            if value not in few:
                yield f"{rule.each}={value}", part
        if few:
            yield f"{rule.each}={FEW}", Part(self._where(rule.each, few), self.evaluation.spec)
        if not parts:
            yield rule.each, Part(self.rows.part(slice(0, 0)), self.evaluation.spec)

    def one(self, rule: GateRule, place: str, part: Part) -> Estimate:
        """A rule's metric, or its difference to what the rule compares with."""
        key = (rule.metric, rule.versus, rule.better, place)
        if key not in self._known or place.endswith(f"={FEW}"):
            self._known[key] = self._estimate(rule, part)
        return self._known[key]

    def _estimate(self, rule: GateRule, part: Part) -> Estimate:
        if rule.each is not None and rule.each not in self.rows.slices:
            return Estimate(None, 0, detail=f"the predictions have no column {rule.each!r} to slice by")
        if rule.versus is None:
            return estimate(rule.metric, part, CANDIDATE, own=self.own)
        higher = _higher_is_better(rule)
        if higher is None:
            return Estimate(None, len(part.rows), detail=f"nothing says which way {rule.metric} is better")
        return estimate_difference(rule.metric, part, CANDIDATE, str(rule.versus), higher=higher, own=self.own)

    def gap(self, rule: GateRule) -> Estimate:
        """The greatest difference between groups that have enough rows."""
        column = str(rule.between)
        if column not in self.rows.slices:
            return Estimate(None, 0, detail=f"the predictions have no column {column!r} to compare")
        groups = {
            value: estimate(rule.metric, part, CANDIDATE, own=self.own)
            for value, part in self._slices(column).items()
            if len(part.rows) >= rule.min_rows
        }
        return _gap(groups, rule, clustered=self.rows.cluster is not None)

    @cached_property
    def _known(self) -> dict[tuple[Any, ...], Estimate]:
        return {}

    @cached_property
    def _whole(self) -> Part:
        return Part(self.rows, self.evaluation.spec)

    @cached_property
    def _sliced(self) -> dict[str, dict[str, Part]]:
        return {}

    def _slices(self, column: str) -> dict[str, Part]:
        """The rows of each value, in the values' order."""
        if column not in self._sliced:
            known = column in self.rows.slices
            self._sliced[column] = dict(_split(self.rows, column, self.evaluation.spec)) if known else {}
        return self._sliced[column]

    def _where(self, column: str, values: Iterable[str]) -> ScoredRows:
        import pandas as pd

        return self.rows.part(pd.Series(self.rows.slices[column]).isin(list(values)).to_numpy())


def _higher_is_better(rule: GateRule) -> bool | None:
    if rule.metric in HIGHER_IS_BETTER:
        return HIGHER_IS_BETTER[rule.metric]
    return None if rule.better is None else rule.better == "higher"


def _split(rows: ScoredRows, column: str, spec: Any) -> Iterator[tuple[str, Part]]:
    """Rows are brought into the values' order once, so that each part is a view."""
    import numpy as np
    import pandas as pd

    codes, values = pd.factorize(rows.slices[column], sort=True)
    if not len(values):
        return
    # The smallest type that holds the codes is sorted without comparisons.
    order = np.argsort(codes.astype(np.min_scalar_type(len(values))), kind="stable")
    ordered = rows.part(order)
    ends = np.cumsum(np.bincount(codes, minlength=len(values)))
    for value, end, count in zip(values, ends, np.diff(np.append(0, ends)), strict=True):
        yield str(value), Part(ordered.part(slice(int(end - count), int(end))), spec)


# --- Gaps between groups ---------------------------------------------------------------------------------------------


def _gap(groups: dict[str, Estimate], rule: GateRule, *, clustered: bool) -> Estimate:
    counted = sum(found.rows for found in groups.values())
    for value, found in groups.items():
        if found.value is None or found.bounds is None:
            return Estimate(None, counted, detail=f"for {rule.between}={value}: {found.detail}")
    if len(groups) < _TWO:
        detail = f"fewer than two groups of {rule.between} have {rule.min_rows} rows"
        return Estimate(None, counted, detail=detail)
    ranked = sorted((found.value or 0.0, value) for value, found in groups.items())
    (least, least_of), (most, most_of) = ranked[0], ranked[-1]
    known = [found.bounds for found in groups.values() if found.bounds is not None]
    bounds = Gap(known, _correlation(list(groups.values())) if clustered else None)
    return Estimate(
        bounds.value,
        counted,
        bounds,
        method=f"{next(iter(groups.values())).method} per group, for all pairs of {len(groups)}",
        detail=f"{most:.4g} for {most_of}, {least:.4g} for {least_of}",
    )


def _correlation(groups: Sequence[Estimate]) -> NDArray[np.float64] | None:
    """Of the groups' errors, through the clusters that they share; ``None`` where that is not known."""
    import numpy as np

    parts = [found.influence for found in groups if found.influence is not None]
    if len(parts) < len(groups):
        return None
    table = np.zeros((len(parts), 1 + max(int(names.max()) for names, _ in parts)))
    for row, (names, influence) in zip(table, parts, strict=True):
        row[names] = influence
    lengths = np.sqrt((table**2).sum(axis=1))
    scale = np.outer(lengths, lengths)
    found: NDArray[np.float64] = np.divide(table @ table.T, scale, out=np.zeros_like(scale), where=scale > 0)
    return found
