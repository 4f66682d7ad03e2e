"""What a champion was trained on and what came after, each counted once and kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from ml_lifecycle.backends.models.inputs import CATEGORY, prepare
from ml_lifecycle.backends.monitoring.profiles import LAYOUT, ColumnProfile, Frame, Profile, load, save
from ml_lifecycle.core.contracts import Columns, DatasetRef, DriftPolicy, digest_of
from ml_lifecycle.core.errors import ColumnError
from ml_lifecycle.core.evaluation import PERIODS
from ml_lifecycle.stages.champion import ChampionInfo
from ml_lifecycle.stages.runner import Tools
from ml_lifecycle.stages.training import Inputs, build_inputs

if TYPE_CHECKING:
    import pandas as pd

    from ml_lifecycle.backends.monitoring.base import Profiler, Table
    from ml_lifecycle.backends.monitoring.duckdb import DuckDbProfiler

COUNTING: Final = 1
"""Part of every stored profile's name: a change of what is counted makes other names."""


def default_profiler(
    derive: Callable[[pd.DataFrame], pd.DataFrame] | None = None, progress: Callable[[int, int], None] | None = None
) -> DuckDbProfiler:
    """The engine that counts files and tables in memory.

    :param derive: Makes the columns that are counted of those that are there.
    :param progress: Told after each column how many were counted, and of how many.
    """
    from ml_lifecycle.backends.monitoring.duckdb import DuckDbProfiler

    return DuckDbProfiler(derive=derive, progress=progress)


def counted_once(uri: str, count: Callable[[], Profile], tools: Tools) -> Profile:
    """What is stored there, counted before where nothing is."""
    if tools.data.published(uri) is None:
        profile = count()
        tools.data.publish(uri, lambda folder: save(profile, folder))
    with tools.data.folder(uri) as folder:
        return load(folder)


