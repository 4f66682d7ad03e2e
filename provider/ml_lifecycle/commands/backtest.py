"""``ml-lifecycle backtest``: what another policy would have done with candidates that were judged before."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_lifecycle.commands.output import CODES, DONE, print_json

if TYPE_CHECKING:
    from ml_lifecycle.core.backtest import Backtest, Replayed, Summary
    from ml_lifecycle.stages.backtest import Policy

_EPILOG = f"""\
the history is a folder with one folder per candidate, in the order of their names; .csv is read, too:
  candidate.parquet   key, label, score, and the columns that the rules name
  champion.parquet    the same rows under the champion of that time; left out: a first release
  later.parquet       rows that came later: key, label, and the scores in columns candidate and champion
  decision.json       what was decided then: {{"outcome": "promoted"}}, held or refused
`ml-lifecycle history` writes such a folder from a deployment's ledger.

exit codes: 0 done, {CODES}
"""


def add_parser(subparsers: Any) -> None:
    """Add the command's options."""
    text = "say which recorded candidates another policy would have promoted, held or refused, and how they turned out"
    parser = subparsers.add_parser(
        "backtest",
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--policy", required=True, type=Path, metavar="YAML", help="rules file, or a whole pipeline")
    parser.add_argument("--history", required=True, type=Path, metavar="FOLDER", help="of recorded candidates")
    parser.add_argument("--metric", help="what later labels are measured by (default: what the policy compares)")
    parser.add_argument(
        "--project", type=Path, default=Path(), help="folder that metrics of your own are found below (default: here)"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(command=backtest)


def backtest(options: argparse.Namespace) -> int:
    """Print what the policy would have done."""
    from ml_lifecycle.stages import backtest as stage
    from ml_lifecycle.stages.runner import extras_named

    with extras_named():
        found = stage.backtest(options.history, _policy(options), say=lambda text: print(text, file=sys.stderr))
    if options.json:
        print_json(_as_json(found))
    else:
        print("\n".join(told(found)))
    return DONE


def _policy(options: argparse.Namespace) -> Policy:
    from ml_lifecycle.backends.callables import own_metrics
    from ml_lifecycle.pipeline.rules import read_rules
    from ml_lifecycle.stages.backtest import Policy, metric_of_interest
    from ml_lifecycle.stages.prediction_files import Wanted

    rules = read_rules(options.policy)
    metric = options.metric or metric_of_interest(rules.gate, rules.metrics)
    metrics = tuple(dict.fromkeys((*rules.metrics, metric)))
    own = own_metrics(metrics, options.project)
    return Policy(
        rules=rules.gate,
        columns=rules.columns,
        slices=rules.slices,
        wanted=Wanted(metrics=metrics, spec=rules.spec, own=own),
        metric=metric,
    )


def _as_json(found: Backtest) -> dict[str, Any]:
    from ml_lifecycle.core.backtest import judge

    content = found.to_xcom()
    for shown, one in zip(content["candidates"], found.candidates, strict=True):
        shown |= {"turned_out": one.turned_out, "judgement": judge(one.outcome, one.later)}
    return content


def told(found: Backtest) -> Iterator[str]:
    """A backtest for people, line by line."""
    header = ("candidate", "then", "under this policy", f"later difference in {found.metric}", "so this was")
    yield from _table([header, *(_row(one) for one in found.candidates)])
    yield ""
    for rule in found.left_out:
        yield f"not replayed, as predictions say nothing about it: {rule}"
    yield from _summary("under this policy", found.summary)
    if found.then is not None:
        yield from _summary("as decided then", found.then)


def _row(one: Replayed) -> tuple[str, ...]:
    from ml_lifecycle.core.backtest import judge

    later = one.later
    if later is None or later.estimate is None:
        turned_out = "-"
    else:
        known = later.low is not None and later.high is not None
        turned_out = f"{later.estimate:+.4f}" + (f" ({later.low:+.4f} to {later.high:+.4f})" if known else "")
    return one.candidate, one.then or "-", one.outcome, turned_out, judge(one.outcome, later)


def _summary(name: str, summary: Summary) -> Iterator[str]:
    outcomes = ", ".join(f"{number} {outcome}" for outcome, number in summary.outcomes.items())
    judgements = ", ".join(f"{_plural(what, number)}" for what, number in summary.judgements.items() if number)
    gain = f"; later differences of its promotions sum to {summary.later_gain:+.4f}" if summary.later_gain else ""
    yield f"{name}: {outcomes}; {judgements}{gain}"


def _plural(what: str, number: int) -> str:
    plurals = {"saved loss": "saved losses"}
    countable = what.startswith(("right", "wrong", "missed", "saved"))
    return f"{number} {plurals.get(what, what + 's') if number != 1 and countable else what}"


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
