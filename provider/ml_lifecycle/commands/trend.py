"""``ml-lifecycle trend``: drift and performance over time, as a deployment's ledger and its reports hold them."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_lifecycle.commands.ledgers import add_options, data_at, environment_of, opened
from ml_lifecycle.commands.output import CODES, DONE, FAILED, INCONCLUSIVE, print_json, publish_table, publish_text
from ml_lifecycle.core.errors import RequestError

if TYPE_CHECKING:
    from ml_lifecycle.core.trend import Trend
    from ml_lifecycle.stages.runner import Tools


def add_parser(subparsers: Any) -> None:
    """Add the command's options."""
    text = "show a model's drift and performance over time, with what was answered"
    parser = subparsers.add_parser(
        "trend",
        help=text,
        description=f"{text[0].upper()}{text[1:]}. Nothing is computed again, nothing of the deployment is changed.",
        epilog=f"exit codes: by the newest look: 0 no drift, 1 drift, 2 inconclusive, {CODES}",
    )
    parser.add_argument("--model", required=True, help="name of the registered model")
    parser.add_argument("--last", type=int, default=120, metavar="N", help="how many partitions (default: 120)")
    parser.add_argument(
        "--data-root",
        type=Path,
        metavar="FOLDER",
        help="the deployment's data, which holds the tables of all columns; left out: those that the ledger names",
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page for people here")
    parser.add_argument("--parquet", type=Path, metavar="FILE", help="write a row per number of each partition here")
    add_options(parser)
    parser.set_defaults(command=trend)


def trend(options: argparse.Namespace) -> int:
    """Print the trend, and write what was asked for."""
    from ml_lifecycle.backends.reports.trend import render_trend
    from ml_lifecycle.stages.runner import extras_named
    from ml_lifecycle.stages.trend import TrendJob, table_of
    from ml_lifecycle.stages.trend import trend as read_trend

    if options.last < 1:
        raise RequestError(f"{options.last} partitions show nothing", where="--last", way_out="ask for 1 or more")
    with extras_named(), _tools(options) as tools:
        job = TrendJob(model=options.model, last=options.last, tables=options.data_root is not None)
        found = read_trend(job, tools)
        if options.html is not None:
            publish_text(render_trend(found), options.html)
        if options.parquet is not None:
            publish_table(table_of(found), options.parquet)
    if options.json:
        print_json(_plain(found))
    else:
        print(_text(found))
    return {"pass": DONE, "fail": FAILED}.get(found.verdict.value, INCONCLUSIVE)


@contextmanager
def _tools(options: argparse.Namespace) -> Iterator[Tools]:
    from ml_lifecycle.backends.data.local import LocalStore
    from ml_lifecycle.backends.tracking.local import LocalTracking
    from ml_lifecycle.stages.runner import Tools

    ledger = opened(options.ledger)
    environment = environment_of(ledger, options.model, environment=options.environment)
    data = data_at(options.data_root) if options.data_root is not None else None
    with tempfile.TemporaryDirectory(prefix="ml-lifecycle-") as empty:
        # A trend is read from the ledger and the reports alone: no run and no package.
        tracking = LocalTracking(Path(empty) / "runs")
        yield Tools(
            data=data or LocalStore(Path(empty)),
            project=Path(empty),
            tracking=tracking,
            registry=tracking,
            ledger=ledger,
            environment=environment,
        )


def _plain(found: Trend) -> dict[str, Any]:
    """The trend as plain JSON."""
    from ml_lifecycle.core.trend import points

    return {
        "model": found.model,
        "environment": found.environment,
        "verdict": found.verdict.value,
        "partitions": [look.partition for look in found.looks],
        "points": [{**asdict(point), "at": point.at.isoformat()} for point in points(found)],
        "events": [asdict(event) for event in found.events],
        "responses": [look.response.to_xcom() for look in found.looks if look.response is not None],
        "gone": list(found.gone),
    }


def _text(found: Trend) -> str:
    """A line per partition."""
    from ml_lifecycle.backends.reports.trend import headline, lines

    return "\n".join(
        [
            f"{found.model} in {found.environment}, {headline(found)}",
            *(f"  {line}" for line in lines(found)),
            *(f"  not read: {text}" for text in found.gone),
        ]
    )
