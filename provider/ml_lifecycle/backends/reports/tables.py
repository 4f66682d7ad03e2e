"""What a report counts itself from the rows: slices against the champion, and which label is taken for which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ml_lifecycle.backends.evaluation.intervals import difference
from ml_lifecycle.backends.evaluation.rows import CANDIDATE, CHAMPION, ScoredRows
from ml_lifecycle.core.contracts import Difference, GateDecision, Metric
from ml_lifecycle.core.evaluation import chief_metric

TELLING_ROWS: Final = 30
"""A slice with fewer rows says more about chance than about the model."""
MOST_VALUES: Final = 40
"""Of one slice column, the largest ones."""
MOST_LABELS: Final = 12


@dataclass(frozen=True)
class SliceLine:
    """One value of a slice column."""

    value: str
    candidate: Metric
    champion: Metric | None = None
    difference: Difference | None = None
    """Candidate against champion on these rows; ``None`` where there are too few of them."""


@dataclass(frozen=True)
class SliceTable:
    """One slice column by one metric, the largest values first."""

    column: str
    metric: str
    lines: tuple[SliceLine, ...]
    left_out: int = 0
    """Values that are not shown, the smallest ones."""


@dataclass(frozen=True)
class Confusion:
    """Rows by true label (down) and predicted label (across)."""

    labels: tuple[str, ...]
    rows: tuple[tuple[int, ...], ...]
    left_out: int = 0
    """Labels that are not shown, the rarest ones."""


def compare_slices(decision: GateDecision, rows: ScoredRows) -> tuple[SliceTable, ...]:
    """Each slice column by the chief metric, candidate and champion on the same rows."""
    metric = chief_metric(decision)
    if metric is None:
        return ()
    return tuple(
        _slices(column, values, metric, decision, rows)
        for column, values in sorted(decision.evaluation.slices.items())
        if values
    )


def _slices(
    column: str, values: Mapping[str, Mapping[str, Metric]], metric: str, decision: GateDecision, rows: ScoredRows
) -> SliceTable:
    champion = decision.evaluation.champion
    theirs = champion.slices.get(column, {}) if champion is not None else {}
    found = {value: metrics[metric] for value, metrics in values.items() if metric in metrics}
    largest = sorted(found, key=lambda value: (-found[value].rows, value))
    lines = tuple(
        SliceLine(
            value,
            found[value],
            theirs.get(value, {}).get(metric),
            _difference(column, value, metric, decision, rows),
        )
        for value in largest[:MOST_VALUES]
    )
    return SliceTable(column, metric, lines, len(largest) - len(lines))


def _difference(column: str, value: str, metric: str, decision: GateDecision, rows: ScoredRows) -> Difference | None:
    # A metric of the team's own is code: a report runs none.
    if CHAMPION not in rows.scores or column not in rows.slices or ":" in metric:
        return None
    part = rows.part(rows.slices[column] == value)
    if len(part) < TELLING_ROWS:
        return None
    return difference(metric, part, CANDIDATE, CHAMPION, spec=decision.evaluation.spec)


def confusion(rows: ScoredRows, *, threshold: float = 0.5) -> Confusion | None:
    """Which label the candidate takes for which; ``None`` where there are no labels.

    :param threshold: Score from which on a row counts as positive, with two labels.
    """
    import numpy as np

    score = rows.scores.get(CANDIDATE)
    if score is None or not rows.classes:
        return None
    many = len(rows.classes)
    known = np.isfinite(rows.truth) & np.isfinite(score if score.ndim == 1 else score.sum(axis=1))
    said = (score[known] >= threshold).astype(int) if score.ndim == 1 else score[known].argmax(axis=1)
    truth = rows.truth[known].astype(int)
    counted = np.bincount(truth * many + said, minlength=many * many).reshape(many, many)
    order = sorted(range(many), key=lambda place: (-int(counted[place].sum()), place))
    kept = sorted(order[:MOST_LABELS])
    return Confusion(
        labels=tuple(rows.classes[place] for place in kept),
        rows=tuple(tuple(int(counted[true, said]) for said in kept) for true in kept),
        left_out=many - len(kept),
    )
