"""The held rows under the candidate and under everything that it is compared with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ml_lifecycle.backends.evaluation.rows import (
    BASELINE,
    CANDIDATE,
    CHAMPION,
    MOST_SLICE_VALUES,
    ScoredRows,
    Task,
    cluster_codes,
    slice_values,
)
from ml_lifecycle.backends.models.inputs import TWO_CLASSES
from ml_lifecycle.core.contracts import HoldoutFacts, MeasurementSpec, TrainedModel
from ml_lifecycle.core.errors import ChampionError, ColumnError, LifecycleError, PassingError
from ml_lifecycle.stages.champion import Champion, LoadedModel, champion_of, check_features, load_trained, load_version
from ml_lifecycle.stages.evidence import trained_until
from ml_lifecycle.stages.holdout import prove, split, times_of
from ml_lifecycle.stages.runner import Tools
from ml_lifecycle.stages.training import Inputs, build_inputs

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """What is scored beside the candidate, and how its rows are told apart."""

    model: TrainedModel
    spec: MeasurementSpec
    slices: Sequence[str]
    versions: Sequence[int]
    """Versions that a rule compares with."""
    baseline: bool
    """Whether a rule compares with a simple prediction."""


@dataclass(frozen=True)
class Scored:
    """The holdout with what every contender says about it."""

    rows: ScoredRows
    holdout: HoldoutFacts
    champion: Champion | None
    others: Mapping[str, LoadedModel]
    """By version number, as text."""


def score_holdout(comparison: Comparison, tools: Tools) -> Scored:
    """Score the rows that training did not see by everything that is compared.

    :raises ChampionError: the champion or a version that a rule names cannot be read or scored.
    :raises ColumnError: a column that is asked for is missing or unusable, or a row stands on both sides of the split.
    """
    return _Scoring(comparison, tools).scored()


class _Scoring:
    """One dataset, read once, with the models that are held against each other on it."""

    def __init__(self, comparison: Comparison, tools: Tools) -> None:
        self.comparison, self.tools = comparison, tools
        self.model = comparison.model
        self.columns = comparison.model.dataset.columns
        self.candidate = load_trained(comparison.model, tools)
        check_features(self.candidate.info, tools)
        self.inputs = build_inputs(comparison.model.dataset, self.candidate.info.features, tools)
        self.held = split(self.inputs.rows, self.columns, comparison.model.holdout)
        self.table = self.inputs.rows[self.held].reset_index(drop=True)

    def scored(self) -> Scored:
        _check_slices(self.table, self.comparison.slices)
        rows = self._rows()
        facts = prove(self.inputs.rows, self.inputs.features, self.held, self.model, rows)
        champion = champion_of(self.model.name, self.tools)
        others = {str(number): self._version(number, champion) for number in self.comparison.versions}
        scores: dict[str, Numbers] = {CANDIDATE: self.candidate.predict(self.inputs.features[self.held])}
        if champion is not None:
            scores[CHAMPION] = self._opponent(champion.loaded, f"version {champion.version}", "the champion")
        if self.comparison.baseline or self.comparison.spec.baseline is not None:
            scores[BASELINE] = self._baseline()
        for name, loaded in others.items():
            same = champion is not None and str(champion.version) == name
            scores[name] = scores[CHAMPION] if same else self._opponent(loaded, f"version {name}", f"version {name}")
        warnings = [*facts.warnings, *self._seen_before(facts, champion, others)]
        facts = facts.model_copy(update={"warnings": tuple(warnings)})
        return Scored(replace(rows, scores=scores), facts, champion, others)

    def _seen_before(
        self, facts: HoldoutFacts, champion: Champion | None, others: Mapping[str, LoadedModel]
    ) -> Iterator[str]:
        """Who was trained on rows as new as the held ones, and so has an advantage on them."""
        serving = {f"the champion (version {champion.version})": champion.loaded} if champion is not None else {}
        named = {f"version {name}": loaded for name, loaded in others.items()}
        for what, loaded in {**serving, **named}.items():
            until = trained_until(loaded.trained, self.tools)
            if facts.spec.by == "time" and until is not None and facts.first is not None and until >= facts.first:
                span = f"up to {until:%Y-%m-%d %H:%M}, and the holdout begins {facts.first:%Y-%m-%d %H:%M}"
                yield f"{what} was trained on rows {span}: the comparison favours it"

    def _rows(self) -> ScoredRows:
        spec, classes = self.comparison.spec, self.candidate.info.classes
        return ScoredRows(
            task=task_of(classes),
            truth=truth_of(self.table, self.candidate),
            scores={},
            keys=self.table[self.columns.key].to_numpy(),
            classes=tuple(map(str, classes)),
            slices={name: slice_values(self.table[name]) for name in self.comparison.slices},
            weight=_weights(self.table, spec.weight),
            cluster=cluster_codes(self.table, spec.cluster, time=self.columns.time),
            time=times_of(self.table, self.columns.time),
        )

    def _version(self, number: int, champion: Champion | None) -> LoadedModel:
        if champion is not None and champion.version == number:
            return champion.loaded
        return load_version(self.model.name, number, self.tools)

    def _opponent(self, loaded: LoadedModel, which: str, what: str) -> Numbers:
        """Another model on the same rows, fed by its own feature code."""
        try:
            if loaded.info.classes != self.candidate.info.classes:
                theirs, ours = loaded.info.classes or "numbers", self.candidate.info.classes or "numbers"
                raise ChampionError(
                    f"it predicts {theirs}, and the candidate {ours}",
                    way_out="give a model of another target another name",
                )
            same = loaded.info.features == self.candidate.info.features
            own: Inputs = self.inputs if same else build_inputs(self.model.dataset, loaded.info.features, self.tools)
            scores: Numbers = loaded.predict(own.features[self.held])
        except PassingError:
            raise
        except LifecycleError as error:
            where = f"{which} of {self.model.name}"
            raise ChampionError(f"{what} cannot be scored: {error.what}", where=where, way_out=error.way_out) from error
        return scores

    def _baseline(self) -> Numbers:
        import numpy as np

        spec, classes, rows = self.comparison.spec, self.candidate.info.classes, len(self.table)
        if spec.baseline is not None:
            return _given_baseline(self.table, spec.baseline, classes)
        training = self.inputs.rows[~self.held]
        truth, weight = truth_of(training, self.candidate), _weights(training, spec.weight)
        if not classes:
            return np.full(rows, np.average(truth, weights=weight))
        shares = np.bincount(truth.astype("int64"), weights=weight, minlength=len(classes))
        shares = shares / shares.sum()
        return np.full(rows, shares[1]) if len(classes) == TWO_CLASSES else np.tile(shares, (rows, 1))


def task_of(classes: Sequence[Any]) -> Task:
    """What a model with these classes predicts."""
    if not classes:
        return "regression"
    return "binary" if len(classes) == TWO_CLASSES else "multiclass"


def _check_slices(rows: pd.DataFrame, slices: Sequence[str]) -> None:
    missing = [column for column in slices if column not in rows.columns]
    if missing:
        raise ColumnError(
            f"the dataset has no column {', '.join(map(repr, missing))} to slice by",
            where="evaluation.slices",
            way_out=f"it has {', '.join(map(str, rows.columns))}",
        )
    for column in slices:
        values = len(set(slice_values(rows[column])))
        if values > MOST_SLICE_VALUES:
            raise ColumnError(
                f"{column!r} has {values:,} values in the holdout, and at most {MOST_SLICE_VALUES} are measured apart",
                where="evaluation.slices",
                way_out="slice by a coarser column, made by whoever lands the data",
            )


def truth_of(rows: pd.DataFrame, candidate: LoadedModel) -> Numbers:
    """The target as the metrics take it: a class's place, or the number itself."""
    name, where = candidate.trained.dataset.columns.target, candidate.trained.dataset.uri
    if name not in rows.columns:
        raise ColumnError(f"there is no target column {name!r} to judge by", where=where, way_out="check data.target")
    if not candidate.info.classes:
        return rows[name].to_numpy("float64")
    places = class_places(rows[name], candidate.info.classes)
    strange = sorted({str(value) for value in rows[name][places.isna()]})
    if strange:
        raise ColumnError(
            f"the holdout's target holds {', '.join(strange[:5])}, which training never saw",
            where=where,
            way_out="train on more partitions, or merge rare classes",
        )
    return places.to_numpy("float64")


