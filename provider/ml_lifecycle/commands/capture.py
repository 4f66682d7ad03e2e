"""``ml-lifecycle capture``: what SageMaker captured at an endpoint, as a prediction log."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ml_lifecycle.commands.output import CODES, DONE, FAILED, counted, print_json
from ml_lifecycle.core.errors import RequestError

if TYPE_CHECKING:
    from ml_lifecycle.backends.data.local import LocalStore
    from ml_lifecycle.backends.monitoring.sagemaker_capture import Captured

_NAMED: Final = 20


def add_parser(subparsers: Any) -> None:
    """Add the command's options."""
    text = "bring what SageMaker captured at an endpoint into a prediction log"
    parser = subparsers.add_parser(
        "capture",
        help=text,
        description=f"{text[0].upper()}{text[1:]}: parquet files by endpoint and day. Doing it again changes nothing. "
        "Lines that cannot be read are named and left out.",
        epilog=f"exit codes: 0 every line was read, 1 some were not, {CODES}",
    )
    parser.add_argument(
        "--from",
        dest="source",
        required=True,
        metavar="FOLDER",
        help="what SageMaker captures into: a folder, a .jsonl file, or an address such as s3://bucket/capture",
    )
    parser.add_argument("--endpoint", required=True, metavar="NAME", help="which endpoint's predictions these are")
    parser.add_argument(
        "--columns", required=True, metavar="A,B,C", help="names of the inputs' columns, in their order"
    )
    parser.add_argument(
        "--key", metavar="COLUMN", help="the column that names a row (default: the inference's id, else the event's)"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="the log")
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")
    parser.set_defaults(command=capture)


def capture(options: argparse.Namespace) -> int:
    """Write the log and print what was found; 1 where lines could not be read."""
    from ml_lifecycle.backends.data.local import LocalStore
    from ml_lifecycle.backends.monitoring.sagemaker_capture import log_capture
    from ml_lifecycle.stages.runner import extras_named

    columns = [name.strip() for name in options.columns.split(",")]
    store = LocalStore(options.out.absolute())
    with extras_named():
        found = log_capture(options.source, options.endpoint, columns, _writer(store, options.out), key=options.key)
    if options.json:
        print_json(as_json(found))
    else:
        print("\n".join(told(found, options.out)))
    return FAILED if found.broken else DONE


def _writer(store: LocalStore, out: Path) -> Callable[[str, bytes], None]:
    def write(uri: str, content: bytes) -> None:
        try:
            store.write_file(uri, content)
        except OSError as error:
            raise RequestError(
                f"it cannot be written ({error.strerror})",
                where=f"--out {out}",
                way_out="name a folder you may write to",
            ) from None

    return write


def as_json(found: Captured) -> dict[str, Any]:
    """What was found, as plain JSON; all that could not be read, but only the first of it by name."""
    return {
        "files": found.files,
        "events": found.events,
        "rows": found.rows,
        "broken_lines": len(found.broken),
        "broken": [{"file": one.file, "line": one.line, "why": one.why} for one in found.broken[:_NAMED]],
        "written": sorted(set(found.written)),
    }


def told(found: Captured, out: Path) -> Iterator[str]:
    """What was found, for people."""
    yield (
        f"{counted(found.rows, 'prediction')} of {counted(found.events, 'request')} in {counted(found.files, 'file')}: "
        f"{counted(len(set(found.written)), 'file')} of the log in {out}"
    )
    if found.broken:
        yield f"{counted(len(found.broken), 'line')} could not be read:"
        yield from (f"  {one}" for one in found.broken[:_NAMED])
    if len(found.broken) > _NAMED:
        yield f"  and {len(found.broken) - _NAMED:,} more"
