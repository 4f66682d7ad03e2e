"""A partition's predictions into the prediction log: drafted while they are made, published when they are."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ml_lifecycle.backends.monitoring.log_files import DailyDrafts, write_log_streamed
from ml_lifecycle.backends.monitoring.prediction_log import (
    FOLDER,
    INPUT,
    Origin,
    Tree,
    order_of,
    prediction_table,
    write_log,
)
from ml_lifecycle.core.contracts import Columns, Scalar, ScoredPartition
from ml_lifecycle.stages.ahead import ahead
from ml_lifecycle.stages.runner import Tools
from ml_lifecycle.stages.scored_files import row_groups
from ml_lifecycle.stages.scoring_parts import Stamp

if TYPE_CHECKING:
    import pyarrow as pa

_NONE_YET: Final = ""
"""The fingerprint of what is not published yet."""


class LogAhead:
    """The log's files of one partition, on this machine until the partition is published.

    :param uri: Where the partition is published.
    """

    def __init__(self, model: str, uri: str, columns: Columns, tools: Tools) -> None:
        self._model, self._uri, self._columns, self._tools = model, uri, columns, tools
        self._stack = ExitStack()
        self._drafted: tuple[DailyDrafts, Origin] | None = None
        self._rows = 0

    def close(self) -> None:
        """Throw away what was drafted and not published."""
        self._stack.close()

    def add(self, predictions: pa.Table, inputs: pa.Table | None, data_digest: str, stamp: Stamp) -> None:
        """Draft what the log will hold of some predictions, taking them for the newest of their partition.

        :param inputs: What the model saw, row by row.
        :param data_digest: Of what is scored.
        """
        drafts, origin = self._drafted = self._drafted or self._begun(data_digest, stamp)
        drafts.add(_table(predictions, inputs, origin, self._columns, stamp.classes))
        self._rows += predictions.num_rows

    def _begun(self, data_digest: str, stamp: Stamp) -> tuple[DailyDrafts, Origin]:
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="ml-lifecycle-log-"))
        drafts = self._stack.enter_context(closing(DailyDrafts(Path(folder))))
        origin = Origin(
            endpoint=self._model,
            partition=stamp.partition,
            model_digest=stamp.digest,
            model_version=stamp.version,
            data_digest=data_digest,
            recorded=_order(self._model, self._uri, _NONE_YET, self._tools),
        )
        return drafts, origin

    def written(self, scored: ScoredPartition) -> ScoredPartition:
        """Bring the published predictions into the log, all of them, however often it is asked for.

        Where what was drafted is not what was published, the log is made of that. Its bytes were checked a moment ago.
        """
        origin = log_origin(scored, self._tools)
        drafts, drafted_for = self._drafted or (None, None)
        if drafts is not None and drafts.is_whole and (drafted_for, self._rows) == (origin, scored.rows):
            drafts.publish(self._publish, "predictions", origin)
            return scored
        with self._tools.data.folder(scored.uri) as folder:

            def tables() -> Iterator[pa.Table]:
                return ahead(_tables(folder, origin, self._columns, scored.classes))

            write_log_streamed(self._publish, "predictions", origin, tables)
        return scored

    def _publish(self, uri: str, write: Callable[[Path], object]) -> None:
        self._tools.data.publish_file(f"{FOLDER}/{uri}", write)


def _tables(folder: Path, origin: Origin, columns: Columns, classes: Sequence[Scalar]) -> Iterator[pa.Table]:
    """What is published, in the log's columns, some rows at a time."""
    for predictions, inputs in row_groups(folder):
        yield _table(predictions, inputs, origin, columns, classes)


def _table(
    predictions: pa.Table, inputs: pa.Table | None, origin: Origin, columns: Columns, classes: Sequence[Scalar]
) -> pa.Table:
    """Predictions in the log's columns, with what the model saw beside them."""
    table = prediction_table(predictions, origin, key=columns.key, time=columns.time, classes=classes)
    if inputs is not None:
        for name in inputs.drop_columns([columns.key]).column_names:
            table = table.append_column(f"{INPUT}{name}", inputs.column(name))
    return table


def log_origin(scored: ScoredPartition, tools: Tools) -> Origin:
    """What the log says of where a partition's predictions come from."""
    return Origin(
        endpoint=scored.model,
        partition=scored.partition,
        model_digest=scored.digest,
        model_version=scored.version,
        data_digest=scored.dataset_fingerprint,
        recorded=_order(scored.model, scored.uri, scored.fingerprint, tools),
    )


def _order(model: str, uri: str, fingerprint: str, tools: Tools) -> int:
    recorded = tools.ledger.results(tools.environment, model, "score", uri=uri)
    return order_of([entry["content"]["fingerprint"] for entry in recorded], fingerprint)


def write_to_log(tools: Tools, tree: Tree, origin: Origin, table: pa.Table) -> None:
    """Put a table into the deployment's log."""
    write_log(lambda uri, content: tools.data.write_file(f"{FOLDER}/{uri}", content), tree, origin, table)
