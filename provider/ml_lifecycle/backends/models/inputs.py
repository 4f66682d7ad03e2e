"""What a model is fed with, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from ml_lifecycle.backends.models.base import PackageInfo
from ml_lifecycle.core.contracts import Scalar
from ml_lifecycle.core.errors import ColumnError

if TYPE_CHECKING:
    import pandas as pd

NUMBER: Final = "number"
CATEGORY: Final = "category"
TWO_CLASSES: Final = 2
_THRESHOLD: Final = 0.5


def predict(model: Any, info: PackageInfo, features: pd.DataFrame) -> Any:
    """One score per row: the probability of the second of two classes, or the predicted number.

    Of more classes a probability for each, ``(rows, classes)``.

    :raises ColumnError: an input column is missing, or holds texts where training saw numbers.
    """
    return answer(model, info, prepare(features, info.inputs, where=f"input of {info.name}"))


def answer(model: Any, info: PackageInfo, prepared: pd.DataFrame) -> Any:
    """As :func:`predict`, to what :func:`prepare` made."""
    if not info.classes:
        return model.predict(prepared)
    found = model.predict_proba(prepared)
    return found[:, 1] if len(info.classes) == TWO_CLASSES else found


def answer_columns(scores: Any, classes: Sequence[Scalar]) -> dict[str, Any]:
    """The score, of a classifier with its label; of several classes the label's, and then the probability of each."""
    import numpy as np

    if not classes:
        return {"score": scores}
    labels, names = np.asarray(classes), probability_columns(classes)
    if not names:
        return {"score": scores, "label": labels[(scores >= _THRESHOLD).astype(int)]}
    probabilities = {name: scores[:, place] for place, name in enumerate(names)}
    return {"score": scores.max(axis=1), "label": labels[scores.argmax(axis=1)], **probabilities}


def probability_columns(classes: Sequence[Scalar]) -> list[str]:
    """What the published probability of each of more than two classes is called; of two, ``score`` tells both."""
    return [f"score_{label}" for label in classes] if len(classes) > TWO_CLASSES else []


def prepare(features: pd.DataFrame, inputs: dict[str, str], *, where: str) -> pd.DataFrame:
    """The model's input columns in order: numbers as floats, categories as texts, missing as NaN.

    :raises ColumnError: a column is missing, or holds texts where numbers are expected.
    """
    import numpy as np
    import pandas as pd

    missing = [name for name in inputs if name not in features.columns]
    if missing:
        raise ColumnError(
            f"the features lack {', '.join(map(repr, missing))}",
            where=where,
            way_out=f"make the features return {', '.join(inputs)}",
        )
    columns: dict[str, Any] = {}
    for name, kind in inputs.items():
        column = features[name]
        if kind == CATEGORY:
            texts = column.astype(object).where(column.notna(), np.nan).map(str, na_action="ignore")
            # Where every value is missing, such as in a request with one row, map() makes numbers of them.
            columns[name] = texts.astype(object)
            continue
        try:
            columns[name] = column if column.dtype == "float64" else column.astype("float64")
        except (TypeError, ValueError) as error:
            raise ColumnError(
                f"the feature {name!r} holds {column.dtype} values that are no numbers ({error})",
                where=where,
                way_out="mend the data, or the features that make the column",
            ) from error
    table: pd.DataFrame = pd.DataFrame(columns, index=features.index)
    return table
