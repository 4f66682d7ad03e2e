"""Evidently's distances, one explicit method per column, and its page."""

from __future__ import annotations

import contextlib
import io
import math
import warnings
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from ml_lifecycle.backends.monitoring.base import DriftDetector, DriftResult
from ml_lifecycle.backends.reports.words import clean
from ml_lifecycle.core.contracts import ColumnDrift
from ml_lifecycle.core.errors import ColumnError, MissingLibraryError, NoRowsError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

NUMERIC = "wasserstein"
"""Normed by the reference's standard deviation."""
CATEGORICAL = "jensenshannon"
FEW_VALUES = 10
"""Numbers with at most this many distinct values are compared as categories."""
MOST_CATEGORIES = 200
"""Rarer categories are compared as one: distances and pages over thousands of values say nothing."""

MOST_COLUMNS = 20
"""Evidently's page takes a quarter of a megabyte per column, and a second to make."""
MOST_ROWS = 20_000
"""Of each table: the shapes of a histogram need no more."""

_MISSING = "(missing)"
_OTHER = "(other)"
_NEVER = 1e9
"""A distance that no column reaches."""


def evidently_page(
    reference: pd.DataFrame, current: pd.DataFrame, columns: Sequence[ColumnDrift], *, title: str
) -> str:
    """Evidently's page of some columns: it holds scripts, so it is only ever opened in an origin of its own.

    What says nothing side by side (identifiers, times, columns with one value at most, or without any on one side) is
    named and not drawn.

    :param columns: Those that matter, the most important first; its words of drift follow this verdict.
    :raises MissingLibraryError: Evidently is not installed.
    """
    sides = _sample(reference), _sample(current)
    chosen = {one.column: one for one in columns if one.column in reference and one.column in current}
    drawn: dict[str, tuple[str, Any, Any]] = {}
    for name, one in chosen.items():
        method = _method_of(one, sides[0][name])
        if method and len(drawn) < MOST_COLUMNS:
            before, after = (_numbers(side[name]) if method == NUMERIC else _categories(side[name]) for side in sides)
            if _says_something(before, after):
                drawn[name] = method, before, after
    page = _evidently(drawn, chosen) if drawn else ""
    return _with_head(page, title, [one.column for one in columns if one.column not in drawn])


def _sample(table: pd.DataFrame) -> pd.DataFrame:
    kept: pd.DataFrame = table if len(table) <= MOST_ROWS else table.sample(MOST_ROWS, random_state=0)
    return kept


def _method_of(column: ColumnDrift, values: pd.Series[Any]) -> str:
    """What Evidently compares it by; empty for what it shows nothing of."""
    from pandas.api import types

    kind = column.kind or ("number" if types.is_numeric_dtype(values.dtype) else "category")
    return {"number": NUMERIC, "category": CATEGORICAL}.get(kind, "")


def _says_something(before: Any, after: Any) -> bool:
    import pandas as pd

    sides = pd.Series(before).dropna(), pd.Series(after).dropna()
    return all(len(side) for side in sides) and len({*sides[0].unique()[:2], *sides[1].unique()[:2]}) > 1


def _evidently(drawn: Mapping[str, tuple[str, Any, Any]], columns: Mapping[str, ColumnDrift]) -> str:
    """Evidently's page, a metric per column: its preset would compute each of them three times."""
    import pandas as pd

    # Its imports and its run warn about other libraries' deprecations, and draw on the terminal.
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            from evidently import DataDefinition, Dataset, Report
            from evidently.metrics import ValueDrift
        except ImportError as error:
            raise MissingLibraryError(error.name or "evidently", "evidently") from None
        shown = {name: _harmless(name, place) for place, name in enumerate(drawn)}
        before = pd.DataFrame({shown[name]: pd.Series(one) for name, (_, one, _) in drawn.items()})
        after = pd.DataFrame({shown[name]: pd.Series(one) for name, (_, _, one) in drawn.items()})
        categories = [shown[name] for name, (method, _, _) in drawn.items() if method == CATEGORICAL]
        before, after = _fewer_categories(before, after, categories)
        definition = DataDefinition(
            numerical_columns=[shown[name] for name, (method, _, _) in drawn.items() if method == NUMERIC],
            categorical_columns=categories,
        )
        wanted = [
            # The page tells no threshold, only whether it was reached: so it says what our verdict says.
            ValueDrift(column=shown[name], method=method, threshold=0.0 if columns[name].drifted else _NEVER)
            for name, (method, _, _) in drawn.items()
        ]
        snapshot = Report(wanted).run(
            Dataset.from_pandas(after, data_definition=definition),
            Dataset.from_pandas(before, data_definition=definition),
        )
        return str(snapshot.get_html_str(as_iframe=False))


