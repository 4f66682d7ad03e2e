"""What a server answered, on its way into the prediction log.

Answers wait in memory for a tenth of a second, then lie as JSON lines in a file of the server's own, and every half
minute that file becomes parquet in the log's layout. Nothing of it holds a request up: where memory or the disk are
full, answers go unlogged and are counted. A server that is killed leaves its lines behind, and the others on the same
log, or the next one that starts there, bring them in.
"""

from __future__ import annotations

import fcntl
import json
import logging
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from hashlib import sha256
from io import BufferedRandom
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ml_lifecycle.backends.files import publish_file
from ml_lifecycle.backends.models.inputs import answer_columns
from ml_lifecycle.backends.monitoring.prediction_log import Origin, prediction_table, write_log
from ml_lifecycle.core.contracts import Contract, Scalar
from ml_lifecycle.serving.values import columns_of, table_of

if TYPE_CHECKING:
    import pyarrow as pa

OPEN: Final = "open"
"""Folder below the log's root with the lines that are no parquet yet."""
ENDING: Final = ".jsonl"
BROKEN: Final = ".broken"
"""Behind the name of a file that cannot be brought in, for people to look at."""
_MOST_WAITING: Final = 10_000
_MOST_ROWS: Final = 200_000
_PAUSE_S: Final = 0.1
_MOST_BYTES: Final = 16 * 1024 * 1024
_END_S: Final = 30.0
_MICROSECONDS: Final = 1_000_000
_logger: Final = logging.getLogger(__name__)


class Answered(NamedTuple):
    """One request that was answered."""

    at: float
    """Seconds since 1970."""
    request_id: str
    keys: Sequence[str] | None
    columns: Mapping[str, Sequence[Any]]
    """The model's inputs as they were sent."""
    rows: int
    scores: Any
    """As the answer holds them: numbers, or lists of them."""
    latency_ms: float
    user: str | None


class Segment(Contract):
    """The first line of a file: whose answers the others hold."""

    endpoint: str
    version: int
    digest: str
    inputs: dict[str, str]
    classes: tuple[Scalar, ...] = ()
    began_us: int = 0
    """Microseconds since 1970; of two files about one prediction the later one counts."""
    writer: int
    """The process's number: no two files have the same first line."""


@dataclass(frozen=True)
class LogOptions:
    """How a log is kept."""

    root: Path
    every_s: float = 30.0
    """How long lines wait to become parquet, at most."""


class RequestLog:
    """One server's part of the prediction log."""

    def __init__(self, options: LogOptions, segment: Segment) -> None:
        import pyarrow as pa  # so that no request waits for this import

        self._arrow = pa
        self._options = options
        self._segment = segment
        self._folder = options.root / OPEN / f"endpoint={segment.endpoint}"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._waiting: deque[Answered] = deque()
        self._rows = 0
        self._ends = threading.Event()
        self._file: BufferedRandom | None = None
        self._path = self._folder
        self.written = 0
        """Predictions that lie in a file."""
        self.dropped = 0
        """Predictions that do not, because memory or the disk was full."""
        self.damaged = 0
        """Lines of a killed server that were cut off."""
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self._thread.start()

    def put(self, answered: Answered) -> None:
        """Take note of an answer; returns at once, whatever happens to it."""
        is_full = len(self._waiting) >= _MOST_WAITING or self._rows + answered.rows > _MOST_ROWS
        if is_full and self._waiting:
            self.dropped += answered.rows
            return
        self._rows += answered.rows
        self._waiting.append(answered)

    def told(self) -> dict[str, int]:
        """Predictions that were written and dropped, and lines that were damaged, since the server started."""
        return {"written": self.written, "dropped": self.dropped, "damaged": self.damaged}

    def close(self) -> None:
        """Bring everything into the log that is still waiting."""
        self._ends.set()
        self._thread.join(_END_S)

    # The writer's thread

    def _run(self) -> None:
        self._bring_in_leftovers()
        due = time.monotonic() + self._options.every_s
        while not self._ends.wait(_PAUSE_S):
            self._write_waiting()
            is_large = self._file is not None and self._file.tell() >= _MOST_BYTES
            if is_large or time.monotonic() >= due:
                self._bring_in()
                self._bring_in_leftovers()
                due = time.monotonic() + self._options.every_s
        self._write_waiting()
        self._bring_in()

    def _write_waiting(self) -> None:
        taken = [self._waiting.popleft() for _ in range(len(self._waiting))]
        # Nearly what waits: a request that comes at this moment is not counted.
        self._rows = 0
        if not taken:
            return
        rows = sum(one.rows for one in taken)
        try:
            if self._file is None:
                self._file = self._opened()
            self._file.write(b"".join(map(_line, taken)))
            self._file.flush()
        except OSError as error:
            self.dropped += rows
            self._bring_in()
            _logger.warning("%s predictions were not logged (%s)", rows, error.strerror)
        else:
            self.written += rows

    def _opened(self) -> BufferedRandom:
        """A new file that other processes leave alone until this one lets go of it, if only by dying."""
        segment = self._segment.model_copy(update={"began_us": int(time.time() * _MICROSECONDS)})
        path = self._folder / f"{segment.began_us}-{segment.writer}{ENDING}"
        draft = path.with_suffix(".draft")
        file = draft.open("x+b")
        # Only then it gets the name by which others find it.
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(json.dumps(segment.to_xcom()).encode() + b"\n")
        draft.rename(path)
        self._path = path
        return file

    def _bring_in(self) -> None:
        """Make the present file's lines parquet."""
        if self._file is None:
            return
        file, self._file = self._file, None
        with file:
            self._brought_in(self._path, file)

    def _bring_in_leftovers(self) -> None:
        """The same with files of servers that are gone, and with those that could not be brought in before."""
        for path in sorted(self._folder.glob(f"*{ENDING}")):
            try:
                with path.open("r+b") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    self._brought_in(path, file)
            except OSError:  # noqa: PERF203  # each file for itself
                # Another process writes it, or was here first.
                continue

    def _brought_in(self, path: Path, file: BufferedRandom) -> None:
        file.seek(0)
        try:
            self.damaged += bring_in(file.read(), self._options.root)
        except OSError as error:
            # The lines stay, for the next look.
            _logger.warning("%s is no part of the log yet (%s)", path.name, error.strerror)
        except Exception:
            _logger.exception("%s cannot be brought into the log", path.name)
            with suppress(FileNotFoundError):
                path.rename(path.with_name(path.name + BROKEN))
        else:
            path.unlink(missing_ok=True)


