"""How often monitoring cries wolf, and how soon it finds what is there: ``make bench-drift-alarms``.

300 features over a quarter of daily looks, through the functions that a look calls (:func:`p_values`, :func:`adjusted`,
the distances), beside Evidently's default. Two tables and a plot:

*false alarms*: looks with an alarm per quarter without any drift, for independent and correlated features, days that
are alike and days that are not.
*detection*: how long a shift of the mean by 0.1, 0.2 or 0.5 standard deviations in 1 or 30 features goes unnoticed.

A look reads counts in the cells of the frame and nothing else, so counts are drawn instead of rows: a multinomial of a
day's rows over the cells has the same distribution as counting that many rows. Distances are those of the cells, which
are never above those of the finer bins; ``by_chance_alone`` counts the looks where only the p-values decide, which is
an upper bound of the alarms.

Ends with 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from ml_lifecycle.backends.monitoring.calibration import p_values
from ml_lifecycle.backends.monitoring.distances import ks, total_variation
from ml_lifecycle.core.contracts import DriftPolicy, Rate
from ml_lifecycle.core.monitoring import adjusted, alpha_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Counts = NDArray[np.int64]
    Values = NDArray[np.float64]

REPOSITORY = Path(__file__).resolve().parent.parent
OUTPUT = REPOSITORY / "benchmarks" / "drift_simulation.json"
PLOT = REPOSITORY / "docs" / "images" / "drift_simulation.png"
SEED = 20130131
FEATURES, NUMBERS, WITH_MISSING, GROUP = 300, 200, 50, 10
CELLS = 10
SHARED = 0.7
"""Share of a day's rows whose values the features of a group have in common, where features are correlated."""
DAYS, REFERENCE_DAYS, CLUSTERED_REFERENCE_DAYS = 90, 30, 60
QUARTER = 365.25 / 4
ALPHA = alpha_of(Rate(count=1, per="quarter"), "daily")
LEAST = DriftPolicy().min_effect
ROWS = (200, 1_000, 5_000, 50_000)
SHIFTS = (0.1, 0.2, 0.5)
SHIFTED = (1, 30)
WINDOWS = (1, 7, 28)
MOST_ALARMS, SOON, LEAST_SOON = 1.0, 3, 0.9


class Scene(NamedTuple):
    """One line of a table."""

    rows: int
    windows: tuple[int, ...] = (1,)
    correlated: bool = False
    day_effect: float = 0.0
    """Standard deviation of a day's own mean, in standard deviations of the rows."""
    alike_days: float = 0.0
    """Correlation of a day's own mean with the next day's (AR(1))."""
    block: bool = False
    """Whether ``block: day`` is set."""
    shift: float = 0.0
    shifted: int = 0
    replicates: int = 200

    @property
    def reference_days(self) -> int:
        """Days of the reference, each as large as a current one."""
        return CLUSTERED_REFERENCE_DAYS if self.day_effect else REFERENCE_DAYS


# --- Counts ----------------------------------------------------------------------------------------------------------


def cell_shares() -> Values:
    """``(features, cells + 1)``: 150 numbers in tenths, 50 with 3% missing, 100 of eight categories."""
    import numpy as np

    shares = np.zeros((FEATURES, CELLS + 1))
    shares[:NUMBERS, :CELLS] = 1 / CELLS
    shares[NUMBERS - WITH_MISSING : NUMBERS] *= 0.97
    shares[NUMBERS - WITH_MISSING : NUMBERS, CELLS] = 0.03
    categories = 1 / np.arange(1, 9)
    shares[NUMBERS:, :8] = categories / categories.sum()
    return shares


def moved(shares: Values, shift: Values, spread: float = 0.0) -> Values:
    """Shares of the cells where a normal value behind them has moved by ``shift``, ``(..., cells + 1)``.

    :param spread: Part of the value's standard deviation that the shift itself makes.
    """
    import numpy as np
    from scipy.special import ndtr, ndtri

    edges = ndtri(np.clip(np.cumsum(shares, axis=-1)[..., :-1], 0.0, 1.0))
    below = ndtr((edges - shift[..., None]) / np.sqrt(1 - spread**2))
    ends = np.zeros((*below.shape[:-1], 1))
    found: Values = np.clip(np.diff(np.concatenate([ends, below, ends + 1], axis=-1), axis=-1), 0.0, 1.0)
    found /= found.sum(axis=-1, keepdims=True)
    return found


