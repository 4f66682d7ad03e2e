"""A trained pipeline's preprocessing of few rows, without a table and its copies for each step.

scikit-learn's ``ColumnTransformer`` takes two milliseconds for one row, most of them to cut a table into pieces that
hold one value. A shortcut does the same arithmetic on plain arrays for the pipelines that training builds. It is taken
only where it has repeated the whole model's answers, bit for bit, on rows of the package and on harder ones made of
them; every other model goes its own way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from ml_lifecycle.backends.models.base import PackageInfo
from ml_lifecycle.backends.models.inputs import NUMBER, TWO_CLASSES, answer
from ml_lifecycle.serving.values import table_of

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]
    Columns = Mapping[str, Any]
    Block: TypeAlias = Callable[[Columns, int], Numbers]

MOST_ROWS: Final = 256
"""From here on the tables cost less than what they save."""
_ALONE: Final = 16
_TOGETHER: Final = (2, 3, 7, 20)
_UNSEEN: Final = "\u0001 no training row holds this"
_EXTREME: Final = 1e12


class Shortcut:
    """A pipeline's answers to few rows."""

    def __init__(self, blocks: Sequence[Block], estimator: Any, info: PackageInfo, *, by_column: bool) -> None:
        self._blocks = tuple(blocks)
        self._estimator = estimator
        self._info = info
        self._order: Literal["C", "F"] = "F" if by_column else "C"

    def answer(self, columns: Columns, rows: int) -> Any:
        """As :func:`~ml_lifecycle.backends.models.inputs.answer`.

        :param columns: As :func:`~ml_lifecycle.serving.values.columns_of` makes them.
        """
        matrix = self.matrix(columns, rows)
        if not self._info.classes:
            return self._estimator.predict(matrix)
        found = self._estimator.predict_proba(matrix)
        return found[:, 1] if len(self._info.classes) == TWO_CLASSES else found

    def matrix(self, columns: Columns, rows: int) -> Numbers:
        """What the estimator is given, ``(rows, features)``, in memory as the pipeline has it: sums depend on that."""
        import numpy as np

        return np.asarray(np.hstack([block(columns, rows) for block in self._blocks]), order=self._order)


def shortcut_of(model: Any, info: PackageInfo, rows: pd.DataFrame) -> Shortcut | None:
    """The model's shortcut, or nothing where there is none that repeats its answers.

    :param rows: Inputs to hold it against, as :func:`~ml_lifecycle.backends.models.inputs.prepare` makes them.
    """
    try:
        blocks = _blocks(model)
        if blocks is None or rows.empty:
            return None
        flags = model.named_steps["columns"].transform(rows).flags
        by_column = bool(flags.f_contiguous and not flags.c_contiguous)
        shortcut = Shortcut(blocks, model.named_steps["model"], info, by_column=by_column)
        return shortcut if _repeats(shortcut, model, info, rows) else None
    except Exception:  # noqa: BLE001  # whatever a model is built like: then it goes its own way
        return None


def _blocks(model: Any) -> list[Block] | None:
    """What each of the column transformer's steps does; ``None`` where one of them is of another kind."""
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline

    if type(model) is not Pipeline or list(model.named_steps) != ["columns", "model"]:
        return None
    columns = model.named_steps["columns"]
    if type(columns) is not ColumnTransformer or columns.remainder != "drop" or columns.transformer_weights:
        return None
    blocks = [_block(step, names) for label, step, names in columns.transformers_ if label != "remainder"]
    known = [block for block in blocks if block is not None]
    return known if len(known) == len(blocks) and known else None


def _block(step: Any, names: Sequence[str]) -> Block | None:
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder

    if type(step) is FunctionTransformer and step.func is None:
        return lambda columns, _: _stacked(columns, names)
    if type(step) in {OrdinalEncoder, OneHotEncoder} and (step.max_categories or step.min_frequency):
        return None
    if type(step) is OrdinalEncoder:
        return _ordinal(step, names)
    if type(step) is OneHotEncoder and step.drop is None and not step.sparse_output:
        return _one_hot(step, names)
    if type(step) is Pipeline and list(step.named_steps) == ["fill", "scale"]:
        return _filled_and_scaled(step, names)
    return None


