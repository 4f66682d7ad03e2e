"""Checking a table against an expectation suite."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ml_lifecycle.core.contracts import ExpectationResult

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class ValidationResult:
    """What a suite found in one table."""

    results: tuple[ExpectationResult, ...]
    unexpected_keys: frozenset[Any] = field(default_factory=frozenset)
    """Keys of the rows that made a critical expectation about single rows fail; empty where none were asked for."""
    examples: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """A few unexpected values, by the expectation's place in ``results``: for the report only, they are data."""


class Validator(ABC):
    """Runs expectation suites: ``{"name": ..., "expectations": [{"type", "kwargs", "severity", "meta"}]}``."""

    @abstractmethod
    def check_suite(self, suite: Mapping[str, Any], *, where: str) -> None:
        """Refuse a suite that cannot run, naming every mistake in it.

        :raises SuiteError: it names an unknown expectation or a misspelt argument.
        """

    @abstractmethod
    def validate(
        self, table: pd.DataFrame, suite: Mapping[str, Any], *, key: str | None = None, where: str
    ) -> ValidationResult:
        """Check a table. A check that broke is ``inconclusive``, and never the data's fault.

        :param key: Column whose values name the unexpected rows; ``None`` where nobody asks which rows they are,
            which is much faster.
        :raises SuiteError: as :meth:`check_suite`.
        """
