"""What another policy would have done with candidates that were judged before, against what later labels showed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, Literal

from ml_lifecycle.core.contracts import Contract, Difference, GateCheck, Verdict

Outcome = Literal["promoted", "held", "refused"]
Turn = Literal["better", "worse", "no difference shown", "not known"]

OUTCOMES: Final[Mapping[Verdict, Outcome]] = {
    Verdict.PASS: "promoted",
    Verdict.INCONCLUSIVE: "held",
    Verdict.FAIL: "refused",
}
"""What a policy does with a candidate, if nobody overrules it."""
JUDGEMENTS: Final = (
    "right promotion",
    "wrong promotion",
    "missed gain",
    "saved loss",
    "no difference shown",
    "not known",
)


class Replayed(Contract):
    """One recorded candidate under a policy."""

    candidate: str
    outcome: Outcome
    then: Outcome | None = None
    """What was decided when it was judged; ``None`` where nothing is recorded."""
    judged: int = 1
    """How many of the recorded candidates its holdout had judged, this one included."""
    rows: int
    checks: tuple[GateCheck, ...]
    later: Difference | None = None
    """Candidate minus champion on what came later, turned so that positive is better; ``None`` where nothing did, or
    there was no champion."""

    @property
    def turned_out(self) -> Turn:
        """How the candidate compared with the champion on what came later, as far as 95% confidence says."""
        return turn(self.later)


class Summary(Contract):
    """How often a policy was right."""

    outcomes: dict[Outcome, int]
    judgements: dict[str, int]
    """By :data:`JUDGEMENTS`."""
    later_gain: float | None
    """What its promotions gained on later labels, candidate minus champion, all together: the sum of the estimates."""


class Backtest(Contract):
    """Every recorded candidate under one policy."""

    metric: str
    """What later labels were measured by."""
    policy_digest: str
    candidates: tuple[Replayed, ...]
    summary: Summary
    left_out: tuple[str, ...] = ()
    """Rules that recorded predictions say nothing about, in words: they are not part of the policy here."""
    then: Summary | None = None
    """The same of what was decided then, where that is recorded of every candidate."""


def turn(later: Difference | None) -> Turn:
    """What an interval shows of a difference."""
    if later is None or later.estimate is None or later.low is None or later.high is None:
        return "not known"
    if later.low > 0:
        return "better"
    return "worse" if later.high < 0 else "no difference shown"


def judge(outcome: Outcome, later: Difference | None) -> str:
    """Whether it was right to promote a candidate, or not to; one of :data:`JUDGEMENTS`."""
    turned_out = turn(later)
    if turned_out == "better":
        return "right promotion" if outcome == "promoted" else "missed gain"
    if turned_out == "worse":
        return "wrong promotion" if outcome == "promoted" else "saved loss"
    return turned_out


def summarise(candidates: Sequence[Replayed]) -> Summary:
    """How often the policy was right."""
    return _summary([(one.outcome, one.later) for one in candidates])


def summarise_then(candidates: Sequence[Replayed]) -> Summary | None:
    """How often what was decided then was right; ``None`` where that is not recorded of every candidate."""
    decided = [(one.then, one.later) for one in candidates if one.then is not None]
    return _summary(decided) if candidates and len(decided) == len(candidates) else None


def _summary(decided: Sequence[tuple[Outcome, Difference | None]]) -> Summary:
    outcomes = Counter(outcome for outcome, _ in decided)
    judgements = Counter(judge(outcome, later) for outcome, later in decided)
    gains = [
        later.estimate
        for outcome, later in decided
        if outcome == "promoted" and later is not None and later.estimate is not None
    ]
    return Summary(
        outcomes={outcome: outcomes[outcome] for outcome in OUTCOMES.values()},
        judgements={name: judgements[name] for name in JUDGEMENTS},
        later_gain=sum(gains) if gains else None,
    )
