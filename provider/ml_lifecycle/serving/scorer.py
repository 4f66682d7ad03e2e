"""A verified model package in memory, and its answers to parsed requests."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from ml_lifecycle.backends.files import verify_folder
from ml_lifecycle.backends.models.base import PackageInfo, read_info
from ml_lifecycle.backends.models.golden import read_golden
from ml_lifecycle.backends.models.inputs import NUMBER, answer
from ml_lifecycle.backends.models.skops import SkopsFormat
from ml_lifecycle.core.errors import InvocationError, ModelAnswerError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    Scores = NDArray[np.float64]

_WARM_UP: Final = 7
"""Predictions of one row before the first request: the first ones pay for what libraries load late."""


class Scorer:
    """One model version, ready to answer."""

    def __init__(self, model: Any, info: PackageInfo) -> None:
        self.info = info
        self._model = model

    @classmethod
    def load(cls, folder: Path, digest: str, *, trusted_types: Sequence[str]) -> Scorer:
        """Load a package whose bytes are those that the digest names.

        :raises DigestMismatchError: they are others.
        :raises UntrustedModelError: it cannot be read, or holds types that are not loaded here.
        """
        verify_folder(folder, digest, where=str(folder))
        info = read_info(folder, where=str(folder))
        return cls(SkopsFormat().load(folder, allowed_types=trusted_types), info)

    def table(self, columns: Mapping[str, Sequence[Any]]) -> pd.DataFrame:
        """The model's input: what :func:`~ml_lifecycle.backends.models.inputs.prepare` makes of the same values.

        Each row is read for itself: what its neighbours hold does not change it.

        :raises InvocationError: a value is none that its column may hold.
        """
        import pandas as pd

        held = {
            name: _numbers(name, columns[name]) if kind == NUMBER else _texts(name, columns[name])
            for name, kind in self.info.inputs.items()
        }
        table: pd.DataFrame = pd.DataFrame(held, copy=False)
        return table

    def scores(self, table: pd.DataFrame) -> Scores:
        """As :func:`~ml_lifecycle.backends.models.inputs.predict`: a score a row, or a probability for each class.

        :raises ModelAnswerError: the model failed, or answered NaN or infinity.
        """
        import numpy as np

        try:
            scores: Scores = np.asarray(answer(self._model, self.info, table), dtype="float64")
        except Exception as error:
            raise ModelAnswerError(
                f"the model failed on this request ({type(error).__name__})",
                where=f"model {self.info.name}",
                way_out="look into the server's log under the request's id",
            ) from error
        if len(scores) != len(table) or not np.isfinite(scores).all():
            raise ModelAnswerError(
                "the model answered NaN, infinity, or not every row",
                where=f"model {self.info.name}",
                way_out="look into the server's log under the request's id",
            )
        return scores

    def warm_up(self, folder: Path) -> float | None:
        """Answer the package's golden rows one by one, and tell the median seconds; ``None`` where it has none."""
        golden = read_golden(folder)
        if golden is None:
            return None
        rows, taken = golden[0], []
        for number in range(_WARM_UP):
            row = rows.iloc[number % len(rows)]
            begun = time.perf_counter()
            self.scores(self.table({name: [row[name]] for name in self.info.inputs}))
            taken.append(time.perf_counter() - begun)
        return median(taken)


def _numbers(name: str, values: Sequence[Any]) -> Scores:
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


def _texts(name: str, values: Sequence[Any]) -> Any:
    import numpy as np

    held = np.empty(len(values), dtype=object)
    for place, value in enumerate(values):
        if type(value) is str:
            held[place] = value
        elif value is None or (isinstance(value, float) and math.isnan(value)):
            held[place] = math.nan
        elif isinstance(value, list | dict):
            raise _unfit(name, "a list or an object where a text is expected")
        else:
            held[place] = str(value)
    return held


def _unfit(name: str, what: str) -> InvocationError:
    return InvocationError(
        f"the input {name!r} holds {what}", where="the request's body", way_out="send what the model was trained on"
    )
