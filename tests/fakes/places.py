"""Places where models serve, for the conformance suite: one function per deployment target."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from ml_lifecycle.backends.deployment.alias import AliasTarget
from ml_lifecycle.backends.deployment.base import DeploymentTarget, Means, Serving, SplittingTarget
from ml_lifecycle.backends.tracking.base import Registry
from ml_lifecycle.backends.tracking.local import LocalTracking
from ml_lifecycle.core.contracts import Move, Observation

MODEL = "flights"


def nobody_answers(user: str) -> int:
    """For places that only name versions."""
    raise AssertionError(f"nobody answers {user}")


@dataclass(frozen=True)
class Place:
    """A target with what it needs, and three versions of one model in the registry."""

    target: DeploymentTarget
    means: Means
    digests: dict[int, str] = field(default_factory=lambda: {number: str(number) * 64 for number in (1, 2, 3)})
    """Of the packages that the versions have, by version."""
    uris: dict[int, str] = field(default_factory=dict)
    """Where they lie; ``runs:/1/model`` for those that are left out."""
    ask: Callable[[str], int] = field(default=nobody_answers)
    """Sends one request of a user and returns the version that answered."""
    sticky: bool = False
    """Whether a user stays with one version while the split does."""

    def move(self, version: int, epoch: int = 1, *, model: str = MODEL, environment: str = "test") -> Move:
        """A release of the version, as the ledger would make it."""
        return Move(
            model=model,
            environment=environment,
            epoch=epoch,
            kind="release",
            version=version,
            digest=self.digests.get(version, str(version) * 64),
            uri=self.uris.get(version, "runs:/1/model"),
            moved_by="ada",
            moved_at=datetime(2026, 3, 1, 12, tzinfo=timezone.utc),
        )

    def settled(self, model: str = MODEL, *, within_s: float = 60.0) -> Serving:
        """What serves, once what was asked for is there."""
        deadline = time.monotonic() + within_s
        while not (seen := self.target.status(model, self.means)).settled:
            assert time.monotonic() < deadline, seen
            time.sleep(0.05)
        return seen

    def traffic(self, model: str = MODEL) -> dict[int, int]:
        """The settled percentages by version."""
        return dict(self.settled(model).traffic)

    def split(self, move: Move, percent: int) -> None:
        """Send the move's version this share."""
        assert isinstance(self.target, SplittingTarget)
        self.target.set_split(move, percent, self.means)

    def retire(self, move: Move) -> None:
        """Remove what gets no traffic."""
        assert isinstance(self.target, SplittingTarget)
        self.target.retire(move, self.means)

    def observe(self, since: datetime) -> Mapping[int, Observation]:
        """What the versions did."""
        assert isinstance(self.target, SplittingTarget)
        return self.target.observe(MODEL, since, self.means)

    def serve(self, version: int, epoch: int = 1) -> None:
        """Make the version serve alone."""
        move = self.move(version, epoch)
        self.target.deploy(move, self.means)
        self.settled()
        self.target.promote(move, self.means)
        self.settled()


def registry_at(folder: Path) -> Registry:
    """A registry with three versions."""
    tracking = LocalTracking(folder)
    for number in ("1", "2", "3"):
        tracking.ensure_version(MODEL, training_key=number * 64, uri="runs:/1/model", run_id="1", tags={})
    return tracking


def no_package(uri: str, digest: str) -> AbstractContextManager[Path]:
    """For targets that only name versions."""
    raise AssertionError(f"nobody needs the bytes of {uri} ({digest})")


@contextmanager
def alias_place(tmp_path: Path) -> Iterator[Place]:
    """An alias in a registry of files."""
    yield Place(AliasTarget(), Means(registry=registry_at(tmp_path), package=no_package))
