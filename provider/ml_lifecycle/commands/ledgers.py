"""The ledger that a command is about, and the runs beside it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ml_lifecycle.core.errors import RequestError

if TYPE_CHECKING:
    from ml_lifecycle.backends.data.local import LocalStore
    from ml_lifecycle.backends.ledger.base import Ledger
    from ml_lifecycle.backends.tracking.local import LocalTracking
    from ml_lifecycle.backends.tracking.mlflow import MlflowTracking

FOLDER = "file://"
_FILE = "sqlite:///"


def add_options(parser: argparse.ArgumentParser) -> None:
    """``--ledger``, ``--environment`` and ``--json``."""
    add_ledger(parser)
    parser.add_argument(
        "--environment", metavar="NAME", help="only this environment (default: all that the ledger has)"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def add_ledger(
    parser: argparse.ArgumentParser,
    *,
    required: bool = True,
    text: str = "the ledger's database, as SQLAlchemy names it: sqlite:////srv/ledger.db, postgresql+psycopg://...",
) -> None:
    """``--ledger``."""
    parser.add_argument("--ledger", required=required, metavar="URL", help=text)


def opened(url: str) -> Ledger:
    """A ledger that is there: looking at one must not make one.

    :raises RequestError: there is no such file.
    :raises LedgerError: the URL names no ledger.
    """
    from ml_lifecycle.backends.ledger.sql import SqlLedger

    if url.startswith(_FILE) and not Path(url.removeprefix(_FILE)).is_file():
        raise RequestError("there is no such file", where=f"--ledger {url}", way_out="name the ledger that serves")
    return SqlLedger(url)


def places(ledger: Ledger, *, environment: str | None, model: str | None = None) -> tuple[tuple[str, str], ...]:
    """Model and environment of everything that the ledger knows, sorted.

    :raises RequestError: it knows nothing of what was asked for.
    """
    known = sorted({(str(row["model"]), str(row["environment"])) for row in ledger.audit(model)})
    found = tuple(one for one in known if environment in (None, one[1]))
    if not found and (environment is not None or model is not None):
        there = ", ".join(sorted({f"{name} in {place}" for name, place in known}))
        asked = " in ".join(one for one in (model or "any model", environment) if one)
        raise RequestError(
            f"the ledger knows nothing of {asked}", way_out=f"it knows {there}" if there else "check its address"
        )
    return found


def environment_of(ledger: Ledger, model: str, *, environment: str | None) -> str:
    """The one environment that the ledger knows a model in.

    :raises RequestError: it knows none, or several.
    """
    known = places(ledger, environment=environment, model=model)
    if len(known) > 1:
        there = ", ".join(name for _, name in known)
        raise RequestError(f"{model} is known in {there}", way_out="name one by --environment")
    return known[0][1]


def data_at(folder: Path) -> LocalStore:
    """A deployment's data.

    :raises RequestError: there is no such folder.
    """
    from ml_lifecycle.backends.data.local import LocalStore

    if not folder.is_dir():
        raise RequestError("there is no such folder", where=f"--data-root {folder}", way_out="check the path")
    return LocalStore(folder.resolve())


def tracking_at(url: str) -> LocalTracking | MlflowTracking:
    """Runs and registry at an address, or in a folder.

    :raises RequestError: it is neither.
    """
    from ml_lifecycle.backends.tracking.local import LocalTracking
    from ml_lifecycle.backends.tracking.mlflow import MlflowTracking

    if url.startswith(FOLDER):
        folder = Path(url.removeprefix(FOLDER))
        if not folder.is_dir():
            raise RequestError("there is no such folder", where=f"--mlflow {url}", way_out="write it from the root")
        return LocalTracking(folder)
    if not url.startswith(("http://", "https://")):
        raise RequestError(f"{url!r} is no address", where="--mlflow", way_out="write http://..., or file:///...")
    return MlflowTracking(url)