def _with_head(page: str, title: str, left_out: Sequence[str]) -> str:
    """Evidently's page with a title above it, and what it does not draw."""
    named = ", ".join(escape(clean(name)) for name in left_out[:MOST_COLUMNS])
    more = f" and {len(left_out) - MOST_COLUMNS:,} more" if len(left_out) > MOST_COLUMNS else ""
    head = (
        '<section style="font:15px/1.5 system-ui,sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem;'
        'overflow-wrap:anywhere">'
        f'<h1 style="font-size:1.4rem">{escape(clean(title, longest=200))}</h1>'
        "<p>Drawn by Evidently. Whether a column drifted is decided by the drift report; its scores are distances.</p>"
        f"{f'<p>Not drawn: <bdi>{named}</bdi>{more}.</p>' if left_out else ''}</section>"
    )
    if not page:
        return (
            f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(clean(title))}</title></head>'
            f"<body>{head}</body></html>\n"
        )
    before, body, after = page.partition("<body>")
    return f"{before}{body}{head}{after}" if body else f"{head}{page}"


class EvidentlyDetector(DriftDetector):
    """Wasserstein distance for numbers, Jensen-Shannon distance for categories, in memory.

    A method that depends on the number of rows would give p-values for one month and distances for the next.
    """

    def compare(
        self,
        reference: pd.DataFrame,
        current: pd.DataFrame,
        *,
        columns: Sequence[str],
        threshold: float,
        title: str,
    ) -> DriftResult:
        """Measure every column; a timestamp, and one without a value on both sides, has distance ``None``."""
        for name, table in (("reference", reference), ("current", current)):
            _check_table(table, columns, where=f"{name} data")
        methods = {name: _method(reference[name], current[name]) for name in columns}
        sides = _prepared(reference, methods), _prepared(current, methods)
        measurable = [name for name in columns if _is_measurable(reference[name], current[name])]
        distances, page = (
            _measure(*sides, {name: methods[name] for name in measurable}, threshold) if measurable else ({}, "")
        )
        drifts = tuple(_drift(name, methods[name], distances.get(name), threshold) for name in columns)
        return DriftResult(columns=drifts, html=_page(page, title, drifts))


def _check_table(table: pd.DataFrame, columns: Sequence[str], *, where: str) -> None:
    known = [str(name) for name in table.columns]
    for name in columns:
        if name not in known:
            raise ColumnError(
                f"the column {name!r} is not there",
                where=where,
                way_out=f"there are {', '.join(known[:40])}{did_you_mean(name, known)}",
            )
    if table.empty:
        raise NoRowsError("there is no row to compare", where=where, way_out="compare tables with rows")


def _method(reference: pd.Series[Any], current: pd.Series[Any]) -> str:
    """What a column is compared by; the reference decides, so that it stays the same for every current table."""
    from pandas.api import types

    def is_number(column: pd.Series[Any]) -> bool:
        return types.is_numeric_dtype(column.dtype) and not types.is_bool_dtype(column.dtype)

    # A column that lost all its values is compared as categories, of which "missing" is one: that it went is a change.
    numbers = all(is_number(column) and _has_number(column) for column in (reference, current))
    return NUMERIC if numbers and reference.nunique() > FEW_VALUES else CATEGORICAL


def _has_number(column: pd.Series[Any]) -> bool:
    import numpy as np

    return bool(np.isfinite(_numbers(column)).any())


def _is_measurable(reference: pd.Series[Any], current: pd.Series[Any]) -> bool:
    """Timestamps only ever move on, and what has no value on both sides says nothing."""
    from pandas.api import types

    if any(types.is_datetime64_any_dtype(column.dtype) for column in (reference, current)):
        return False
    return bool(reference.notna().any() or current.notna().any())


def _prepared(table: pd.DataFrame, methods: Mapping[str, str]) -> pd.DataFrame:
    import pandas as pd

    columns = {
        name: _numbers(table[name]) if method == NUMERIC else _categories(table[name])
        for name, method in methods.items()
    }
    prepared: pd.DataFrame = pd.DataFrame(columns, index=range(len(table)))
    return prepared


def _numbers(column: pd.Series[Any]) -> Any:
    import numpy as np
    import pandas as pd

    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype="float64", na_value=np.nan)
    return np.where(np.isfinite(values), values, np.nan)


