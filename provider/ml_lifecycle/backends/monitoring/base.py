"""Measuring how far data has moved."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ml_lifecycle.core.contracts import ColumnDrift

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class DriftResult:
    """Each column's distance, and a page for people."""

    columns: tuple[ColumnDrift, ...]
    html: str


class DriftDetector(ABC):
    """Compares a current table with a reference table, column by column, with named distances."""

    @abstractmethod
    def compare(
        self,
        reference: pd.DataFrame,
        current: pd.DataFrame,
        *,
        columns: Sequence[str],
        threshold: float,
        title: str,
    ) -> DriftResult:
        """Measure every column; a column that cannot be measured has distance ``None`` and has not drifted.

        :raises ColumnError: a column is missing from one of the tables.
        :raises NoRowsError: one of the tables is empty.
        """
