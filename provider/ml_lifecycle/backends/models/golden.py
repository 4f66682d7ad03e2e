"""Golden rows: inputs with training's own predictions, which whoever loads the package has to repeat."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ml_lifecycle.backends.files import read_parquet, write_parquet
from ml_lifecycle.backends.models.inputs import CATEGORY, NUMBER
from ml_lifecycle.core.errors import UntrustedModelError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

GOLDEN_FILE: Final = "golden.parquet"
GOLDEN_ROWS: Final = 64
_INPUT, _PREDICTION = "input:", "prediction:"


def golden_rows(table: pd.DataFrame, inputs: Mapping[str, str]) -> pd.DataFrame:
    """Up to 64 rows: each input's extremes, gaps and rarest value while there is room, the rest evenly spaced."""
    import numpy as np

    edges = [place for name, kind in inputs.items() for place in _edges(table[name], kind)]
    even = np.linspace(0, len(table) - 1, num=min(GOLDEN_ROWS, len(table))).astype(int).tolist()
    # Half of the room is kept for ordinary rows, however many inputs there are.
    first = list(dict.fromkeys(edges))[: GOLDEN_ROWS // 2]
    chosen = sorted(list(dict.fromkeys([*first, *even]))[:GOLDEN_ROWS])
    rows: pd.DataFrame = table.iloc[chosen].reset_index(drop=True)
    return rows


def _edges(column: pd.Series[Any], kind: str) -> list[int]:
    """Where the column is missing first, smallest and greatest; or where its rarest value stands first."""
    import numpy as np

    gaps = np.flatnonzero(column.isna())[:1].tolist()
    if column.notna().sum() == 0:
        return [int(place) for place in gaps]
    if kind == NUMBER:
        values = column.to_numpy("float64")
        return [*map(int, gaps), int(np.nanargmin(values)), int(np.nanargmax(values))]
    rarest = column.value_counts(sort=False).sort_index().idxmin()
    return [*map(int, gaps), int(np.flatnonzero((column == rarest).to_numpy())[0])]


def write_golden(folder: Path, rows: pd.DataFrame, predictions: NDArray[np.float64]) -> None:
    """Put the rows with their predictions into a package's folder."""
    import pandas as pd

    scores = predictions.reshape(len(rows), -1)
    columns: dict[str, Any] = {f"{_INPUT}{name}": rows[name] for name in rows.columns}
    columns |= {f"{_PREDICTION}{place}": scores[:, place] for place in range(scores.shape[1])}
    write_parquet(pd.DataFrame(columns), folder / GOLDEN_FILE)


def read_golden(folder: Path) -> tuple[pd.DataFrame, NDArray[np.float64]] | None:
    """The rows and their predictions ``(rows, scores)``; ``None`` where the package holds none.

    :raises UntrustedModelError: the file cannot be read.
    """
    if not (folder / GOLDEN_FILE).is_file():
        return None
    try:
        table = read_parquet(folder / GOLDEN_FILE)
    except (OSError, ValueError) as error:
        raise UntrustedModelError(
            f"the package's {GOLDEN_FILE} cannot be read ({type(error).__name__})",
            where=GOLDEN_FILE,
            way_out="train again",
        ) from error
    names = [name for name in table.columns if name.startswith(_INPUT)]
    answers = [name for name in table.columns if name.startswith(_PREDICTION)]
    rows = table[names].rename(columns={name: name.removeprefix(_INPUT) for name in names})
    return rows, table[answers].to_numpy("float64")


def kinds_of(rows: pd.DataFrame) -> dict[str, str]:
    """The rows' columns in order, each with the kind that its type says."""
    from pandas.api import types

    return {str(name): NUMBER if types.is_numeric_dtype(rows[name].dtype) else CATEGORY for name in rows.columns}
