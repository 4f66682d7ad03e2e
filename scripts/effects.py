"""Goes into the DAG folder of a trial: kills its own process, or its supervisor, at the effect that a plan names.

An effect is whatever another process can see: a transaction of the ledger, a write to MLflow, the form that Airflow
shows, and the end of the task. :func:`arm` numbers them from 1 within each process of a task and writes them down.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Any

FOLDER = "TRIAL_PLANS"
"""The variable that names the folder of plans and traces."""
END = "the end"
"""Of the task's work: its supervisor has not heard of it yet."""
ZOMBIE_S = 300.0
_PAUSE_S = 0.1


class _Effects:
    """The effects of this process so far, and the plan for one of them."""

    def __init__(self, folder: Path, task: str) -> None:
        self.plan = folder / f"{task}.plan"
        self.done = folder / f"{task}.done"
        self.go = folder / f"{task}.go"
        self.trace = folder / f"{task}.{os.getpid()}.trace"
        self.number = 0
        self.method = ""

    def next(self, label: str) -> int:
        """Count an effect."""
        self.number += 1
        with self.trace.open("a") as file:
            file.write(f"{self.method}\t{label}\n")
        return self.number

    def reached(self, number: int, when: str) -> None:
        """Carry the plan out if this is its moment, and only once."""
        try:
            plan = json.loads(self.plan.read_text())
        except FileNotFoundError:
            return
        if (plan["method"], plan["effect"], plan["when"]) != (self.method, number, when):
            return
        self.plan.unlink()
        self.done.write_text(json.dumps({"pid": os.getpid(), "supervisor": os.getppid()}))
        os.kill(os.getpid() if plan["whom"] == "task" else os.getppid(), signal.SIGKILL)
        deadline = time.monotonic() + ZOMBIE_S
        while not self.go.exists() and time.monotonic() < deadline:
            time.sleep(_PAUSE_S)


def arm(dag_id: str | None, task_id: str | None) -> None:
    """Watch the effects of the task that this process is about to run; of no other process."""
    if dag_id is None or task_id is None or FOLDER not in os.environ:
        return
    from ml_lifecycle.backends.ledger.database import Database
    from ml_lifecycle.backends.tracking.mlflow import MlflowTracking
    from ml_lifecycle.operators import approval, deployment

    effects = _Effects(Path(os.environ[FOLDER]), f"{dag_id}.{task_id}")
    _watch(Database, "write", effects, lambda *_: f"ledger: {_public_caller('sql.py')}")
    for name in ("tag_version", "tag_model", "set_alias", "remove_alias"):
        _watch(MlflowTracking, name, effects, lambda *_, name=name: f"MLflow: {name}")
    from airflow.providers.standard.operators import hitl

    _watch(hitl, "upsert_hitl_detail", effects, lambda *_: "Airflow: form")
    for operator in (approval.ApproveModelOperator, deployment.DeployModelOperator, deployment.RollbackModelOperator):
        _frame(operator, "execute", effects)
    for operator in (approval.ApproveModelOperator, deployment.DeployModelOperator):
        _frame(operator, "execute_complete", effects)


def _public_caller(file: str) -> str:
    """The method that somebody called, of those that the present call came through."""
    frame: FrameType | None = sys._getframe()  # noqa: SLF001  # nothing public looks up the stack without copying it
    while frame is not None:
        name = frame.f_code.co_name
        if frame.f_code.co_filename.endswith(f"/{file}") and not name.startswith(("_", "<")):
            return name
        frame = frame.f_back
    return "unknown"


def _watch(owner: Any, name: str, effects: _Effects, label: Callable[..., str]) -> None:
    """Count every call as an effect, with a moment before and one after it."""
    plain = getattr(owner, name)
    is_method = isinstance(owner, type)

    @wraps(plain)
    def watched(*args: Any, **kwargs: Any) -> Any:
        number = effects.next(label(*(args[1:2] if is_method else args[:1])))
        effects.reached(number, "before")
        result = plain(*args, **kwargs)
        effects.reached(number, "after")
        return result

    setattr(owner, name, watched)


def _frame(operator: Any, name: str, effects: _Effects) -> None:
    """Note which of a task's methods runs, and count its end, whichever way it ends."""
    plain = getattr(operator, name)

    @wraps(plain)
    def watched(*args: Any, **kwargs: Any) -> Any:
        effects.method = name
        try:
            return plain(*args, **kwargs)
        finally:
            effects.reached(effects.next(END), "before")

    setattr(operator, name, watched)
