"""Curves, histograms and scatter plots as PNG, made without pyplot, whose state is shared by the whole process.

No name from the data is drawn: matplotlib would take a dollar sign for a formula, and has no glyph for some letters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

from ml_lifecycle.backends.evaluation.metrics import Part, calibration_curve
from ml_lifecycle.backends.evaluation.rows import BASELINE, CANDIDATE, CHAMPION, ScoredRows
from ml_lifecycle.core.contracts import MeasurementSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

COLOURS: Final = {CANDIDATE: "#0b6e99", CHAMPION: "#c9761a", BASELINE: "#6b7280"}
_OTHER, _DARK, _PALE = "#7a4fa3", "#1c2430", "#c3c9d1"
_STYLES: Final = {CANDIDATE: "-", CHAMPION: "--"}
_GUIDE: Final = {"color": "#9aa2ad", "linestyle": ":", "linewidth": 1, "zorder": 0}
_SIZE, _DPI = (5.4, 4.3), 140
_BINS, _BARS = 10, 40
_PLAIN_NUMBERS = (-3, 5)
"""Powers of ten between which an axis writes its numbers out."""
_MOST_POINTS = 2000
"""Of a curve: more cannot be told apart."""
_DAYS, _WEEKS = 62, 400
"""Up to how many days a plot over time goes by day, and by week."""
_FEWEST_PERIODS = 3
_MOST_DATES = 5
"""Under the axis of a plot over time."""
_LEAST_RECALL = 0.02
"""Where the curve of precision begins: what the few rows before it are is luck."""


@dataclass(frozen=True)
class Plot:
    """One picture and what it shows."""

    name: str
    """The file's name without its ending."""
    title: str
    caption: str
    """How to read it."""
    png: bytes


def draw(rows: ScoredRows, labels: Mapping[str, str]) -> tuple[Plot, ...] | None:
    """The plots that fit the task; ``None`` where matplotlib is not installed.

    :param labels: What the legend calls each contender; only these are drawn, in this order.
    """
    try:
        import matplotlib.figure  # noqa: F401  # only whether it is there
    except ModuleNotFoundError:
        return None
    shown = {name: text for name, text in labels.items() if name in rows.scores}
    return tuple(_plots(rows, shown)) if len(rows) and shown else ()


def _plots(rows: ScoredRows, shown: Mapping[str, str]) -> Iterator[Plot]:
    drawn: list[tuple[str, str, str, Callable[[Any, ScoredRows, Mapping[str, str]], bool]]]
    if rows.task == "binary":
        drawn = [
            ("roc", "ROC curve", "Further up and left is better; the dotted line is guessing.", _roc),
            (
                "precision_recall",
                "Precision and recall",
                "Further up and right is better; the dotted line is guessing.",
                _precision_recall,
            ),
            (
                "calibration",
                "Calibration",
                "On the dotted line, what was predicted is what came true. Below: how often each score is given.",
                _calibration,
            ),
            ("over_time", "Over time", "What came true on average, and what was predicted for it.", _over_time),
        ]
    elif rows.task == "regression":
        drawn = [
            (
                "predicted",
                "Predicted against true",
                "On the dotted line, a prediction is right. Darker: more rows.",
                _predicted,
            ),
            ("residuals", "Errors", "Narrow and around 0 is better.", _residuals),
            ("over_time", "Over time", "The true mean, and what was predicted for it.", _over_time),
        ]
    else:
        drawn = [
            (
                "calibration",
                "Calibration of the likeliest label",
                "On the dotted line, the label is right as often as the model says. Below: how sure it is, how often.",
                _confidence,
            ),
        ]
    for name, title, caption, make in drawn:
        figure = _figure()
        if make(figure, rows, shown):
            yield Plot(name, title, caption, _png(figure))


def _figure() -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Any) -> bytes:
    for panel in figure.axes:
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8.5, colors=_DARK)
    # Working out how wide the labels are would be half of what a figure costs.
    figure.subplots_adjust(left=0.13, right=0.97, bottom=0.115, top=0.97, hspace=0.08)
    written = BytesIO()
    figure.savefig(written, format="png", dpi=_DPI, metadata={"Software": None})
    return written.getvalue()


def _style(name: str) -> dict[str, Any]:
    return {"color": COLOURS.get(name, _OTHER), "linestyle": _STYLES.get(name, "-."), "linewidth": 1.8}


