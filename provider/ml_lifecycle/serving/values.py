"""A request's plain values as the columns that a model takes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ml_lifecycle.backends.models.inputs import NUMBER
from ml_lifecycle.core.errors import InvocationError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]
    Texts = NDArray[np.object_]


def columns_of(values: Mapping[str, Sequence[Any]], inputs: Mapping[str, str]) -> dict[str, Numbers | Texts]:
    """What :func:`~ml_lifecycle.backends.models.inputs.prepare` makes of the same values, column by column.

    Each row is read for itself: what its neighbours hold does not change it.

    :param inputs: Each input's kind by its name.
    :raises InvocationError: a value is none that its column may hold.
    """
    return {
        name: _numbers(name, values[name]) if kind == NUMBER else _texts(name, values[name])
        for name, kind in inputs.items()
    }


def table_of(columns: Mapping[str, Numbers | Texts]) -> pd.DataFrame:
    """Columns as the table that a model takes."""
    import pandas as pd

    table: pd.DataFrame = pd.DataFrame(dict(columns), copy=False)
    return table


def _numbers(name: str, values: Sequence[Any]) -> Numbers:
    import numpy as np

    try:
        numbers = np.array(values, dtype="float64")
    except (TypeError, ValueError, OverflowError):
        raise _unfit(name, "a value that is no number") from None
    if numbers.ndim != 1:
        raise _unfit(name, "a list where a number is expected")
    if np.isinf(numbers).any():
        raise _unfit(name, "an infinite number")
    return numbers


def _texts(name: str, values: Sequence[Any]) -> Texts:
    import numpy as np

    held = np.empty(len(values), dtype=object)
    for place, value in enumerate(values):
        held[place] = value if type(value) is str and value.isascii() else _text(name, value)
    return held


def _text(name: str, value: Any) -> str | float:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return math.nan
    if isinstance(value, list | dict):
        raise _unfit(name, "a list or an object where a text is expected")
    text = str(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _unfit(name, "half of a character") from None
    return text


def _unfit(name: str, what: str) -> InvocationError:
    return InvocationError(
        f"the input {name!r} holds {what}", where="the request's body", way_out="send what the model was trained on"
    )
