"""Where models serve, and what carries a move out there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ml_lifecycle.backends.signing.keys import SigningKey
from ml_lifecycle.backends.tracking.base import Registry
from ml_lifecycle.core.contracts import AnalysisPolicy, Move, Observation
from ml_lifecycle.core.errors import ConfigurationError
from ml_lifecycle.core.values import StoredDuration

ALL: Literal[100] = 100
"""Percent."""
SHADOW: Literal["shadow"] = "shadow"
"""The step in which the new version answers what was asked before, and no user sees it."""
Step: TypeAlias = "Literal['shadow'] | int"


def no_client(service: str, connection: str) -> Any:
    """The clients of whoever has no connections.

    :raises ConfigurationError: always.
    """
    raise ConfigurationError(
        f"there is no client for {service!r}",
        where=f"connection {connection!r}",
        way_out="run it in a task: connections belong to Airflow",
    )


@dataclass(frozen=True)
class Origin:
    """Where a version comes from, for those who get it without the ledger."""

    decision_id: str | None = None
    """The approval that it rests on; of a rollback, the one under which its version was released."""
    dataset_fingerprint: str = ""
    """Of what it was trained on."""


@dataclass(frozen=True)
class Means:
    """What a target may use of the deployment that it belongs to."""

    registry: Registry
    package: Callable[[str, str], AbstractContextManager[Path]]
    """``package(uri, digest)``: a model package as a folder whose bytes were held against the digest."""
    client: Callable[[str, str], Any] = field(default=no_client)
    """``client(service, connection_id)``: a plain client with time-outs. The service is one of boto3's, such as
    ``sagemaker``, or ``kubernetes`` (an ``ApiClient``) or ``http`` (a ``requests.Session`` with its ``base_url``)."""
    serving_home: Path | None = None
    """Where the model servers of this machine live; ``None`` where there are none."""
    trusted_types: tuple[str, ...] = ()
    """Types that model packages may hold beside those that this package lists."""
    signing_key: Callable[[], SigningKey | None] = field(default=lambda: None)
    """What is handed out is signed by it; ``None`` where the deployment has none."""
    origin: Callable[[Move], Origin] = field(default=lambda move: Origin(decision_id=move.decision_id))
    """What the ledger knows of where a move's version comes from."""


@dataclass(frozen=True)
class Serving:
    """What serves at this moment, read back from reality."""

    traffic: Mapping[int, int] = field(default_factory=dict)
    """Percent by version, without versions that get nothing; they sum to 100, or nothing serves."""
    epoch: int = 0
    """Of the newest move that reached the place, by its own account; 0 for none."""
    environment: str = ""
    """Whose place it is; empty while nobody's."""
    ready: tuple[int, ...] = ()
    """Versions that could take traffic at once, with traffic or without."""
    settled: bool = True
    """Whether what was asked for is there; else it is on its way, or failed."""
    fault: str = ""
    """What went wrong since the last write: a version that died, an update that was taken back. Waiting does not mend
    it, and the place sends the version in question no traffic."""
    detail: str = ""
    """For people: what is being waited for."""


class DeploymentTarget(BaseModel, ABC):
    """A place where models serve. Its fields are the options of the YAML's ``deployment`` section.

    Every writing method says what shall be, returns without waiting for it, and does nothing when it is so already;
    :meth:`status` tells what is. Only the ledger makes a :class:`~ml_lifecycle.core.contracts.Move`, so nothing is
    written without an epoch: a place refuses epochs below the newest that reached it
    (:class:`~ml_lifecycle.core.errors.StaleEpochError`), and other environments than the one whose it is
    (:class:`~ml_lifecycle.core.errors.TargetRefusedError`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    backend: str

    @abstractmethod
    def deploy(self, move: Move, means: Means) -> None:
        """Have the move's version run beside what serves; it gets no traffic that it does not have already.

        :raises ServiceRefusedError: there is no such version.
        """

    @abstractmethod
    def promote(self, move: Move, means: Means) -> None:
        """Send all traffic to the move's version, deployed or not; this is how a rollback brings the last one back."""

    @abstractmethod
    def status(self, model: str, means: Means) -> Serving:
        """What serves, read back from reality."""

    @abstractmethod
    def destroy(self, model: str, environment: str, means: Means) -> None:
        """Remove everything of a model: nothing serves, and the next move finds an empty place.

        :raises TargetRefusedError: the place belongs to another environment.
        """

    @abstractmethod
    def restore(self, head: Move, means: Means) -> None:
        """As :meth:`promote`, whatever epoch the place claims: only for who has seen that the ledger made no such move.

        :raises TargetRefusedError: the place belongs to another environment.
        """

    @abstractmethod
    def rehearse(self, move: Move, means: Means) -> Mapping[int, int]:
        """Make the move's version serve where nobody looks, and return what was observed there; nothing is left."""


class SplittingTarget(DeploymentTarget, ABC):
    """A place where two versions serve beside each other."""

    steps: tuple[Step, ...] = Field(default=(ALL,), min_length=1, max_length=20)
    """Percent of the traffic that a new version gets, step by step; ``shadow`` before the first: none of it."""
    analysis: AnalysisPolicy = AnalysisPolicy()
    """What it is held to at each step."""
    keep_previous: StoredDuration = timedelta(hours=1)
    """How long the version before stays ready after it lost its traffic, so that a rollback is one write."""

    @field_validator("steps", mode="before")
    @classmethod
    def _listed(cls, steps: Any) -> Any:
        return tuple(steps) if isinstance(steps, list) else steps

    @field_validator("steps")
    @classmethod
    def _rising(cls, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        percents = percents_of(steps)
        if steps.count(SHADOW) > 1 or SHADOW in steps[1:]:
            raise ValueError("shadow comes first, and once; write [shadow, 10, 50, 100]")
        if sorted(set(percents)) != list(percents) or not all(0 < one <= ALL for one in percents):
            raise ValueError(f"{list(percents)} are no rising percentages from 1 to 100; write [10, 50, 100]")
        if not percents or percents[-1] != ALL:
            raise ValueError("a rollout ends with all traffic; write 100 as the last step")
        return steps

    @abstractmethod
    def set_split(self, move: Move, percent: int, means: Means) -> None:
        """Send this share of the traffic to the move's version, and the rest to the version that served before.

        :param percent: 0 to 100. Where no other version serves, all of it goes to the move's.
        """

    @abstractmethod
    def observe(self, model: str, since: datetime, means: Means) -> Mapping[int, Observation]:
        """What each version that is deployed did since then, or since its share was last set if that is later."""

    @abstractmethod
    def retire(self, move: Move, means: Means) -> None:
        """Remove every version that gets no traffic; the move's stays."""


def percents_of(steps: Sequence[Step]) -> tuple[int, ...]:
    """The steps that users see."""
    return tuple(step for step in steps if isinstance(step, int))
