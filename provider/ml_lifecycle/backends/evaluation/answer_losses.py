"""What single answers were worth, once it is known what turned out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from ml_lifecycle.core.contracts import Losses, QualityPolicy

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    Values = NDArray[np.float64]

_HALF: Final = 0.5
_WORST: Final = 1.0
"""Of a classifier's answer that is none."""
_ZERO_ONE: Final = {"0": 0.0, "1": 1.0, "false": 0.0, "true": 1.0}


def losses_of(version: int, answers: pd.DataFrame, quality: QualityPolicy) -> Losses:
    """The sums that a comparison needs, of a version's labelled answers.

    :param answers: The log's ``score``, ``label`` and ``probabilities``, beside them ``truth`` and ``truth_value``.
    """
    import numpy as np

    if answers.empty:
        return Losses(version=version, rows=0)
    with np.errstate(over="ignore", invalid="ignore"):
        losses = _LOSSES[quality.metric](answers)
        usable = np.isfinite(losses) & np.isfinite(losses**2)
        kept = losses[usable]
        total, squares = float(kept.sum()), float((kept**2).sum())
    unusable = int((~usable).sum())
    if not np.isfinite(squares):
        # Numbers near the greatest that there is: their mean could not be bounded.
        return Losses(version=version, rows=0, unusable=len(answers))
    return Losses(version=version, rows=len(kept), total=total, squares=squares, unusable=unusable)


def _accuracy(answers: pd.DataFrame) -> Values:
    """0 for the label that turned out, 1 for another one or for none; unknown where nobody said which label it is."""
    import numpy as np

    score, label, truth = _numbers(answers["score"]), answers["label"], answers["truth"]
    wrong = (label.astype(object).to_numpy() != truth.to_numpy()).astype("float64")
    outcome = _zero_one(truth)
    by_score = np.where(np.isnan(outcome), np.nan, ((score >= _HALF) != outcome).astype("float64"))
    unlabelled = np.where(np.isfinite(score), by_score, _WORST)
    losses: Values = np.where(label.isna().to_numpy(), unlabelled, wrong)
    return losses


def _brier(answers: pd.DataFrame) -> Values:
    """Squared distance from the truth; of several classes its sum, as the metric of evaluations."""
    import numpy as np

    score, label, truth = _numbers(answers["score"]), answers["label"], answers["truth"]
    # Of two classes the score is about the second one, which is the label from a half on.
    is_second = (label.astype(object).to_numpy() == truth.to_numpy()) == (score >= _HALF)
    outcome = np.where(label.isna().to_numpy(), _zero_one(truth), is_second.astype("float64"))
    losses: Values = np.where(np.isfinite(score), (score - outcome) ** 2, _WORST)
    if "probabilities" in answers.columns:
        for place in np.flatnonzero(answers["probabilities"].notna().to_numpy()):
            losses[place] = _brier_of_classes(answers["probabilities"].iloc[place], truth.iloc[place])
    return losses


def _brier_of_classes(probabilities: Any, truth: str) -> float:
    stated = {str(name): float("nan") if value is None else float(value) for name, value in dict(probabilities).items()}
    if truth not in stated:
        return sum(value**2 for value in stated.values()) + 1.0
    return sum((value - (name == truth)) ** 2 for name, value in stated.items())


def _absolute(answers: pd.DataFrame) -> Values:
    losses: Values = abs(_numbers(answers["score"]) - _numbers(answers["truth_value"]))
    return losses


def _squared(answers: pd.DataFrame) -> Values:
    return _absolute(answers) ** 2


_LOSSES: Final[Mapping[str, Callable[[pd.DataFrame], Values]]] = {
    "accuracy": _accuracy,
    "brier": _brier,
    "absolute_error": _absolute,
    "squared_error": _squared,
}


def _numbers(column: pd.Series[Any]) -> Values:
    values: Values = column.to_numpy("float64", na_value=float("nan"))
    return values


def _zero_one(truth: pd.Series[Any]) -> Values:
    """A truth that is called 0 or 1, as a number; other names are NaN."""
    values: Values = truth.astype(str).str.lower().map(_ZERO_ONE).to_numpy("float64")
    return values