def _categories(column: pd.Series[Any]) -> Any:
    """Values as texts; missing ones stay a category of their own, so that more of them is a change that shows."""
    values = column.astype(object).where(column.notna(), _MISSING)
    return values.map(lambda value: _without_tags(_as_text(value))).to_numpy(dtype=object)


def _as_text(value: Any) -> str:
    # 1 and 1.0 are one category: an integer column with a gap turns into floats.
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _measure(
    reference: pd.DataFrame, current: pd.DataFrame, methods: Mapping[str, str], threshold: float
) -> tuple[dict[str, float], str]:
    """Distances by column, and Evidently's page."""
    # Its imports and its run warn about other libraries' deprecations, and draw on the terminal.
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            from evidently import DataDefinition, Dataset, Report
            from evidently.metrics import ValueDrift
        except ImportError as error:
            raise MissingLibraryError(error.name or "evidently", "evidently") from None
        numbers = [name for name, method in methods.items() if method == NUMERIC]
        categories = [name for name, method in methods.items() if method == CATEGORICAL]
        reference, current = _fewer_categories(reference, current, categories)
        shown = {name: _harmless(name, place) for place, name in enumerate(methods)}
        definition = DataDefinition(
            numerical_columns=[shown[name] for name in numbers],
            categorical_columns=[shown[name] for name in categories],
        )
        wanted = [
            ValueDrift(column=shown[name], method=method, threshold=threshold) for name, method in methods.items()
        ]
        snapshot = Report(wanted).run(
            Dataset.from_pandas(current[list(methods)].rename(columns=shown), data_definition=definition),
            Dataset.from_pandas(reference[list(methods)].rename(columns=shown), data_definition=definition),
        )
        named = {text: name for name, text in shown.items()}
        found = {named[metric["config"]["column"]]: float(metric["value"]) for metric in snapshot.dict()["metrics"]}
        return found, str(snapshot.get_html_str(as_iframe=False))


def _harmless(name: str, place: int) -> str:
    """A column's name for Evidently's page; ``place`` keeps changed names apart."""
    text = _without_tags(name)
    return text if text == name else f"{text} ({place})"


def _without_tags(text: str) -> str:
    # Evidently writes names and values into its scripts as they are: "</script>" would end the script.
    return text.replace("<", "\u2039").replace(">", "\u203a")


def _fewer_categories(
    reference: pd.DataFrame, current: pd.DataFrame, categories: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    reference, current = reference.copy(), current.copy()
    for name in categories:
        counts = reference[name].value_counts().add(current[name].value_counts(), fill_value=0)
        if len(counts) > MOST_CATEGORIES:
            # Sorted by name first: a tie must not be broken in another way for the same data.
            kept = counts.sort_index().sort_values(ascending=False, kind="stable").index[: MOST_CATEGORIES - 1]
            for side in (reference, current):
                side[name] = side[name].where(side[name].isin(kept), _OTHER)
    return reference, current


def _drift(name: str, method: str, distance: float | None, threshold: float) -> ColumnDrift:
    known = distance if distance is not None and math.isfinite(distance) else None
    return ColumnDrift(
        column=name,
        method=method,
        distance=known,
        threshold=threshold,
        drifted=known is not None and known >= threshold,
    )


def _page(page: str, title: str, drifts: Sequence[ColumnDrift]) -> str:
    """Evidently's page with a title and one table of all columns above it, the farthest first."""
    ordered = sorted(drifts, key=lambda drift: (-(drift.distance if drift.distance is not None else -1), drift.column))
    rows = "".join(
        f"<tr><td>{escape(drift.column)}</td><td>{escape(drift.method)}</td>"
        f"<td>{'not measured' if drift.distance is None else f'{drift.distance:.3f}'}</td>"
        f"<td>{drift.threshold:g}</td><td>{'drifted' if drift.drifted else ''}</td></tr>"
        for drift in ordered
    )
    head = (
        '<section style="font:15px/1.5 system-ui,sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem">'
        f'<h1 style="font-size:1.4rem">{escape(title)}</h1>'
        '<table cellpadding="6" style="border-collapse:collapse;text-align:left"><thead><tr><th>Column</th>'
        f"<th>Distance</th><th>Value</th><th>Threshold</th><th></th></tr></thead><tbody>{rows}</tbody></table></section>"
    )
    if not page:
        return (
            f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title></head>'
            f"<body>{head}</body></html>\n"
        )
    before, body, after = page.partition("<body>")
    return f"{before}{body}{head}{after}" if body else f"{head}{page}"
