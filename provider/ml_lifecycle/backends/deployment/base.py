"""Carrying a move out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from ml_lifecycle.backends.tracking.base import Registry
from ml_lifecycle.core.contracts import Move


class DeploymentTarget(BaseModel, ABC):
    """A place where models serve. Its fields are the options of the YAML's ``deployment`` section.

    Only the ledger makes a :class:`~ml_lifecycle.core.contracts.Move`, so no target is reached without a decision and
    an epoch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    backend: str

    @abstractmethod
    def deploy(self, move: Move, registry: Registry) -> None:
        """Make the target serve the move's version; calling twice does what calling once does."""

    @abstractmethod
    def observe(self, model: str, registry: Registry) -> Mapping[int, int]:
        """What serves at this moment: percent of the traffic by version; empty where nothing serves."""