def _known(rows: ScoredRows, name: str) -> ScoredRows | None:
    """The rows where truth, score and weight are numbers; ``None`` where these cannot be counted with."""
    import numpy as np

    score = rows.scores[name]
    known = np.isfinite(rows.truth) & np.isfinite(score if score.ndim == 1 else score.sum(axis=1))
    if rows.weight is not None:
        known &= np.isfinite(rows.weight)
    found = rows.part(known)
    return None if Part(found, MeasurementSpec()).unusable(name) else found


# --- Two classes -----------------------------------------------------------------------------------------------------


def _roc(figure: Any, rows: ScoredRows, shown: Mapping[str, str]) -> bool:
    panel = figure.add_subplot()
    for name, (true, false) in _curves(rows, shown):
        panel.plot(false / false[-1], true / true[-1], label=shown[name], **_style(name))
    panel.plot([0, 1], [0, 1], **_GUIDE)
    panel.set(xlabel="share of negatives called positive", ylabel="share of positives found", xlim=(0, 1), ylim=(0, 1))
    panel.set_aspect("equal")
    return _legend(panel, "lower right")


def _precision_recall(figure: Any, rows: ScoredRows, shown: Mapping[str, str]) -> bool:
    panel = figure.add_subplot()
    for name, (true, false) in _curves(rows, shown):
        told = true >= _LEAST_RECALL * true[-1]
        panel.plot(true[told] / true[-1], true[told] / (true + false)[told], label=shown[name], **_style(name))
        panel.axhline(true[-1] / (true[-1] + false[-1]), **_GUIDE)
    panel.set(xlabel="recall: share of positives found", ylabel="precision: share that is right", xlim=(0, 1))
    panel.set_ylim(0, 1.02)
    return _legend(panel, "upper right")


def _curves(rows: ScoredRows, shown: Mapping[str, str]) -> Iterator[tuple[str, tuple[Numbers, Numbers]]]:
    """Weight of positives and of negatives above each score, from the highest score down, where it makes a curve."""
    import numpy as np

    for name in shown:
        if (known := _known(rows, name)) is None:
            continue
        score, weight = known.scores[name], known.weight if known.weight is not None else np.ones(len(known))
        order = np.argsort(-score, kind="stable")
        true, false = np.cumsum((weight * known.truth)[order]), np.cumsum((weight * (1 - known.truth))[order])
        # Rows of the same score are caught together; a constant score has no curve.
        ends = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
        if len(ends) > 1 and true[-1] > 0 and false[-1] > 0:
            ends = ends[np.unique(np.linspace(0, len(ends) - 1, min(len(ends), _MOST_POINTS)).astype(int))]
            yield name, (np.append(0.0, true[ends]), np.append(0.0, false[ends]))


def _calibration(figure: Any, rows: ScoredRows, shown: Mapping[str, str]) -> bool:
    return _reliability(figure, rows, shown, ("predicted probability", "share that came true"))


def _confidence(figure: Any, rows: ScoredRows, shown: Mapping[str, str]) -> bool:
    return _reliability(figure, rows, shown, ("probability of the likeliest label", "share that is right"))


def _reliability(figure: Any, rows: ScoredRows, shown: Mapping[str, str], axes: tuple[str, str]) -> bool:
    """Tenths of the rows by score, and below them a histogram of the scores."""
    import numpy as np

    curve, below = figure.subplots(2, 1, height_ratios=(3.4, 1), sharex=True)
    furthest = 0.0
    for name in (name for name in shown if name != BASELINE):
        if (known := _known(rows, name)) is None:
            continue
        score = known.scores[name]
        stated = score if score.ndim == 1 else score.max(axis=1)
        said, true, _ = calibration_curve(known, name, bins=_BINS)
        furthest = max(furthest, *said, *true, float(np.quantile(stated, 0.999)))
        curve.plot(said, true, marker="o", markersize=4, label=shown[name], **_style(name))
        look = {"histtype": "stepfilled", "alpha": 0.35} if name == CANDIDATE else {"histtype": "step"}
        below.hist(stated, bins=_BARS, range=(0, 1), weights=known.weight, color=_style(name)["color"], **look)
    limit = min(1.0, 1.05 * furthest) or 1.0
    curve.plot([0, 1], [0, 1], **_GUIDE)
    curve.set(ylabel=axes[1], xlim=(0, limit), ylim=(0, limit))
    below.set(xlabel=axes[0], ylabel="rows", yticks=[])
    return _legend(curve, "upper left")


# --- Numbers ---------------------------------------------------------------------------------------------------------


