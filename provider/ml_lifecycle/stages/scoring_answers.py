"""What a model answers to some rows, and which of them it cannot be asked about."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from ml_lifecycle.backends.callables import load_callable
from ml_lifecycle.backends.models.base import PackageInfo
from ml_lifecycle.backends.models.inputs import NUMBER, answer, prepare
from ml_lifecycle.core.errors import LifecycleError, PassingError, TrainingError
from ml_lifecycle.stages.champion import LoadedModel
from ml_lifecycle.stages.runner import Tools
from ml_lifecycle.stages.scoring_rows import BadRow, Batch, PartitionRows
from ml_lifecycle.stages.training import make_features

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    from numpy.typing import NDArray

ROW_WISE: Final = "ROW_WISE"
"""Set to ``True`` in a module of features: what they make of a row depends on it and the related tables alone."""
MOST_TRIES: Final = 500
"""How often a batch is halved in search of the rows that fail, before the whole counts as failed."""
_CHECKED_ROWS: Final = 64
_CLOSE: Final = 1e-9


@dataclass(frozen=True)
class Answered:
    """The rows of a batch that have an answer, and why the others have none."""

    batch: Batch
    rows: pd.DataFrame
    keys: pa.Array
    """Of each row, as the file holds them where those are texts."""
    seen: pd.DataFrame
    """What the model saw of each."""
    scores: NDArray[np.float64]
    """As :meth:`ml_lifecycle.stages.champion.LoadedModel.predict` tells them."""
    bad: Mapping[int, BadRow]
    """By the place in the batch."""


def is_row_wise(features: str | None, tools: Tools) -> bool:
    """Whether the features of some rows are those that the rows have among all of them.

    The dataset's own columns are; a team's callable is where its module says ``ROW_WISE = True``. The model's package
    holds the module's digest, so that the claim cannot change without the model.
    """
    if features is None:
        return True
    load_callable(features, tools.project)
    return getattr(sys.modules[features.partition(":")[0]], ROW_WISE, False) is True


class Scorer:
    """One model on one partition.

    :param tolerant: Whether rows that make the features or the model fail are looked for; else that is an error.
    """

    def __init__(self, model: LoadedModel, rows: PartitionRows, tools: Tools, *, tolerant: bool) -> None:
        self._model, self._rows, self._tools, self._tolerant = model, rows, tools, tolerant
        self._where = f"input of {model.info.name}"
        self._row_wise = is_row_wise(model.info.features, tools)

    def make_ready(self) -> None:
        """Read what every batch needs, before one of them is read at the same time."""
        if not self._row_wise:
            self._whole  # noqa: B018  # kept once it is made

    def answer(self, batch: Batch) -> Answered:
        """Score the batch's rows.

        :raises LifecycleError: it cannot be done, whichever rows are left out, or rows may not be left out.
        """
        import numpy as np

        bad: dict[int, BadRow] = dict(batch.bad)
        chosen = np.arange(len(batch.rows))
        try:
            seen, scores = self._asked(batch, chosen)
            self._check_claim(batch, seen)
        except PassingError:
            raise
        except (LifecycleError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            if not self._tolerant:
                raise
            chosen, seen, scores = self._without_bad(batch, error, bad)
        finite = np.isfinite(scores).reshape(len(chosen), -1).all(axis=1) if len(chosen) else np.ones(0, dtype=bool)
        if not finite.all():
            strange = BadRow("the model's answer is no finite number")
            bad |= {int(batch.places[place]): strange for place in chosen[~finite]}
            kept = np.flatnonzero(finite)
            chosen, seen, scores = chosen[kept], seen.iloc[kept], scores[kept]
        rows = batch.rows if len(chosen) == len(batch.rows) else batch.rows.iloc[chosen]
        return Answered(batch, rows, batch.keys(self._rows.columns.key, chosen), seen, scores, bad)

    # --- Features ----------------------------------------------------------------------------------------------------

    def _features(self, batch: Batch, chosen: NDArray[np.int64]) -> pd.DataFrame:
        if not self._row_wise:
            import numpy as np

            features, places = self._whole
            some: pd.DataFrame = features.iloc[np.searchsorted(places, batch.first + batch.places[chosen])]
            return some
        is_all = len(chosen) == len(batch.rows)
        return self._built(batch.rows if is_all else batch.rows.iloc[chosen].reset_index(drop=True))

    def _built(self, rows: pd.DataFrame) -> pd.DataFrame:
        given = self._rows
        return make_features(rows, given.related, self._model.info.features, given.columns, self._tools)

    @cached_property
    def _whole(self) -> tuple[pd.DataFrame, NDArray[np.int64]]:
        """The features of all rows, made together, and the rows' places."""
        import numpy as np
        import pandas as pd

        batches = list(self._rows.batches(0, self._rows.count))
        table = pd.concat([batch.rows for batch in batches], ignore_index=True)
        places = np.concatenate([batch.first + batch.places for batch in batches])
        return self._built(table), places

    # --- Answers -----------------------------------------------------------------------------------------------------

    def _asked(self, batch: Batch, chosen: NDArray[np.int64]) -> tuple[pd.DataFrame, NDArray[np.float64]]:
        return self._answered(self._features(batch, chosen), len(chosen))

    def _answered(self, features: pd.DataFrame, rows: int) -> tuple[pd.DataFrame, NDArray[np.float64]]:
        import numpy as np

        info = self._model.info
        seen = prepare(features, info.inputs, where=self._where).reset_index(drop=True)
        if not rows:
            return seen, np.zeros(0)
        return seen, np.asarray(answer(self._model.model, info, _by_row(seen, info)), dtype="float64")

    def _check_claim(self, batch: Batch, seen: pd.DataFrame) -> None:
        """Refuse features that say of themselves that they are made row by row, and are not."""
        import numpy as np

        count = min(_CHECKED_ROWS, len(seen) // 2)
        if not (self._row_wise and count) or self._model.info.features is None:
            return
        last = batch.rows.iloc[-count:].reset_index(drop=True)
        alone = prepare(self._built(last), self._model.info.inputs, where=self._where)
        among = seen.iloc[-count:].reset_index(drop=True)
        for name, kind in self._model.info.inputs.items():
            same = (
                np.allclose(alone[name], among[name], rtol=_CLOSE, atol=0.0, equal_nan=True)
                if kind == NUMBER
                else alone[name].equals(among[name])
            )
            if not same:
                raise _NotRowWiseError(
                    f"the feature {name!r} of a row depends on which other rows are beside it",
                    where=str(self._model.info.features),
                    way_out=f"take {ROW_WISE} out of its module, or make it of the row and the related tables alone "
                    "(categories as texts), and train again",
                )

    # --- Bad rows ----------------------------------------------------------------------------------------------------

    def _without_bad(
        self, batch: Batch, error: Exception, bad: dict[int, BadRow]
    ) -> tuple[NDArray[np.int64], pd.DataFrame, NDArray[np.float64]]:
        """The rows that can be scored, and what was answered to them; the others are told."""
        import numpy as np
        import pandas as pd

        if isinstance(error, _NotRowWiseError):
            raise error
        chosen = np.arange(len(batch.rows))
        strange = self._strange(batch, chosen)
        bad |= {int(batch.places[place]): why for place, why in strange.items()}
        chosen = np.setdiff1d(chosen, np.array(list(strange), dtype="int64"))
        found = []
        for part, answered in self._by_halves(batch, chosen, error):
            if isinstance(answered, BadRow):
                bad[int(batch.places[part[0]])] = answered
            else:
                found.append((part, *answered))
        if not found:
            raise error
        parts, seen, scores = zip(*found, strict=True)
        return np.concatenate(parts), pd.concat(seen, ignore_index=True), np.concatenate(scores)

    def _strange(self, batch: Batch, chosen: NDArray[np.int64]) -> dict[int, BadRow]:
        """Rows that hold something else where the model takes a number, where the features can be made at all."""
        try:
            features = self._features(batch, chosen)
        except PassingError:
            raise
        except LifecycleError:
            return {}
        found: dict[int, BadRow] = {}
        for name, kind in self._model.info.inputs.items():
            if kind == NUMBER and name in features.columns and features[name].dtype == object:
                for place, value in enumerate(features[name]):
                    if not _is_number(value):
                        found.setdefault(place, BadRow(f"the input {name!r} is no number", str(value)[:200]))
        return found

    def _by_halves(
        self, batch: Batch, chosen: NDArray[np.int64], error: Exception
    ) -> Iterator[tuple[NDArray[np.int64], BadRow | tuple[pd.DataFrame, NDArray[np.float64]]]]:
        """The longest runs of rows that can be scored together, in order, and between them single rows that cannot."""
        waiting, tries = [chosen], 0
        while waiting:
            part = waiting.pop()
            tries += 1
            if tries > MOST_TRIES:
                raise error
            try:
                answered = self._asked(batch, part)
            except PassingError:
                raise
            except (LifecycleError, ArithmeticError, LookupError, TypeError, ValueError) as failed:
                if len(part) > 1:
                    half = len(part) // 2
                    waiting += [part[half:], part[:half]]
                elif len(part):
                    yield part, _told(failed)
            else:
                yield part, answered


def _by_row(seen: pd.DataFrame, info: PackageInfo) -> pd.DataFrame:
    """Numbers in memory row by row, as trees walk through them: that takes them a seventh less time."""
    import numpy as np
    import pandas as pd

    if set(info.inputs.values()) != {NUMBER}:
        return seen
    table: pd.DataFrame = pd.DataFrame(np.ascontiguousarray(seen.to_numpy()), columns=seen.columns)
    return table


class _NotRowWiseError(TrainingError):
    """The features' claim about themselves does not hold."""


def _told(error: Exception) -> BadRow:
    """A row that the features, or the model, cannot work with."""
    what = error.what if isinstance(error, LifecycleError) else str(error)
    because = "the features fail on it" if isinstance(error, TrainingError) else "the model cannot take it"
    return BadRow(because, (what.splitlines() or [type(error).__name__])[0][:200])


def _is_number(value: Any) -> bool:
    """Whether pandas would make a number of it; missing is one."""
    import pandas as pd

    if value is None or value is pd.NA or value is pd.NaT:
        return True
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True
