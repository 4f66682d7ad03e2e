"""What a stage is handed beside its job: the tools of this deployment. A job holds no secret; the tools may."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from ml_lifecycle.backends.data.base import DataStore
from ml_lifecycle.backends.ledger.base import Ledger
from ml_lifecycle.backends.tracking.base import Registry, Tracking


def utc_now() -> datetime:
    """The clock of every stage."""
    return datetime.now(timezone.utc)


@dataclass(frozen=True)
class Tools:
    """One deployment's backends. A stage uses what it needs, and says so where something is missing."""

    data: DataStore
    project: Path
    """The folder that holds ``dags/`` and ``include/``: callables and suites are found below it."""
    tracking: Tracking
    registry: Registry
    ledger: Ledger
    environment: str = "dev"
    estimators: tuple[str, ...] = ("sklearn.",)
    """Prefixes of the classes that a pipeline may name as its estimator."""
    trusted_types: tuple[str, ...] = ()
    """Types that model packages may hold beside those that this package lists."""
    clock: Callable[[], datetime] = field(default=utc_now)
