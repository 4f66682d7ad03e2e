"""Bounds and evidence that hold at all looks together, so that one may look as often as one likes and stop at any time.

Each rests on a mixture of likelihood ratios, which is a supermartingale where there is nothing to find and so passes
``1 / alpha`` with a chance of at most ``alpha``, ever (Ville's inequality; Robbins 1970, "Statistical methods related
to the law of the iterated logarithm"; Howard, Ramdas, McAuliffe and Sekhon 2021, "Time-uniform, nonparametric,
nonasymptotic confidence sequences").
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

_HALVINGS: Final = 40
_RATIOS: Final = tuple(0.06 * 50 ** (place / 11) for place in range(12))
"""Logarithms of the ratios that are looked for, 1.06 to 20: the mixture is a discrete one, and exact."""


# --- One rate --------------------------------------------------------------------------------------------------------


def evidence_against(rate: float, hits: float, trials: float, *, around: float) -> float:
    """Logarithm of the evidence that a rate is not what it is said to be.

    The mixture is a beta distribution of half an observation's weight around the rate that matters (Robbins 1970;
    Howard et al. 2021, section 3.1). Where the rate itself moves, the evidence is about its mean so far.

    :param hits: Of the trials; need not be whole.
    :param around: Strictly between 0 and 1.
    """
    first, second = 0.5, 0.5 * (1 - around) / around
    mixture = _log_beta(first + hits, second + trials - hits) - _log_beta(first, second)
    return mixture - _times_log(hits, rate) - _times_log(trials - hits, 1 - rate)


def rate_bounds(hits: float, trials: float, *, alphas: tuple[float, float], around: float) -> tuple[float, float]:
    """Lower and upper bound of a rate, each with a chance of error of its own over all looks.

    :param around: Where the bounds shall be tightest: a limit.
    """
    if not trials > 0:
        return 0.0, 1.0

    def stands(rate: float, alpha: float) -> bool:
        return evidence_against(rate, hits, trials, around=around) < -math.log(alpha)

    observed = hits / trials
    low = 0.0 if stands(0.0, alphas[0]) else turn(lambda rate: not stands(rate, alphas[0]), 0.0, observed)
    high = 1.0 if stands(1.0, alphas[1]) else turn(lambda rate: stands(rate, alphas[1]), observed, 1.0)
    return low, high


# --- Two rates -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stratum:
    """Two arms that ran beside each other, each request falling to one of them by chance."""

    new_hits: float
    new_trials: float
    old_hits: float
    old_trials: float


def evidence_of_more(strata: Sequence[Stratum], *, fewer: bool = False, clumps: float = 1.0) -> float:
    """Logarithm of the evidence that the new arm is hit more often than the old one; minus infinity of nothing.

    Whether a hit fell to the new arm is a throw of a coin that is known where both are hit alike, whatever the rate
    itself does meanwhile: rates that move for both are no evidence. A ratio is common to all strata, the rates are not.

    :param fewer: Evidence that the new arm is hit less often instead.
    :param clumps: How many hits come together on average, and count as one.
    """
    told = [one for one in strata if one.new_trials > 0 and one.old_trials > 0]
    if not told:
        return -math.inf
    terms = []
    for size in _RATIOS:
        ratio = -size if fewer else size
        terms.append(sum(_log_odds(one, ratio) for one in told) / clumps)
    return _log_sum(terms) - math.log(len(terms))


def evidence_since_any(strata: Sequence[Stratum], *, clumps: float = 1.0) -> float:
    """As :func:`evidence_of_more`, for an arm that may have become worse when any of the strata began.

    The evidence since each beginning is weighed with a half, a quarter, and so on: their sum is evidence, too.
    """
    found = [
        evidence_of_more(strata[begin:], clumps=clumps) - (begin + 1) * math.log(2) for begin in range(len(strata))
    ]
    return _log_sum(found)


def _log_odds(one: Stratum, log_ratio: float) -> float:
    share = one.new_trials / (one.new_trials + one.old_trials)
    return one.new_hits * log_ratio - (one.new_hits + one.old_hits) * math.log1p(share * math.expm1(log_ratio))


# --- A mean ----------------------------------------------------------------------------------------------------------


def radius(information: float, *, alpha: float, effect: float) -> float:
    """How far a mean's one-sided bound lies from its estimate.

    The mixture is half of a normal distribution whose standard deviation is ``effect`` (Robbins 1970; Howard et al.
    2021, section 3.2). With an estimated variance it holds asymptotically (Waudby-Smith, Arbour, Sinha, Kennedy and
    Ramdas 2021, "Time-uniform central limit theory and asymptotic confidence sequences").

    :param information: One over the estimate's variance.
    :param effect: Size of the difference that matters: the bound is tightest where it can just be told.
    """
    if not information > 0:
        return math.inf
    spread = 1 + effect * effect * information

    def evidence(score: float) -> float:
        at = effect * score / math.sqrt(spread)
        return math.log(2 / math.sqrt(spread)) + at * at / 2 + _log_normal(at)

    wanted, high = -math.log(alpha), math.sqrt(information)
    while evidence(high) < wanted:
        high *= 2
    return turn(lambda score: evidence(score) < wanted, 0.0, high) / information


def turn(holds: Callable[[float], bool], low: float, high: float, *, halvings: int = _HALVINGS) -> float:
    """Where a claim that holds at ``low``, and not at ``high``, ends to hold."""
    for _ in range(halvings):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return (low + high) / 2


def _times_log(count: float, rate: float) -> float:
    if count <= 0:
        return 0.0
    return count * math.log(rate) if rate > 0 else -math.inf


def _log_beta(first: float, second: float) -> float:
    return math.lgamma(first) + math.lgamma(second) - math.lgamma(first + second)


def _log_normal(at: float) -> float:
    """Logarithm of the normal distribution's share below ``at``, which is not negative."""
    return math.log1p(-math.erfc(at / math.sqrt(2)) / 2)


def _log_sum(terms: Sequence[float]) -> float:
    most = max(terms, default=-math.inf)
    if most == -math.inf:
        return most
    return most + math.log(sum(math.exp(term - most) for term in terms))
