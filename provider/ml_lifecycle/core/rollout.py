"""Whether a step of a rollout shows the new version to be worse, or rules it out.

Looks may be as many as one likes: bounds and evidence hold at all of them together, and ``false_rollbacks`` is shared
over everything that can roll back. Two versions are only compared where both answered at the same time and chance alone
sent a request to one of them, so that what moves for both, such as a busy hour, is not held against the new one; steps
are strata. What an earlier version is no better at is no reason to go back to it. ``docs/decisions/0016`` says why.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from ml_lifecycle.core.contracts import (
    AnalysisPolicy,
    Losses,
    Observation,
    PairedScores,
    QualityPolicy,
    StepCheck,
    StepEvidence,
    Verdict,
)
from ml_lifecycle.core.latencies import TAIL, Times
from ml_lifecycle.core.sequential import (
    Stratum,
    evidence_against,
    evidence_of_more,
    evidence_since_any,
    radius,
    rate_bounds,
    turn,
)

ALL: Final = 100
"""Percent."""
MISSED: Final = 0.025
"""How often at most a version beyond a limit is taken for one within it, over all looks of a check."""
_CLUMPS: Final = 2.0
"""Slow requests come together, where a server stalls: two count as one."""
_FEWER_CLUMPS: Final = 1.4
"""The same where a ratio's tolerance lies between a version that is as good and one that is not."""
_FEWEST_LABELS: Final = 100
"""Of either version, before their losses are taken for normally distributed."""
_PAIRED: Final = 0.05
"""How often the bounds of a distance that come with it may miss."""
_FARTHEST: Final = 100.0
"""The greatest ratio of latencies that is told, and one over the least."""
_HALVINGS: Final = 16
"""Of the way between these, so that a ratio's bounds are known to a thousandth."""
_BOUNDED: Final = ("accuracy", "brier")
"""Metrics whose loss is 1 at worst."""
_ROUNDING: Final = 1e-9
_SMALL: Final = 0.1
_LOSSES: Final[Mapping[str, str]] = {
    "accuracy": "share of wrong answers",
    "brier": "squared distance of the probability",
    "absolute_error": "distance from the truth",
    "squared_error": "squared distance from the truth",
}
_Name: TypeAlias = Literal["error rate", "latency", "latency ratio", "quality", "prediction shift"]


def judge(policy: AnalysisPolicy, steps: Sequence[StepEvidence], *, final: bool) -> tuple[StepCheck, ...]:
    """Everything that the newest step is held to.

    :param steps: Of one rollout so far, the present one last.
    :param final: All traffic is next, so that a loss of quality has to be ruled out.
    """
    if not steps:
        return (StepCheck(name="answers", verdict=Verdict.INCONCLUSIVE, detail="nothing was observed"),)
    alphas = _shares(policy)
    return tuple(_checks(policy, steps, alphas, final=final))


def verdict_of(checks: Sequence[StepCheck]) -> Verdict:
    """One failure fails the step, one unknown leaves it inconclusive."""
    return Verdict.worst(check.verdict for check in checks)


def _shares(policy: AnalysisPolicy) -> Mapping[str, float]:
    """The chance of a false rollback that each check may spend; they add up to the policy's."""
    # Quality takes by far the most requests to tell, so it gets the most.
    weights = {"error rate": 1}
    if policy.max_latency_ratio is not None:
        weights["latency ratio"] = 1
    if policy.latency_p95_ms is not None:
        weights["latency"] = 1
    if policy.quality is not None:
        weights["quality"] = 2
    if policy.max_prediction_shift is not None:
        weights["prediction shift"] = 1
    return {name: policy.false_rollbacks * weight / sum(weights.values()) for name, weight in weights.items()}


def _checks(
    policy: AnalysisPolicy, steps: Sequence[StepEvidence], alphas: Mapping[str, float], *, final: bool
) -> Iterator[StepCheck]:
    now = steps[-1]
    yield _target(now)
    if now.percent == 0:
        yield from _shadow(policy, now, alphas["error rate"])
    else:
        yield _answers(policy, now)
        yield _error_rate(policy, steps, alphas["error rate"])
        yield from _latencies(policy, steps, alphas)
    if policy.quality is not None and (now.percent or final):
        yield _quality(policy.quality, steps, alphas["quality"], final=final)
    if now.paired is not None or policy.max_prediction_shift is not None:
        yield _prediction_shift(policy.max_prediction_shift, steps, alphas.get("prediction shift", 0.0))


