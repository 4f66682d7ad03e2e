"""One small, real deployment for every test: files, a tracking folder and a ledger below a temporary folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ml_lifecycle.backends.data.local import LocalStore
from ml_lifecycle.backends.ledger.sql import SqlLedger
from ml_lifecycle.backends.tracking.local import LocalTracking
from ml_lifecycle.stages.runner import Tools
from private_postgresql import Server, running

PROJECT = Path(__file__).resolve().parent.parent


@pytest.fixture
def tools(tmp_path: Path) -> Tools:
    """Real backends below a temporary folder, in the environment ``test``; the project is this repository."""
    tracking = LocalTracking(tmp_path / "tracking")
    return Tools(
        data=LocalStore(tmp_path / "data"),
        project=PROJECT,
        tracking=tracking,
        registry=tracking,
        ledger=SqlLedger(f"sqlite:///{tmp_path / 'ledger.db'}"),
        environment="test",
    )


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A PostgreSQL of the tests' own; where none is installed, an error that says what to install."""
    with running() as server:
        yield server
