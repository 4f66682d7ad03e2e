"""``ml-lifecycle drift``: how far one table has moved from another, and whether by more than chance."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ml_lifecycle.commands.output import (
    CODES,
    DONE,
    FAILED,
    INCONCLUSIVE,
    counted,
    print_json,
    printable,
    publish_text,
    table_lines,
)
from ml_lifecycle.core.errors import RequestError

if TYPE_CHECKING:
    import pandas as pd

    from ml_lifecycle.core.contracts import ColumnDrift, DriftPolicy
    from ml_lifecycle.stages.drift_files import FileDrift, Files

_TABLE: Final = "FILE"
_LISTED: Final = 40
"""Columns on a terminal; drifted ones are all listed."""
_DRAWN: Final = 10


def add_parser(subparsers: Any) -> None:
    """Add the command's options."""
    text = "say how far one table has moved from another, and whether by more than chance"
    parser = subparsers.add_parser(
        "drift",
        help=text,
        description=f"{text[0].upper()}{text[1:]}. Tables are parquet or csv files, folders of them, addresses such as "
        "s3://bucket/flights, or what `profile --out` kept.",
        epilog=f"exit codes: 0 no drift, 1 drift, 2 inconclusive: too little is known, {CODES}",
    )
    parser.add_argument("--reference", required=True, metavar=_TABLE, help="what was usual")
    parser.add_argument("--current", required=True, metavar=_TABLE, help="what is compared")
    add_columns(parser)
    group = parser.add_argument_group("what counts as drift")
    group.add_argument(
        "--min-effect", default="3%", metavar="SHARE", help="of rows elsewhere that matters (default: 3%%)"
    )
    group.add_argument("--every", choices=("hourly", "daily", "monthly"), help="how often you look; left out: once")
    group.add_argument(
        "--false-alarms", metavar="RATE", help="bearable with --every, such as '1 per quarter', which is the default"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page for people here")
    parser.add_argument("--evidently", type=Path, metavar="FILE", help="write Evidently's page of what moved here")
    parser.set_defaults(command=drift)


def add_columns(parser: argparse.ArgumentParser) -> None:
    """Add what says which columns there are, and how they are read."""
    group = parser.add_argument_group("columns")
    group.add_argument("--key", metavar="COLUMN", help="names a row: it is left out")
    group.add_argument("--time", metavar="COLUMN", help="when a row's event takes place, for --block")
    group.add_argument(
        "--block", metavar="COLUMN", help="rows that share it are not independent; or hour, day, week, month of --time"
    )
    group.add_argument("--columns", default="", metavar="A,B", help="compare these (default: all of the reference's)")
    group.add_argument("--ignore", default="", metavar="A,B", help="leave these out")
    group.add_argument("--categorical", default="", metavar="A,B", help="numbers that are names")
    group.add_argument(
        "--derive", metavar="MODULE:FUNCTION", help="makes the columns to compare of a batch of rows: of texts, numbers"
    )
    group.add_argument(
        "--project", type=Path, default=Path(), help="folder that functions are found below (default: the current one)"
    )


# --- drift -----------------------------------------------------------------------------------------------------------


def drift(options: argparse.Namespace) -> int:
    """Compare, and print what was found."""
    from ml_lifecycle.stages.drift_files import compare_files
    from ml_lifecycle.stages.runner import extras_named

    if options.false_alarms is not None and options.every is None:
        raise RequestError(
            "a rate of false alarms depends on how often you look", where="--false-alarms", way_out="add --every daily"
        )
    with extras_named():
        policy, files = policy_of(options), files_of(options)
        found = compare_files(options.reference, options.current, policy=policy, every=options.every, files=files)
        _write_pages(options, found, files)
    if options.json:
        print_json(_as_json(found))
    else:
        print("\n".join(told(found, policy, options.every)))
    return {"pass": DONE, "fail": FAILED}.get(found.report.verdict.value, INCONCLUSIVE)


def policy_of(options: argparse.Namespace) -> DriftPolicy:
    """What the options ask for."""
    from ml_lifecycle.core.contracts import DriftPolicy, Rate
    from ml_lifecycle.core.values import parse_share
    from ml_lifecycle.pipeline.spec import parse_rate

    rate = getattr(options, "false_alarms", None)
    effect = _read(parse_share, getattr(options, "min_effect", "3%"), "--min-effect")
    if not 0 <= effect < 1:
        raise RequestError(f"{effect:g} is no share below 1", where="--min-effect", way_out="write 3% or 0.03")
    return DriftPolicy(
        false_alarms=_read(parse_rate, rate, "--false-alarms") if rate is not None else Rate(),
        min_effect=effect,
        block=options.block,
        columns=_names(options.columns),
        ignore=_names(options.ignore),
        categorical=_names(options.categorical),
    )


def _read(parse: Callable[[Any], Any], text: str, option: str) -> Any:
    try:
        return float(text) if option == "--min-effect" and "%" not in text else parse(text)
    except ValueError as error:
        raise RequestError(str(error), where=option, way_out="see --help") from None


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def files_of(options: argparse.Namespace) -> Files:
    """How the options want tables to be read."""
    from ml_lifecycle.backends.callables import load_callable
    from ml_lifecycle.stages.drift_files import Files

    derive = load_callable(options.derive, options.project.resolve()) if options.derive is not None else None
    return Files(key=options.key, time=options.time, derive=derive)


def _write_pages(options: argparse.Namespace, found: FileDrift, files: Files) -> None:
    if options.html is not None:
        from ml_lifecycle.backends.reports.drift import render_drift

        page = render_drift(found.report, found.columns, reference=found.reference, current=found.current)
        publish_text(page, options.html)
    if options.evidently is not None:
        _write_evidently(options, found, files)


def _write_evidently(options: argparse.Namespace, found: FileDrift, files: Files) -> None:
    from ml_lifecycle.backends.monitoring.evidently import evidently_page
    from ml_lifecycle.stages.drift_files import sample_of

    matter = [one for one in found.columns if one.drifted][:_DRAWN]
    if not matter:
        print(f"nothing moved, so {options.evidently} is not written", file=sys.stderr)
        return
    sides: list[pd.DataFrame] = [sample_of(place, files) for place in (options.reference, options.current)]
    title = f"{found.report.model} {found.report.partition}"
    publish_text(evidently_page(sides[0], sides[1], matter, title=title), options.evidently)


def _as_json(found: FileDrift) -> dict[str, Any]:
    report = found.report
    return {
        "verdict": report.verdict.value,
        "compared": report.compared,
        "drifted": report.drifted,
        "drifted_share": report.drifted_share,
        "alpha": report.alpha,
        "rows": {"reference": report.reference.rows, "current": report.current.rows},
        "columns": [one.to_xcom() for one in found.columns],
        "policy": report.policy.to_xcom(),
        "warnings": list(report.warnings),
    }


def told(found: FileDrift, policy: DriftPolicy, every: str | None) -> Iterator[str]:
    """A comparison for people, line by line."""
    report = found.report
    unknown = sum(one.p_value is None for one in found.columns)
    parts = [f"{report.drifted:,} of {counted(report.compared, 'column')} moved"]
    if unknown:
        parts.append(f"{unknown:,} cannot be judged")
    parts.append(f"{report.reference.rows:,} rows before, {report.current.rows:,} now")
    yield f"{report.verdict.value.upper()}: {'; '.join(parts)}"
    yield f"  {_budget(report.alpha or 0.0, policy, every)}"
    shown = [one for place, one in enumerate(found.columns) if one.drifted or place < _LISTED]
    yield from table_lines([_HEADER, *(_row(one) for one in shown)])
    if len(shown) < len(found.columns):
        yield f"  and {len(found.columns) - len(shown):,} more that did not move; --json lists all"
    yield from (f"  {warning}" for warning in report.warnings)


def _budget(alpha: float, policy: DriftPolicy, every: str | None) -> str:
    """What the verdict may cost, in words."""
    matters = f"less than {100 * policy.min_effect:g}% of the rows elsewhere is no drift"
    if every is None:
        return f"a single comparison, wrong without any drift in {alpha:.1%} of cases at most; {matters}"
    rate = policy.false_alarms
    often = {1.0: "once"}.get(rate.count, f"{rate.count:g} times")
    return f"a false alarm {often} a {rate.per} at most, looking {every} ({alpha:.2g} at this look); {matters}"


_HEADER: Final = ("", "column", "distance", "by", "p", "adjusted", "psi", "missing", "")


def _row(one: ColumnDrift) -> tuple[str, ...]:
    state = "drifted" if one.drifted else "unknown" if one.p_value is None else "same"
    missing = f"{_share(one.missing_before)} -> {_share(one.missing)}"
    return (
        state,
        printable(one.column),
        _number(one.distance, ".4f"),
        one.method,
        _number(one.p_value, ".2g"),
        _number(one.adjusted, ".2g"),
        _number(one.psi, ".3g"),
        missing,
        printable(one.detail),
    )


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
