"""How a fitted model becomes a folder of bytes and comes back without running foreign code."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from ml_lifecycle.core.contracts import Contract
from ml_lifecycle.core.errors import UntrustedModelError

if TYPE_CHECKING:
    import pandas as pd

PACKAGE_FILE: Final = "package.json"


class PackageInfo(Contract):
    """What a model package says of itself, in its ``package.json``."""

    name: str
    format: str
    training_key: str
    features: str | None
    """The callable ``module:function`` that makes the model's input; ``None`` where the dataset's columns are it."""
    features_digest: str | None
    """Digest of the file that holds that callable; scoring refuses another."""
    inputs: dict[str, str]
    """Input columns in order, with their types."""
    classes: tuple[str | int | float | bool, ...] = ()
    """Class labels in the order of the probabilities; empty for a regression."""


def read_info(folder: Path, *, where: str) -> PackageInfo:
    """What the package in a folder says of itself.

    :raises UntrustedModelError: it cannot be read.
    """
    try:
        return PackageInfo.model_validate(json.loads((folder / PACKAGE_FILE).read_text()))
    except (OSError, ValueError) as error:
        raise UntrustedModelError(
            f"the package's {PACKAGE_FILE} cannot be read ({type(error).__name__})",
            where=where,
            way_out="train again; the package was not written by this product",
        ) from error


class ModelFormat(ABC):
    """One serialization format."""

    name: ClassVar[str]

    @abstractmethod
    def save(self, model: Any, folder: Path, info: PackageInfo, *, example: pd.DataFrame) -> None:
        """Write the package: the model, ``package.json``, and what MLflow needs to show and serve it."""

    @abstractmethod
    def load(self, folder: Path, *, allowed_types: Sequence[str]) -> Any:
        """The fitted model. The folder's digest was checked before.

        :raises UntrustedModelError: the package holds a type that is neither ours nor in ``allowed_types``.
        """
