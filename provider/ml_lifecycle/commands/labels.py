"""``ml-lifecycle labels``: what turned out, brought to the requests that servers answered."""

from __future__ import annotations

import argparse
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_lifecycle.commands.output import CODES, DONE, FAILED, counted, print_json
from ml_lifecycle.core.errors import RequestError

if TYPE_CHECKING:
    from ml_lifecycle.backends.monitoring.served_labels import Labelled


def add_parser(subparsers: Any) -> None:
    """Add the command's options."""
    text = "bring labels to the requests that model servers answered"
    parser = subparsers.add_parser(
        "labels",
        help=text,
        description=f"{text[0].upper()}{text[1:]}, by the keys that the requests named. Rollouts judge the quality of "
        "both versions by them. Doing it again changes nothing; a file that is newer corrects an older one.",
        epilog=f"exit codes: 0 every label belongs to a prediction, 1 some do not, or contradict each other, {CODES}",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="parquet or csv: a key and a label a row")
    parser.add_argument("--log", required=True, type=Path, metavar="FOLDER", help="the log, such as SERVING_HOME/log")
    parser.add_argument("--endpoint", required=True, metavar="NAME", help="the model's name")
    parser.add_argument("--key", required=True, metavar="COLUMN", help="names the request's row")
    parser.add_argument(
        "--label", required=True, metavar="COLUMN", help="what turned out, called as the model calls it"
    )
    parser.add_argument(
        "--days", type=int, default=30, metavar="N", help="how far back predictions are looked for (default: 30)"
    )
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")
    parser.set_defaults(command=labels)


def labels(options: argparse.Namespace) -> int:
    """Write the labels and print what was found; 1 where some belong to no prediction."""
    from ml_lifecycle.stages.runner import extras_named

    if options.days < 1:
        raise RequestError(f"{options.days} days are none", where="--days", way_out="write 1 or more")
    with extras_named():
        found = [(file, _brought(file, options)) for file in options.files]
    if options.json:
        print_json([{"file": str(file), **one._asdict()} for file, one in found])
    else:
        print("\n".join(_told(file, one) for file, one in found))
    return FAILED if any(one.unknown or one.conflicting for _, one in found) else DONE


def _brought(file: Path, options: argparse.Namespace) -> Labelled:
    from ml_lifecycle.backends.data.local import read_table_file
    from ml_lifecycle.backends.monitoring.served_labels import label_answers

    if not file.is_file():
        raise RequestError("there is no such file", where=str(file), way_out="name a parquet or csv file")
    table = read_table_file(file)
    return label_answers(
        options.log.absolute(),
        options.endpoint,
        table,
        key=options.key,
        label=options.label,
        recorded=file.stat().st_mtime_ns // 1000,
        first_day=date.today() - timedelta(days=options.days),  # noqa: DTZ011  # whole days, of whichever zone
    )


def _told(file: Path, found: Labelled) -> str:
    parts = [f"{counted(found.keys, 'label')} for {counted(found.predictions, 'prediction')}"]
    if found.unknown:
        parts.append(f"{counted(found.unknown, 'label')} of keys that nobody asked for")
    if found.conflicting:
        parts.append(f"{counted(found.conflicting, 'key')} with labels that contradict each other")
    return f"{file}: {'; '.join(parts)}"
