"""How often a rollout is rolled back, rightly and wrongly, and how soon: ``make bench-rollouts``.

A day of 100,000 requests through steps of 10%, 50% and 100%, a look every 250 requests, through the function that a
step is judged by (:func:`ml_lifecycle.core.rollout.judge`), on the histograms that the model server keeps. The old
version answers 90% of the requests rightly.

*worse*: a model that is two points worse, half as slow again or fails twice as often; it has to be rolled back before
it has answered 20,000 requests in 95% of the rollouts.
*as good*: rollouts of a model as good as the old one, whatever moves for both; at most 5% may be rolled back.

Ends with 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
import zlib
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ml_lifecycle.core.contracts import (
    AnalysisPolicy,
    Histogram,
    Losses,
    Observation,
    PairedScores,
    QualityPolicy,
    StepCheck,
    StepEvidence,
    Verdict,
)
from ml_lifecycle.core.rollout import judge, verdict_of
from ml_lifecycle.serving.stats import BOUNDS_MS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Values = NDArray[np.float64]

REPOSITORY = Path(__file__).resolve().parent.parent
OUTPUT = REPOSITORY / "benchmarks" / "rollouts.json"
PLOT = REPOSITORY / "docs" / "images" / "rollouts.png"
SEED = 20131231
DAY, LOOK = 100_000, 250
WRONG, ERRORS = 0.1, 0.002
PERSONAL = 0.05
"""How much of the variance of a user's wrong answers is their own."""
BUSIEST = 20
"""Of users who are not alike, the one in this place is half as busy as the first."""
SHADOWED = 2_000
SLOW = 0.15
"""Share of the second mode of times."""
EXPOSED, LEAST_CAUGHT, MOST_WRONGED = 20_000, 0.95, 0.05
AT = datetime(2013, 12, 31, tzinfo=timezone.utc)
SHAPES: Final = ("lognormal", "bimodal", "heavy tail", "steady")


class Scene(NamedTuple):
    """One line of a table."""

    name: str
    goal: str = ""
    """``caught``, ``spared`` or nothing."""
    steps: tuple[int, ...] = (10, 50)
    """Percent, without the last."""
    wrong: float = WRONG
    """Of the new version."""
    slower: float = 1.0
    """Times of the new version over those of the old one."""
    errors: float = ERRORS
    """Of the new version."""
    old_errors: float = ERRORS
    shape: str = "lognormal"
    labels_after: int = 0
    """Requests between an answer and its label."""
    margin: float = 0.02
    daily: bool = False
    """Times, errors and wrong answers move with the hour, for both."""
    noisy: bool = False
    """Times move by chance from minute to minute, for both."""
    stalls: bool = False
    """Each server stands still by itself now and then."""
    users: int = 0
    """So many make all requests, stay on one side and have wrong answers of their own; 0: each makes one."""
    alike: bool = True
    """Users make about as many requests each; else a few of them make most."""
    everything: bool = False
    """Every check is on, the shadow's and the limit of times, too."""
    requests: int = DAY
    look: int = LOOK
    """Requests between two looks."""
    replicates: int = 160


# --- Requests --------------------------------------------------------------------------------------------------------


class Requests(NamedTuple):
    """All requests of a rollout, as either version would answer them; the new version is the second row."""

    draw: Values
    """Which side a request falls to: the new version's where it is below the share."""
    times: Values
    failed: Any
    wrong: Any


def requests_of(scene: Scene, rng: np.random.Generator) -> Requests:
    """Every request there may be."""
    import numpy as np

    count = scene.requests
    hour = np.sin(2 * np.pi * (np.arange(count) / DAY + rng.random()))
    busy = 1 + 0.5 * hour if scene.daily else np.ones(count)
    drawn, own = rng.random(count), np.zeros(count)
    if scene.users:
        user = rng.choice(scene.users, size=count, p=None if scene.alike else _activity(scene.users))
        drawn, own = rng.random(scene.users)[user], (rng.beta(*_beta(WRONG, PERSONAL), scene.users) - WRONG)[user]
    pace = busy * (np.exp(_drifting(count, rng)) if scene.noisy else 1.0)
    times = np.stack([_times(scene.shape, count, rng) * pace * (_stalls(count, rng) if scene.stalls else 1.0)
                      for _ in range(2)])  # fmt: skip
    times[1] *= scene.slower
    failed = rng.random((2, count)) < np.array([[scene.old_errors], [scene.errors]]) * busy
    share = np.clip(np.array([[WRONG], [scene.wrong]]) + 0.03 * hour * scene.daily + own, 0.0, 1.0)
    return Requests(drawn, times, failed, rng.random((2, count)) < share)


