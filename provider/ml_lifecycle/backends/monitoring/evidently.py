"""Evidently's page of some columns, with one explicit method each."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from ml_lifecycle.backends.reports.words import clean
from ml_lifecycle.core.contracts import ColumnDrift
from ml_lifecycle.core.errors import MissingLibraryError

if TYPE_CHECKING:
    import pandas as pd

NUMERIC = "wasserstein"
"""Normed by the reference's standard deviation."""
CATEGORICAL = "jensenshannon"
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
