"""A verified model package in memory, and its answers to parsed requests."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from ml_lifecycle.backends.files import verify_folder
from ml_lifecycle.backends.models.base import PackageInfo, read_info
from ml_lifecycle.backends.models.golden import read_golden
from ml_lifecycle.backends.models.inputs import answer, prepare
from ml_lifecycle.backends.models.skops import SkopsFormat
from ml_lifecycle.core.errors import ModelAnswerError, UntrustedModelError
from ml_lifecycle.serving.shortcut import MOST_ROWS, Shortcut, shortcut_of
from ml_lifecycle.serving.values import columns_of, table_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Scores = NDArray[np.float64]

_WARM_UP: Final = 7
"""Predictions of one row before the first request: the first ones pay for what libraries load late."""


class Scorer:
    """One model version, ready to answer."""

    def __init__(self, model: Any, info: PackageInfo) -> None:
        self.info = info
        self._model = model
        self._shortcut: Shortcut | None = None

    @classmethod
    def load(cls, folder: Path, digest: str, *, trusted_types: Sequence[str]) -> Scorer:
        """Load a package whose bytes are those that the digest names.

        :raises DigestMismatchError: they are others.
        :raises UntrustedModelError: it cannot be read, or holds types that are not loaded here.
        """
        try:
            verify_folder(folder, digest, where=str(folder))
        except OSError as error:
            raise UntrustedModelError(
                f"the package cannot be read ({error.strerror})", where=str(folder), way_out="name a package's folder"
            ) from None
        info = read_info(folder, where=str(folder))
        return cls(SkopsFormat().load(folder, allowed_types=trusted_types), info)

    @property
    def has_shortcut(self) -> bool:
        """Whether few rows are answered without the model's own preprocessing."""
        return self._shortcut is not None

    def scores(self, columns: Mapping[str, Any], rows: int) -> Scores:
        """As :func:`~ml_lifecycle.backends.models.inputs.predict`: a score a row, or a probability for each class.

        :param columns: As :func:`~ml_lifecycle.serving.values.columns_of` makes them.
        :raises ModelAnswerError: the model failed, or answered NaN or infinity.
        """
        import numpy as np

        try:
            scores: Scores = np.asarray(self._answer(columns, rows), dtype="float64")
        except Exception as error:
            raise ModelAnswerError(
                f"the model failed on this request ({type(error).__name__})",
                where=f"model {self.info.name}",
                way_out="look into the server's log under the request's id",
            ) from error
        if len(scores) != rows or not np.isfinite(scores).all():
            raise ModelAnswerError(
                "the model answered NaN, infinity, or not every row",
                where=f"model {self.info.name}",
                way_out="look into the server's log under the request's id",
            )
        return scores

    def _answer(self, columns: Mapping[str, Any], rows: int) -> Any:
        if self._shortcut is not None and rows <= MOST_ROWS:
            return self._shortcut.answer(columns, rows)
        return answer(self._model, self.info, table_of(columns))

    def warm_up(self, folder: Path) -> float | None:
        """Answer the package's golden rows one by one, and tell the median seconds; ``None`` where it has none."""
        golden = read_golden(folder)
        if golden is None:
            return None
        rows, taken = prepare(golden[0], self.info.inputs, where="the package's golden rows"), []
        self._shortcut = shortcut_of(self._model, self.info, rows)
        for number in range(_WARM_UP):
            row = rows.iloc[number % len(rows)]
            begun = time.perf_counter()
            self.scores(columns_of({name: [row[name]] for name in self.info.inputs}, self.info.inputs), 1)
            taken.append(time.perf_counter() - begun)
        return median(taken)