def _latencies(
    policy: AnalysisPolicy, steps: Sequence[StepEvidence], alphas: Mapping[str, float]
) -> Iterator[StepCheck]:
    if policy.latency_p95_ms is not None:
        yield _latency(policy.latency_p95_ms, steps, alphas["latency"])
    if policy.max_latency_ratio is not None and steps[-1].percent < ALL:
        yield _latency_ratio(policy.max_latency_ratio, steps, alphas["latency ratio"])


# --- What answers ----------------------------------------------------------------------------------------------------


def _target(now: StepEvidence) -> StepCheck:
    verdict = Verdict.FAIL if now.fault else Verdict.PASS
    return StepCheck(name="target", verdict=verdict, detail=now.fault or "it serves what was asked for")


def _answers(policy: AnalysisPolicy, now: StepEvidence) -> StepCheck:
    """Whether enough requests were answered to pass on."""
    if now.new is None:
        return StepCheck(name="answers", verdict=Verdict.INCONCLUSIVE, detail="the target does not tell")
    answered = max(0, now.new.requests - _failed(now.new))
    return _enough(answered, policy.min_requests)


def _enough(answered: int, wanted: int) -> StepCheck:
    verdict = Verdict.PASS if answered >= wanted else Verdict.INCONCLUSIVE
    detail = f"{answered:,} of {wanted:,} answers" if verdict is not Verdict.PASS else f"{answered:,} answers"
    return StepCheck(name="answers", verdict=verdict, observed=answered, limit=wanted, detail=detail)


def _shadow(policy: AnalysisPolicy, now: StepEvidence, alpha: float) -> Iterator[StepCheck]:
    """What was answered before is asked again, and no user sees the answers."""
    if now.paired is None:
        yield StepCheck(name="answers", verdict=Verdict.INCONCLUSIVE, detail="nothing was asked again")
        return
    enough, why = _enough(now.paired.rows, policy.min_requests), now.paired.detail
    yield enough.model_copy(update={"verdict": Verdict.INCONCLUSIVE, "detail": why}) if why else enough
    asked = now.paired.rows + now.paired.failed
    yield _rate(_Arm(now.paired.failed, asked), policy.max_error_rate, alpha, worse=True, told="could not be answered")


# --- Errors ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Arm:
    """How many of a version's requests failed, or were slow."""

    hits: float
    trials: float


def _failed(seen: Observation) -> int:
    """Requests that it did not answer, also where another version answered instead and no user noticed."""
    return max(seen.errors, seen.retried)


def _error_rate(policy: AnalysisPolicy, steps: Sequence[StepEvidence], alpha: float) -> StepCheck:
    """Beyond the limit at this step, and more often than the old version."""
    new = steps[-1].new
    limit = policy.max_error_rate
    if new is None or new.requests == 0:
        return _unknown("error rate", "no request reached the new version", limit=limit)
    arms = [(_arm(step.new), _arm(step.old)) for step in steps]
    if any(arm.hits > arm.trials for pair in arms for arm in pair):
        return _unknown("error rate", "more errors than requests were counted", limit=limit)
    strata = _beside(arms, alone=steps[-1].percent == ALL)
    worse = not strata or evidence_since_any(strata) >= -math.log(alpha)
    found = _rate(arms[-1][0], limit, alpha, worse=worse, told="failed")
    extras = [f"{new.retried:,} of them answered by the old version"] if new.retried else []
    extras += [f"{_percent(_rate_of([old for _, old in arms]))} of the old version's"] if strata else []
    return found.model_copy(update={"detail": "; ".join([found.detail, *extras])})


def _arm(seen: Observation | None) -> _Arm:
    return _Arm(_failed(seen), seen.requests) if seen is not None else _Arm(0, 0)


def _beside(arms: Sequence[tuple[_Arm, _Arm]], *, alone: bool) -> list[Stratum]:
    """The steps at which both versions answered.

    :param alone: The old version answers nothing any more: what it did before stands in for it.
    """
    strata = [Stratum(new.hits, new.trials, old.hits, old.trials) for new, old in arms if new.trials and old.trials]
    new, old = arms[-1]
    if not strata or (old.trials and not alone):
        return strata
    hits, trials = sum(one.old_hits for one in strata), sum(one.old_trials for one in strata)
    return [Stratum(new.hits, new.trials, hits, trials)]


def _rate_of(arms: Sequence[_Arm]) -> float:
    return sum(arm.hits for arm in arms) / max(1, sum(arm.trials for arm in arms))


