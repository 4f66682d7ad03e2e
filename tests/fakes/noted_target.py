"""A place where two versions serve in name only: a file says who gets what, and tests say what was observed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from ml_lifecycle.backends.deployment.base import ALL, Means, Serving, SplittingTarget
from ml_lifecycle.core.contracts import Histogram, Move, Observation
from ml_lifecycle.core.errors import StaleEpochError, TargetRefusedError

BOUNDS_MS = (5.0, 10.0, 20.0, 40.0, 80.0)


class NotedTarget(SplittingTarget):
    """Keeps its state in ``serving_home``, so that every try and every process finds the same."""

    backend: Literal["noted"] = "noted"

    def deploy(self, move: Move, means: Means) -> None:
        with self._changed(move, means) as state:
            serving = [version for version, percent in state["traffic"].items() if percent]
            state["ready"] = sorted({*map(int, serving), move.version})

    def set_split(self, move: Move, percent: int, means: Means) -> None:
        with self._changed(move, means) as state:
            others = [version for version in state["traffic"] if int(version) != move.version]
            share = percent if others else ALL
            state["traffic"] = dict.fromkeys(others, ALL - share) | {str(move.version): share}
            state["writes"].append([move.version, share])

    def promote(self, move: Move, means: Means) -> None:
        with self._changed(move, means) as state:
            state["ready"] = sorted({*state["ready"], move.version})
            state["traffic"] = {str(move.version): ALL}
            state["fault"] = ""
            state["writes"].append([move.version, ALL])

    def status(self, model: str, means: Means) -> Serving:
        state = read(model, means)
        return Serving(
            traffic={int(version): percent for version, percent in state["traffic"].items() if percent},
            epoch=state["epoch"],
            environment=state["environment"],
            ready=tuple(state["ready"]),
            settled=not state["slow"],
            fault=state["fault"],
        )

    def observe(self, model: str, since: datetime, means: Means) -> Mapping[int, Observation]:
        seen = read(model, means)["seen"]
        return {int(version): Observation(version=int(version), **what) for version, what in seen.items()}

    def retire(self, move: Move, means: Means) -> None:
        with self._changed(move, means) as state:
            state["ready"] = [version for version in state["ready"] if state["traffic"].get(str(version))]

    def destroy(self, model: str, environment: str, means: Means) -> None:
        _file(model, means).unlink(missing_ok=True)

    def restore(self, head: Move, means: Means) -> None:
        change(head.model, means, epoch=0)
        self.promote(head, means)

    def rehearse(self, move: Move, means: Means) -> Mapping[int, int]:
        return {move.version: ALL}

    @contextmanager
    def _changed(self, move: Move, means: Means) -> Iterator[dict[str, Any]]:
        state = read(move.model, means)
        if state["environment"] not in ("", move.environment):
            raise TargetRefusedError(f"the place belongs to {state['environment']!r}")
        if state["epoch"] > move.epoch:
            raise StaleEpochError(f"a newer move is in force: epoch {state['epoch']}, not {move.epoch}")
        state |= {"epoch": move.epoch, "environment": move.environment}
        yield state
        _file(move.model, means).write_text(json.dumps(state))


def read(model: str, means: Means) -> dict[str, Any]:
    """Everything that is noted of a model."""
    new = {"epoch": 0, "environment": "", "traffic": {}, "ready": [], "seen": {}, "slow": False, "fault": ""}
    file = _file(model, means)
    return json.loads(file.read_text()) if file.is_file() else {**new, "writes": []}


def change(model: str, means: Means, **values: Any) -> None:
    """Let the place be in another state."""
    _file(model, means).write_text(json.dumps({**read(model, means), **values}))


def seen(requests: int, *, errors: int = 0, slow: float = 0.02) -> dict[str, Any]:
    """What a version did: nearly all requests below 5 ms, a share of them between 40 and 80 ms."""
    late = round(requests * slow)
    counts = (requests - late, 0, 0, 0, late, 0)
    return {
        "requests": requests,
        "errors": errors,
        "latency": Histogram(bounds_ms=BOUNDS_MS, counts=counts).to_xcom(),
    }


def _file(model: str, means: Means) -> Path:
    assert means.serving_home is not None
    means.serving_home.mkdir(exist_ok=True)
    return means.serving_home / f"{model}.json"
