"""What a champion answers, counted like what it is fed with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ml_lifecycle.backends.evaluation.rows import CANDIDATE
from ml_lifecycle.backends.files import read_parquet
from ml_lifecycle.backends.models.inputs import probability_columns
from ml_lifecycle.backends.monitoring.comparison import compare
from ml_lifecycle.backends.monitoring.profiles import Profile, merge
from ml_lifecycle.core.contracts import ColumnDrift, Columns, Evaluation, Scalar, ScoredPartition
from ml_lifecycle.stages.data import require_columns
from ml_lifecycle.stages.drift_windows import Look
from ml_lifecycle.stages.evaluation import read_predictions
from ml_lifecycle.stages.profiles import ChampionProfiles
from ml_lifecycle.stages.runner import Tools
from ml_lifecycle.stages.scored_files import PREDICTIONS

if TYPE_CHECKING:
    import pandas as pd


class PredictionProfiles:
    """Published predictions, counted in the frame of the champion's predictions of its holdout."""

    def __init__(
        self,
        profiles: ChampionProfiles,
        holdout: Evaluation,
        classes: Sequence[Scalar],
        columns: Columns,
        tools: Tools,
    ) -> None:
        self._profiles, self._holdout, self._tools = profiles, holdout, tools
        self._names = probability_columns(classes) or ["score"]
        self._time = columns.time
        self._reference: Profile | None = None

    @property
    def holdout(self) -> Profile:
        """What the champion says of rows that its training did not see."""
        if self._reference is None:
            what = {"predictions": self._holdout.predictions_digest, "names": self._names, "frame": "its own"}
            self._reference = self._profiles.stored(what, self._count_holdout)
        return self._reference

    def of(self, scored: Sequence[ScoredPartition]) -> Profile:
        """What was published for some partitions, together."""
        return merge([self._of(one) for one in scored])

    def _of(self, scored: ScoredPartition) -> Profile:
        frame = self.holdout.frame

        def count() -> Profile:
            with self._tools.data.folder(scored.uri, scored.fingerprint) as folder:
                table = read_parquet(folder / PREDICTIONS)
            require_columns(table, self._names, where=scored.uri, role="the predictions' column")
            return self._profiles.count(table[self._names], table, frame)

        what = {"predictions": scored.fingerprint, "names": self._names, "frame": frame.digest}
        return self._profiles.stored(what, count)

    def _count_holdout(self) -> Profile:
        import pandas as pd

        held = read_predictions(self._holdout, self._tools)
        scores = held.scores[CANDIDATE].reshape(len(held), -1)
        values: pd.DataFrame = pd.DataFrame({name: scores[:, place] for place, name in enumerate(self._names)})
        known = {} if held.time is None or self._time is None else {self._time: held.time}
        rows: pd.DataFrame = pd.DataFrame(known, index=values.index)
        return self._profiles.count(values, rows, self._profiles.frame(values))


@dataclass(frozen=True)
class ComparedPredictions:
    """What was found of what the champion answers."""

    columns: tuple[ColumnDrift, ...] = ()
    profiles: tuple[Profile, ...] = ()
    """Reference and current of the shortest window; empty where nothing was compared."""
    warnings: tuple[str, ...] = ()


def compare_predictions(look: Look, profiles: PredictionProfiles, *, min_effect: float) -> ComparedPredictions:
    """Compare published predictions with those of the reference: of its partitions, or else of the champion's holdout.

    Where too little is known of the reference to tell chance from drift, predictions are left out and that is said: it
    would leave every look open, while what the model is fed with can be judged.

    :raises DataError: the predictions cannot be used.
    """
    found = ComparedPredictions()
    for window in look.windows:
        if not window.scored:
            continue
        reference = profiles.of(window.scored_reference) if window.scored_reference else profiles.holdout
        current = profiles.of(window.scored)
        against = "the reference's" if window.scored_reference else "the champion's own of its holdout"
        for one in compare(reference, current, min_effect=min_effect, window=window.size):
            if one.p_value is None:
                found = replace(found, warnings=(*found.warnings, f"predictions are not compared: {one.detail}"))
                continue
            detail = "; ".join(filter(None, (f"against {against}, {reference.rows:,} rows", one.detail)))
            told = one.model_copy(update={"role": "prediction", "detail": detail})
            found = replace(found, columns=(*found.columns, told), profiles=found.profiles or (reference, current))
    return replace(found, warnings=tuple(dict.fromkeys(found.warnings)))
