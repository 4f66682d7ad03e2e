"""``ml-lifecycle doctor``: whether ledger, registry and target fit together."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_lifecycle.commands.ledgers import FOLDER, add_options, opened, places, tracking_at
from ml_lifecycle.commands.output import CODES, DONE, FAILED, counted, print_json

if TYPE_CHECKING:
    from ml_lifecycle.backends.ledger.base import Ledger
    from ml_lifecycle.core.invariants import Violation
    from ml_lifecycle.stages.runner import Tools

_CODES = f"exit codes: 0 sound, 1 something does not hold, {CODES}\n"


def add_parser(subparsers: Any) -> None:
    """Add the command's options."""
    text = "check that ledger, registry and target fit together"
    parser = subparsers.add_parser(
        "doctor",
        help=text,
        description=f"{text[0].upper()}{text[1:]}. Nothing is changed.",
        epilog=_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_options(parser)
    parser.add_argument(
        "--mlflow",
        metavar="URL",
        help="also look at what serves, at the versions and at the runs: http://..., or file:///... for a folder",
    )
    parser.set_defaults(command=doctor)


def doctor(options: argparse.Namespace) -> int:
    """Print every violation of an invariant."""
    found, checked = _examined(options)
    if options.json:
        print_json({"checked": checked, "violations": [one.to_xcom() for one in found]})
    else:
        for one in found:
            print(one)
        print(f"{counted(len(checked), 'model')}, {counted(len(found), 'violation')}")
    return FAILED if found else DONE


def _examined(options: argparse.Namespace) -> tuple[list[Violation], list[str]]:
    from ml_lifecycle.core.invariants import violations
    from ml_lifecycle.stages.reconciliation import snapshot

    ledger = opened(options.ledger)
    known = places(ledger, environment=options.environment)
    look = options.mlflow is not None
    found: list[Violation] = []
    for model, tools in _each(known, ledger, options.mlflow):
        found += violations(snapshot(model, tools, look=look, runs=look))
    return found, [f"{model} in {environment}" for model, environment in known]


def _each(known: tuple[tuple[str, str], ...], ledger: Ledger, mlflow: str | None) -> Iterator[tuple[str, Tools]]:
    from ml_lifecycle.backends.data.local import LocalStore
    from ml_lifecycle.stages.runner import Tools

    with tempfile.TemporaryDirectory(prefix="ml-lifecycle-") as empty:
        tracking = tracking_at(mlflow or f"{FOLDER}{empty}")
        for model, environment in known:
            yield (
                model,
                Tools(
                    data=LocalStore(Path(empty)),
                    project=Path(empty),
                    tracking=tracking,
                    registry=tracking,
                    ledger=ledger,
                    environment=environment,
                ),
            )
