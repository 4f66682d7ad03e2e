"""What a scored partition's folder holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ml_lifecycle.backends.files import read_parquet

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

PREDICTIONS: Final = "predictions.parquet"
"""Each row that was scored: key, time, score, label, and what scored it."""
INPUTS: Final = "inputs.parquet"
"""What the model saw of each row; of a large partition ``inputs-000000000.parquet`` and so on, in the rows' order."""
QUARANTINE: Final = "quarantine.parquet"
"""Rows that could not be scored, with the reason; absent where there is none."""
ORIGIN: Final = "origin.json"
QUARANTINE_COLUMNS: Final = ("quarantine_row", "quarantine_reason", "quarantine_detail")
"""Beside the row's own columns: its place in the partition from 0, why, and what was said of it."""


def part_of_inputs(first: int) -> str:
    """What the inputs of the rows from a place on are called, in a folder that holds several such files."""
    return f"inputs-{first:09d}.parquet"


def input_files(folder: Path) -> list[Path]:
    """The files that hold what the model saw, in the rows' order; none of partitions that were published without."""
    return sorted(folder.glob("inputs*.parquet"))


def read_inputs(folder: Path, columns: Sequence[str]) -> pd.DataFrame | None:
    """What the model saw, row by row as the predictions; ``None`` where it was not published.

    :param columns: Only those of them that there are.
    """
    import pandas as pd

    files = input_files(folder)
    if not files:
        return None
    table: pd.DataFrame = pd.concat([read_parquet(file, columns) for file in files], ignore_index=True)
    return table


def row_groups(folder: Path) -> Iterator[tuple[pa.Table, pa.Table | None]]:
    """Predictions with the model's inputs beside them, some rows at a time; ``None`` where those were not published.

    Nothing of a folder that holds no prediction.
    """
    inputs = _groups(input_files(folder))
    for predictions in _groups([path for path in [folder / PREDICTIONS] if path.is_file()]):
        yield predictions, next(inputs, None)


def _groups(files: Sequence[Path]) -> Iterator[pa.Table]:
    import pyarrow.parquet as pq

    for path in files:
        with pq.ParquetFile(path) as file:
            for number in range(file.num_row_groups):
                yield file.read_row_group(number)
