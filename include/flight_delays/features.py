"""What the model sees of a flight: only what is known before its scheduled hour of departure begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

ROW_WISE = True
"""What is made of a flight depends on it and the weather alone, whichever flights are beside it: scoring may read a
partition a batch at a time."""

NUMBERS = ["hour", "minute", "weekday", "distance"]
CATEGORIES = ["carrier", "origin", "dest"]
WEATHER = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib"]


def build(rows: pd.DataFrame, *, weather: pd.DataFrame) -> pd.DataFrame:
    """One row of features per flight, indexed like ``rows``.

    The weather is the observation of the hour before the hour of scheduled departure, at the airport of origin: the
    departure hour's own observation is not there yet when the prediction is made. Where none was taken, its features
    are missing.
    """
    import pandas as pd

    departure = pd.to_datetime(rows["scheduled_departure"], utc=True)
    features = rows[["hour", "minute", "distance"]].astype("float64")
    features["weekday"] = pd.to_datetime(rows[["year", "month", "day"]]).dt.weekday.astype("float64")
    for name in CATEGORIES:
        features[name] = rows[name].astype("object")
    places = pd.DataFrame({"origin": rows["origin"], "time_hour": departure.dt.floor("h") - pd.Timedelta(hours=1)})
    observed = _hourly(weather)
    before = places.merge(observed, on=["origin", "time_hour"], how="left", validate="many_to_one")
    before.index = rows.index
    built: pd.DataFrame = pd.concat([features[NUMBERS + CATEGORIES], before[WEATHER]], axis="columns")
    return built


def _hourly(weather: pd.DataFrame) -> pd.DataFrame:
    """One observation per airport and hour: partitions overlap where a month ends in UTC."""
    import pandas as pd

    observed: pd.DataFrame = weather[["origin", "time_hour", *WEATHER]].astype(dict.fromkeys(WEATHER, "float64"))
    observed["time_hour"] = pd.to_datetime(observed["time_hour"], utc=True)
    hourly: pd.DataFrame = observed.drop_duplicates(["origin", "time_hour"], keep="first")
    return hourly
