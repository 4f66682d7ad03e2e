"""What a model loses when it is kept from one of its inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import pandas as pd

REPEATS: Final = 3
"""Shuffles per input: one alone may by chance leave much in its place."""
_MOST_CELLS: Final = 4_000_000
"""Of one call of the model: a wide table is not repeated for all of its columns at once."""


def permuted(
    predict: Callable[[pd.DataFrame], Any],
    features: pd.DataFrame,
    columns: Sequence[str],
    metric: Callable[[Any], float | None],
    *,
    higher_is_better: bool,
    seed: int,
) -> dict[str, float]:
    """How much worse the metric gets when a column's values are shuffled between the rows (Breiman 2001, section 10).

    Below 0 where it gets better by chance; 0 where it cannot be measured.

    :param predict: One score, or one per class, for each row.
    :param metric: Of all rows' scores; ``None`` where it is undefined.
    """
    import numpy as np

    whole = metric(predict(features))
    if whole is None:
        return dict.fromkeys(columns, 0.0)
    generator = np.random.default_rng(seed)
    jobs = [(name, generator.permutation(len(features))) for name in columns for _ in range(REPEATS)]
    at_once = max(_MOST_CELLS // max(features.size, 1), 1)
    losses: dict[str, list[float]] = {name: [] for name in columns}
    for start in range(0, len(jobs), at_once):
        part = jobs[start : start + at_once]
        scores = predict(_shuffled(features, part))
        for place, (name, _) in enumerate(part):
            value = metric(scores[place * len(features) : (place + 1) * len(features)])
            if value is not None:
                losses[name].append(whole - value if higher_is_better else value - whole)
    return {name: float(np.mean(found)) if found else 0.0 for name, found in losses.items()}


def _shuffled(features: pd.DataFrame, jobs: Sequence[tuple[str, Any]]) -> pd.DataFrame:
    """The table once per job, one below the other, each with one column in another order."""
    import numpy as np
    import pandas as pd

    rows = len(features)
    columns: dict[str, Any] = {}
    for name in features.columns:
        order = np.tile(np.arange(rows), len(jobs))
        for place, (shuffled, permutation) in enumerate(jobs):
            if shuffled == name:
                order[place * rows : (place + 1) * rows] = permutation
        columns[name] = features[name].array.take(order)
    table: pd.DataFrame = pd.DataFrame(columns)
    return table


def shares(losses: Mapping[str, float]) -> dict[str, float]:
    """Losses as shares of their sum; a gain counts as no loss, and where nothing is lost, all are 0."""
    kept = {name: max(loss, 0.0) for name, loss in losses.items()}
    total = sum(kept.values())
    return {name: loss / total if total > 0 else 0.0 for name, loss in kept.items()}