def _predicted(figure: Any, rows: ScoredRows, shown: Mapping[str, str]) -> bool:
    import numpy as np

    found = _known(rows, CANDIDATE) if CANDIDATE in shown else None
    if found is None:
        return False
    truth, score = found.truth, found.scores[CANDIDATE]
    panel = figure.add_subplot()
    ends = np.quantile(np.concatenate([truth, score]), [0.002, 0.998])
    low, high = (float(ends[0]), float(ends[1])) if ends[0] < ends[1] else (float(ends[0]) - 1, float(ends[1]) + 1)
    panel.hexbin(truth, score, gridsize=45, extent=(low, high, low, high), mincnt=1, bins="log", cmap="Blues")
    panel.plot([low, high], [low, high], **{**_GUIDE, "color": _DARK, "zorder": 3})
    panel.set(xlabel="true", ylabel="predicted by the candidate", xlim=(low, high), ylim=(low, high))
    panel.ticklabel_format(scilimits=_PLAIN_NUMBERS)
    panel.set_aspect("equal")
    return True


def _residuals(figure: Any, rows: ScoredRows, shown: Mapping[str, str]) -> bool:
    import numpy as np

    known = {name: found for name in shown if (found := _known(rows, name)) is not None}
    errors = {name: found.scores[name] - found.truth for name, found in known.items()}
    if not errors:
        return False
    panel = figure.add_subplot()
    low, high = (float(end) for end in np.quantile(np.concatenate(list(errors.values())), [0.005, 0.995]))
    edges = (low, high) if low < high else (low - 1, high + 1)
    for name, error in errors.items():
        panel.hist(error, bins=_BARS, range=edges, histtype="step", label=shown[name], **_style(name))
    panel.axvline(0, **_GUIDE)
    panel.set(xlabel="predicted minus true (the outermost 1% is not shown)", ylabel="rows", xlim=edges)
    panel.ticklabel_format(scilimits=_PLAIN_NUMBERS)
    return _legend(panel, "upper right")


# --- Time ------------------------------------------------------------------------------------------------------------


def _over_time(figure: Any, rows: ScoredRows, shown: Mapping[str, str]) -> bool:
    """Means per day, week or month; not drawn where there are fewer than three of them."""
    import numpy as np

    if rows.time is None or (dated := ~np.isnat(rows.time)).sum() == 0:
        return False
    days = (rows.time[dated].max() - rows.time[dated].min()) / np.timedelta64(1, "D")
    unit = "D" if days <= _DAYS else "W" if days <= _WEEKS else "M"
    periods, places = np.unique(rows.time[dated].astype(f"datetime64[{unit}]"), return_inverse=True)
    if len(periods) < _FEWEST_PERIODS:
        return False
    panel = figure.add_subplot()
    at = periods.astype("datetime64[D]")
    weight = rows.weight[dated] if rows.weight is not None else np.ones(int(dated.sum()))
    panel.plot(at, _means(rows.truth[dated], weight, places), color=_DARK, linewidth=1.3, marker=".", label="true")
    for name in (name for name in shown if name != BASELINE):
        panel.plot(at, _means(rows.scores[name][dated], weight, places), label=shown[name], **_style(name))
    word = {"D": "day", "W": "week", "M": "month"}[unit]
    panel.set(xlabel=f"{word} of the holdout", ylabel="share" if rows.task == "binary" else "mean")
    panel.set_ylim(bottom=0) if rows.task == "binary" else None
    panel.ticklabel_format(axis="y", scilimits=_PLAIN_NUMBERS)
    _date_axis(panel, at, word)
    return _legend(panel, "best")


def _means(values: Numbers, weight: Numbers, places: NDArray[np.intp]) -> Numbers:
    import numpy as np

    known = np.isfinite(values) & np.isfinite(weight)
    total = np.bincount(places[known], weights=weight[known], minlength=places.max() + 1)
    summed = np.bincount(places[known], weights=(values * weight)[known], minlength=places.max() + 1)
    means: Numbers = np.divide(summed, total, out=np.full(len(total), np.nan), where=(total > 0) & np.isfinite(total))
    return means


def _date_axis(panel: Any, at: NDArray[np.datetime64], word: str) -> None:
    """A few of the periods, evenly: matplotlib's own locator gives up, with a warning, on some spans."""
    import numpy as np

    chosen = np.unique(np.linspace(0, len(at) - 1, _MOST_DATES).round().astype(int))
    digits = len("2013-03") if word == "month" else len("2013-03-31")
    panel.set_xticks(at[chosen], labels=[str(day)[:digits] for day in at[chosen]])


def _legend(panel: Any, place: str) -> bool:
    """Whether something was drawn that has a name."""
    if not panel.get_legend_handles_labels()[0]:
        return False
    panel.legend(frameon=False, loc=place, fontsize=9)
    return True