def _rate(arm: _Arm, limit: float, alpha: float, *, worse: bool, told: str) -> StepCheck:
    """A share of requests against its limit.

    :param worse: Whether the old version is known to do better, or there is none.
    """
    if not arm.trials:
        return _unknown("error rate", "no request reached the new version", limit=limit)
    low, high = rate_bounds(arm.hits, arm.trials, alphas=(alpha, MISSED), around=limit)
    beyond, detail = low > limit, f"{arm.hits:,.0f} of {arm.trials:,.0f} requests {told}"
    if beyond and not worse:
        detail = f"{detail}; not shown to be worse than the old version"
    verdict = Verdict.FAIL if beyond and worse else Verdict.PASS if high <= limit else Verdict.INCONCLUSIVE
    return StepCheck(
        name="error rate",
        verdict=verdict,
        observed=arm.hits / arm.trials,
        low=low,
        high=high,
        limit=limit,
        detail=detail,
    )


# --- Latency ---------------------------------------------------------------------------------------------------------

_Pair: TypeAlias = tuple["Times | None", "Times | None"]
"""The new version's times and the old one's."""


def _times(steps: Sequence[StepEvidence]) -> list[_Pair]:
    return [
        (Times.of(step.new.latency if step.new else None), Times.of(step.old.latency if step.old else None))
        for step in steps
    ]


def _latency(limit: float, steps: Sequence[StepEvidence], alpha: float) -> StepCheck:
    """The 95th percentile beyond its limit at this step, and slower than the old version."""
    pairs = _times(steps)
    times = pairs[-1][0]
    if times is None:
        return _unknown("latency", "nobody tells how long the new version's requests took", limit=limit)
    low, high = _percentile_bounds(times, alpha)
    strata = _slow_strata(_ahead(pairs, alone=steps[-1].percent == ALL), 1.0)
    worse = not strata or evidence_since_any(strata, clumps=_CLUMPS) >= -math.log(alpha)
    beyond = low is not None and low > limit
    detail = f"{_percent(times.slower(limit, at_most=True) / times.total)} of {times.total:,} requests took longer"
    if beyond and not worse:
        detail = f"{detail}; not shown to be slower than the old version"
    within = high is not None and high <= limit
    return StepCheck(
        name="latency",
        verdict=Verdict.FAIL if beyond and worse else Verdict.PASS if within else Verdict.INCONCLUSIVE,
        observed=times.percentile,
        low=low,
        high=high,
        limit=limit,
        detail=detail,
    )


def _ahead(pairs: Sequence[_Pair], *, alone: bool) -> Sequence[_Pair]:
    """As :func:`_beside`: what the old version's requests took before, where it answers nothing any more."""
    new, old = pairs[-1]
    before = next((theirs for _, theirs in reversed(pairs[:-1]) if theirs is not None), None)
    return [(new, before)] if before is not None and (alone or old is None) else pairs


def _percentile_bounds(times: Times, alpha: float) -> tuple[float | None, float | None]:
    """Between which the 95th percentile lies, in milliseconds; ``None`` where nobody can say."""

    def shown(at: float, chance: float, *, beyond: bool) -> bool:
        slower = times.slower(at, at_most=not beyond)
        if (slower / times.total > TAIL) != beyond:
            return False
        evidence = evidence_against(TAIL, slower / _CLUMPS, times.total / _CLUMPS, around=TAIL)
        return evidence >= -math.log(chance)

    last = times.bounds[-1]
    low = turn(lambda at: shown(at, alpha, beyond=True), 0.0, last) if shown(0.0, alpha, beyond=True) else None
    high = (
        turn(lambda at: not shown(at, MISSED, beyond=False), 0.0, last) if shown(last, MISSED, beyond=False) else None
    )
    return low, high


