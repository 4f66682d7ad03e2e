"""How often the gate is right, and what a million rows cost: ``make bench-gates``.

Five tables, each on simulated rows whose truth is known, all through the functions that a gate calls:

*decisions*: how often a challenger is promoted, beside a comparison of the two estimates.
*coverage*: how often two-sided 95% intervals hold the true value.
*power*: how often a gain of each size is decided on so many rows.
*clusters*: the same intervals where the rows of a day share their luck, with and without saying so.
*million*: one million rows, five metrics against the champion, 20 slices, 1,000 resamples, in a process of its own.

Ends with 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any, NamedTuple

from ml_lifecycle.backends.evaluation.intervals import difference, metric_of
from ml_lifecycle.backends.evaluation.metrics import measure
from ml_lifecycle.backends.evaluation.rows import ScoredRows, Task
from ml_lifecycle.backends.evaluation.rules import measure_rules
from ml_lifecycle.core.contracts import (
    ChampionResult,
    Columns,
    DatasetRef,
    Evaluation,
    GateRule,
    HoldoutSpec,
    MeasurementSpec,
    TrainedModel,
    Verdict,
)
from ml_lifecycle.core.evaluation import HIGHER_IS_BETTER, decide

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

REPOSITORY = Path(__file__).resolve().parent.parent
OUTPUT = REPOSITORY / "benchmarks" / "gates.json"
NOTHING = "0" * 64
RULE = GateRule(metric="accuracy", versus="champion", margin=0.005, confidence=0.95)
CHAMPION, DISAGREEMENT = 0.90, 0.06
WORSE, BETTER = -0.01, 0.02
MILLION, SLICES, SECONDS, MEGABYTES = 1_000_000, 20, 10.0, 1536.0
METRICS = ("roc_auc", "log_loss", "brier", "accuracy", "f1")
LEAST_COVERED, MOST_COVERED = 0.93, 0.97
DAYS = 60
CLUSTERED_ROWS = 20 * DAYS
MANY_ROWS = 5000
"""From here on half as many samples are drawn."""
SPEC = MeasurementSpec()
SEED = 20130131


class Size(NamedTuple):
    """How much is simulated."""

    decisions: int
    """Per effect and number of rows."""
    samples: int
    """Per interval and number of rows."""
    power: int
    """Per effect and number of rows."""


FULL, QUICK = Size(10_000, 2_000, 1_000), Size(300, 200, 100)


# --- Decisions -------------------------------------------------------------------------------------------------------


class Promotions(NamedTuple):
    """What became of challengers of one kind."""

    effect: float
    rows: int
    decisions: int
    passed: float
    failed: float
    inconclusive: float
    passed_by_points: float
    """Share that a comparison of the two estimates would have promoted."""


def an_evaluation() -> Evaluation:
    """The least that a gate asks of an evaluation against a champion."""
    dataset = DatasetRef(uri="d", rows=1, fingerprint=NOTHING, columns=Columns(key="id"), partitions=("p",))
    model = TrainedModel(
        name="m",
        uri="u",
        digest=NOTHING,
        training_key=NOTHING,
        run_id="r",
        dataset=dataset,
        holdout=HoldoutSpec(),
        training_rows=1,
    )
    champion = ChampionResult(version=1, digest=NOTHING, metrics={}, differences={})
    return Evaluation(
        model=model, metrics={}, champion=champion, predictions_uri="u", predictions_digest=NOTHING, classes=("0", "1")
    )


def scored(truth: Any, candidate: Any, champion: Any, task: Task = "binary", **more: Any) -> ScoredRows:
    """Rows under both models."""
    import numpy as np

    return ScoredRows(
        task=task,
        truth=np.asarray(truth, dtype="float64"),
        scores={"candidate": np.asarray(candidate, dtype="float64"), "champion": np.asarray(champion, dtype="float64")},
        keys=np.arange(len(truth)),
        classes=("0", "1") if task == "binary" else (),
        **more,
    )


def promotions(effect: float, rows: int, times: int, seed: int) -> Promotions:
    """Challengers whose accuracy differs by ``effect``, and that decide otherwise on 6 of 100 rows."""
    import numpy as np

    rng = np.random.default_rng([SEED, rows, round(1000 * effect) + 1000, seed])
    gains = (DISAGREEMENT + effect) / 2
    losses = DISAGREEMENT - gains
    both = CHAMPION - losses
    evaluation, truth = an_evaluation(), np.ones(rows)
    found = dict.fromkeys(Verdict, 0)
    by_points = 0
    for _ in range(times):
        drawn = rng.random(rows)
        only_new, only_old = drawn < gains, (drawn >= gains) & (drawn < DISAGREEMENT)
        right = (drawn >= DISAGREEMENT) & (drawn < DISAGREEMENT + both)
        measured = measure_rules([RULE], evaluation, scored(truth, only_new | right, only_old | right))
        found[decide([RULE], evaluation, measured).verdict] += 1
        by_points += int(only_new.sum()) > int(only_old.sum())
    return Promotions(
        effect,
        rows,
        times,
        passed=found[Verdict.PASS] / times,
        failed=found[Verdict.FAIL] / times,
        inconclusive=found[Verdict.INCONCLUSIVE] / times,
        passed_by_points=by_points / times,
    )


# --- Coverage --------------------------------------------------------------------------------------------------------


class Coverage(NamedTuple):
    """How often a two-sided 95% interval held the true value."""

    metric: str
    what: str
    """``one model`` or ``difference``."""
    rows: int
    samples: int
    covered: float
    width: float
    """Mean width."""
    unclustered: float | None = None
    """The same where the clusters are not declared."""


def logistic(values: Any) -> Any:
    """From the real line to probabilities."""
    import numpy as np

    return 1 / (1 + np.exp(-values))


def classified(rng: np.random.Generator, rows: int) -> ScoredRows:
    """Rows of a binary model and its champion; the champion sees the signal through more noise."""
    signal = rng.normal(-0.8, 1.5, rows)
    truth = rng.random(rows) < logistic(signal)
    shared = rng.normal(size=rows)
    new = logistic(0.8 * (signal + 0.6 * shared + 0.3 * rng.normal(size=rows)))
    old = logistic(0.7 * (signal + 0.6 * shared + 0.9 * rng.normal(size=rows)))
    return scored(truth, new, old)


def regressed(rng: np.random.Generator, rows: int) -> ScoredRows:
    """Rows of a regression whose errors have heavier tails than normal ones: Student's with 12 degrees of freedom."""
    shared = rng.standard_t(12, rows)
    new = shared + 0.5 * rng.normal(size=rows)
    old = shared + 0.8 * rng.normal(size=rows)
    return scored(0 * shared, new, old, "regression")