def _line(one: Answered) -> bytes:
    held = {**one._asdict(), "columns": dict(one.columns)}
    return json.dumps(held, separators=(",", ":")).encode() + b"\n"


# --- Lines to parquet ------------------------------------------------------------------------------------------------


def bring_in(content: bytes, root: Path) -> int:
    """Write a file's lines into the log, a file per day; returns how many lines were cut off.

    The same content makes the same files again.
    """
    segment, answers, damaged = read_lines(content)
    if segment is None:
        return damaged
    by_day: dict[str, list[Answered]] = {}
    for one in answers:
        by_day.setdefault(f"{datetime.fromtimestamp(one.at, tz=timezone.utc):%Y-%m-%d}", []).append(one)
    for day, held in by_day.items():
        origin = Origin(
            endpoint=segment.endpoint,
            partition=day,
            model_digest=segment.digest,
            model_version=segment.version,
            data_digest=sha256(content).hexdigest(),
            recorded=segment.began_us,
        )
        write_log(lambda name, data: _publish(root / name, data), "predictions", origin, _table(held, segment, origin))
    return damaged


def read_lines(content: bytes) -> tuple[Segment | None, list[Answered], int]:
    """A file's first line, its answers, and how many lines were cut off."""
    lines = content.split(b"\n")
    damaged = int(bool(lines.pop()))
    if not lines:
        return None, [], damaged
    segment = Segment.model_validate_json(lines[0])
    answers = []
    for line in lines[1:]:
        try:
            answers.append(Answered(**json.loads(line)))
        except (ValueError, TypeError):  # noqa: PERF203  # each line for itself
            damaged += 1
    return segment, answers, damaged


def _table(answers: Sequence[Answered], segment: Segment, origin: Origin) -> pa.Table:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    values = {name: [value for one in answers for value in one.columns[name]] for name in segment.inputs}
    scores = np.array([score for one in answers for score in one.scores], dtype="float64")
    repeated = [one.rows for one in answers]
    moments = np.repeat([round(one.at * _MICROSECONDS) for one in answers], repeated)
    predictions = pd.DataFrame(
        {
            "key": pd.Series([key for one in answers for key in keys_of(one)], dtype=object),
            "at": pd.to_datetime(moments, unit="us", utc=True),
            **answer_columns(scores, segment.classes),
        }
    )
    table = prediction_table(
        predictions,
        origin,
        key="key",
        time="at",
        classes=segment.classes,
        inputs=table_of(columns_of(values, segment.inputs)),
    )
    extra: Mapping[str, Iterator[Any]] = {
        "request_id": (one.request_id for one in answers for _ in range(one.rows)),
        "user": (one.user for one in answers for _ in range(one.rows)),
    }
    for name, column in extra.items():
        table = table.append_column(name, pa.array(list(column), pa.string()))
    latencies = np.repeat([one.latency_ms for one in answers], repeated)
    return table.append_column("latency_ms", pa.array(latencies, pa.float64()))


def keys_of(one: Answered) -> Sequence[str]:
    """The rows' keys: those that the request names, else its id, of several rows with the row's number from 0."""
    if one.keys is not None:
        return one.keys
    return [one.request_id] if one.rows == 1 else [f"{one.request_id}/{row}" for row in range(one.rows)]


def _publish(path: Path, content: bytes) -> None:
    publish_file(path, lambda draft: draft.write_bytes(content))
