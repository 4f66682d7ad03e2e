"""``ml-lifecycle profile``: what a table holds, and counts of it that drift takes in its place."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ml_lifecycle.commands.drift import add_columns, files_of, policy_of
from ml_lifecycle.commands.output import CODES, DONE, counted, print_json, printable, table_lines
from ml_lifecycle.core.errors import RequestError

if TYPE_CHECKING:
    from ml_lifecycle.backends.monitoring.profiles import ColumnProfile, Profile

_QUARTILES: Final = (0.25, 0.5, 0.75)
_TOP: Final = 10
_LONGEST: Final = 40
_PATIENCE_S: Final = 3.0
"""Work that takes longer says how far it is, every so often."""


def add_parser(subparsers: Any) -> None:
    """Add the command's options."""
    text = "say what a table holds, and count it once, so that drift needs it no more"
    parser = subparsers.add_parser(
        "profile",
        help=text,
        description=f"{text[0].upper()}{text[1:]}. With --out, a folder of counts is kept that `drift` takes in the "
        "table's place. Quartiles are as exact as the bins that the values were counted in.",
        epilog=f"exit codes: 0 done, {CODES}",
    )
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument(
        "--data", nargs="+", metavar="FILE", help="parquet or csv, several of one kind, a folder, an address"
    )
    given.add_argument("--merge", nargs="+", type=Path, metavar="FOLDER", help="what was counted before, in one frame")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="keep the counts here; must not exist")
    parser.add_argument(
        "--frame", type=Path, metavar="FOLDER", help="counts of a reference: count as it was, to be compared with it"
    )
    add_columns(parser)
    parser.add_argument("--json", action="store_true", help="print what was counted as JSON")
    parser.set_defaults(command=profile)


def profile(options: argparse.Namespace) -> int:
    """Count, keep the counts, and print what they say."""
    from ml_lifecycle.stages.runner import extras_named

    if options.out is not None and options.out.exists():
        raise RequestError("something is there already", where=f"--out {options.out}", way_out="name a folder to make")
    with extras_named():
        found = _merged(options.merge) if options.merge else _counted(options)
        if options.out is not None:
            _keep(found, options.out)
        if options.json:
            print_json(as_json(found))
        else:
            print("\n".join(told(found)))
    if options.out is not None:
        print(f"counts kept in {options.out}", file=sys.stderr)
    return DONE


def _counted(options: argparse.Namespace) -> Profile:
    from ml_lifecycle.stages.drift_files import profile_file

    table = options.data[0] if len(options.data) == 1 else [Path(one) for one in options.data]
    files = replace(files_of(options), progress=_progress())
    return profile_file(table, policy=policy_of(options), files=files, like=options.frame)


def _merged(folders: list[Path]) -> Profile:
    from ml_lifecycle.backends.monitoring.profiles import load, merge

    return merge([load(folder) for folder in folders])


def _progress() -> Callable[[int, int], None]:
    """Tells a person how far counting is, where it takes long."""
    last = time.monotonic()

    def told_so_far(done: int, of: int) -> None:
        nonlocal last
        if time.monotonic() - last >= _PATIENCE_S and done < of:
            last = time.monotonic()
            print(f"{done:,} of {counted(of, 'column')} counted", file=sys.stderr, flush=True)

    return told_so_far


def _keep(found: Profile, folder: Path) -> None:
    from ml_lifecycle.backends.files import publish_folder
    from ml_lifecycle.backends.monitoring.profiles import save

    try:
        publish_folder(folder.absolute(), lambda draft: save(found, draft))
    except OSError as error:
        raise RequestError(
            f"it cannot be written ({error.strerror})", where=str(folder), way_out="name a place you may write to"
        ) from None


# --- What is printed -------------------------------------------------------------------------------------------------


def as_json(found: Profile) -> dict[str, Any]:
    """A profile for the next program."""
    columns = {name: _column_as_json(one) for name, one in found.columns.items()}
    blocks = list(found.blocks) if found.by is not None else []
    return {"rows": found.rows, "by": found.by, "blocks": blocks, "frame": found.frame.digest, "columns": columns}


def _column_as_json(column: ColumnProfile) -> dict[str, Any]:
    frame = column.frame
    facts: dict[str, Any] = {"kind": frame.kind, "present": column.present, "missing": column.missing}
    if frame.kind == "number":
        facts |= {"mean": column.mean, "deviation": column.deviation, "low": column.low}
        facts |= {"quartiles": [column.quantile(share) for share in _QUARTILES], "high": column.high}
        facts |= {"infinite": column.infinite}
    if frame.kind == "category":
        facts |= {"categories": len(frame.categories), "complete": frame.complete}
        facts |= {"top": [{"value": value, "rows": rows} for value, rows in _top(column)]}
        facts |= {"other": int(column.counts[-1])}
    return facts | ({"note": frame.note} if frame.note else {})


def _top(column: ColumnProfile) -> list[tuple[str, int]]:
    """The most frequent categories of the table, which need not be the reference's."""
    pairs = zip(column.frame.categories, column.counts[:-1].tolist(), strict=True)
    return sorted((pair for pair in pairs if pair[1]), key=lambda pair: -pair[1])[:_TOP]


_HEADER: Final = ("column", "kind", "missing", "mean", "deviation", "least", "25%", "50%", "75%", "greatest", "")


def told(found: Profile) -> Iterator[str]:
    """A profile for people, line by line."""
    blocks = f" in {counted(len(found.blocks), 'block')} by {printable(found.by)}" if found.by is not None else ""
    yield f"{counted(found.rows, 'row')}, {counted(len(found.columns), 'column')}{blocks}"
    yield from table_lines([_HEADER, *(_row(name, one, found.rows) for name, one in found.columns.items())])


def _row(name: str, column: ColumnProfile, rows: int) -> tuple[str, ...]:
    missing = f"{column.missing / rows:.1%}" if column.missing else "-"
    numbers: tuple[float | None, ...] = (None,) * 7
    if column.frame.kind == "number":
        quartiles = (column.quantile(share) for share in _QUARTILES)
        numbers = (column.mean, column.deviation, column.low, *quartiles, column.high)
    shown = ("" if one is None else f"{one:.5g}" for one in numbers)
    return (_short(name), column.frame.kind, missing, *shown, _special(column))


def _special(column: ColumnProfile) -> str:
    """What a column's numbers do not say."""
    frame = column.frame
    if frame.kind == "category" and column.present:
        top = ", ".join(f"{_short(value)} {rows / column.present:.1%}" for value, rows in _top(column)[:3])
        count = counted(len(frame.categories), "category", "categories")
        return f"{count}{'' if frame.complete else ' and others'}: {top or 'none of them'}"
    if not column.present:
        return "no value"
    return f"{column.infinite:,} infinite" if column.infinite else frame.note


def _short(text: str) -> str:
    shown = printable(text)
    return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 1]}…"