def daily(rng: np.random.Generator, rows: int) -> ScoredRows:
    """As :func:`classified`, but the rows of a day share how well each model does on it."""
    import numpy as np

    day = np.arange(rows) % DAYS
    luck = rng.normal(size=(3, DAYS))[:, day]
    signal = rng.normal(-0.8, 1.5, rows) + luck[0]
    truth = rng.random(rows) < logistic(signal)
    shared = rng.normal(size=rows)
    new = logistic(0.8 * (signal - luck[0] + luck[1] + 0.6 * shared + 0.3 * rng.normal(size=rows)))
    old = logistic(0.7 * (signal - luck[0] + luck[2] + 0.6 * shared + 0.9 * rng.normal(size=rows)))
    return scored(truth, new, old, cluster=day)


def daily_numbers(rng: np.random.Generator, rows: int) -> ScoredRows:
    """As :func:`regressed`, with errors that the rows of a day share."""
    import numpy as np

    day = np.arange(rows) % DAYS
    luck = rng.normal(size=(2, DAYS))[:, day]
    new = 0.5 * luck[0] + rng.normal(size=rows)
    old = 0.5 * luck[1] + 1.1 * rng.normal(size=rows)
    return scored(0 * new, new, old, "regression", cluster=day)


WORLDS: dict[str, Callable[[Any, int], ScoredRows]] = {
    "classified": classified,
    "regressed": regressed,
    "daily": daily,
    "daily_numbers": daily_numbers,
}
MEASURED = {
    "classified": ("roc_auc", "accuracy", "log_loss"),
    "regressed": ("rmse",),
    "daily": ("roc_auc", "accuracy", "log_loss"),
    "daily_numbers": ("rmse",),
}
TRUTH_ROWS, TRUTH_TIMES = 1_000_000, 4

