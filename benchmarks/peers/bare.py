"""All steps in one process, one after the other: the cost that no orchestrator can go below with these libraries."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import steps


def main(data_root: str, suite: str, mlflow_url: str) -> None:
    """Run every step and print the seconds of each as JSON."""
    seconds: dict[str, float] = {}

    def timed(name: str, step: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        result = step()
        seconds[name] = round(time.perf_counter() - began, 2)
        return result

    with tempfile.TemporaryDirectory() as folder:
        model, predictions, report = (
            str(Path(folder) / name) for name in ("model.pkl", "scored.parquet", "drift.html")
        )
        timed("validate", lambda: steps.validate(data_root, suite))
        timed("train", lambda: steps.train(data_root, model))
        metrics = timed("evaluate", lambda: steps.evaluate(data_root, model))
        timed("register", lambda: steps.register(model, metrics, mlflow_url))
        timed("score", lambda: steps.score(data_root, model, predictions))
        timed("drift", lambda: steps.drift(data_root, report))
    print(json.dumps(seconds))


if __name__ == "__main__":
    main(*sys.argv[1:])
