"""``ml-lifecycle profile``: a table's counts, which drift takes in its place."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ml_lifecycle.commands.drift import add_columns, files_of, policy_of
from ml_lifecycle.commands.output import CODES, DONE, counted, print_json
from ml_lifecycle.core.errors import RequestError


def add_parser(subparsers: Any) -> None:
    """Add the command's options."""
    text = "count a table once, so that drift needs it no more"
    parser = subparsers.add_parser(
        "profile",
        help=text,
        description=f"{text[0].upper()}{text[1:]}: a folder of counts that `drift` takes in the table's place.",
        epilog=f"exit codes: 0 done, {CODES}",
    )
    parser.add_argument("--data", required=True, metavar="FILE", help="parquet or csv, a folder, or an address")
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="where the counts go; must not exist")
    parser.add_argument("--like", type=Path, metavar="FOLDER", help="counts of a reference, to be compared with these")
    add_columns(parser)
    parser.add_argument("--json", action="store_true", help="print what was counted as JSON")
    parser.set_defaults(command=profile)


def profile(options: argparse.Namespace) -> int:
    """Count, and keep the counts."""
    from ml_lifecycle.backends.files import publish_folder
    from ml_lifecycle.backends.monitoring.profiles import save
    from ml_lifecycle.stages.drift_files import profile_file
    from ml_lifecycle.stages.runner import extras_named

    if options.out.exists():
        raise RequestError("something is there already", where=f"--out {options.out}", way_out="name a folder to make")
    with extras_named():
        found = profile_file(options.data, policy=policy_of(options), files=files_of(options), like=options.like)
    try:
        publish_folder(options.out.absolute(), lambda folder: save(found, folder))
    except OSError as error:
        raise RequestError(
            f"it cannot be written ({error.strerror})", where=str(options.out), way_out="name a place you may write to"
        ) from None
    if options.json:
        columns = {
            name: {"kind": one.frame.kind, "missing": one.missing, "mean": one.mean, "low": one.low, "high": one.high}
            for name, one in found.columns.items()
        }
        print_json({"rows": found.rows, "blocks": len(found.blocks), "by": found.by, "columns": columns})
    else:
        blocks = f" in {counted(len(found.blocks), 'block')} by {found.by}" if found.by is not None else ""
        columns_told = counted(len(found.columns), "column")
        print(f"{counted(found.rows, 'row')} of {columns_told}{blocks} counted into {options.out}")
    return DONE