Truth = dict[str, tuple[float, float]]
"""By metric: what is true of one model, and of the difference."""


def true_values(world: str) -> Truth:
    """What is true, on so many rows that their own error does not count."""
    import numpy as np

    found: dict[str, list[tuple[float, float]]] = {metric: [] for metric in MEASURED[world]}
    for number in range(TRUTH_TIMES):
        rows = many_rows(world, np.random.default_rng([SEED, 7, number]))
        for metric, values in found.items():
            new, old = measure(metric, rows, "candidate"), measure(metric, rows, "champion")
            assert new is not None  # noqa: S101  # a million rows hold both classes
            assert old is not None  # noqa: S101  # as above
            values.append((new, new - old if HIGHER_IS_BETTER[metric] else old - new))
    return {
        metric: (mean(one for one, _ in values), mean(two for _, two in values)) for metric, values in found.items()
    }


def many_rows(world: str, rng: np.random.Generator) -> ScoredRows:
    """A million rows; of days as many lives of 60 days as that takes."""
    import numpy as np

    if not world.startswith("daily"):
        return WORLDS[world](rng, TRUTH_ROWS)
    parts = [WORLDS[world](rng, CLUSTERED_ROWS) for _ in range(TRUTH_ROWS // CLUSTERED_ROWS)]
    return dataclasses.replace(
        parts[0],
        truth=np.concatenate([part.truth for part in parts]),
        scores={name: np.concatenate([part.scores[name] for part in parts]) for name in parts[0].scores},
        cluster=None,
    )


def coverage(world: str, metric: str, rows: int, times: int, truth: Truth) -> tuple[Coverage, Coverage]:
    """How often the intervals of one model and of the difference hold what is true."""
    import numpy as np

    rng = np.random.default_rng([SEED, rows, *metric.encode()])
    kinds: dict[str, Callable[[ScoredRows], Any]] = {
        "one model": lambda sample: metric_of(metric, sample, "candidate", spec=SPEC),
        "difference": lambda sample: difference(metric, sample, "candidate", "champion", spec=SPEC),
    }
    hits: dict[str, list[bool]] = {kind: [] for kind in kinds}
    naive: dict[str, list[bool]] = {kind: [] for kind in kinds}
    widths: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(times):
        sample = WORLDS[world](rng, rows)
        for (kind, interval), true in zip(kinds.items(), truth[metric], strict=True):
            low, high = ends(interval(sample))
            hits[kind].append(low <= true <= high)
            widths[kind].append(high - low)
            if sample.cluster is not None:
                low, high = ends(interval(dataclasses.replace(sample, cluster=None)))
                naive[kind].append(low <= true <= high)
    first, second = (
        Coverage(
            metric,
            kind,
            rows,
            times,
            covered=mean(hits[kind]),
            width=mean(widths[kind]),
            unclustered=mean(naive[kind]) if naive[kind] else None,
        )
        for kind in kinds
    )
    return first, second


def ends(found: Any) -> tuple[float, float]:
    """Both ends of an interval, or none that holds anything."""
    return (found.low, found.high) if found.low is not None else (math.inf, -math.inf)


# --- A million rows --------------------------------------------------------------------------------------------------


def million() -> dict[str, float]:
    """Measure the rules on a million rows, in this process."""
    import numpy as np
    import pandas  # noqa: F401, ICN001  # what a worker has imported is not what the rules cost
    import scipy.special  # noqa: F401  # as above

    rng = np.random.default_rng(SEED)
    names = np.array([f"S{place:02d}" for place in range(SLICES)], dtype=object)
    slices = {"place": names[rng.integers(0, SLICES, MILLION)]}
    rows = dataclasses.replace(classified(rng, MILLION), slices=slices)
    rules = [
        GateRule(metric=name, versus="champion", margin=0.005, each=each)
        for name in METRICS
        for each in (None, "place")
    ]
    evaluation = an_evaluation()
    before = peak_megabytes()
    began, cpu = time.perf_counter(), time.process_time()
    measured = measure_rules(rules, evaluation, rows)
    decision = decide(rules, evaluation, measured)
    return {
        "rows": MILLION,
        "metrics": len(METRICS),
        "slices": SLICES,
        "resamples": evaluation.spec.resamples,
        "checks": len(decision.checks),
        "wall_s": round(time.perf_counter() - began, 2),
        "cpu_s": round(time.process_time() - cpu, 2),
        "peak_mb": round(peak_megabytes(), 1),
        "peak_mb_before": round(before, 1),
    }


def peak_megabytes() -> float:
    """The most that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def million_apart() -> dict[str, float]:
    """As :func:`million`, in a process that has done nothing else."""
    done = subprocess.run([sys.executable, __file__, "--million"], check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


# --- All of it -------------------------------------------------------------------------------------------------------


def jobs(size: Size, truth: dict[str, Truth]) -> Iterator[tuple[str, Callable[..., Any], tuple[Any, ...]]]:
    """Everything that is simulated: its table, its function, and what that takes."""
    for effect, rows in ((WORSE, 500), (WORSE, 1000), (WORSE, 5000), (BETTER, 500), (BETTER, 1000), (BETTER, 5000)):
        yield "decisions", promotions, (effect, rows, size.decisions, 0)
    for rows in (500, 1000, 2000, 5000, 20_000):
        for effect in (-0.02, -0.01, -0.005, 0.0, 0.005, 0.01, 0.02):
            yield "power", promotions, (effect, rows, size.power, 1)
    for world, found in truth.items():
        clustered = world.startswith("daily")
        for metric in found:
            for rows in (CLUSTERED_ROWS,) if clustered else (500, 1000, MANY_ROWS):
                times = size.samples // 2 if rows >= MANY_ROWS else size.samples
                yield "clusters" if clustered else "coverage", coverage, (world, metric, rows, times, found)


def run(size: Size) -> dict[str, Any]:
    """All tables; every simulation with a seed of its own, so that the order does not matter."""
    began = time.perf_counter()
    # The measured one runs alone.
    print("a million rows", file=sys.stderr)
    tables: dict[str, Any] = {"million": million_apart(), "decisions": [], "power": [], "coverage": [], "clusters": []}
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        print("what is true", file=sys.stderr)
        truth = dict(zip(MEASURED, pool.map(true_values, MEASURED), strict=True))
        running = [(table, pool.submit(function, *arguments)) for table, function, arguments in jobs(size, truth)]
        for number, (table, future) in enumerate(running, start=1):
            found = future.result()
            tables[table] += [one._asdict() for one in ([found] if isinstance(found, Promotions) else found)]
            print(f"{number} of {len(running)} simulations, {time.perf_counter() - began:.0f} s", file=sys.stderr)
    return {**tables, "wall_s": round(time.perf_counter() - began, 1)}


def missed(found: dict[str, Any], *, quick: bool) -> list[str]:
    """The goals that were not reached, in sentences."""
    wrong = []
    # A few hundred decisions tell shares to within some points.
    slack = 0.04 if quick else 0.0
    least = {1000: 0.90, 5000: 0.99}
    for one in found["decisions"]:
        share, rows = one["passed"], one["rows"]
        if one["effect"] == WORSE and share > 0.05 + slack:
            wrong.append(f"a challenger one point worse is promoted in {share:.1%} at {rows:,} rows, not at most 5%")
        if one["effect"] == BETTER and share < least.get(rows, 0.0) - slack:
            wrong.append(f"one two points better is promoted in {share:.1%} at {rows:,} rows, not {least[rows]:.0%}")
    for one in (*found["coverage"], *found["clusters"]):
        if not LEAST_COVERED - slack <= one["covered"] <= MOST_COVERED + slack:
            place = f"{one['metric']}, {one['what']}, {one['rows']:,} rows"
            wrong.append(f"the interval of {place} holds the truth in {one['covered']:.1%}, not 93% to 97%")
    if all(one["unclustered"] is None or one["unclustered"] >= LEAST_COVERED for one in found["clusters"]):
        wrong.append("the clusters are not clustered: intervals hold without saying so")
    cost = found["million"]
    if cost["peak_mb"] > MEGABYTES:
        wrong.append(f"a million rows take {cost['peak_mb']:.0f} MB, not at most {MEGABYTES:.0f}")
    if min(cost["wall_s"], cost["cpu_s"]) > SECONDS:
        wrong.append(f"a million rows take {cost['wall_s']:.1f} s, not at most {SECONDS:.0f}")
    return wrong


def show(found: dict[str, Any]) -> None:
    """The tables, for a person."""
    print("\nPromoted, of challengers that decide otherwise on 6% of the rows (margin 0.005, confidence 95%)")
    print(f"{'effect':>8} {'rows':>7} {'promoted':>9} {'refused':>8} {'left open':>10} {'by points':>10}")
    for one in found["decisions"]:
        print(
            f"{one['effect']:>+8.3f} {one['rows']:>7,} {one['passed']:>9.1%} {one['failed']:>8.1%} "
            f"{one['inconclusive']:>10.1%} {one['passed_by_points']:>10.1%}"
        )
    print("\nPromoted and refused, by effect and rows")
    sizes = sorted({one["rows"] for one in found["power"]})
    print(f"{'effect':>8}" + "".join(f"{size:>16,}" for size in sizes))
    for effect in sorted({one["effect"] for one in found["power"]}):
        line = [one for one in found["power"] if one["effect"] == effect]
        cells = [f"{one['passed']:.0%} / {one['failed']:.0%}" for one in sorted(line, key=lambda one: one["rows"])]
        print(f"{effect:>+8.3f}" + "".join(f"{cell:>16}" for cell in cells))
    for table, title in (("coverage", "independent rows"), ("clusters", f"{DAYS} days of 20 rows")):
        print(f"\nTwo-sided 95% intervals that hold the truth: {title}")
        for one in found[table]:
            naive = "" if one["unclustered"] is None else f"   without saying so {one['unclustered']:.1%}"
            print(f"{one['metric']:>10} {one['what']:<11} {one['rows']:>7,} rows {one['covered']:>7.1%}{naive}")
    cost = found["million"]
    print(
        f"\nA million rows, {len(METRICS)} metrics, {SLICES} slices, {cost['resamples']:,} resamples: "
        f"{cost['wall_s']} s, {cost['cpu_s']} s of CPU, {cost['peak_mb']:.0f} MB\n"
    )


def main() -> int:
    """Simulate, print, and keep what was found."""
    parser = argparse.ArgumentParser(description="Measure how often the gate is right, and what a million rows cost.")
    parser.add_argument("--quick", action="store_true", help="a short form, with wider goals; keeps nothing")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--million", action="store_true", help="only the million rows, in this process, as JSON")
    options = parser.parse_args()
    if options.million:
        print(json.dumps(million()))
        return 0
    found = {"machine": {"python": platform.python_version(), "cpus": os.cpu_count()}}
    found |= run(QUICK if options.quick else FULL)
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        show(found)
    if not options.quick:
        OUTPUT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    wrong = missed(found, quick=options.quick)
    for sentence in wrong:
        print(f"missed: {sentence}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