class ChampionProfiles:
    """Tables as the champion sees them, counted in the frame of what it was trained on.

    Features are built only for what was not counted before: a stored profile is named by everything that it depends
    on, the bytes of the data and of the feature code among them.
    """

    def __init__(self, champion: ChampionInfo, columns: Columns, policy: DriftPolicy, tools: Tools) -> None:
        self._champion, self._tools = champion, tools
        self._columns, self._policy = columns, policy
        self._profiler = default_profiler()
        self._training: Profile | None = None
        # One table at a time: the newest is asked for again where a page draws it.
        self._built: tuple[str, Inputs] | None = None

    @property
    def training(self) -> Profile:
        """What the champion was trained on; its frame is the one that everything is counted in."""
        if self._training is None:
            dataset = self._champion.dataset
            self._training = counted_once(self._uri(dataset.fingerprint), self._count_training, self._tools)
        return self._training

    def of(self, dataset: DatasetRef) -> Profile:
        """What the champion makes of a dataset's rows."""
        frame = self.training.frame

        def count() -> Profile:
            return self.count(self.features(dataset), self.rows(dataset), frame)

        return counted_once(self._uri(dataset.fingerprint, frame), count, self._tools)

    def features(self, dataset: DatasetRef) -> pd.DataFrame:
        """The model's input, as the model takes it: numbers as floats, categories as texts.

        An input that the features do not make is left out.
        """
        features, inputs = self._inputs(dataset).features, self._champion.info.inputs
        there = {name: kind for name, kind in inputs.items() if name in features.columns}
        return prepare(features, there, where=f"input of {self._champion.info.name} from {dataset.uri}")

    def rows(self, dataset: DatasetRef) -> pd.DataFrame:
        """The dataset's own rows, one for each row of the features."""
        return self._inputs(dataset).rows

    def count(self, values: pd.DataFrame, rows: pd.DataFrame, frame: Frame) -> Profile:
        """Count a table in a frame; a column that it lacks has no value in any row.

        :param rows: One for each row of ``values``: they hold what blocks are made of.
        """
        return count_in(frame, *self._with_block(values, rows), profiler=self._profiler)

    def frame(self, values: pd.DataFrame, categorical: Sequence[str] = ()) -> Frame:
        """How a table's columns are cut."""
        return self._profiler.frame(values, columns=[str(name) for name in values.columns], categorical=categorical)

    def stored(self, what: Mapping[str, Any], count: Callable[[], Profile]) -> Profile:
        """Another profile of this champion, counted once.

        :param what: Everything that it depends on.
        """
        return counted_once(self._named(what), count, self._tools)

    def _count_training(self) -> Profile:
        dataset = self._champion.dataset
        values, inputs = self.features(dataset), self._champion.info.inputs
        if absent := [name for name in inputs if name not in values.columns]:
            raise ColumnError(
                f"the features lack {', '.join(map(repr, absent))}",
                where=f"what {self._champion.info.name} was trained on ({dataset.uri})",
                way_out="release a version that was trained with the features as they are",
            )
        return self.count(values, self.rows(dataset), self.frame(values, self._categorical()))

    def _categorical(self) -> tuple[str, ...]:
        inputs = self._champion.info.inputs
        return tuple(name for name in inputs if inputs[name] == CATEGORY or name in self._policy.categorical)

    def _inputs(self, dataset: DatasetRef) -> Inputs:
        if self._built is None or self._built[0] != dataset.fingerprint:
            self._built = None
            self._built = dataset.fingerprint, build_inputs(dataset, self._champion.info.features, self._tools)
        return self._built[1]

    def _with_block(self, values: pd.DataFrame, rows: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
        """The table with the column that makes its blocks, and how the profiler is told of it."""
        block, time = self._policy.block, self._columns.time
        if block is None:
            return values, {}
        # A dataset's column that is called "day" often is the day of a month, which is none of the calendar.
        by_time = block in PERIODS and time is not None
        source = str(time) if by_time else block
        if source not in rows.columns:
            raise ColumnError(
                f"there is no column {source!r} to make blocks by",
                where="monitoring.drift.block",
                way_out="name a column of the data, or declare data.time and name one of " + ", ".join(PERIODS),
            )
        name = source
        while name in values.columns:
            name += "_"
        table = values.assign(**{name: rows[source].array})
        return table, {"block": block, "time": name} if by_time else {"block": name}

    def _uri(self, fingerprint: str, frame: Frame | None = None) -> str:
        info = self._champion.info
        return self._named(
            {
                "dataset": fingerprint,
                "features": [info.features, info.features_digest],
                "inputs": list(info.inputs.items()),
                "categorical": list(self._categorical()),
                "frame": frame.digest if frame is not None else "its own",
            }
        )

    def _named(self, what: Mapping[str, Any]) -> str:
        time = self._columns.time if self._policy.block in PERIODS else None
        whole = {"counting": [COUNTING, LAYOUT], "block": self._policy.block, "time": time, **what}
        return f"reports/profiles/{self._champion.move.model}/{digest_of(whole)[:32]}"


def count_in(
    frame: Frame, table: Table, options: Mapping[str, str], *, profiler: Profiler, names: Sequence[str] | None = None
) -> Profile:
    """Count a table in a frame; a column that it lacks has no value in any row.

    :param options: What makes the blocks, as :meth:`Profiler.profile` takes it.
    :param names: The table's columns; ``None``: those of a table in memory.
    :raises ColumnError: it has none of the frame's columns.
    """
    known = set(map(str, table.columns if names is None else names))  # type: ignore[union-attr]  # in memory
    there = Frame(columns=tuple(one for one in frame.columns if one.name in known))
    if not there.columns:
        raise ColumnError(
            "the current data has none of the reference's columns",
            way_out=f"compare tables of one kind: the reference has {', '.join(one.name for one in frame.columns)}",
        )
    return completed(profiler.profile(table, there, **options), frame)


def completed(profile: Profile, frame: Frame) -> Profile:
    """The profile with every column of the frame, in its order: of what it lacks, no row has a value."""
    import numpy as np

    rows = next(iter(profile.columns.values())).blocks.sum(axis=1)
    columns = {}
    for one in frame.columns:
        blocks = np.zeros((len(rows), len(one.cells) + 1), dtype=np.int64)
        blocks[:, -1] = rows
        empty = ColumnProfile(frame=one, counts=np.zeros(one.bins, dtype=np.int64), blocks=blocks)
        columns[one.name] = profile.columns.get(one.name, empty)
    return replace(profile, columns=columns)


def chosen(profile: Profile, names: Sequence[str]) -> Profile:
    """The profile with these columns only."""
    return replace(profile, columns={name: profile.columns[name] for name in names})
