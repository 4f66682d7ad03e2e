"""Asks a model server for real flights, without a pause, and lets it know what turned out."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_deployment import REPOSITORY
from ml_lifecycle.backends.serving_home.home import Home
from open_connection import OpenConnection

if TYPE_CHECKING:
    import pandas as pd
    from typing_extensions import Self

CONNECTIONS = 16
USERS = 2_000
LABELS_EVERY_S = 3.0
LABELS_AFTER_S = 8.0
"""By then an answer lies in the log."""
NEWEST, FEWEST = 2_000, 300
"""Answers that a version's present worth is taken from, at most and at least."""
SEED = 7


@dataclass(frozen=True)
class Counts:
    """What became of the requests so far."""

    asked: int
    failed: int
    worth: dict[int, float | None]
    """By version: mean squared distance of the newest answers from what turned out."""


@dataclass
class _Flights:
    """What can be asked, and what turned out."""

    keys: list[str]
    columns: list[str]
    rows: list[list[Any]]
    late: list[bool]

    def body(self, number: int) -> bytes:
        table = {"columns": self.columns, "data": [self.rows[number]]}
        return json.dumps({"dataframe_split": table, "params": {"keys": [self.keys[number]]}}).encode()


@dataclass
class Traffic:
    """Requests at a steady pace in a thread of their own, and labels that follow them.

    :param month: Whose flights are asked for, below the data root.
    :param serving: The serving home.
    """

    data_root: Path
    month: str
    serving: Path
    model: str
    rate: float
    _answers: dict[int, deque[tuple[float, bool]]] = field(default_factory=dict)
    _sent: deque[tuple[float, int]] = field(default_factory=deque)
    _failures: Counter[str] = field(default_factory=Counter)
    _asked: int = 0

    def __enter__(self) -> Self:
        self._flights = flights(self.data_root, self.month)
        self._port = Home(self.serving).settings().port
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=work, name=work.__name__, daemon=True) for work in (self._ask_on, self._label_on)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)

    def counts(self) -> Counts:
        """What became of the requests so far."""
        worth = {
            version: sum((score - late) ** 2 for score, late in list(newest)) / len(newest)
            for version, newest in list(self._answers.items())
            if len(newest) >= FEWEST
        }
        return Counts(self._asked, self._failures.total(), dict(worth))

    def failures(self) -> dict[str, int]:
        """How often requests failed in which way."""
        return dict(self._failures)

    # --- Requests -----------------------------------------------------------------------------------------------------

    def _ask_on(self) -> None:
        asyncio.run(self._ask_all())

    async def _ask_all(self) -> None:
        idle: asyncio.Queue[OpenConnection] = asyncio.Queue()
        for _ in range(CONNECTIONS):
            idle.put_nowait(OpenConnection(self._port))
        chosen = random.Random(SEED)  # noqa: S311  # flights and users, not secrets
        due, under_way, number = time.perf_counter(), set(), 0
        while not self._over.is_set():
            due = max(due + 1 / self.rate, time.perf_counter() - 1.0)
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            number = (number + 1) % len(self._flights.keys)
            task = asyncio.create_task(self._one(idle, number, chosen.randrange(USERS)))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        await asyncio.gather(*under_way)

    async def _one(self, idle: asyncio.Queue[OpenConnection], number: int, user: int) -> None:
        connection = await idle.get()
        self._asked += 1
        try:
            version, answer = await _asked(connection, f"/{self.model}/invocations", self._flights.body(number), user)
        except (OSError, EOFError, asyncio.TimeoutError, ValueError) as error:
            self._failures[str(error) or type(error).__name__] += 1
        else:
            newest = self._answers.setdefault(version, deque(maxlen=NEWEST))
            newest.append((float(answer), self._flights.late[number]))
            self._sent.append((time.monotonic(), number))
        finally:
            idle.put_nowait(connection)

    # --- Labels -------------------------------------------------------------------------------------------------------

    def _label_on(self) -> None:
        while not self._over.wait(LABELS_EVERY_S):
            ripe = []
            while self._sent and self._sent[0][0] < time.monotonic() - LABELS_AFTER_S:
                ripe.append(self._sent.popleft()[1])
            if ripe:
                self._label(ripe)

    def _label(self, numbers: list[int]) -> None:
        import pandas as pd

        from ml_lifecycle.backends.monitoring.served_labels import label_answers

        known = pd.DataFrame(
            {
                "flight_id": [self._flights.keys[number] for number in numbers],
                "delayed": [self._flights.late[number] for number in numbers],
            }
        )
        label_answers(
            self.serving / "log",
            self.model,
            known.drop_duplicates("flight_id"),
            key="flight_id",
            label="delayed",
            recorded=time.time_ns() // 1000,
        )


async def _asked(connection: OpenConnection, path: str, body: bytes, user: int) -> tuple[int, float]:
    """Version and score of the answer.

    :raises ValueError: it is no good answer.
    """
    answer = await connection.post(path, body, str(user))
    if answer.status != 200:  # noqa: PLR2004  # as HTTP has it
        raise ValueError(f"status {answer.status}: {answer.content[:200].decode('latin-1')}")
    return int(answer.headers["x-model-version"]), float(json.loads(answer.content)["predictions"][0])


def flights(data_root: Path, month: str) -> _Flights:
    """A month's flights as the model sees them, and whether they were late; those that never arrived are left out."""
    import pandas as pd

    sys.path.insert(0, str(REPOSITORY))
    from include.flight_delays.features import build

    rows = pd.read_parquet(data_root / "flights" / f"{month}.parquet")
    weather = pd.read_parquet(data_root / "weather" / f"{month}.parquet")
    outcome = pd.read_parquet(data_root / "arrivals" / f"{month}.parquet").set_index("flight_id")["delayed"]
    late = rows["flight_id"].map(outcome)
    rows, late = rows[late.notna()], late[late.notna()]
    seen = build(rows, weather=weather).sample(frac=1.0, random_state=SEED)
    return _Flights(
        keys=[str(key) for key in rows.loc[seen.index, "flight_id"]],
        columns=[str(name) for name in seen.columns],
        rows=_plain(seen),
        late=[bool(value) for value in late.loc[seen.index]],
    )


def _plain(table: pd.DataFrame) -> list[list[Any]]:
    whole: pd.DataFrame = table.astype(object).where(table.notna(), None)
    return [list(row) for row in whole.itertuples(index=False, name=None)]
