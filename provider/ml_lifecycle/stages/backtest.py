"""A folder of recorded candidates and a policy in; what the policy would have done with each out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from ml_lifecycle.backends.data.local import TABLE_FORMATS
from ml_lifecycle.backends.evaluation.intervals import difference
from ml_lifecycle.backends.evaluation.prediction_files import FileColumns, Files, read_files
from ml_lifecycle.backends.evaluation.rows import BASELINE, CANDIDATE, CHAMPION
from ml_lifecycle.core.backtest import OUTCOMES, Backtest, Outcome, Replayed, summarise, summarise_then
from ml_lifecycle.core.contracts import Difference, GateRule, Verdict
from ml_lifecycle.core.errors import RequestError
from ml_lifecycle.core.evaluation import HIGHER_IS_BETTER, OPERATIONAL, in_words, policy_digest
from ml_lifecycle.stages.holdout import fingerprint_of
from ml_lifecycle.stages.prediction_files import Wanted, gate_files

LATER: Final = "later"
DECISION: Final = "decision.json"


@dataclass(frozen=True)
class Policy:
    """What recorded candidates are held to."""

    rules: tuple[GateRule, ...]
    columns: FileColumns
    slices: tuple[str, ...]
    wanted: Wanted
    metric: str
    """What later labels are measured by."""


def backtest(history: Path, policy: Policy, *, say: Callable[[str], None] = lambda _: None) -> Backtest:
    """Judge every candidate that a folder records, in the order of their names.

    Each is compared with the champion that it was recorded with, whatever the policy made of earlier ones. Rules about
    latency and size are left out: predictions say nothing about them.

    :param history: One folder per candidate: ``candidate.parquet``, and where they are known ``champion.parquet``,
        ``later.parquet`` (with the columns ``candidate`` and ``champion``) and ``decision.json``; or ``.csv``.
    :param say: Told before each candidate.
    :raises RequestError: there is no such folder, it records nothing, or a decision cannot be read.
    """
    folders = _folders(history)
    left_out = [in_words(rule) for rule in policy.rules if rule.metric in OPERATIONAL]
    policy = replace(policy, rules=tuple(rule for rule in policy.rules if rule.metric not in OPERATIONAL))
    seen: Counter[str] = Counter()
    replayed = []
    for number, folder in enumerate(folders, start=1):
        say(f"{number} of {len(folders)}: {folder.name}")
        replayed.append(_replay(folder, policy, seen))
    return Backtest(
        metric=policy.metric,
        policy_digest=policy_digest(policy.rules, policy.wanted.spec),
        candidates=tuple(replayed),
        left_out=tuple(left_out),
        summary=summarise(replayed),
        then=summarise_then(replayed),
    )


def metric_of_interest(rules: Sequence[GateRule], measured: Sequence[str]) -> str:
    """What a policy cares about: the metric of its first comparison with the champion, else the first one of quality.

    :raises RequestError: there is none.
    """
    compared = [rule.metric for rule in rules if rule.versus == "champion"]
    usual = [name for name in (*(rule.metric for rule in rules), *measured) if name in HIGHER_IS_BETTER]
    if not (compared or usual):
        raise RequestError("no rule says what quality is", where="--metric", way_out="name a metric, such as roc_auc")
    return (compared or usual)[0]


def _folders(history: Path) -> list[Path]:
    if not history.is_dir():
        raise RequestError(
            "there is no such folder", where=str(history), way_out="name a folder of recorded candidates"
        )
    folders = sorted(folder for folder in history.iterdir() if folder.is_dir() and _file(folder, CANDIDATE) is not None)
    if not folders:
        raise RequestError(
            "no folder in it holds a candidate.parquet", where=str(history), way_out="name a folder of such folders"
        )
    return folders


def _file(folder: Path, name: str) -> Path | None:
    return next((path for ending in TABLE_FORMATS if (path := folder / f"{name}{ending}").is_file()), None)


def _replay(folder: Path, policy: Policy, seen: Counter[str]) -> Replayed:
    others = {name: path for name in (CHAMPION, BASELINE) if (path := _file(folder, name)) is not None}
    candidate = _file(folder, CANDIDATE)
    assert candidate is not None  # noqa: S101  # the caller looked
    read = read_files(Files(candidate, others), policy.columns, spec=policy.wanted.spec, slices=policy.slices)
    fingerprint = fingerprint_of(read.rows)
    seen[fingerprint] += 1
    decision = gate_files(
        read, policy.rules, policy.wanted, judged=seen[fingerprint], first_release=CHAMPION not in others
    )
    return Replayed(
        candidate=folder.name,
        outcome=OUTCOMES[decision.verdict],
        then=_then(folder / DECISION),
        judged=decision.judged,
        rows=len(read.rows),
        checks=decision.checks,
        later=_later(folder, policy),
    )


def _later(folder: Path, policy: Policy) -> Difference | None:
    path = _file(folder, LATER)
    if path is None:
        return None
    files = Files(path, {CHAMPION: path}, scores={CHAMPION: CHAMPION})
    columns = policy.columns.model_copy(update={"score": CANDIDATE})
    # Slices and baselines are for the gate; what came later is told in one number.
    spec = policy.wanted.spec.model_copy(update={"baseline": None})
    rows = read_files(files, columns, spec=spec).rows
    return difference(policy.metric, rows, CANDIDATE, CHAMPION, spec=spec, own=policy.wanted.own)


def _then(path: Path) -> Outcome | None:
    """What was decided: ``{"outcome": "promoted"}``, or the gate's ``{"verdict": "pass"}``."""
    if not path.is_file():
        return None
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        outcome = content.get("outcome") or OUTCOMES[Verdict(content["verdict"])]
    except (OSError, ValueError, KeyError, AttributeError) as error:
        outcome = f"not readable ({type(error).__name__})"
    if outcome not in OUTCOMES.values():
        raise RequestError(
            f"the outcome is {str(outcome)[:60]!r}",
            where=str(path),
            way_out='write {"outcome": "promoted"}, "held" or "refused"',
        )
    found: Outcome = outcome
    return found