def _latency_ratio(limit: float, steps: Sequence[StepEvidence], alpha: float) -> StepCheck:
    """How many times the old version's 95th percentile the new one's is.

    At the old version's percentile times the ratio, 5 of 100 of the new one's requests are slower where it is exactly
    that: so the ratio is told by two counts of slow requests, whatever shape the times have.
    """
    pairs = _times(steps)
    new, old = pairs[-1]
    if new is None or old is None:
        which = "new" if new is None else "old"
        return _unknown("latency ratio", f"nobody tells how long the {which} version's requests took", limit=limit)
    ours, theirs = new.percentile, old.percentile
    if theirs is None:
        return _unknown("latency ratio", "the old version's 95th percentile lies beyond the histogram", limit=limit)

    def slower(ratio: float) -> bool:
        return evidence_since_any(_slow_strata(pairs, ratio), clumps=_FEWER_CLUMPS) >= -math.log(alpha)

    def faster(ratio: float) -> bool:
        here = _slow_strata([(new, old)], ratio, at_most=True)
        return evidence_of_more(here, fewer=True, clumps=_FEWER_CLUMPS) >= -math.log(MISSED)

    verdict = Verdict.FAIL if slower(limit) else Verdict.PASS if faster(limit) else Verdict.INCONCLUSIVE
    told = f"{ours:,.1f} ms" if ours is not None else "beyond the histogram"
    return StepCheck(
        name="latency ratio",
        verdict=verdict,
        observed=ours / theirs if ours is not None else None,
        low=_ratio_where(lambda ratio: not slower(ratio)),
        high=_ratio_where(faster),
        limit=limit,
        detail=f"{told} against {theirs:,.1f} ms",
    )


def _ratio_where(holds: Callable[[float], bool]) -> float | None:
    """The least ratio at which something holds that holds at every greater one, too."""
    ends = -math.log(_FARTHEST), math.log(_FARTHEST)
    if holds(math.exp(ends[0])) or not holds(math.exp(ends[1])):
        return None
    return math.exp(turn(lambda at: not holds(math.exp(at)), *ends, halvings=_HALVINGS))


def _slow_strata(pairs: Sequence[_Pair], ratio: float, *, at_most: bool = False) -> list[Stratum]:
    """Slow requests of both versions at each step at which both answered."""
    found = []
    for new, old in pairs:
        theirs = old.percentile if old is not None else None
        if new is not None and old is not None and theirs is not None:
            slow = new.slower(ratio * theirs, at_most=at_most)
            found.append(Stratum(slow, new.total, TAIL * old.total, old.total))
    return found


# --- Quality ---------------------------------------------------------------------------------------------------------


def _quality(policy: QualityPolicy, steps: Sequence[StepEvidence], alpha: float, *, final: bool) -> StepCheck:
    """Mean loss of the new version's answers beyond that of the old one's, steps pooled by inverse variance."""
    limit, now = policy.margin, steps[-1]
    if now.percent == 0:
        return _unknown("quality", "no user sees it before all do; begin with a step such as 10", limit=limit)
    required = final or (now.percent == ALL and not any(0 < step.percent < ALL for step in steps))
    pairs = [_Labelled.of(step, policy) for step in steps]
    told = [pair for pair in pairs if pair is not None and pair.is_enough]
    if why := next((pair.broken for pair in pairs if pair is not None and pair.broken), ""):
        return _unknown("quality", why, limit=limit)
    if not told:
        few = f"fewer than {_FEWEST_LABELS} answers of either version have labels yet"
        return _unless_required(_unknown("quality", few, limit=limit), required=required)
    information = sum(pair.information for pair in told)
    observed = sum(pair.difference * pair.information for pair in told) / information
    low = observed - radius(information, alpha=alpha, effect=policy.margin)
    high = observed + radius(information, alpha=MISSED, effect=policy.margin)
    rows = sum(pair.new.rows for pair in told)
    found = StepCheck(
        name="quality",
        verdict=Verdict.FAIL if low > policy.tolerance else Verdict.PASS if high < limit else Verdict.INCONCLUSIVE,
        observed=observed,
        low=low,
        high=high,
        limit=limit,
        detail=f"{_LOSSES[policy.metric]}, over {rows:,} labelled answers of the new version",
    )
    return _unless_required(found, required=required)


def _unless_required(check: StepCheck, *, required: bool) -> StepCheck:
    """A loss that is neither shown nor ruled out holds a step back only before all traffic goes there."""
    if required or check.verdict is not Verdict.INCONCLUSIVE:
        return check
    detail = f"{check.detail}; has to be decided before all traffic goes there"
    return check.model_copy(update={"verdict": Verdict.PASS, "detail": detail})