def _activity(users: int) -> Values:
    import numpy as np

    weights: Values = 1 / (BUSIEST + np.arange(users))
    weights /= weights.sum()
    return weights


def _beta(mean: float, personal: float) -> tuple[float, float]:
    size = 1 / personal - 1
    return mean * size, (1 - mean) * size


def _times(shape: str, count: int, rng: np.random.Generator) -> Values:
    """Milliseconds."""
    import numpy as np

    if shape == "bimodal":
        is_slow = rng.random(count) < SLOW
        return np.where(is_slow, rng.lognormal(3.7, 0.3, count), rng.lognormal(1.6, 0.3, count))
    if shape == "heavy tail":
        return 4 * (1 + rng.pareto(1.5, count))
    return rng.lognormal(2.3, 0.1 if shape == "steady" else 0.5, count)


def _drifting(count: int, rng: np.random.Generator) -> Values:
    """A load that wanders (AR(1) from one stretch of 100 requests to the next), in logarithms."""
    import numpy as np

    stretches, level = [], 0.0
    for fresh in rng.standard_normal(count // 100 + 1):
        level = 0.9 * level + 0.13 * fresh
        stretches.append(level)
    return np.repeat(stretches, 100)[:count]


def _stalls(count: int, rng: np.random.Generator) -> Values:
    """Eight times as long for 40 requests in a row, of which a side sees its share, once in 2,000 on average."""
    import numpy as np

    begins = rng.random(count) < 1 / 2_000
    return np.where(np.convolve(begins, np.ones(40))[:count] > 0, 8.0, 1.0)


# --- A rollout -------------------------------------------------------------------------------------------------------


class Side:
    """What one version did at one step so far."""

    def __init__(self, version: int) -> None:
        self.version, self.requests, self.errors = version, 0, 0
        self.counts = [0] * (len(BOUNDS_MS) + 1)

    def add(self, times: Values, failed: Any) -> None:
        """Some more requests; what failed took no time that counts."""
        import numpy as np

        self.requests += len(times)
        self.errors += int(failed.sum())
        places = np.searchsorted(BOUNDS_MS, times[~failed])
        self.counts = (np.array(self.counts) + np.bincount(places, minlength=len(self.counts))).tolist()

    def seen(self) -> Observation:
        """As a target tells it."""
        latency = Histogram(bounds_ms=BOUNDS_MS, counts=tuple(self.counts))
        return Observation(version=self.version, requests=self.requests, errors=self.errors, latency=latency)


class Step:
    """One step of a rollout as it goes on."""

    def __init__(self, percent: int, begin: int, requests: Requests) -> None:
        self.percent, self.begin, self.all = percent, begin, requests
        self.is_new = requests.draw < percent / 100
        self.sides = Side(1), Side(2)

    def go_on(self, begin: int, end: int) -> None:
        """Answer some more requests."""
        for place, side in enumerate(self.sides):
            mine = self.is_new[begin:end] == bool(place)
            side.add(self.all.times[place, begin:end][mine], self.all.failed[place, begin:end][mine])

    def evidence(self, end: int, labelled: int) -> StepEvidence:
        """What is known when ``end`` requests were answered, with the labels of the first ``labelled``."""
        losses = []
        for place in range(2):
            mine = (self.is_new[self.begin : end] == bool(place)) & ~self.all.failed[place, self.begin : end]
            known = mine[: max(0, labelled - self.begin)]
            bad = self.all.wrong[place, self.begin : end][: len(known)][known]
            total = float(bad.sum())
            losses.append(Losses(version=place + 1, rows=len(bad), total=total, squares=total))
        return StepEvidence(
            percent=self.percent,
            began_at=AT,
            old=self.sides[0].seen(),
            new=self.sides[1].seen(),
            old_losses=losses[0],
            new_losses=losses[1],
        )


def policy_of(scene: Scene) -> AnalysisPolicy:
    """As it would stand in a pipeline file; what is not named has its default."""
    quality = QualityPolicy(metric="accuracy", margin=scene.margin)
    if not scene.everything:
        return AnalysisPolicy(quality=quality)
    return AnalysisPolicy(quality=quality, latency_p95_ms=40.0, max_prediction_shift=0.1)


def rollout(scene: Scene, rng: np.random.Generator) -> dict[str, Any]:
    """One rollout, from the first request to its end or the last request."""
    policy, requests = policy_of(scene), requests_of(scene, rng)
    before = [shadow(rng)] if scene.everything else []
    if before and verdict_of(checks := judge(policy, before, final=False)) is Verdict.FAIL:
        return _outcome("back", 0, 0, checks)
    ended: list[tuple[Step, int]] = []
    answered, at = 0, 0
    for percent in scene.steps:
        step, verdict = Step(percent, at, requests), Verdict.INCONCLUSIVE
        while verdict is Verdict.INCONCLUSIVE:
            if at >= scene.requests:
                return _outcome("held", at, answered, ())
            end = min(at + scene.look, scene.requests)
            step.go_on(at, end)
            answered, at = answered + int(step.is_new[at:end].sum()), end
            labelled = at - scene.labels_after
            past = [*before, *(one.evidence(last, labelled) for one, last in ended)]
            checks = judge(policy, [*past, step.evidence(at, labelled)], final=percent == scene.steps[-1])
            verdict = verdict_of(checks)
        if verdict is Verdict.FAIL:
            return _outcome("back", at, answered, checks)
        ended.append((step, at))
    return _outcome("through", at, answered, ())


def _outcome(end: str, at: int, answered: int, checks: tuple[StepCheck, ...]) -> dict[str, Any]:
    because = [check.name for check in checks if check.verdict is Verdict.FAIL]
    return {"end": end, "at": at, "answered": answered, "because": because}


def shadow(rng: np.random.Generator) -> StepEvidence:
    """Two models that are alike, asked the same."""
    import numpy as np

    old = rng.standard_normal(SHADOWED)
    new = old + 0.3 * rng.standard_normal(SHADOWED)
    places = np.concatenate([old, new])
    shares = [np.searchsorted(np.sort(side), places, side="right") / SHADOWED for side in (old, new)]
    distance = float(np.abs(shares[0] - shares[1]).max())
    return StepEvidence(percent=0, began_at=AT, paired=PairedScores(rows=SHADOWED, distance=distance))


# --- Tables ----------------------------------------------------------------------------------------------------------


def seed_of(scene: Scene) -> int:
    """Its own for each line, whichever others there are."""
    return SEED + zlib.crc32(scene.name.encode())


def run(scene: Scene, seed: int, part: range) -> list[dict[str, Any]]:
    """Some replicates of a line."""
    import numpy as np

    return [rollout(scene, np.random.default_rng([seed, place])) for place in part]


def line_of(scene: Scene, results: list[dict[str, Any]]) -> dict[str, Any]:
    """A line of a table."""
    import numpy as np

    ends = [one["end"] for one in results]
    back = [one for one in results if one["end"] == "back"]
    through = [one["at"] for one in results if one["end"] == "through"]
    caught = sum(one["answered"] <= EXPOSED for one in back) / len(results)
    because = {name: sum(name in one["because"] for one in back) for one in back for name in one["because"]}

    def quantiles(numbers: list[int]) -> list[float] | None:
        return [float(np.quantile(numbers, share)) for share in (0.5, 0.95)] if numbers else None

    return scene._asdict() | {
        "rolled_back": len(back) / len(results),
        "caught": caught,
        "through": ends.count("through") / len(results),
        "held": ends.count("held") / len(results),
        "because": because,
        "answered_when_rolled_back": quantiles([one["answered"] for one in back]),
        "requests_to_all_traffic": quantiles(through),
        "answered": _curve([one["answered"] for one in back]),
        "took": _curve(through),
    }


def _curve(numbers: list[int]) -> list[int]:
    """Quantiles in steps of 5%."""
    import numpy as np

    return np.quantile(numbers, np.linspace(0, 1, 21)).round().astype(int).tolist() if numbers else []


def scenes(*, short: bool) -> list[Scene]:
    """Every line of every table."""
    good = 240
    lines = [
        Scene("two points worse", goal="caught", wrong=0.12),
        Scene("two points worse, day and night", goal="caught", wrong=0.12, daily=True),
        Scene("two points worse, every check on", goal="caught", wrong=0.12, everything=True),
        Scene("four points worse", goal="caught", wrong=0.14),
        Scene("two points worse, labels a day late", wrong=0.12, labels_after=DAY, requests=3 * DAY, look=1_000,
              replicates=40),
        Scene("two points worse, labels a day late, steps 10 and 100", wrong=0.12, labels_after=DAY,
              steps=(10,), requests=3 * DAY, look=1_000, replicates=40),
        *(Scene(f"half as slow again, {shape}", goal="caught", slower=1.5, shape=shape) for shape in SHAPES),
        *(Scene(f"half as slow again, {shape}, in restless times", goal="caught", slower=1.5, shape=shape,
                noisy=True, daily=True) for shape in SHAPES[:3]),
        Scene("2% of errors against 1%", goal="caught", errors=0.02, old_errors=0.01),
        Scene("2% of errors against 0.2%", goal="caught", errors=0.02),
        *(Scene(f"as good, {shape}", goal="spared", shape=shape, replicates=good) for shape in SHAPES),
        Scene("as good, every check on", goal="spared", everything=True, replicates=good),
        Scene("as good, day and night, restless", goal="spared", daily=True, noisy=True, everything=True,
              replicates=good),
        Scene("as good, servers that stall", goal="spared", stalls=True, replicates=good),
        Scene("as good, 20,000 users who stay on a side", goal="spared", users=20_000, replicates=good),
        Scene("as good, a few users make most requests", users=4_000, alike=False, replicates=good),
        Scene("as good, looked at 400 times", goal="spared", margin=0.001, everything=True, daily=True, noisy=True,
              replicates=80),
        Scene("as good, with 1% of errors in both", goal="spared", errors=0.01, old_errors=0.01, replicates=40),
        Scene("as good, labels a day late", labels_after=DAY, requests=3 * DAY, look=1_000, replicates=40),
        Scene("half a point better", goal="spared", wrong=0.095, replicates=good),
    ]  # fmt: skip
    if not short:
        return lines
    return [one._replace(replicates=4) for one in lines if one.requests == DAY and one.margin == Scene("").margin]


def simulate(lines: list[Scene], *, workers: int) -> list[dict[str, Any]]:
    """These lines."""
    with ProcessPoolExecutor(workers) as pool:
        futures = [
            [pool.submit(run, scene, seed_of(scene), range(begin, min(begin + 20, scene.replicates)))
             for begin in range(0, scene.replicates, 20)]
            for scene in lines
        ]  # fmt: skip
        return [
            line_of(scene, [one for part in parts for one in part.result()])
            for scene, parts in zip(lines, futures, strict=True)
        ]


def missed(lines: list[dict[str, Any]]) -> list[str]:
    """Goals that were missed, in words; what is rare in a line, by two standard errors."""
    words = [
        f"{line['name']}: {line['caught']:.1%} rolled back before {EXPOSED:,} answers"
        for line in lines
        if line["goal"] == "caught" and line["caught"] < LEAST_CAUGHT
    ]
    return words + [
        f"{line['name']}: {line['rolled_back']:.1%} rolled back"
        for line in lines
        if line["goal"] == "spared" and line["rolled_back"] > MOST_WRONGED + 2 * _error(line["replicates"])
    ]


def _error(replicates: int) -> float:
    return float((MOST_WRONGED * (1 - MOST_WRONGED) / replicates) ** 0.5)


def table(lines: list[dict[str, Any]]) -> str:
    """As text for people."""
    rows = [f"{'':57}{'rolled':>9}{'before':>9}{'after answers':>18}{'through':>9}{'after requests':>19}{'held':>7}",
            f"{'':57}{'back':>9}{f'{EXPOSED:,}':>9}{'half / 95%':>18}{'':>9}{'half / 95%':>19}"]  # fmt: skip
    for line in lines:
        shown = [" / ".join(f"{number:,.0f}" for number in line[key]) if line[key] else ""
                 for key in ("answered_when_rolled_back", "requests_to_all_traffic")]  # fmt: skip
        rows.append(f"{line['name']:57}{line['rolled_back']:>9.1%}{line['caught']:>9.1%}{shown[0]:>18}"
                    f"{line['through']:>9.1%}{shown[1]:>19}{line['held']:>7.1%}")  # fmt: skip
    return "\n".join(rows)


# --- Plot ------------------------------------------------------------------------------------------------------------

INK, QUIET = "#1f2933", "#8a94a0"
HUES = ("#c2410c", "#b7791f", "#0f766e", "#4338ca", "#9d174d", "#4d7c0f")
WORSE = ("two points worse", "four points worse", "half as slow again, lognormal", "half as slow again, heavy tail",
         "half as slow again, bimodal", "2% of errors against 1%")  # fmt: skip
GOOD = ("as good, lognormal", "as good, bimodal", "as good, heavy tail", "as good, every check on",
        "as good, day and night, restless", "half a point better")  # fmt: skip


def plot(lines: list[dict[str, Any]], target: Path) -> None:
    """How many worse versions are back after so many answers, and how many good ones have all traffic when."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    style = {"font.size": 9, "axes.edgecolor": QUIET, "axes.spines.top": False, "axes.spines.right": False,
             "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK}  # fmt: skip
    with mpl.rc_context(style):
        figure, axes = plt.subplots(1, 2, figsize=(11.5, 4.3), layout="constrained")
        _curves(axes[0], lines, WORSE, "answered", "rolled_back")
        axes[0].axvline(EXPOSED, color=INK, lw=1, ls=":")
        axes[0].set(title="Worse versions rolled back", xlabel="requests that the new version has answered")
        _curves(axes[1], lines, GOOD, "took", "through")
        axes[1].set(title="Good versions with all traffic", xlabel="requests to both versions")
        figure.savefig(target, dpi=130)
        plt.close(figure)


def _curves(axis: Any, lines: list[dict[str, Any]], names: tuple[str, ...], of: str, share: str) -> None:
    for name, hue in zip(names, HUES, strict=True):
        line = next(line for line in lines if line["name"] == name)
        if line[of]:
            heights = [place / 20 * line[share] for place in range(21)]
            axis.plot([*line[of], DAY], [*heights, line[share]], color=hue, label=name, lw=1.5)
    axis.set(xscale="log", ylim=(0, 1.03), xlim=(10 if of == "answered" else 2_500, DAY))
    axis.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25%", "50%", "75%", "100%"])
    ticks = [tick for tick in (10, 100, 1_000, 5_000, 10_000, 20_000, 50_000, 100_000) if tick >= axis.get_xlim()[0]]
    axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks], rotation=30)
    axis.minorticks_off()
    axis.legend(frameon=False, fontsize=7.5, loc="upper left")


def main() -> int:
    """Simulate, print, keep; 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--short", action="store_true", help="4 rollouts of each kind; keeps nothing, judges nothing")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--at-most", type=int, default=1_000, help="rollouts of each kind")
    parser.add_argument("--only", default="", help="simulate lines whose name holds this, and keep the others")
    parser.add_argument("--plot-only", action="store_true", help="draw what the last run kept")
    options = parser.parse_args()
    if options.plot_only:
        plot(json.loads(OUTPUT.read_text(encoding="utf-8"))["lines"], PLOT)
        return 0
    begin = time.monotonic()
    chosen = [
        scene._replace(replicates=min(scene.replicates, options.at_most))
        for scene in scenes(short=options.short)
        if options.only in scene.name
    ]
    lines = simulate(chosen, workers=options.workers)
    print(table(lines))
    print(f"\n{time.monotonic() - begin:.0f} s")
    if options.short:
        return 0
    if options.only:
        fresh = {line["name"]: line for line in lines}
        before = {line["name"]: line for line in json.loads(OUTPUT.read_text(encoding="utf-8"))["lines"]}
        every = {**before, **fresh}
        lines = [every[scene.name] for scene in scenes(short=False) if scene.name in every]
    kept = ",\n".join(json.dumps(line) for line in lines)
    head = f'"python": "{platform.python_version()}", "seconds": {time.monotonic() - begin:.0f}'
    OUTPUT.write_text(f'{{{head}, "lines": [\n{kept}\n]}}\n', encoding="utf-8")
    plot(lines, PLOT)
    for words in (wrong := missed(lines)):
        print(f"missed: {words}", file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
