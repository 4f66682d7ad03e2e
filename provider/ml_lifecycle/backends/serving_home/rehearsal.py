"""A server that nobody's traffic reaches, started to see whether it would serve."""

from __future__ import annotations

import http.client
import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from ml_lifecycle.backends.models.golden import read_golden
from ml_lifecycle.backends.serving_home import servers
from ml_lifecycle.backends.serving_home.control import is_right, settle
from ml_lifecycle.backends.serving_home.home import REHEARSAL, Home
from ml_lifecycle.backends.serving_home.state import Slot
from ml_lifecycle.core.errors import RollbackNotReadyError, ServiceUnavailableError

if TYPE_CHECKING:
    import pandas as pd

_START_S: Final = 120.0
_ANSWER_S: Final = 30.0
_TOLERANCE: Final = 1e-6


def rehearse(home: Home, slot: Slot, model: str) -> bool:
    """Whether the version's server starts and repeats the predictions that training made of the golden rows.

    :raises RollbackNotReadyError: its server ends, or answers otherwise than training did.
    :raises ServiceUnavailableError: it is not ready in time.
    """
    name = f"{REHEARSAL}{model}-{uuid4().hex[:8]}"
    path = home.programs / f"{name}.conf"
    with home.locked():
        slot = slot.model_copy(update={"port": home.free_port(home.states())})
        path.write_text(home.program(name, model, slot, logged=False).text(home.logs))
    try:
        settle(home)
        _wait(home, name, slot)
        return _repeats(home.package(slot.digest), slot.port)
    finally:
        path.unlink(missing_ok=True)
        _end(home, name)
        (home.logs / f"{name}.log").unlink(missing_ok=True)


def _wait(home: Home, name: str, slot: Slot) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        told = servers.health(slot.port)
        if told.get("ready") and is_right(slot, told):
            return
        process = home.supervisor.processes().get(name)
        if process is not None and process.ended:
            raise RollbackNotReadyError(
                f"the server of version {slot.version} does not start: {process.why}",
                where=f"{home.folder}/logs/{name}.log",
                way_out=f"run `python -m ml_lifecycle.serving.server --package {home.package(slot.digest)}` by hand",
            )
        time.sleep(0.1)
    raise ServiceUnavailableError(
        f"the server of version {slot.version} was not ready in {_START_S:.0f} s",
        where=str(home.folder),
        way_out="look whether the machine has room for one more server",
    )


def _repeats(package: Path, port: int) -> bool:
    golden = read_golden(package)
    if golden is None:
        return True
    rows, expected = golden
    answers = _asked(port, rows)
    if len(answers) != len(expected):
        return False
    wanted = [[float(one) for one in row] for row in expected]
    found = [_scores(answer) for answer in answers]
    return all(_alike(one, other) for one, other in zip(found, wanted, strict=True))


def _scores(answer: Any) -> list[float]:
    return [float(one) for one in answer] if isinstance(answer, list) else [float(answer)]


def _alike(found: list[float], wanted: list[float]) -> bool:
    return len(found) == len(wanted) and all(
        math.isclose(one, other, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
        for one, other in zip(found, wanted, strict=True)
    )


def _asked(port: int, rows: pd.DataFrame) -> list[Any]:
    body = f'{{"dataframe_split": {rows.to_json(orient="split", index=False, double_precision=15)}}}'
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ANSWER_S)
    try:
        connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ServiceUnavailableError(
            f"the rehearsed server does not answer ({type(error).__name__})",
            where=f"port {port}",
            way_out="look at its log",
        ) from None
    finally:
        connection.close()
    found = answer.get("predictions") if isinstance(answer, dict) else None
    return found if isinstance(found, list) else []


def _end(home: Home, name: str) -> None:
    deadline = time.monotonic() + _ANSWER_S
    while time.monotonic() < deadline:
        settle(home)
        if name not in home.supervisor.processes():
            return
        time.sleep(0.1)
