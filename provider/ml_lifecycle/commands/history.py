"""``ml-lifecycle history``: what a deployment's gates judged, as files that ``backtest`` replays."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_lifecycle.commands.ledgers import add_ledger, data_at, environment_of, opened, tracking_at
from ml_lifecycle.commands.output import CODES, DONE, counted

if TYPE_CHECKING:
    from ml_lifecycle.stages.runner import Tools


def add_parser(subparsers: Any) -> None:
    """Add the command's options."""
    text = "write what a model's gates judged into a folder, for backtest"
    parser = subparsers.add_parser(
        "history",
        help=text,
        description=f"{text[0].upper()}{text[1:]}. Nothing of the deployment is changed.",
        epilog=f"exit codes: 0 done, {CODES}",
    )
    parser.add_argument("--model", required=True, help="name of the registered model")
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="where the candidates' folders go")
    add_ledger(parser)
    parser.add_argument("--environment", metavar="NAME", help="needed where the ledger knows the model in several")
    parser.add_argument(
        "--mlflow", required=True, metavar="URL", help="where predictions and packages are: http://..., or file:///..."
    )
    parser.add_argument(
        "--data-root",
        type=Path,
        metavar="FOLDER",
        help="the deployment's data: candidate and champion are scored on what came later, too",
    )
    parser.add_argument(
        "--project", type=Path, default=Path(), help="folder that features are found below (default: the current one)"
    )
    parser.set_defaults(command=history)


def history(options: argparse.Namespace) -> int:
    """Write the folder."""
    from ml_lifecycle.stages.history import export_history
    from ml_lifecycle.stages.runner import extras_named

    with extras_named(), _tools(options) as tools:
        written = export_history(
            options.model,
            options.out,
            tools,
            later=options.data_root is not None,
            say=lambda text: print(text, file=sys.stderr),
        )
    print(f"{counted(len(written), 'candidate')} in {options.out}")
    return DONE


@contextmanager
def _tools(options: argparse.Namespace) -> Iterator[Tools]:
    from ml_lifecycle.backends.data.local import LocalStore
    from ml_lifecycle.stages.runner import Tools

    ledger = opened(options.ledger)
    environment = environment_of(ledger, options.model, environment=options.environment)
    data = data_at(options.data_root) if options.data_root is not None else None
    tracking = tracking_at(options.mlflow)
    with tempfile.TemporaryDirectory(prefix="ml-lifecycle-") as empty:
        yield Tools(
            data=data or LocalStore(Path(empty).resolve()),
            project=options.project.resolve(),
            tracking=tracking,
            registry=tracking,
            ledger=ledger,
            environment=environment,
        )
