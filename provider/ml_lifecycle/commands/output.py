"""How a command hands out what it found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ml_lifecycle.core.errors import RequestError

if TYPE_CHECKING:
    import pandas as pd

DONE, FAILED, INCONCLUSIVE, BAD_INPUT, CRASHED = 0, 1, 2, 64, 70
"""Exit codes of every command; the last two are those of BSD's sysexits.h."""
CODES: Final = "64 wrong usage, or an input that cannot be used"
"""The end of every command's line about its exit codes."""


def print_json(value: Any) -> None:
    """Print plain JSON for the next program, and for people who look at it."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def publish_text(text: str, path: Path) -> None:
    """Write a file whole or not at all.

    :raises RequestError: it cannot be written there.
    """
    _publish(path, lambda draft: draft.write_text(text, encoding="utf-8"))


def publish_bytes(content: bytes, path: Path) -> None:
    """As :func:`publish_text`, any bytes."""
    _publish(path, lambda draft: draft.write_bytes(content))


def publish_table(table: pd.DataFrame, path: Path) -> None:
    """As :func:`publish_text`, a table as parquet."""
    from ml_lifecycle.backends.files import write_parquet

    _publish(path, lambda draft: write_parquet(table, draft))


def publish_copy(source: Path, path: Path) -> None:
    """As :func:`publish_text`, with what another file holds."""
    _publish(path, lambda draft: shutil.copyfile(source, draft))


def counted(number: int, thing: str, things: str | None = None) -> str:
    """Such as ``1 model`` or ``2,000 models``.

    :param things: More than one of them, where an "s" at the end does not do it.
    """
    return f"{number:,} {thing if number == 1 else things or f'{thing}s'}"


def printable(text: str) -> str:
    """A terminal obeys control characters, and a name may hold some."""
    return "".join(one if one.isprintable() else "?" for one in text)


def printable_lines(text: str) -> str:
    """The same of a text of several lines."""
    return "\n".join(map(printable, text.split("\n")))


def table_lines(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows of one length, the first of them the header, as lines with columns."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    for row in rows:
        yield ("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))).rstrip()


def _publish(path: Path, write: Callable[[Path], object]) -> None:
    from ml_lifecycle.backends.files import publish_file

    try:
        publish_file(path, write)
    except OSError as error:
        raise RequestError(
            f"it cannot be written ({error.strerror})", where=str(path), way_out="name a place you may write to"
        ) from None