@dataclass(frozen=True)
class _Labelled:
    """The labelled answers of both versions at one step."""

    new: _Sample
    old: _Sample
    bounded: bool

    @classmethod
    def of(cls, step: StepEvidence, policy: QualityPolicy) -> _Labelled | None:
        if step.new_losses is None or step.old_losses is None:
            return None
        bounded = policy.metric in _BOUNDED
        return cls(_Sample.of(step.new_losses, bounded), _Sample.of(step.old_losses, bounded), bounded)

    @property
    def is_enough(self) -> bool:
        return min(self.new.rows, self.old.rows) >= _FEWEST_LABELS

    @property
    def broken(self) -> str:
        """Why nothing can be said, however many there are."""
        if self.new.unusable or self.old.unusable:
            which = "new" if self.new.unusable else "old"
            return f"{self.new.unusable or self.old.unusable:,} labelled answers of the {which} version are no numbers"
        if min(self.new.variance, self.old.variance) < -_ROUNDING:
            return "the sums of the losses do not fit together"
        return "every answer has the same loss" if self.is_enough and not self.information < math.inf else ""

    @property
    def difference(self) -> float:
        return self.new.mean - self.old.mean

    @property
    def information(self) -> float:
        """One over the difference's variance, with no arm's variance taken for smaller than that of both."""
        both = self.new + self.old
        # One more answer that is as bad as can be: where none was bad, that is no proof that none will be.
        both = both + _Sample(1, 1.0, 1.0) if self.bounded else both
        variance = sum(max(arm.variance, both.variance) / arm.rows for arm in (self.new, self.old))
        return 1 / variance if variance > 0 else math.inf


@dataclass(frozen=True)
class _Sample:
    """Losses by their sums."""

    rows: int
    total: float
    squares: float
    unusable: int = 0

    @classmethod
    def of(cls, losses: Losses, bounded: bool) -> _Sample:  # noqa: FBT001  # one of two kinds
        """Where a loss has a worst value, an answer that is no number has it."""
        if not bounded:
            return cls(losses.rows, losses.total, losses.squares, losses.unusable)
        worst = losses.unusable
        return cls(losses.rows + worst, losses.total + worst, losses.squares + worst)

    def __add__(self, other: _Sample) -> _Sample:
        return _Sample(self.rows + other.rows, self.total + other.total, self.squares + other.squares)

    @property
    def mean(self) -> float:
        return self.total / self.rows if self.rows else 0.0

    @property
    def variance(self) -> float:
        return self.squares / self.rows - self.mean**2 if self.rows else 0.0


# --- Predictions -----------------------------------------------------------------------------------------------------


def _prediction_shift(limit: float | None, steps: Sequence[StepEvidence], alpha: float) -> StepCheck:
    """How far the two versions' answers to the same requests lie apart."""
    found = next((step.paired for step in reversed(steps) if step.paired is not None), None)
    if found is None or found.distance is None or found.rows == 0 or found.detail:
        why = found.detail if found is not None and found.detail else "no requests were asked again; begin with shadow"
        told = _unknown("prediction shift", why, limit=limit)
        return told if limit is not None else told.model_copy(update={"verdict": Verdict.PASS})
    detail = f"over {found.rows:,} requests"
    if limit is None:
        detail = f"{detail}; no limit was set"
        return StepCheck(name="prediction shift", verdict=Verdict.PASS, observed=found.distance, detail=detail)
    low = max(0.0, found.distance - _reach(found, alpha))
    high = min(1.0, found.distance + _reach(found, MISSED))
    verdict = Verdict.FAIL if low > limit else Verdict.PASS if high <= limit else Verdict.INCONCLUSIVE
    return StepCheck(
        name="prediction shift",
        verdict=verdict,
        observed=found.distance,
        low=low,
        high=high,
        limit=limit,
        detail=detail,
    )


def _reach(found: PairedScores, alpha: float) -> float:
    """How far the distance may lie from the true one.

    Wei and Dudley 2012, "Two-sample Dvoretzky-Kiefer-Wolfowitz inequalities", for answers that have nothing to do with
    each other. Those to the same requests lie closer: bounds that came with the distance count where they are narrower,
    and widen for a smaller ``alpha`` as tails of a normal distribution do (van der Vaart and Wellner 1996, A.2).
    """
    far = math.sqrt(math.log(2 / alpha) / found.rows)
    if found.distance is None or found.distance_low is None or found.distance_high is None:
        return far
    near = max(found.distance - found.distance_low, found.distance_high - found.distance)
    return min(far, near * math.sqrt(math.log(2 / alpha) / math.log(2 / _PAIRED)))


# --- Words -----------------------------------------------------------------------------------------------------------


def _unknown(name: _Name, why: str, *, limit: float | None) -> StepCheck:
    return StepCheck(name=name, verdict=Verdict.INCONCLUSIVE, limit=limit, detail=why)


def _percent(share: float) -> str:
    return f"{share:.2%}" if share < _SMALL else f"{share:.1%}"