def _stacked(columns: Columns, names: Sequence[str]) -> Numbers:
    import numpy as np

    return np.column_stack([columns[name] for name in names])


def _filled_and_scaled(step: Any, names: Sequence[str]) -> Block:
    import numpy as np

    fill, scale = step.named_steps["fill"].statistics_, step.named_steps["scale"]

    def block(columns: Columns, rows: int) -> Numbers:  # noqa: ARG001  # other blocks need it
        values = _stacked(columns, names)
        found: Numbers = (np.where(np.isnan(values), fill, values) - scale.mean_) / scale.scale_
        return found

    return block


def _ordinal(step: Any, names: Sequence[str]) -> Block:
    import numpy as np

    codes = [_places(found) for found in step.categories_]
    for places in codes:
        if None in places:
            places[None] = step.encoded_missing_value
    unknown = step.unknown_value

    def block(columns: Columns, rows: int) -> Numbers:
        found = np.empty((rows, len(names)))
        for place, (name, code) in enumerate(zip(names, codes, strict=True)):
            found[:, place] = [code.get(_category(value), unknown) for value in columns[name]]
        return found

    return block


def _one_hot(step: Any, names: Sequence[str]) -> Block:
    import numpy as np

    codes = [_places(found) for found in step.categories_]
    starts = np.cumsum([0, *map(len, codes)]).tolist()

    def block(columns: Columns, rows: int) -> Numbers:
        found = np.zeros((rows, starts[-1]))
        for name, code, start in zip(names, codes, starts, strict=False):
            for row, value in enumerate(columns[name]):
                if (place := code.get(_category(value))) is not None:
                    found[row, start + int(place)] = 1.0
        return found

    return block


def _places(categories: Sequence[Any]) -> dict[str | None, float]:
    """Each category's place; a missing one is called ``None``."""
    return {_category(value): float(place) for place, value in enumerate(categories)}


def _category(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _repeats(shortcut: Shortcut, model: Any, info: PackageInfo, rows: pd.DataFrame) -> bool:
    """Whether it gives the model's own answers, to all rows at once and to some alone, and refuses what it refuses."""
    import numpy as np

    parts = (rows, *(rows.head(count) for count in _TOGETHER))
    for table in (*parts, *(rows.iloc[[place]] for place in range(min(len(rows), _ALONE))), *_harder(rows, info)):
        columns = {name: table[name].to_numpy() for name in info.inputs}
        expected = _tried(partial(answer, model, info, table_of(columns)))
        found = _tried(partial(shortcut.answer, columns, len(table)))
        if (expected is None) != (found is None):
            return False
        if expected is None:
            continue
        prepared = model.named_steps["columns"].transform(table), shortcut.matrix(columns, len(table))
        if not np.array_equal(expected, found) or not np.array_equal(*prepared, equal_nan=True):
            return False
    return True


def _tried(predict: Callable[[], Any]) -> Any:
    """What comes out; ``None`` where the model refuses the input."""
    try:
        return predict()
    except (TypeError, ValueError):
        return None


def _harder(rows: pd.DataFrame, info: PackageInfo) -> list[pd.DataFrame]:
    """The first row with each input missing, unseen or extreme in turn, and with all of them at once."""
    import numpy as np

    changes: list[dict[str, Any]] = []
    for name, kind in info.inputs.items():
        odd = (_EXTREME, -_EXTREME, 0.0) if kind == NUMBER else (_UNSEEN, "")
        changes += [{name: value} for value in (np.nan, *odd)]
    changes.append(dict.fromkeys(info.inputs, np.nan))
    found = []
    for change in changes:
        row = rows.iloc[[0]].copy()
        for name, value in change.items():
            row[name] = np.array([value], dtype="float64" if info.inputs[name] == NUMBER else object)
        found.append(row)
    return found
