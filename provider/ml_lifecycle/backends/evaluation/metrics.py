"""Metrics on scored rows."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from ml_lifecycle.backends.evaluation.auc import Area, macro_roc_area, precision_area, roc_area
from ml_lifecycle.backends.evaluation.bootstrap import sums_by
from ml_lifecycle.backends.evaluation.rows import CANDIDATE, ScoredRows, Task
from ml_lifecycle.backends.evaluation.sums import SHARES, SUMS, Scored, as_sums, equal_bins, stated_and_true, total
from ml_lifecycle.core.contracts import MeasurementSpec
from ml_lifecycle.core.errors import UnknownMetricError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

OwnMetrics = Mapping[str, Callable[..., Any]]
"""The team's own metrics by name: functions of truth and score, and of ``weight`` where they take it."""
NO_OWN: Final[OwnMetrics] = {}
PLAIN: Final = MeasurementSpec()
_AREAS: Final[Mapping[str, tuple[str, ...]]] = {
    "binary": ("roc_auc", "average_precision"),
    "multiclass": ("roc_auc",),
    "regression": (),
}
_OF_PROBABILITIES: Final = ("log_loss", "brier", "calibration_error")
_SLACK: Final = 0.01
"""For probabilities that were rounded to two digits or three."""
_LONGEST_REASON: Final = 200
_LEAST_WEIGHT: Final = 1e-100
"""Of the heaviest row: squares of smaller weights, and of larger ones than its inverse, are no numbers."""


def check_metric(name: str, task: Task) -> None:
    """Refuse a metric that is unknown, or that does not fit the task; of one's own, nothing is known beforehand.

    :raises UnknownMetricError: no metric of this task is called so.
    """
    known = (*_AREAS[task], *SHARES[task], *SUMS[task])
    if ":" not in name and name not in known:
        raise UnknownMetricError(name, known, task=task)


def measure(
    name: str,
    rows: ScoredRows,
    contender: str = CANDIDATE,
    *,
    spec: MeasurementSpec = PLAIN,
    own: OwnMetrics = NO_OWN,
) -> float | None:
    """The metric's value, or ``None`` where it is undefined: no rows, a missing score, an area on one class.

    :raises UnknownMetricError: no metric of this task is called so.
    """
    check_metric(name, rows.task)
    part = Part(rows, spec)
    return part.own_value(own[name], contender)[0] if name in own else part.value(name, contender)


def calibration_curve(
    rows: ScoredRows, contender: str = CANDIDATE, *, bins: int = 10
) -> tuple[Numbers, Numbers, Numbers]:
    """Mean stated probability, share that came true, and weight, of bins of equal weight from the lowest on.

    Of several classes, of the most probable one. Rows of one score share a bin, so that there may be fewer bins.
    """
    scored = Part(rows, PLAIN).scored(contender)
    stated, came_true = stated_and_true(scored)
    place = equal_bins(stated, scored.weights, bins)
    weight = sums_by(place, scored.weights, bins)
    filled = weight > 0
    said = sums_by(place, scored.weights * stated, bins)[filled] / weight[filled]
    true = sums_by(place, scored.weights * came_true, bins)[filled] / weight[filled]
    return said, true, weight[filled]


