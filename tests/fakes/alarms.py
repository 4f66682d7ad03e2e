"""Three hundred alarms within an hour, from several processes and threads at the same time."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

from ml_lifecycle.backends.data.local import LocalStore
from ml_lifecycle.backends.ledger.sql import SqlLedger
from ml_lifecycle.backends.tracking.local import LocalTracking
from ml_lifecycle.stages.response import respond
from ml_lifecycle.stages.runner import Tools
from tests.fakes.watched_model import DAY, NOW, WatchedModel, drift

ALARMS, PROCESSES, THREADS = 300, 3, 4


def tools_at(folder: Path, url: str) -> Tools:
    """A process's own tools."""
    tracking = LocalTracking(folder / "tracking")
    return Tools(
        data=LocalStore(folder / "data"),
        project=folder,
        tracking=tracking,
        registry=tracking,
        ledger=SqlLedger(url),
        environment="test",
    )


def storm(folder: Path, url: str) -> list[str]:
    """What is answered to each alarm, where version 1 serves and there is no cooldown."""
    model = WatchedModel(tools_at(folder, url), now=NOW - 90 * DAY)
    model.train("2013-01", version=1)
    model.release(1)
    share = ALARMS // PROCESSES
    parts = [(folder, url, range(start, start + share)) for start in range(0, ALARMS, share)]
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        return [action for actions in pool.starmap(_alarms, parts) for action in actions]


def _alarms(folder: Path, url: str, numbers: range) -> list[str]:
    def one(number: int) -> str:
        # Each run has a clock of its own.
        model = WatchedModel(tools_at(folder, url), now=NOW + timedelta(seconds=12 * number))
        model.limits = {"cooldown": timedelta(0)}
        run = f"trips_monitor/{number}"
        return respond(model.job(drift(), run=run), model.at(run)).action

    # Nothing is imported for the first time by several threads at once.
    first = one(numbers[0])
    with ThreadPoolExecutor(THREADS) as pool:
        return [first, *pool.map(one, numbers[1:])]