def draw(scene: Scene, days: int, rng: np.random.Generator, shift: Values) -> Counts:
    """Counts of so many days, ``(features, days, cells + 1)``; ``shift`` is ``(features, days)``."""
    import numpy as np

    shares = cell_shares()[:, None, :]
    if scene.day_effect or shift.any():
        shares = moved(shares, shift, scene.day_effect)
    if not scene.correlated:
        return rng.multinomial(scene.rows, shares, size=(FEATURES, days))
    common = round(scene.rows * SHARED)
    own = rng.multinomial(scene.rows - common, shares, size=(FEATURES, days))
    return own + np.repeat(rng.multinomial(common, shares[::GROUP], size=(FEATURES // GROUP, days)), GROUP, axis=0)


def day_effects(scene: Scene, days: int, rng: np.random.Generator) -> Values:
    """Each feature's own mean on each day, ``(features, days)``."""
    import numpy as np

    fresh = rng.standard_normal((FEATURES, days))
    for day in range(1, days):
        fresh[:, day] = scene.alike_days * fresh[:, day - 1] + np.sqrt(1 - scene.alike_days**2) * fresh[:, day]
    return scene.day_effect * fresh


# --- Looks -----------------------------------------------------------------------------------------------------------


def look(scene: Scene, reference: Counts, current: Counts, first: int) -> tuple[Values, Values]:
    """p-values and distances of every look from day ``first`` on, ``(windows, features, looks)``.

    Before a window is full, its p-values are NaN.
    """
    import numpy as np

    chances, distances = [], []
    for window in scene.windows:
        begin = max(first, window - 1)
        blocks = np.lib.stride_tricks.sliding_window_view(current, window, axis=1)[:, begin - window + 1 :]
        blocks = blocks.swapaxes(-1, -2)
        total = blocks.sum(axis=-2)
        before = reference.sum(axis=1)[:, None, :]
        chance, _ = (
            p_values(reference[:, None], blocks) if scene.block else p_values(before[..., None, :], total[..., None, :])
        )
        gap = ((0, 0), (begin - first, 0))
        chances.append(np.pad(chance, gap, constant_values=np.nan))
        distances.append(np.pad(distance(before, total), gap))
    return np.stack(chances), np.stack(distances)


def distance(before: Counts, after: Counts) -> Values:
    """As ``compare`` has it: missing values, in the last cell, stand at either end of an order."""
    import numpy as np

    numbers, categories = slice(0, NUMBERS), slice(NUMBERS, FEATURES)
    ends = [(before[numbers], after[numbers])]
    ends.append((np.roll(before[numbers], 1, axis=-1), np.roll(after[numbers], 1, axis=-1)))
    ordered = np.maximum(*(ks(left, right) for left, right in ends))
    return np.concatenate([ordered, total_variation(before[categories], after[categories])])


def named(scene: Scene, chances: Values, distances: Values) -> Iterator[tuple[set[int], set[int]]]:
    """Features that each look names, and those that it would name without a least distance."""
    import numpy as np

    tried = FEATURES * len(scene.windows)
    features = np.broadcast_to(np.arange(FEATURES), chances.shape[:2])
    for day in range(chances.shape[-1]):
        full = np.isfinite(chances[..., day])
        likely = np.array(adjusted(chances[..., day][full].tolist(), tried=tried)) <= ALPHA
        matters = distances[..., day][full] >= LEAST
        yield set(features[full][likely & matters].tolist()), set(features[full][likely].tolist())


def quarter(scene: Scene, rng: np.random.Generator) -> tuple[int, int, int | None]:
    """Looks with an alarm, the same by p-values alone, and the day on which a moved feature was first named."""
    import numpy as np

    behind = max(scene.windows) - 1 if scene.shift else 0
    days = scene.reference_days + behind + DAYS
    effect = day_effects(scene, days, rng) if scene.day_effect else np.zeros((FEATURES, days))
    effect[: scene.shifted, scene.reference_days + behind :] += scene.shift
    counts = draw(scene, days, rng, effect)
    reference, current = counts[:, : scene.reference_days], counts[:, scene.reference_days :]
    alarms, likely, found = 0, 0, None
    # Most shifts are found at once: what comes after is looked at only if they are not.
    pieces = ((0, SOON), (SOON, DAYS)) if scene.shift else ((0, DAYS),)
    for begin, end in pieces:
        looks = look(scene, reference, current[:, : behind + end], behind + begin)
        for day, (names, by_chance) in enumerate(named(scene, *looks), start=begin):
            alarms += bool(names)
            likely += bool(by_chance)
            if found is None and any(name < scene.shifted for name in names):
                found = day + 1
        if found is not None:
            break
    return alarms, likely, found


def run(scene: Scene, seed: int) -> dict[str, Any]:
    """Every replicate of a line."""
    import numpy as np

    results = [quarter(scene, np.random.default_rng([seed, place])) for place in range(scene.replicates)]
    line: dict[str, Any] = scene._asdict() | {"reference_days": scene.reference_days}
    if scene.shift:
        delays = [found for *_, found in results]
        known = [DAYS + 1 if found is None else found for found in delays]
        middle = median(known)
        return line | {
            "median_days": None if middle > DAYS else middle,
            "within_3_days": sum(found <= SOON for found in known) / len(known),
            "never": sum(found is None for found in delays) / len(delays),
        }
    per_quarter = np.array([[alarms, likely] for alarms, likely, _ in results]) * QUARTER / DAYS
    mean, error = per_quarter.mean(axis=0), per_quarter.std(axis=0, ddof=1) / np.sqrt(len(results))
    return line | {
        "alarms_per_quarter": float(mean[0]),
        "standard_error": float(error[0]),
        "by_chance_alone": float(mean[1]),
        "by_chance_alone_error": float(error[1]),
    }


def scenes(*, quick: bool) -> list[Scene]:
    """Every line of both tables."""
    lines = [Scene(rows=rows, correlated=correlated) for correlated in (False, True) for rows in ROWS]
    lines += [Scene(rows=rows, windows=WINDOWS, correlated=True) for rows in (200, 5_000)]
    for alike in (0.0, 0.5):
        lines += [
            Scene(rows=rows, day_effect=0.1, alike_days=alike, block=block, replicates=200 if block else 20)
            for block in (True, False)
            for rows in (200, 5_000)
        ]
    lines.append(Scene(rows=1_000, windows=WINDOWS, day_effect=0.1, alike_days=0.5, block=True, replicates=50))
    lines += [
        Scene(rows=rows, windows=windows, shift=shift, shifted=shifted, replicates=60 if windows == (1,) else 30)
        for windows in ((1,), WINDOWS)
        for shift in SHIFTS
        for shifted in SHIFTED
        for rows in ROWS
        if windows == (1,) or shift < max(SHIFTS)
    ]
    lines += [
        Scene(rows=5_000, day_effect=0.1, alike_days=0.5, block=True, shift=shift, shifted=30, replicates=30)
        for shift in SHIFTS
    ]
    if not quick:
        return lines
    return [one._replace(replicates=2) for one in lines if max(one.windows) == 1 and one.rows in (200, 5_000)]


# --- Evidently -------------------------------------------------------------------------------------------------------


def evidently_line(rows: int, shift: float, draws: int, seed: int) -> dict[str, Any]:
    """How often Evidently's default flags one number, by its own test on rows.

    With more than 1,000 reference rows that is the Wasserstein distance over the reference's standard deviation at 0.1.
    """
    import numpy as np
    import pandas as pd
    from evidently.legacy.calculations.stattests.registry import get_stattest

    rng = np.random.default_rng([seed, rows, round(shift * 100)])
    size = min(REFERENCE_DAYS * rows, 150_000)
    flagged, test = 0, None
    for _ in range(draws):
        reference, current = pd.Series(rng.standard_normal(size)), pd.Series(rng.standard_normal(rows) + shift)
        test = test or get_stattest(reference, current, "num", None)
        flagged += bool(test(reference, current, "num", test.default_threshold).drifted)
    name = test.display_name if test else ""
    return {"rows": rows, "reference_rows": size, "shift": shift, "draws": draws, "flagged": flagged / draws,
            "test": name}  # fmt: skip


def evidently_delays(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the flags of single features make of a quarter, features and days being independent.

    ``any``: an alarm where any feature is flagged; ``half``: where half of them are, which is its default.
    """
    from scipy.stats import binom

    still = {line["rows"]: line["flagged"] for line in lines if not line["shift"]}
    answer = []
    for line in lines:
        rate = still[line["rows"]]
        if not line["shift"]:
            chances = {"any": 1 - (1 - rate) ** FEATURES, "half": binom.sf(FEATURES // 2 - 1, FEATURES, rate)}
            answer.append(line | {f"{name}_per_quarter": float(QUARTER * c) for name, c in chances.items()})
            continue
        for shifted in SHIFTED:
            found = 1 - (1 - line["flagged"]) ** shifted
            half = {f"half_{name}": value for name, value in _waiting(_half(rate, line["flagged"], shifted)).items()}
            answer.append(line | {"shifted": shifted} | _waiting(float(found)) | half)
    return answer


def _half(still: float, flagged: float, shifted: int) -> float:
    """Chance that half of the features are flagged on a day."""
    import numpy as np
    from scipy.stats import binom

    others = binom.pmf(np.arange(FEATURES - shifted + 1), FEATURES - shifted, still)
    counts = np.convolve(others, binom.pmf(np.arange(shifted + 1), shifted, flagged))
    return float(min(counts[FEATURES // 2 :].sum(), 1.0))


def _waiting(chance: float) -> dict[str, Any]:
    """For how long one waits for what happens on a day with this chance."""
    days = next((day for day in range(1, DAYS + 1) if 1 - (1 - chance) ** day >= 1 / 2), None)
    return {"median_days": days, "within_3_days": 1 - (1 - chance) ** SOON, "never": (1 - chance) ** DAYS}


def evidently(*, quick: bool) -> list[dict[str, Any]]:
    """Every line of Evidently's tables."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        draws = {rows: 10 if quick else {200: 2_000, 1_000: 1_000, 5_000: 150}.get(rows, 40) for rows in ROWS}
        sizes = [rows for rows in ROWS if not quick or rows <= ROWS[1]]
        lines = [evidently_line(rows, shift, draws[rows], SEED) for rows in sizes for shift in (0.0, *SHIFTS)]
    return evidently_delays(lines)


# --- Plot ------------------------------------------------------------------------------------------------------------

INK, QUIET = "#1f2933", "#8a94a0"
HUES = {0.1: "#c2410c", 0.2: "#0f766e", 0.5: "#4338ca"}


def plot(found: dict[str, Any], target: Path) -> None:
    """Alarms without drift, and delays of shifts in 1 and in 30 features."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    style = {"font.size": 9, "axes.edgecolor": QUIET, "axes.spines.top": False, "axes.spines.right": False,
             "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK}  # fmt: skip
    with mpl.rc_context(style):
        figure, axes = plt.subplots(1, 3, figsize=(12.5, 4.3), layout="constrained")
        _plot_alarms(axes[0], found)
        for axis, shifted in zip(axes[1:], reversed(SHIFTED), strict=True):
            _plot_delays(axis, found, shifted)
        figure.savefig(target, dpi=130)
        plt.close(figure)


def _plot_alarms(axis: Any, found: dict[str, Any]) -> None:
    groups: dict[str, Callable[[dict[str, Any]], bool]] = {
        "independent features": lambda line: not line["correlated"] and not line["day_effect"],
        "correlated features": lambda line: line["correlated"],
        "alike days, block: day": lambda line: line["block"] and line["alike_days"],
        "alike days, no block": lambda line: line["alike_days"] and not line["block"],
    }
    for marker, hue, (name, belongs) in zip("osD^", ("#0f766e", "#4338ca", "#b7791f", "#c2410c"), groups.items(),
                                            strict=True):  # fmt: skip
        lines = [line for line in found["false_alarms"] if len(line["windows"]) == 1 and belongs(line)]
        heights = [max(line["alarms_per_quarter"], 0.01) for line in lines]
        axis.plot([line["rows"] for line in lines], heights, marker=marker, color=hue, label=name, lw=1.4, ms=5)
    any_column = [line for line in found["evidently"] if "any_per_quarter" in line]
    axis.plot([line["rows"] for line in any_column], [max(line["any_per_quarter"], 0.01) for line in any_column],
              ls="--", marker="x", color=QUIET, label="Evidently, any column")  # fmt: skip
    axis.axhline(MOST_ALARMS, color=INK, lw=1, ls=":")
    axis.annotate("the budget: 1", (ROWS[-1], MOST_ALARMS), xytext=(0, 3), textcoords="offset points", ha="right")
    axis.set(xscale="log", yscale="log", xlabel="rows a day", ylim=(0.008, 200),
             title="Alarms per quarter without drift")  # fmt: skip
    axis.set_yticks([0.01, 0.1, 1, 10, 100], ["none", "0.1", "1", "10", "100"])
    axis.legend(frameon=False, fontsize=7.5, loc="lower left")
    _days_of_rows(axis)


def _plot_delays(axis: Any, found: dict[str, Any], shifted: int) -> None:
    for place, (shift, hue) in enumerate(HUES.items()):
        for source, style in (("detection", "-"), ("evidently", "--")):
            lines = [
                line
                for line in found[source]
                if line.get("shifted") == shifted and line["shift"] == shift
                and len(line.get("windows", (1,))) == 1 and not line.get("block")
            ]  # fmt: skip
            # Lines that would lie on each other stand a little apart.
            apart = 1 + 0.05 * (place - 1) + (0.1 if source == "evidently" else 0.0)
            days = [(line["median_days"] or 2 * DAYS) * apart for line in lines]
            label = f"{shift:g} sd" if source == "detection" else None
            axis.plot([line["rows"] for line in lines], days, ls=style, marker="o" if source == "detection" else "x",
                      color=hue, label=label, lw=1.4, ms=5)  # fmt: skip
    axis.plot([], [], ls="--", marker="x", color=QUIET, label="Evidently, any column")
    default = [line for line in found["evidently"] if line.get("shifted") == shifted and line["shift"] == max(SHIFTS)]
    axis.plot(
        [line["rows"] for line in default],
        [line["half_median_days"] or 2.2 * DAYS for line in default],
        ls=":",
        marker="+",
        color=INK,
        label="Evidently, half of the columns",
        lw=1.2,
    )
    axis.axhline(1.25 * DAYS, color=QUIET, lw=0.8, ls=":")
    features = "one feature" if shifted == 1 else f"{shifted} features"
    axis.set(xscale="log", yscale="log", xlabel="rows a day", ylim=(0.8, 260),
             title=f"Median days to find a shift in {features}")  # fmt: skip
    axis.set_yticks([1, 3, 7, 28, 90, 180], ["1", "3", "7", "28", "90", "never"])
    axis.legend(frameon=False, fontsize=7.5)
    _days_of_rows(axis)


def _days_of_rows(axis: Any) -> None:
    axis.set_xticks(ROWS, [f"{rows:,}" for rows in ROWS])
    axis.minorticks_off()


# --- All of it -------------------------------------------------------------------------------------------------------


def missed(found: dict[str, Any]) -> list[str]:
    """Goals that were missed, in words: the budget by two standard errors, and the promised shift."""
    words = [
        f"{line['alarms_per_quarter']:.2f} alarms per quarter at {line['rows']:,} rows a day"
        for line in found["false_alarms"]
        if (line["block"] or not line["day_effect"])
        and line["alarms_per_quarter"] - 2 * line["standard_error"] > MOST_ALARMS
    ]
    goal = (5_000, 0.2, 30)
    words += [
        f"a shift of 0.2 in 30 features is found within {SOON} days in {line['within_3_days']:.0%}"
        for line in found["detection"]
        if (line["rows"], line["shift"], line["shifted"]) == goal
        and not line["day_effect"]
        and line["within_3_days"] < LEAST_SOON
    ]
    return words


def simulate(*, quick: bool, workers: int) -> dict[str, Any]:
    """All lines of all tables."""
    lines = scenes(quick=quick)
    # The longest first, so that no worker is left alone with one at the end.
    order = sorted(range(len(lines)), key=lambda place: -lines[place].replicates * len(lines[place].windows))
    with ProcessPoolExecutor(workers) as pool:
        beside = pool.submit(evidently, quick=quick)
        futures = {place: pool.submit(run, lines[place], SEED + place) for place in order}
        results = [futures[place].result() for place in range(len(lines))]
        return {
            "alpha": ALPHA,
            "min_effect": LEAST,
            "features": FEATURES,
            "days": DAYS,
            "false_alarms": [line for line in results if not line["shift"]],
            "detection": [line for line in results if line["shift"]],
            "evidently": beside.result(),
        }


def main() -> int:
    """Simulate, keep, draw, and say which goals were missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="a short form that keeps nothing")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--plot-only", action="store_true", help="draw what the last run kept")
    options = parser.parse_args()
    if options.plot_only:
        plot(json.loads(OUTPUT.read_text(encoding="utf-8")), PLOT)
        return 0
    began = time.monotonic()
    found = simulate(quick=options.quick, workers=options.workers)
    found |= {"seconds": round(time.monotonic() - began, 1), "python": platform.python_version()}
    for line in (*found["false_alarms"], *found["detection"], *found["evidently"]):
        print(json.dumps({name: round(v, 3) if isinstance(v, float) else v for name, v in line.items()}))
    if not options.quick:
        OUTPUT.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        plot(found, PLOT)
    words = [] if options.quick else missed(found)
    print("; ".join(words) or f"done in {found['seconds']} s")
    return 1 if words else 0


if __name__ == "__main__":
    sys.exit(main())
