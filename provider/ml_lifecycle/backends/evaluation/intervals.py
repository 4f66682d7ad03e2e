"""Metrics and paired differences with their errors, each by the method that fits it.

Areas under the ROC curve: DeLong. Proportions of the same rows: Wilson for one, Tango for a difference. Everything that
is a function of sums: the bootstrap. With clusters all of these go by clusters. ``docs/decisions/0012-bounds.md`` says
why.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ml_lifecycle.backends.evaluation.auc import Area, delong_error, linear_error
from ml_lifecycle.backends.evaluation.bootstrap import MOST_UNITS, Units, deal, left_out, replicates, sums_by
from ml_lifecycle.backends.evaluation.bounds import (
    FEW_DISCORDANT,
    Alike,
    Bootstrap,
    Bounds,
    Certain,
    Folded,
    Logit,
    PairedProportions,
    Symmetric,
    Wilson,
)
from ml_lifecycle.backends.evaluation.metrics import NO_OWN, OwnMetrics, Part, check_metric
from ml_lifecycle.backends.evaluation.rows import ScoredRows
from ml_lifecycle.backends.evaluation.sums import BOUNDED, SHARES, SUMS, Share, Sums, as_sums, columns_of
from ml_lifecycle.core.contracts import Difference, MeasurementSpec, Metric
from ml_lifecycle.core.evaluation import HIGHER_IS_BETTER, PERIODS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]
    Codes = NDArray[np.int64]

CONFIDENCE: Final = 0.975
"""One-sided, of each end of a two-sided 95% interval."""
_GROUPS: Final = 64
"""Into which rows are dealt for a metric of which nothing is known."""
_TWO: Final = 2
_HANDFUL: Final = 5
_EVEN: Final = 0.75
"""Of the rows: so many count effectively where weights are about even, however few rows there are."""
_MOST_UNDEFINED: Final = 0.1
_ROUNDING: Final = 1e-12
_ONE_CLASS: Final = "the rows hold one class only"
_NO_ROW: Final = "no row counts for it"
_TOO_FEW: Final = "too few independent rows for an error"


@dataclass(frozen=True)
class Estimate:
    """A measured value, and its bounds where they are known."""

    value: float | None
    rows: int
    bounds: Bounds | None = None
    clusters: int | None = None
    method: str = ""
    detail: str = ""
    """Why the value, or its error, is not known."""
    influence: tuple[Codes, Numbers] | None = None
    """Clusters, and what each contributes to the error; they may reach over several parts."""


def metric_of(
    name: str, rows: ScoredRows, contender: str, *, spec: MeasurementSpec, own: OwnMetrics = NO_OWN
) -> Metric:
    """The metric with its two-sided 95% interval; ``None`` where they are not known.

    :raises UnknownMetricError: no metric of this task is called so.
    """
    check_metric(name, rows.task)
    return as_metric(estimate(name, Part(rows, spec), contender, own=own))


def as_metric(found: Estimate) -> Metric:
    """An estimate with its two-sided 95% interval; ``None`` where they are not known."""
    low, high = _ends(found.bounds)
    return Metric(value=found.value, rows=found.rows, low=low, high=high)


def difference(
    name: str, rows: ScoredRows, new: str, old: str, *, spec: MeasurementSpec, own: OwnMetrics = NO_OWN
) -> Difference:
    """How much better ``new`` is than ``old`` on the same rows, with its two-sided 95% interval.

    Metrics of which no way is better, and the team's own, are taken as better where they are higher.

    :raises UnknownMetricError: no metric of this task is called so.
    """
    check_metric(name, rows.task)
    higher = HIGHER_IS_BETTER.get(name, True)
    found = estimate_difference(name, Part(rows, spec), new, old, higher=higher, own=own)
    low, high = _ends(found.bounds)
    error = found.bounds.error if found.bounds is not None else None
    return Difference(
        estimate=found.value, standard_error=error, rows=found.rows, low=low, high=high, method=found.method
    )


def _ends(bounds: Bounds | None) -> tuple[float | None, float | None]:
    return (None, None) if bounds is None else (bounds.lower(CONFIDENCE), bounds.upper(CONFIDENCE))


# --- One model -------------------------------------------------------------------------------------------------------


def estimate(name: str, part: Part, contender: str, *, own: OwnMetrics = NO_OWN) -> Estimate:
    """A metric of one contender; never raises for what the data are like."""
    if reason := part.unusable(contender, "" if name in own else name):
        return Estimate(None, len(part.rows), detail=reason)
    if name in own:
        return _jackknife(part, lambda kept: part.own_value(own[name], contender, kept))
    task, scored = part.rows.task, part.scored(contender)
    if name in SHARES[task]:
        return _share(part, SHARES[task][name](scored))
    if name in SUMS[task]:
        return _resampled(name, part, SUMS[task][name](scored))
    area = part.area(name, contender)
    if area is None:
        return Estimate(None, len(part.rows), detail=_ONE_CLASS)
    return _area(name, part, area, one=True)


def _area(name: str, part: Part, area: Area, *, one: bool) -> Estimate:
    """An area or a difference of two."""
    import numpy as np

    rows = part.rows
    clusters = Clusters.of(rows.cluster)
    positive = rows.truth == rows.truth.max()
    if name == "roc_auc" and rows.task == "binary" and rows.weight is None:
        method, error = "DeLong", delong_error(area.influence, positive, clusters.codes)
    else:
        method, error = "infinitesimal jackknife", linear_error(area.influence, clusters.codes)
    method += clusters.named(" of {}", part.spec)
    found = partial(Estimate, area.value, len(rows), clusters=clusters.count, method=method)
    weighty = [_few_count(rows.weight, clusters.codes, rows.truth == place) for place in np.unique(rows.truth)]
    if error is None or any(weighty):
        return found(detail=_TOO_FEW)
    influence = clusters.sums(area.influence)
    if error <= _rounding(area.influence):
        smaller = min(int((rows.truth == place).sum()) for place in np.unique(rows.truth))
        least = smaller if clusters.count is None else min(smaller, clusters.count)
        unmoved = Wilson(area.value, least) if one else Alike(least, value=area.value)
        return found(bounds=unmoved, influence=influence)
    shape = Logit if one else Symmetric
    return found(bounds=shape(area.value, error, clusters.freedom), influence=influence)


def _rounding(influence: Numbers) -> float:
    """An error that is nothing but rounding."""
    return _ROUNDING / math.sqrt(len(influence))


def _share(part: Part, share: Share) -> Estimate:
    import numpy as np

    rows = part.rows
    among = slice(None) if share.among is None else share.among
    so = share.so[among].astype("float64")
    if len(so) == 0:
        return Estimate(None, len(rows), detail=_NO_ROW)
    clusters = Clusters.of(None if rows.cluster is None else rows.cluster[among])
    if rows.weight is None and clusters.codes is None:
        return Estimate(float(so.mean()), len(rows), Wilson(float(so.mean()), len(so)), method="Wilson score")
    weight = np.ones(len(so)) if rows.weight is None else rows.weight[among]
    if weight.sum() <= 0:
        return Estimate(None, len(rows), detail=_NO_ROW)
    value = float(np.average(so, weights=weight))
    influence = weight * (so - value) / weight.sum()
    error = linear_error(influence, clusters.codes)
    method = "Wilson score" + clusters.named(" of {}", part.spec)
    if error is None or _few_count(weight, clusters.codes):
        return Estimate(value, len(rows), clusters=clusters.count, method=method, detail=_TOO_FEW)
    worth = clusters.count or _effective(weight)
    if 0 < value < 1 and error > _rounding(influence):
        worth = min(len(so) if clusters.count else worth, value * (1 - value) / error**2)
    bounds = Wilson(value, worth, clusters.freedom)
    return Estimate(
        value, len(rows), bounds, clusters=clusters.count, method=method, influence=clusters.sums(influence)
    )


def _effective(weight: Numbers) -> float:
    """How many rows of equal weight tell as much: Kish, Survey Sampling (1965), section 11.7."""
    return float(weight.sum() ** 2 / (weight**2).sum())


def _few_count(weight: Numbers | None, cluster: Codes | None, among: NDArray[np.bool_] | None = None) -> bool:
    """Whether a handful of rows or clusters carries the weight: they pull the value to themselves, and seem exact."""
    import numpy as np

    if weight is None:
        return False
    inside = weight if among is None else np.where(among, weight, 0.0)
    units = inside if cluster is None else sums_by(cluster, inside, int(cluster.max()) + 1)
    units = units[units > 0]
    return len(units) > 0 and _effective(units) < min(_HANDFUL, _EVEN * len(units))


def _resampled(name: str, part: Part, sums: Sums) -> Estimate:
    most = max((cost for said in part.spec.costs.values() for cost in said.values()), default=0.0)

    def constant(value: float, units: Units) -> Bounds | None:
        """Of a value that no resample moves."""
        if name in BOUNDED:
            return Wilson(value, units.members)
        return Wilson(0.0, units.members, scale=most) if name == "cost" and value == 0 and most > 0 else None

    return _bootstrap(name, part, sums.columns, sums.value, constant=constant)


# --- Two models ------------------------------------------------------------------------------------------------------


def estimate_difference(
    name: str, part: Part, new: str, old: str, *, higher: bool, own: OwnMetrics = NO_OWN
) -> Estimate:
    """How much better one contender is than another on the same rows; never raises for what the data are like.

    :param higher: Whether a higher value is better.
    """
    import numpy as np

    rows, sign = part.rows, 1 if higher else -1
    asked = "" if name in own else name
    if reason := part.unusable(new, asked) or part.unusable(old, asked):
        return Estimate(None, len(rows), detail=reason)
    if name in own:
        return _own_difference(own[name], part, new, old, sign)
    if not np.array_equal(rows.scores[new], rows.scores[old]):
        return _apart(name, part, new, old, sign)
    if part.value(name, new) is None:
        return Estimate(None, len(rows), detail=f"{name} is undefined on these rows")
    return Estimate(0.0, len(rows), Certain(0.0), method="the same predictions")


def _apart(name: str, part: Part, new: str, old: str, sign: int) -> Estimate:
    """The difference of two contenders that say different things."""
    first, second = part.scored(new), part.scored(old)
    shares, sums = SHARES[part.rows.task], SUMS[part.rows.task]
    if name in shares:
        ours, theirs = shares[name](first), shares[name](second)
        if ours.fixed:
            return _paired_shares(part, ours, theirs, sign)
        return _paired_sums(name, part, as_sums(ours, first.weights), as_sums(theirs, second.weights), sign)
    if name in sums:
        return _paired_sums(name, part, sums[name](first), sums[name](second), sign)
    areas = part.area(name, new), part.area(name, old)
    if areas[0] is None or areas[1] is None:
        return Estimate(None, len(part.rows), detail=_ONE_CLASS)
    apart = Area(sign * (areas[0].value - areas[1].value), sign * (areas[0].influence - areas[1].influence))
    return _area(name, part, apart, one=False)


def _paired_shares(part: Part, new: Share, old: Share, sign: int) -> Estimate:
    import numpy as np

    rows = part.rows
    among = slice(None) if new.among is None else new.among
    if not rows.truth[among].size:
        return Estimate(None, len(rows), detail=_NO_ROW)
    first, second = (new.so[among], old.so[among]) if sign > 0 else (old.so[among], new.so[among])
    clusters = Clusters.of(None if rows.cluster is None else rows.cluster[among])
    if rows.weight is None and clusters.codes is None:
        bounds = PairedProportions(int((first & ~second).sum()), int((second & ~first).sum()), len(first))
        exact = " and exact binomial" if bounds.gains + bounds.losses < FEW_DISCORDANT else ""
        return Estimate(bounds.value, len(rows), bounds, method=f"Tango score{exact}")
    weight = np.ones(len(first)) if rows.weight is None else rows.weight[among]
    if weight.sum() <= 0:
        return Estimate(None, len(rows), detail=_NO_ROW)
    apart = first.astype("float64") - second
    value = float(np.average(apart, weights=weight))
    influence = weight * (apart - value) / weight.sum()
    error = linear_error(influence, clusters.codes)
    method = "paired proportions" + clusters.named(" of {}", part.spec)
    found = partial(Estimate, value, len(rows), clusters=clusters.count, method=method)
    if error is None or _few_count(weight, clusters.codes):
        return found(detail=_TOO_FEW)
    if error <= _rounding(influence):
        return found(bounds=Alike(clusters.count or len(first), value=value))
    return found(bounds=Symmetric(value, error, clusters.freedom))


def _paired_sums(name: str, part: Part, new: Sums, old: Sums, sign: int) -> Estimate:
    width = len(new.columns)

    def value(sums: Numbers) -> Numbers:
        return sign * (new.value(sums[..., :width]) - old.value(sums[..., width:]))

    costs = [cost for said in part.spec.costs.values() for cost in said.values()]
    scale = 1.0 if name in BOUNDED else (max(costs, default=0.0) - min([0.0, *costs]) if name == "cost" else 0.0)

    def constant(found: float, units: Units) -> Bounds | None:
        """Of a difference that no resample moves."""
        return Alike(units.members, scale, found) if scale > 0 else None

    return _bootstrap(name, part, columns_of((new, old)), value, constant=constant, paired=True)


# --- The bootstrap ---------------------------------------------------------------------------------------------------


def _bootstrap(
    name: str,
    part: Part,
    columns: tuple[Numbers, ...],
    value: Callable[[Numbers], Numbers],
    *,
    constant: Callable[[float, Units], Bounds | None],
    paired: bool = False,
) -> Estimate:
    import numpy as np

    spec, rows = part.spec, len(part.rows)
    clusters = Clusters.of(part.rows.cluster)
    units = deal(rows, clusters.codes, most=MOST_UNITS, seed=spec.seed)
    sums = units.sums(columns)
    all_rows = float(value(sums.sum(axis=0)))
    if not math.isfinite(all_rows):
        return Estimate(None, rows, clusters=clusters.count, detail=f"{name} is undefined on these rows")
    found = partial(Estimate, all_rows, rows, clusters=clusters.count)
    if units.count < _TWO:
        return found(detail=_TOO_FEW)
    resampled = replicates(sums, value, resamples=spec.resamples, seed=spec.seed)
    known = resampled[np.isfinite(resampled)]
    if len(known) < (1 - _MOST_UNDEFINED) * len(resampled):
        return found(detail=f"{name} is undefined on so many resamples that its error is not known")
    of = _units_in_words(units, clusters, spec)
    if known.std() <= _ROUNDING * max(1.0, abs(all_rows)):
        bounds = constant(all_rows, units)
        unknown = "" if bounds is not None else f"{name} does not vary over the rows, so that its error is not known"
        return found(bounds=bounds, method=f"score interval of {of}" if bounds is not None else "", detail=unknown)
    if paired:
        # Differences are spread about evenly: a correction would bring in more noise than it takes out.
        return found(bounds=Bootstrap(all_rows, known, units.count), method=f"percentile bootstrap of {of}")
    without = left_out(sums, value)
    bounds, kind = _of_one(name, all_rows, known, without)
    influence = clusters.own((without.mean() - without) * (units.count - 1) / units.count, units)
    return found(bounds=bounds, method=f"{kind} of {of}", influence=influence)


def _of_one(name: str, value: float, resampled: Numbers, without: Numbers) -> tuple[Bounds, str]:
    """The bounds of one model's value, and what they are called."""
    import numpy as np

    if name == "calibration_error":
        return Folded(value, resampled, len(without)), "bootstrap"
    bounds = Bootstrap(value, resampled, len(without), without[np.isfinite(without)])
    return bounds, "BCa bootstrap" if bounds.corrected else "percentile bootstrap"


