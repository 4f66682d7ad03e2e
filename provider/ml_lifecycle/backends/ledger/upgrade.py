"""Brings a ledger's schema to the version that this package knows."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Connection

_ONE_AT_A_TIME = threading.Lock()
"""Alembic keeps what it works on in the process."""


def upgrade(connection: Connection, *, version: int | None, target: str = "head") -> None:
    """Run the missing migrations within the connection's transaction.

    :param version: What the ledger has; ``None`` for an empty database.
    :param target: The last migration to run.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.migration import MigrationContext

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    with _ONE_AT_A_TIME:
        if version is not None and MigrationContext.configure(connection).get_current_revision() is None:
            command.stamp(config, f"{version:04}")  # made before Alembic kept the count
        command.upgrade(config, target)
