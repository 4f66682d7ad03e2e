"""What predictions are probably worth before anybody knows what turned out.

Confidence-based: each row counts once as each class, weighted by the class's probability, and the usual metrics are
measured on these rows. NannyML published the method (https://nannyml.readthedocs.io, Confidence-based Performance
Estimation); Guillory et al., Predicting with Confidence on Unseen Distributions (ICCV 2021), measure how far such
estimates carry, and Garg et al., Leveraging Unlabeled Data to Predict Out-of-Distribution Performance (ICLR 2022,
section 3), prove that none can do without an assumption about what changed. The one made here is that a score comes
true as often as it states or, where it is known that scores do not, as often as it did on the holdout.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from ml_lifecycle.backends.evaluation import intervals
from ml_lifecycle.backends.evaluation.metrics import PLAIN, Part, calibration_curve, check_metric
from ml_lifecycle.backends.evaluation.rows import CANDIDATE, ScoredRows
from ml_lifecycle.core.contracts import MeasurementSpec, PerformanceEstimate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]
    Codes = NDArray[np.int64]

TOLERANCE: Final = 0.05
"""Mean distance between predicted and true shares that an estimate can bear."""
BINS: Final = 10
_CONFIDENCE: Final = 0.95
_SUMS_TO_ONE: Final = 0.01
_MOST: Final = 20_000_000
"""Numbers in memory, beyond which rows are drawn."""
_GOLDEN: Final = (math.sqrt(5) - 1) / 2
_BY_CONSTRUCTION: Final = ("calibration_error", "bias")
"""Metrics of what the estimate takes for granted."""
_READ_BINS: Final = 20
_FOLDS: Final = 2
_NOT_SEEN: Final = "A change of what follows from the same inputs is not seen."
_ASSUMES: Final = (
    "It holds if the scores are probabilities on these rows too: of rows with a score of 0.3, 30% come true. "
    + _NOT_SEEN
)
_ASSUMES_READ: Final = f"It holds if each score comes true as often on these rows as on the holdout. {_NOT_SEEN}"


@dataclass(frozen=True)
class Calibration:
    """How far what is taken as chances is from what came true, on rows that the model was not trained on."""

    error: float | None
    """Mean distance over bins of equal weight, 0 to 1."""
    at_most: float | None
    """One-sided 95% upper bound of it."""
    p_value: float | None
    """Of the chi-square test that the scores are probabilities; ``None`` where rows are weighted or clustered."""
    rows: int
    estimated: float | None = None
    """The metric, as it would have been estimated on these rows."""
    measured: float | None = None
    """The metric on these rows."""
    of_scores: float | None = None
    """How far the scores themselves are, where chances were read off the holdout in their place."""

    @property
    def holds(self) -> bool:
        """Whether the chances are shown to be off by :data:`TOLERANCE` at most."""
        return self.at_most is not None and self.at_most <= TOLERANCE

    def in_words(self, metric: str) -> str:
        """What was found on the holdout, and what that is enough for."""
        if self.error is None or self.at_most is None:
            return "The scores could not be held against what came true on the holdout, so take it as a hint only."
        tested = f" (chi-square test of {BINS} bins: p = {self.p_value:.2g})" if self.p_value is not None else ""
        off = f"off by {self.error:.3f} on average, {self.at_most:.3f} at most with 95% confidence{tested}"
        text = f"On {self.rows:,} rows of the holdout the scores are {off}"
        if self.of_scores is not None:
            text = (
                f"On {self.rows:,} rows of the holdout the scores are off by {self.of_scores:.3f} on average, so "
                f"chances were read off it; on the other half of it these are {off}"
            )
        if self.estimated is not None and self.measured is not None:
            text += (
                f"; {metric} would have been estimated at {self.estimated:.4g}, and {self.measured:.4g} was measured"
            )
        shown = "" if self.holds else f" That is not shown to be within {TOLERANCE:g}, so take it as a hint only."
        return f"{text}.{shown}"

    def sentences(self, metric: str) -> str:
        """What the estimate assumes, what it cannot see, and what was found of it."""
        return f"{_ASSUMES if self.of_scores is None else _ASSUMES_READ} {self.in_words(metric)}"


def estimate(
    metric: str,
    scores: Numbers,
    *,
    classes: tuple[str, ...] = (),
    spec: MeasurementSpec = PLAIN,
    cluster: Codes | None = None,
    weight: Numbers | None = None,
    holdout: ScoredRows | None = None,
) -> PerformanceEstimate:
    """Estimate a metric from scores alone; never raises for what the data are like.

    :param scores: The second class's probability ``(rows,)``, or a probability per class ``(rows, classes)``.
    :param classes: Empty for a regression, which is not estimated.
    :param spec: How the metric is measured.
    :param cluster: Rows of one number are not independent of each other.
    :param weight: How much each row counts.
    :param holdout: The same model's predictions of rows whose truth is known and that it was not trained on.
    :raises UnknownMetricError: no metric of this task is called so.
    """
    if reason := _not_estimated(metric, classes):
        return PerformanceEstimate(metric=metric, value=None, rows=len(scores), condition=reason)
    check_metric(metric, "multiclass" if scores.ndim > 1 else "binary")
    if reason := _no_probabilities(scores):
        return PerformanceEstimate(metric=metric, value=None, rows=len(scores), condition=f"Not estimated: {reason}.")
    rows = _rows(scores, classes, cluster, weight).part(_drawn_rows(scores, spec.seed))
    found, chances = None, rows.scores[CANDIDATE]
    if holdout is not None:
        found, chances = _looked_up(metric, holdout, chances, spec)
    value, detail = _expected(metric, rows, spec, chances)
    if value is None:
        return PerformanceEstimate(metric=metric, value=None, rows=len(rows), condition=f"Not estimated: {detail}.")
    low, high = _interval(metric, rows, spec, chances)
    unknown = f"{_ASSUMES} Nothing is known of the scores on a holdout, so take it as a hint only."
    return PerformanceEstimate(
        metric=metric,
        value=value,
        low=None if low is None else min(low, value),
        high=None if high is None else max(high, value),
        rows=len(rows),
        valid=found is not None and found.holds,
        condition=unknown if found is None else found.sentences(metric),
        calibration_error=None if found is None else found.error,
    )


def calibration(
    metric: str, holdout: ScoredRows, spec: MeasurementSpec = PLAIN, *, chances: Numbers | None = None
) -> Calibration:
    """How far chances are from what came true; ``None`` in what cannot be measured.

    :param chances: What is held against the truth; ``None``: the candidate's scores.
    """
    stated = holdout if chances is None else replace(holdout, scores={CANDIDATE: chances})
    found = intervals.estimate("calibration_error", Part(stated, spec), CANDIDATE)
    if found.value is None:
        return Calibration(None, None, None, len(holdout))
    expected, _ = _expected(metric, holdout, spec, stated.scores[CANDIDATE])
    return Calibration(
        error=found.value,
        at_most=None if found.bounds is None else found.bounds.upper(_CONFIDENCE),
        p_value=_p_value(stated) if holdout.weight is None and holdout.cluster is None else None,
        rows=len(holdout),
        estimated=expected,
        measured=Part(holdout, spec).value(metric, CANDIDATE),
    )


def _looked_up(metric: str, holdout: ScoredRows, scores: Numbers, spec: MeasurementSpec) -> tuple[Calibration, Numbers]:
    """What the holdout says of the scores, and the chances that they stand for.

    Where scores are not shown to be probabilities, chances are read off the holdout, if these are closer to what came
    true on the half of it that they were not read off. NannyML calibrates scores in the same way.
    """
    found = calibration(metric, holdout, spec)
    if found.holds or found.at_most is None or scores.ndim > 1:
        return found, scores
    read = calibration(metric, holdout, spec, chances=_read_across(holdout))
    if read.at_most is None or read.at_most >= found.at_most:
        return found, scores
    return replace(read, of_scores=found.error), _read_off(holdout, scores)


def _read_off(known: ScoredRows, scores: Numbers) -> Numbers:
    """How often each score came true, in bins of equal weight, with straight lines between their means.

    Histogram binning: Zadrozny and Elkan, Obtaining calibrated probability estimates (ICML 2001), section 4.
    """
    import numpy as np

    stated, true, _ = calibration_curve(known, bins=_READ_BINS)
    chances: Numbers = np.clip(np.interp(scores, stated, true), 0.0, 1.0)
    return chances


def _read_across(holdout: ScoredRows) -> Numbers:
    """The chances of each row, read off the half of the holdout that it is not in; clusters stay together."""
    import numpy as np

    scores = holdout.scores[CANDIDATE]
    units = np.arange(len(scores)) if holdout.cluster is None else np.unique(holdout.cluster, return_inverse=True)[1]
    chances: Numbers = scores.copy()
    for fold in range(_FOLDS):
        inside = units % _FOLDS == fold
        if inside.any() and not inside.all():
            chances[inside] = _read_off(holdout.part(~inside), scores[inside])
    return chances


def _not_estimated(metric: str, classes: tuple[str, ...]) -> str:
    """Why this is no matter of scores alone; empty where it is."""
    if not classes:
        return "Not estimated: the numbers that a regression predicts say nothing of their own error."
    if ":" in metric:
        return "Not estimated: of a metric of one's own nobody knows how it takes rows that count in part."
    if metric in _BY_CONSTRUCTION:
        return f"Not estimated: {metric} is 0 if the scores are probabilities, which the estimate takes for granted."
    return ""


def _no_probabilities(scores: Numbers) -> str:
    import numpy as np

    if len(scores) == 0:
        return "there are no rows"
    if gaps := int((~np.isfinite(scores)).sum()):
        return f"the scores are missing or not finite in {gaps:,} places"
    if outside := int(((scores < 0) | (scores > 1)).sum()):
        return f"{outside:,} scores are below 0 or above 1, and so no probabilities"
    if scores.ndim > 1 and (off := int((np.abs(scores.sum(axis=1) - 1) > _SUMS_TO_ONE).sum())):
        return f"the scores of {off:,} rows do not sum to 1, and so are no probabilities"
    return ""


def _drawn_rows(scores: Numbers, seed: int) -> slice | Codes:
    """All rows, or as many as can be held, drawn the same way each time."""
    import numpy as np

    width = 1 if scores.ndim == 1 else scores.shape[1]
    most = max(1, _MOST // width**2)
    if len(scores) <= most:
        return slice(None)
    chosen: Codes = np.sort(np.random.default_rng(seed).choice(len(scores), most, replace=False))
    return chosen


def _rows(scores: Numbers, classes: tuple[str, ...], cluster: Codes | None, weight: Numbers | None) -> ScoredRows:
    """Rows whose truth nobody knows yet."""
    import numpy as np

    return ScoredRows(
        task="multiclass" if scores.ndim > 1 else "binary",
        truth=np.zeros(len(scores)),
        scores={CANDIDATE: scores},
        keys=np.arange(len(scores)),
        classes=classes,
        weight=weight,
        cluster=cluster,
    )


def _expected(metric: str, rows: ScoredRows, spec: MeasurementSpec, chances: Numbers) -> tuple[float | None, str]:
    """The metric on every row once as each class by its chance, whatever its truth; or why there is none."""
    import numpy as np

    if reason := _no_probabilities(chances):
        return None, reason
    shares = np.column_stack([1 - chances, chances]) if chances.ndim == 1 else chances
    weights = (shares if rows.weight is None else shares * rows.weight[:, None]).T.ravel()
    # What counts for nothing must not make a loss of infinity times nothing.
    kept = weights != 0
    place = np.tile(np.arange(len(shares)), shares.shape[1])[kept]
    truth = np.repeat(np.arange(float(shares.shape[1])), len(shares))[kept]
    part = Part(replace(rows.part(place), truth=truth, weight=weights[kept], cluster=None), spec)
    value = part.value(metric, CANDIDATE)
    return value, "" if value is not None else part.unusable(CANDIDATE, metric) or _undefined(metric)


def _undefined(metric: str) -> str:
    return f"{metric} is undefined where the scores are certain of one class"


def _interval(
    metric: str, rows: ScoredRows, spec: MeasurementSpec, chances: Numbers
) -> tuple[float | None, float | None]:
    """The two-sided 95% interval that the metric has where the labels turn out by their chances.

    Labels are dealt to the rows by an additive recurrence along the sorted chances, so that of every stretch of them as
    many come true as they say, and the interval is that of these labels.
    """
    import numpy as np

    several = chances.ndim > 1
    order = np.lexsort((chances.max(axis=1), chances.argmax(axis=1)) if several else (chances,))
    even = np.empty(len(chances))
    even[order] = ((np.arange(len(chances)) + 0.5) * _GOLDEN) % 1
    reached = np.cumsum(chances, axis=1)[:, :-1] if several else 1 - chances[:, None]
    truth = (even[:, None] >= reached).sum(axis=1).astype("float64")
    dealt = Part(replace(rows, truth=truth), spec)
    found = intervals.as_metric(intervals.estimate(metric, dealt, CANDIDATE))
    return found.low, found.high


def _p_value(holdout: ScoredRows) -> float | None:
    """Of the chi-square test by Hosmer and Lemeshow, Communications in Statistics A9 (1980).

    With a degree of freedom per bin, as on rows that the scores were not fitted to.
    """
    terms = list(_terms(holdout))
    if not terms or not all(math.isfinite(term) for term in terms):
        return 0.0 if terms else None
    from scipy.special import chdtrc

    return float(chdtrc(len(terms), sum(terms)))


def _terms(holdout: ScoredRows) -> Iterator[float]:
    for stated, true, rows in zip(*calibration_curve(holdout, bins=BINS), strict=True):
        spread: Any = stated * (1 - stated)
        if spread > 0:
            yield float(rows * (true - stated) ** 2 / spread)
        elif true != stated:
            yield math.inf