@dataclass(frozen=True)
class Part:
    """Rows that are measured together, with what several metrics ask of them worked out once."""

    rows: ScoredRows
    spec: MeasurementSpec

    def value(self, name: str, contender: str) -> float | None:
        """The metric's value; ``None`` where it is undefined."""
        if self.unusable(contender, name):
            return None
        if (area := self.area(name, contender)) is not None:
            return area.value
        if name in _AREAS[self.rows.task]:
            return None
        scored = self.scored(contender)
        shares = SHARES[self.rows.task]
        if name in shares:
            return finite(total(as_sums(shares[name](scored), scored.weights)))
        return finite(total(SUMS[self.rows.task][name](scored)))

    def scored(self, contender: str) -> Scored:
        """What one contender says, as the definitions take it."""
        rows = self.rows
        return Scored(rows.truth, rows.scores[contender], rows.weight, rows.classes, self.spec)

    def area(self, name: str, contender: str) -> Area | None:
        """The area under a curve; ``None`` for other metrics, and where it is undefined."""
        rows = self.rows
        score = rows.scores[contender]
        if name not in _AREAS[rows.task]:
            return None
        if rows.task == "multiclass":
            return macro_roc_area(rows.truth.astype("int64"), score, rows.weight)
        area = roc_area if name == "roc_auc" else precision_area
        return area(rows.truth == 1, score, rows.weight)

    def own_value(
        self, metric: Callable[..., Any], contender: str, kept: NDArray[np.bool_] | None = None
    ) -> tuple[float | None, str]:
        """What a function of the team's own says of these rows, or ``None`` with the reason."""
        import numpy as np

        if reason := self.unusable(contender):
            return None, reason
        rows = self.rows
        # A mask gives copies: what the function does to its arrays changes no row.
        inside = np.ones(len(rows), dtype=bool) if kept is None else kept
        weight = {"weight": self.scored(contender).weights[inside]} if _takes_weight(metric) else {}
        try:
            # Output is for the answer, which a program may read.
            with redirect_stdout(sys.stderr):
                found = float(metric(rows.truth[inside], rows.scores[contender][inside], **weight))
        except (Exception, SystemExit) as error:  # noqa: BLE001  # whatever the team's function raises is its answer
            return None, f"it raised {type(error).__name__}: {str(error)[:_LONGEST_REASON]}"
        return (found, "") if math.isfinite(found) else (None, f"it returned {found}")

    def unusable(self, contender: str, name: str = "") -> str:
        """Why nothing can be measured of a contender, or not this metric; empty where it can."""
        if ":" in name:
            return f"{name} was not loaded"
        if name == "cost" and (strange := self._strange_labels):
            classes = ", ".join(self.rows.classes)
            return f"the costs speak of {strange}, and the classes are {classes}"
        if contender not in self.rows.scores:
            who = contender if not contender.isdigit() else f"version {contender}"
            return f"{who} has no predictions on these rows"
        return self._flaw or self._score_flaw(contender) or self._no_probability(contender, name)

    @property
    def _strange_labels(self) -> str:
        costs = self.spec.costs
        named = {*costs, *(label for said in costs.values() for label in said)}
        return ", ".join(sorted(named - {*self.rows.classes})) if self.rows.classes else ""

    @cached_property
    def _flaw(self) -> str:
        import numpy as np

        rows = self.rows
        if len(rows) == 0:
            return "there are no rows"
        if gaps := int((~np.isfinite(rows.truth)).sum()):
            return f"the truth is missing or not finite in {gaps:,} rows"
        if rows.task != "regression" and not _are_places(rows.truth, max(2, len(rows.classes))):
            return "the truth holds something else than the classes"
        if rows.weight is not None and not _are_weights(rows.weight):
            return "the weights are not all finite, 0 or more, and above 0 somewhere"
        if rows.weight is not None and not _LEAST_WEIGHT <= rows.weight.max() <= 1 / _LEAST_WEIGHT:
            return "the weights are too large or too small to count with"
        return ""

    def _no_probability(self, contender: str, name: str) -> str:
        """Why scores are none that a metric of probabilities can be measured on."""
        import numpy as np

        if self.rows.task == "regression" or name not in _OF_PROBABILITIES:
            return ""
        score = self.rows.scores[contender]
        if outside := int(((score < -_SLACK) | (score > 1 + _SLACK)).sum()):
            return f"the scores of {contender} are no probabilities: {outside:,} are below 0 or above 1"
        if score.ndim > 1 and (off := int((np.abs(score.sum(axis=1) - 1) > _SLACK).sum())):
            return f"the scores of {contender} are no probabilities: in {off:,} rows they do not sum to 1"
        return ""

    @cached_property
    def _score_flaws(self) -> dict[str, str]:
        return {}

    def _score_flaw(self, contender: str) -> str:
        import numpy as np

        if contender not in self._score_flaws:
            score, rows = self.rows.scores[contender], self.rows
            shape = (len(rows),) if rows.task != "multiclass" else (len(rows), len(rows.classes))
            flaw = ""
            if score.shape != shape:
                flaw = f"the scores of {contender} have another shape than the rows"
            elif gaps := int((~np.isfinite(score)).sum()):
                flaw = f"the scores of {contender} are missing or not finite in {gaps:,} places"
            self._score_flaws[contender] = flaw
        return self._score_flaws[contender]


def finite(value: float) -> float | None:
    """A number, or ``None`` for what is none."""
    return value if math.isfinite(value) else None


def _are_places(truth: Numbers, classes: int) -> bool:
    return bool(((truth >= 0) & (truth < classes) & (truth % 1 == 0)).all())


def _are_weights(weight: Numbers) -> bool:
    import numpy as np

    return bool(np.isfinite(weight).all() and (weight >= 0).all() and weight.max() > 0)


def _takes_weight(metric: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(metric).parameters
    except (TypeError, ValueError):
        return False
    return "weight" in parameters
