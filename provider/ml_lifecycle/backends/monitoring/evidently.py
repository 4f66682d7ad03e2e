"""Evidently's page of the columns that matter."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Final

from ml_lifecycle.backends.reports.words import clean
from ml_lifecycle.core.contracts import ColumnDrift
from ml_lifecycle.core.errors import MissingLibraryError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    Values = NDArray[np.float64] | NDArray[np.object_]

NUMERIC: Final = "wasserstein"
"""Normed by the reference's standard deviation."""
CATEGORICAL: Final = "jensenshannon"
MOST_CATEGORIES: Final = 200
"""Rarer categories are drawn as one: a picture of thousands of values says nothing."""
MOST_COLUMNS: Final = 20
"""A column takes Evidently about a second."""
MOST_ROWS: Final = 20_000
"""Of each table: the shapes of a histogram need no more."""

_METHODS: Final[Mapping[str, str]] = {"number": NUMERIC, "category": CATEGORICAL}
"""By a column's kind. A method that depends on the number of rows would give p-values for one month and distances for
the next."""
_MISSING, _OTHER = "(missing)", "(other)"
_NEVER = 1e9
"""A distance that no column reaches."""


@dataclass(frozen=True)
class _Column:
    """What is drawn of one column."""

    shown: str
    """Its name on the page."""
    method: str
    drifted: bool
    reference: Values
    current: Values


def evidently_page(
    reference: pd.DataFrame, current: pd.DataFrame, columns: Sequence[ColumnDrift], *, title: str
) -> str:
    """Evidently's page of some columns: it holds scripts, so it is only ever opened in an origin of its own.

    What says nothing side by side (identifiers, times, columns without a value on one side, or with one value on both)
    is named and not drawn.

    :param columns: Those that matter, the most important first; the page's words of drift follow their verdicts.
    :raises MissingLibraryError: Evidently is not installed.
    """
    sides = _sample(reference), _sample(current)
    drawn: dict[str, _Column] = {}
    for one in columns:
        if len(drawn) < MOST_COLUMNS and one.column not in drawn:
            made = _column(one, *sides, place=len(drawn))
            if made is not None:
                drawn[one.column] = made
    left_out = dict.fromkeys(one.column for one in columns if one.column not in drawn)
    return _with_head(_draw(list(drawn.values())) if drawn else "", title, list(left_out))


def _sample(table: pd.DataFrame) -> pd.DataFrame:
    # In the order of the table: Evidently draws what a column was along its rows, too.
    kept: pd.DataFrame = table if len(table) <= MOST_ROWS else table.sample(MOST_ROWS, random_state=0).sort_index()
    return kept


# --- Columns ---------------------------------------------------------------------------------------------------------


def _column(drift: ColumnDrift, reference: pd.DataFrame, current: pd.DataFrame, *, place: int) -> _Column | None:
    """What is drawn of a column; ``None`` where that says nothing."""
    method = _METHODS.get(drift.kind)
    if method is None or drift.column not in reference or drift.column not in current:
        return None
    sides = reference[drift.column], current[drift.column]
    before, after = map(_numbers, sides) if method == NUMERIC else _categories(*sides)
    if not _says_something(before, after):
        return None
    return _Column(_harmless(drift.column, place), method, drift.drifted, before, after)


def _says_something(before: Values, after: Values) -> bool:
    import pandas as pd

    sides = [pd.unique(pd.Series(side).dropna()) for side in (before, after)]
    return all(len(side) for side in sides) and len({*sides[0][:2], *sides[1][:2]}) > 1


def _numbers(column: pd.Series[Any]) -> NDArray[np.float64]:
    import numpy as np
    import pandas as pd

    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype="float64", na_value=np.nan)
    return np.where(np.isfinite(values), values, np.nan)


def _categories(reference: pd.Series[Any], current: pd.Series[Any]) -> tuple[Values, Values]:
    """Values as harmless texts; missing ones stay a category of their own, so that more of them is a change."""
    sides = [side.astype(object).where(side.notna(), _MISSING).map(_as_text) for side in (reference, current)]
    counts = sides[0].value_counts().add(sides[1].value_counts(), fill_value=0)
    # Sorted by name first: a tie must not be broken in another way for the same data.
    kept = counts.sort_index().sort_values(ascending=False, kind="stable").index
    kept = kept if len(kept) <= MOST_CATEGORIES else kept[: MOST_CATEGORIES - 1]
    shown = {value: _harmless(value, place) for place, value in enumerate(kept)}
    before, after = (side.map(shown).fillna(_OTHER).to_numpy(dtype=object) for side in sides)
    return before, after


def _as_text(value: Any) -> str:
    # 1 and 1.0 are one category: an integer column with a gap turns into floats.
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _harmless(text: str, place: int) -> str:
    """A name or a value for Evidently's page; ``place`` keeps changed ones apart."""
    # Evidently writes them into its scripts as they are: "</script>" would end the script.
    shown = clean(text.replace("<", "\u2039").replace(">", "\u203a"))
    return shown if shown == text else f"{shown} ({place})"


# --- The page --------------------------------------------------------------------------------------------------------


def _draw(columns: Sequence[_Column]) -> str:
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
        definition = DataDefinition(
            numerical_columns=[one.shown for one in columns if one.method == NUMERIC],
            categorical_columns=[one.shown for one in columns if one.method == CATEGORICAL],
        )
        reference, current = (
            Dataset.from_pandas(pd.DataFrame(table), data_definition=definition)
            for table in ({one.shown: one.reference for one in columns}, {one.shown: one.current for one in columns})
        )
        wanted = [
            # The page tells no threshold, only whether it was reached: so it says what the verdict says.
            ValueDrift(column=one.shown, method=one.method, threshold=0.0 if one.drifted else _NEVER)
            for one in columns
        ]
        return str(Report(wanted).run(current, reference).get_html_str(as_iframe=False))


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
