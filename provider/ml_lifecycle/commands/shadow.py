"""``ml-lifecycle shadow``: what users asked one model is asked of another, and the answers are compared."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
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
    table_lines,
)
from ml_lifecycle.core.errors import RequestError, did_you_mean

if TYPE_CHECKING:
    from ml_lifecycle.core.contracts import AnalysisPolicy, PairedScores, StepCheck, Verdict

_PACKAGE: Final = "PACKAGE"


def add_parser(subparsers: Any) -> None:
    """Add the command's options."""
    text = "ask a model what users asked another one, and compare the answers"
    parser = subparsers.add_parser(
        "shadow",
        help=text,
        description=f"{text[0].upper()}{text[1:]}. Both are folders of model packages; the requests come from the "
        "prediction log of the first. No server is asked, and nothing is changed.",
        epilog="exit codes: 0 nothing speaks against the new one, 1 it answers too differently or not at all, "
        f"2 inconclusive: too little is known, {CODES}",
    )
    parser.add_argument("old", type=Path, metavar=f"OLD_{_PACKAGE}", help="the model that serves")
    parser.add_argument("new", type=Path, metavar=f"NEW_{_PACKAGE}", help="the model that is asked the same")
    parser.add_argument(
        "--log", required=True, metavar="FOLDER", help="the prediction log: a folder, or such as s3://bucket/log"
    )
    parser.add_argument("--endpoint", required=True, metavar="NAME", help="whose log it is: the model's name")
    parser.add_argument(
        "--requests", type=int, default=2000, metavar="N", help="the newest that are asked (default: 2000)"
    )
    group = parser.add_argument_group("what the new one is held to")
    group.add_argument(
        "--max-shift", metavar="SHARE", help="greatest distance of the scores (Kolmogorov-Smirnov), such as 5%%"
    )
    group.add_argument(
        "--max-failed", default="1%", metavar="SHARE", help="of the requests it may leave unanswered (default: 1%%)"
    )
    group.add_argument(
        "--min-requests", type=int, default=500, metavar="N", help="that have to be answered (default: 500)"
    )
    parser.add_argument(
        "--trusted-type",
        action="append",
        default=[],
        metavar="TYPE",
        help="that packages may hold beside those that are always loaded; may be repeated",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(command=shadow)


def shadow(options: argparse.Namespace) -> int:
    """Compare, and print what was found."""
    from ml_lifecycle.core.rollout import judge, verdict_of
    from ml_lifecycle.stages.runner import extras_named

    policy = _policy(options)
    with extras_named():
        found = _asked_again(options)
    checks = tuple(filter(_is_asked, judge(policy, [_evidence(found)], final=False)))
    verdict = verdict_of(checks)
    if options.json:
        print_json(
            {
                "verdict": verdict.value,
                "checks": [check.to_xcom() for check in checks],
                "paired": found.to_xcom(),
                "policy": policy.to_xcom(),
            }
        )
    else:
        print("\n".join(told(verdict, checks, found)))
    return {"pass": DONE, "fail": FAILED}.get(verdict.value, INCONCLUSIVE)


def _policy(options: argparse.Namespace) -> AnalysisPolicy:
    from ml_lifecycle.core.contracts import AnalysisPolicy
    from ml_lifecycle.stages.shadow import MOST

    for option in ("requests", "min_requests"):
        asked = getattr(options, option)
        if not 1 <= asked <= MOST:
            raise RequestError(
                f"{asked} is not between 1 and {MOST:,}",
                where=f"--{option.replace('_', '-')}",
                way_out="write 2000, say",
            )
    return AnalysisPolicy(
        max_error_rate=_share(options.max_failed, "--max-failed"),
        max_prediction_shift=None if options.max_shift is None else _share(options.max_shift, "--max-shift"),
        min_requests=options.min_requests,
    )


def _share(text: str, option: str) -> float:
    from ml_lifecycle.core.values import parse_share

    try:
        share = float(parse_share(text) if "%" in text else text)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise RequestError(f"{text!r} is no share between 0 and 1", where=option, way_out="write 5% or 0.05")
    return share


def _asked_again(options: argparse.Namespace) -> PairedScores:
    from ml_lifecycle.backends.files import digest_of_folder
    from ml_lifecycle.backends.monitoring.logged_answers import Answerer, newest_answers
    from ml_lifecycle.backends.monitoring.prediction_log import endpoints
    from ml_lifecycle.stages.shadow import ask_again, loaded

    for folder in (options.old, options.new):
        if not folder.is_dir():
            raise RequestError("there is no model package", where=str(folder), way_out="name the folder of one")
    old, new = (
        loaded(folder, name, options.trusted_type) for folder, name in ((options.old, "OLD"), (options.new, "NEW"))
    )
    if options.endpoint not in (known := endpoints([options.log], "predictions")):
        raise RequestError(
            f"the log holds nothing of {options.endpoint!r}",
            where=f"--log {options.log}",
            way_out=f"it holds {', '.join(known) or 'nothing'}{did_you_mean(options.endpoint, known)}",
        )
    who = Answerer(digest=digest_of_folder(options.old), is_alone=True)
    return ask_again(newest_answers([options.log], options.endpoint, who, count=options.requests), old, new)


def _evidence(found: PairedScores) -> Any:
    """The comparison as the step of a rollout that it is."""
    from ml_lifecycle.core.contracts import StepEvidence
    from ml_lifecycle.stages.runner import utc_now

    return StepEvidence(percent=0, began_at=utc_now(), paired=found)


def _is_asked(check: StepCheck) -> bool:
    """No target serves here, and a distance without a limit is told and not judged."""
    return check.name != "target" and not (check.name == "prediction shift" and check.limit is None)


def told(verdict: Verdict, checks: Sequence[StepCheck], found: PairedScores) -> Iterator[str]:
    """A comparison for people, line by line."""
    parts = [f"{counted(found.rows, 'request')} answered by both"]
    parts += [f"{found.failed:,} by the old one only"] if found.failed else []
    parts += [f"{found.mismatched:,} that the old one answers otherwise than logged"] if found.mismatched else []
    yield f"{verdict.value.upper()}: {'; '.join(parts)}"
    if not found.detail:
        yield from table_lines([("answers", "found", "95% bounds"), *_measured(found)])
    yield from table_lines([("check", "verdict", "limit", ""), *map(_row, checks)])


def _measured(found: PairedScores) -> Iterator[tuple[str, str, str]]:
    yield "distance of the scores", _number(found.distance), _bounds(found.distance_low, found.distance_high)
    yield "mean difference, new minus old", _number(found.mean_difference), _bounds(found.low, found.high)
    if found.flipped is not None:
        yield "requests that get another label", f"{found.flipped:.2%}", ""
    yield "chance of such a distance without a difference", _number(found.p_value), ""


def _row(check: StepCheck) -> tuple[str, str, str, str]:
    limit = "-" if check.limit is None else f"{check.limit:g}"
    return check.name, check.verdict.value, limit, printable(check.detail)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _bounds(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.4g} to {high:.4g}"