def class_places(labels: pd.Series[Any], classes: Sequence[Any]) -> pd.Series[Any]:
    """Each label's place among the classes; missing where it is none of them."""
    place = {_plain(label): float(number) for number, label in enumerate(classes)}
    return labels.map({value: place.get(_plain(value)) for value in labels.unique()}).astype("float64")


def _plain(label: Any) -> str:
    """True, 1 and 1.0 are one label, however a file stores it."""
    return str(label) if isinstance(label, str) else str(float(label)) if _is_number(label) else repr(label)


def _is_number(label: Any) -> bool:
    return isinstance(label, bool | int | float) or (hasattr(label, "dtype") and label.dtype.kind in "biuf")


def _weights(rows: pd.DataFrame, weight: str | None) -> Numbers | None:
    """How much each row counts.

    :raises ColumnError: there is no such column, or a weight is missing, negative or no number, or all are 0.
    """
    import numpy as np

    if weight is None:
        return None
    values = _numbers(rows, weight, where="evaluation.weight")
    wrong = int((~np.isfinite(values) | (values < 0)).sum())
    if wrong or not values.sum() > 0:
        what = f"{wrong:,} of {len(values):,} weights are missing or negative" if wrong else "all weights are 0"
        raise ColumnError(
            f"{weight!r}: {what}", where="evaluation.weight", way_out="give every row a weight of 0 or more"
        )
    return values


def _given_baseline(rows: pd.DataFrame, name: str, classes: Sequence[Any]) -> Numbers:
    """A column's predictions in the scores' form: numbers, probabilities of the second class, or labels."""
    import numpy as np

    where = "evaluation.baseline"
    if classes and name in rows.columns:
        places = class_places(rows[name], classes).to_numpy("float64")
        if np.isfinite(places).all():
            return places if len(classes) == TWO_CLASSES else np.eye(len(classes))[places.astype("int64")]
        if len(classes) > TWO_CLASSES:
            raise ColumnError(
                f"{name!r} holds other values than {', '.join(map(str, classes))}",
                where=where,
                way_out="put a class label into every row",
            )
    values = _numbers(rows, name, where=where)
    if not np.isfinite(values).all() or (classes and not ((values >= 0) & (values <= 1)).all()):
        wanted = "a label or a probability from 0 to 1" if classes else "a number"
        raise ColumnError(f"{name!r} is not {wanted} in every row", where=where, way_out="mend it, or leave it out")
    return values


def _numbers(rows: pd.DataFrame, name: str, *, where: str) -> Numbers:
    if name not in rows.columns:
        raise ColumnError(
            f"the dataset has no column {name!r}", where=where, way_out=f"it has {', '.join(map(str, rows.columns))}"
        )
    try:
        values: Numbers = rows[name].to_numpy("float64", na_value=float("nan"))
    except (TypeError, ValueError) as error:
        raise ColumnError(f"{name!r} holds values that are no numbers", where=where, way_out="mend it") from error
    return values
