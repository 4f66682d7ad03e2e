"""Small real models in packages, and logs of what they answered."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_lifecycle.backends.data.local import LocalStore
from ml_lifecycle.backends.files import digest_of_folder
from ml_lifecycle.backends.models.base import PackageInfo
from ml_lifecycle.backends.models.golden import kinds_of
from ml_lifecycle.backends.models.inputs import predict
from ml_lifecycle.backends.models.skops import SkopsFormat
from ml_lifecycle.backends.monitoring.prediction_log import Origin, prediction_table, write_log
from ml_lifecycle.core.contracts import Move
from ml_lifecycle.stages.shadow import loaded

if TYPE_CHECKING:
    import pandas as pd

NOON = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)


def asked(count: int, *, seed: int = 1) -> pd.DataFrame:
    """Requests of two numbers and a text."""
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(seed)
    far, wind = rng.normal(size=(2, count))
    carrier = rng.choice(np.array(["AA", "B6", "UA"], dtype=object), count)
    table: pd.DataFrame = pd.DataFrame({"far": far, "wind": wind, "carrier": carrier})
    return table


def late(table: pd.DataFrame, *, seed: int = 2) -> Any:
    """What turned out: far flights in much wind are late, with noise."""
    import numpy as np

    return table["far"] + table["wind"] + np.random.default_rng(seed).normal(size=len(table)) > 0


def package(folder: Path, inputs: Sequence[str] = ("far", "wind"), *, kind: str = "binary", shift: float = 0.0) -> Path:
    """A model of the inputs, as a package.

    :param kind: ``binary``, ``multiclass`` (whose truth is the carrier) or ``regression``.
    :param shift: Added to what it says before it becomes a probability.
    """
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LinearRegression, LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    table = asked(300)
    truth = {"binary": late(table), "multiclass": table["carrier"], "regression": table["far"] + table["wind"]}[kind]
    model = LinearRegression() if kind == "regression" else LogisticRegression()
    texts = [name for name in inputs if name == "carrier"]
    # Its encoder refuses what training did not see.
    encoded = make_column_transformer((OneHotEncoder(), texts), remainder="passthrough")
    seen = table[list(inputs)]
    fitted = (make_pipeline(encoded, model) if texts else model).fit(seen, truth)
    model.intercept_ = model.intercept_ + shift
    info = PackageInfo(
        name="flights",
        format="skops",
        training_key="1" * 64,
        features=None,
        features_digest=None,
        inputs=kinds_of(seen),
        classes=tuple(model.classes_.tolist()) if kind != "regression" else (),
    )
    SkopsFormat().save(fitted, folder, info, example=seen.head(2))
    return folder


def says(folder: Path, table: pd.DataFrame) -> Any:
    """What a package's model answers."""
    import numpy as np

    who = loaded(folder, "it")
    return np.asarray(predict(who.model, who.info, table), dtype="float64")


def move(folder: Path, version: int, *, epoch: int = 1) -> Move:
    """A release of a package."""
    return Move(
        model="flights",
        environment="test",
        epoch=epoch,
        kind="release",
        version=version,
        digest=digest_of_folder(folder),
        uri=str(folder),
        moved_by="ada",
        moved_at=NOON,
    )


def log(
    root: Path,
    folder: Path,
    table: pd.DataFrame,
    *,
    version: int | None = 1,
    digest: str | None = None,
    begin: datetime = NOON,
    scores: Any = None,
    partition: str = "p",
) -> pd.DataFrame:
    """Log what a package's model answers to the requests, one a second; returns the answers with their keys.

    :param scores: What the log is told instead.
    """
    import numpy as np
    import pandas as pd

    found = says(folder, table) if scores is None else np.asarray(scores)
    places = np.arange(len(table))
    answers = pd.DataFrame({"key": places, "at": [begin + timedelta(seconds=int(place)) for place in places]})
    classes = loaded(folder, "it").info.classes
    if len(classes) > 2:  # of two, the score tells both
        answers = answers.assign(score=found.max(axis=1), label=np.asarray(classes)[found.argmax(axis=1)])
        answers = answers.assign(**{f"score_{name}": found[:, place] for place, name in enumerate(classes)})
    else:
        answers = answers.assign(score=found)
        if classes:
            answers = answers.assign(label=np.asarray(classes)[(found >= 0.5).astype(int)])  # a half
    origin = Origin(
        endpoint="flights",
        partition=partition,
        model_digest=digest_of_folder(folder) if digest is None else digest,
        model_version=version,
        data_digest=str(begin),
    )
    inputs = table.reset_index(drop=True)
    logged = prediction_table(answers, origin, key="key", time="at", classes=classes, inputs=inputs)
    write_log(LocalStore(root).write_file, "predictions", origin, logged)
    result: pd.DataFrame = answers
    return result