def _units_in_words(units: Units, clusters: Clusters, spec: MeasurementSpec) -> str:
    inside = f"{units.members:,} rows" if clusters.count is None else _clusters_in_words(clusters.count, spec)
    return inside if units.count == units.members else f"{inside} in {units.count:,} random groups"


def _clusters_in_words(count: int, spec: MeasurementSpec) -> str:
    return f"{count:,} {spec.cluster}s" if spec.cluster in PERIODS else f"{count:,} clusters"


# --- Metrics of one's own --------------------------------------------------------------------------------------------


def _own_difference(metric: Callable[..., Any], part: Part, new: str, old: str, sign: int) -> Estimate:
    def apart(kept: NDArray[np.bool_] | None) -> tuple[float | None, str]:
        first, reason = part.own_value(metric, new, kept)
        if first is None:
            return None, reason
        second, reason = part.own_value(metric, old, kept)
        return (None, reason) if second is None else (sign * (first - second), "")

    import numpy as np

    if np.array_equal(part.rows.scores[new], part.rows.scores[old]) and apart(None)[0] is not None:
        return Estimate(0.0, len(part.rows), Certain(0.0), method="the same predictions")
    return _jackknife(part, apart)


def _jackknife(part: Part, value: Callable[[NDArray[np.bool_] | None], tuple[float | None, str]]) -> Estimate:
    """A value whose form is not known, without each of 64 random groups of rows or clusters in turn.

    The delete-a-group jackknife: Kott, Journal of Official Statistics 17 (2001). It costs as many calls whatever the
    rows are, where a bootstrap would have to call the function for each resample.
    """
    import numpy as np

    rows, clusters = len(part.rows), Clusters.of(part.rows.cluster)
    whole, reason = value(None)
    found = partial(Estimate, whole, rows, clusters=clusters.count)
    if whole is None:
        return found(detail=reason)
    units = deal(rows, clusters.codes, most=_GROUPS, seed=part.spec.seed)
    if units.count < _TWO:
        return found(detail=_TOO_FEW)
    without = [value(units.of_row != place) for place in range(units.count)]
    if failed := [why for one, why in without if one is None]:
        return found(detail=f"without a part of the rows {failed[0]}")
    values = np.array([one for one, _ in without])
    pulls = (values.mean() - values) * (units.count - 1) / units.count
    error = math.sqrt(units.count / (units.count - 1) * float((pulls**2).sum()))
    if error <= _ROUNDING * max(1.0, abs(whole)):
        return found(detail="it does not vary over the rows, so that its error is not known")
    method = f"jackknife of {_units_in_words(units, clusters, part.spec)}"
    bounds = Symmetric(whole, error, units.count - 1)
    return found(bounds=bounds, method=method, influence=clusters.own(pulls, units))


