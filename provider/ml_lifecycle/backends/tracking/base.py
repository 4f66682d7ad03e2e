"""Where runs are recorded and versions are registered."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Run:
    """One recorded piece of work."""

    run_id: str
    experiment: str
    finished: bool
    tags: Mapping[str, str] = field(default_factory=dict)
    url: str = ""
    """Where a person can look at it; empty where there is no page."""


@dataclass(frozen=True)
class RegisteredVersion:
    """One version in the registry, as the registry describes it. The ledger, not the registry, is the truth."""

    name: str
    version: int
    uri: str
    run_id: str
    tags: Mapping[str, str] = field(default_factory=dict)
    url: str = ""
    training_key: str = ""
    """What it was registered under; empty for a version that somebody registered by hand."""


class Tracking(ABC):
    """Runs with their parameters, metrics and files. Every call has a deadline.

    All methods raise :class:`~ml_lifecycle.core.errors.ServiceUnavailableError` when the service does not answer in
    time and :class:`~ml_lifecycle.core.errors.ServiceRefusedError` when it answers no.
    """

    @abstractmethod
    def find_run(self, experiment: str, key: str) -> Run | None:
        """The run of this key, whether it is finished or not."""

    @abstractmethod
    def runs_of(self, experiment: str, key: str) -> tuple[str, ...]:
        """The ids of all runs of this key, first one first; more than one is a fault."""

    @abstractmethod
    def ensure_run(self, experiment: str, key: str, *, name: str, tags: Mapping[str, str]) -> Run:
        """The run of this key, made if there is none: calling twice makes one run."""

    @abstractmethod
    def get_run(self, run_id: str) -> Run:
        """A run by its id."""

    @abstractmethod
    def log(
        self,
        run_id: str,
        *,
        parameters: Mapping[str, object] | None = None,
        metrics: Mapping[str, float | None] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Record values on a run; logging the same values twice changes nothing, ``None`` metrics are left out."""

    @abstractmethod
    def upload(self, run_id: str, folder: Path, path: str) -> str:
        """Put a folder's files below ``path`` of the run's artifacts; returns ``runs:/<run id>/<path>``."""

    @abstractmethod
    def download(self, uri: str, into: Path) -> Path:
        """Fetch what :meth:`upload` returned into an empty folder, and return that folder."""

    @abstractmethod
    def finish_run(self, run_id: str, *, failed: bool = False) -> None:
        """Close the run."""


class Registry(ABC):
    """Named models, their versions, and aliases that point at one. Same errors as :class:`Tracking`."""

    @abstractmethod
    def ensure_version(
        self, name: str, *, training_key: str, uri: str, run_id: str, tags: Mapping[str, str], description: str = ""
    ) -> RegisteredVersion:
        """The version of this training key, registered if there is none: calling twice makes one version."""

    @abstractmethod
    def version(self, name: str, version: int) -> RegisteredVersion | None:
        """One version, or ``None``."""

    @abstractmethod
    def versions(self, name: str) -> tuple[RegisteredVersion, ...]:
        """Every version, by number; none while nothing is registered."""

    @abstractmethod
    def newest_version(self, name: str) -> RegisteredVersion | None:
        """The version with the highest number, or ``None`` while nothing is registered."""

    @abstractmethod
    def tag_version(self, name: str, version: int, tags: Mapping[str, str]) -> None:
        """Set tags on a version."""

    @abstractmethod
    def model_tags(self, name: str) -> Mapping[str, str]:
        """The tags of the model itself; none while it is not registered."""

    @abstractmethod
    def tag_model(self, name: str, tags: Mapping[str, str]) -> None:
        """Set tags on the model itself."""

    @abstractmethod
    def alias(self, name: str, alias: str) -> int | None:
        """The version that the alias points at, or ``None``."""

    @abstractmethod
    def set_alias(self, name: str, alias: str, version: int) -> None:
        """Point the alias at a version."""

    @abstractmethod
    def remove_alias(self, name: str, alias: str) -> None:
        """Take the alias away; removing one that is not there changes nothing."""
