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
        """Make the target serve the move's version; calling twice does what calling once does.

        :raises StaleEpochError: a newer move reached the target before this one.
        :raises TargetRefusedError: the place belongs to another environment.
        """

    @abstractmethod
    def observe(self, model: str, registry: Registry) -> Mapping[int, int]:
        """What serves at this moment: percent of the traffic by version; empty where nothing serves."""

    @abstractmethod
    def epoch(self, model: str, environment: str, registry: Registry) -> int:
        """The epoch of the newest move of the environment that reached the target, by its own account; 0 for none."""

    @abstractmethod
    def restore(self, head: Move, registry: Registry) -> None:
        """As :meth:`deploy`, whatever epoch the target claims: only for who has seen that the ledger made no such move.

        :raises TargetRefusedError: the place belongs to another environment.
        """

    @abstractmethod
    def rehearse(self, move: Move, registry: Registry) -> Mapping[int, int]:
        """Make the move's version serve where nobody looks, and return what was observed there; nothing is left."""