# --- Clusters --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Clusters:
    """Which rows belong together, numbered from 0 within a part."""

    codes: Codes | None = None
    names: Codes | None = dataclasses.field(default=None, repr=False)
    """Each number's own number in the whole."""

    @classmethod
    def of(cls, cluster: Codes | None) -> Clusters:
        """Numbers without gaps."""
        import numpy as np

        if cluster is None:
            return cls()
        names, codes = np.unique(cluster, return_inverse=True)
        return cls(codes, names)

    @property
    def count(self) -> int | None:
        """How many there are; ``None`` where every row stands for itself."""
        return None if self.names is None else len(self.names)

    @property
    def freedom(self) -> int | None:
        """Degrees of freedom; ``None`` where rows are many enough for a normal distribution."""
        return None if self.names is None else max(1, len(self.names) - 1)

    def sums(self, influence: Numbers) -> tuple[Codes, Numbers] | None:
        """Influences of rows as those of clusters."""
        if self.codes is None or self.names is None:
            return None
        return self.names, sums_by(self.codes, influence, len(self.names))

    def own(self, influence: Numbers, units: Units) -> tuple[Codes, Numbers] | None:
        """Influences of units, where these are the clusters themselves."""
        import numpy as np

        known = self.names is not None and units.count == len(self.names) and bool(np.isfinite(influence).all())
        return (self.names, influence) if self.names is not None and known else None

    def named(self, text: str, spec: MeasurementSpec) -> str:
        """The text with their number in it; empty where there are none."""
        return "" if self.count is None else text.format(_clusters_in_words(self.count, spec))
