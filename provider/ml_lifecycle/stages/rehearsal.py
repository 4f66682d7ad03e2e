"""The packaged model in a process of its own, before anybody relies on it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

from ml_lifecycle.core.contracts import ServingCheck, TrainedModel, Verdict
from ml_lifecycle.core.errors import LifecycleError, PassingError
from ml_lifecycle.serving import rehearsal
from ml_lifecycle.serving.rehearsal import MEGABYTE, Outcome, Rehearsal
from ml_lifecycle.stages.champion import verified_package
from ml_lifecycle.stages.runner import Tools

TIMEOUT_S: Final = 120.0
MEMORY_MB: Final = 4096
_UNPACKED: Final = 10
"""Times the size on disk that a model may take in memory."""
_SOURCE_ROOT: Final = Path(rehearsal.__file__).resolve().parents[2]
_PROGRAM: Final = f"import sys; sys.path.append(sys.argv[1]); from {rehearsal.__name__} import main; main()"
"""Isolated mode takes no path from the environment or the working directory, so that it is given."""
_KEPT: Final = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""What a deployment's libraries may be found by; nothing else of the environment is handed on."""
_ONE_THREAD: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_LONGEST_LINE: Final = 300


def rehearse(
    model: TrainedModel, tools: Tools, *, timeout_s: float = TIMEOUT_S, memory_mb: int | None = None
) -> ServingCheck:
    """Load the package in a clean process, with our trusted types only, and have it repeat training's predictions.

    The process gets no secret: an environment, a working directory and a temporary folder of its own, and bounded
    memory and time. A package that would not serve is an answer and never an error.

    :param timeout_s: After so long the process is killed.
    :param memory_mb: Address space that it may ask for; by default 4 GB, and more for packages beyond 400 MB.
    """
    with tempfile.TemporaryDirectory(prefix="ml-lifecycle-") as temporary:
        try:
            with verified_package(model.uri, model.digest, tools) as folder:
                size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / MEGABYTE
                asked = Rehearsal(
                    folder=str(folder.resolve()),
                    digest=model.digest,
                    trusted_types=tools.trusted_types,
                    memory_mb=memory_mb or max(MEMORY_MB, int(_UNPACKED * size)),
                    seconds=int(timeout_s) + 1,
                )
                outcome = _run(asked, Path(temporary), timeout_s)
        except PassingError:
            raise
        except LifecycleError as error:
            return ServingCheck(verdict=Verdict.FAIL, rows=0, detail=str(error))
    return judge(outcome, size)


def judge(outcome: Outcome, model_mb: float) -> ServingCheck:
    """What the process told, as a verdict with its reason."""
    check = ServingCheck(
        verdict=Verdict.PASS,
        rows=outcome.rows,
        largest_difference=outcome.largest_difference,
        load_s=outcome.load_s,
        latency_p50_ms=outcome.latency_p50_ms,
        latency_p95_ms=outcome.latency_p95_ms,
        peak_mb=outcome.peak_mb,
        model_mb=model_mb,
    )
    if outcome.problem:
        return check.model_copy(update={"verdict": Verdict.FAIL, "detail": outcome.problem})
    if outcome.rows == 0 or outcome.largest_difference is None:
        detail = "the package holds no golden rows, so that nothing tells whether it predicts as it was trained"
        return check.model_copy(update={"verdict": Verdict.INCONCLUSIVE, "detail": detail})
    if not outcome.largest_difference <= check.tolerance:
        detail = f"it predicts otherwise than training did, by up to {outcome.largest_difference:.3g}"
        return check.model_copy(update={"verdict": Verdict.FAIL, "detail": detail})
    return check


def _run(asked: Rehearsal, folder: Path, timeout_s: float) -> Outcome:
    """Start the process and wait for it; files take its output, whose size it cannot exceed."""
    command = [sys.executable, "-I", "-c", _PROGRAM, str(_SOURCE_ROOT)]
    (folder / "asked.json").write_text(json.dumps(asked.to_xcom()))
    with (
        (folder / "asked.json").open("rb") as source,
        (folder / "told.txt").open("w+b") as told,
        (folder / "errors.txt").open("w+b") as errors,
    ):
        process = subprocess.Popen(  # noqa: S603  # our own interpreter and program
            command,
            stdin=source,
            stdout=told,
            stderr=errors,
            cwd=folder,
            env=_environment(folder),
            start_new_session=True,
        )
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return Outcome(problem=f"it did not answer within {timeout_s:g} s")
        finally:
            # Also what it may have started, and also where this task is being killed.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return _told(code, told, errors, asked)


def _environment(folder: Path) -> dict[str, str]:
    """No secret, no setting of whoever started this; one thread, so that latencies can be compared."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    own = {"PATH": os.defpath, "HOME": str(folder), "TMPDIR": str(folder), "LANG": "C.UTF-8", "MALLOC_ARENA_MAX": "2"}
    return {**kept, **own, **dict.fromkeys(_ONE_THREAD, "1")}


def _told(code: int, told: IO[bytes], errors: IO[bytes], asked: Rehearsal) -> Outcome:
    lines = _lines(told)
    if code == 0 and lines:
        with suppress(ValueError):
            return Outcome.model_validate_json(lines[-1])
    if code < 0:
        name = signal.Signals(-code).name
        limit = f"it may take {asked.memory_mb:,} MB of memory and {asked.seconds} s"
        return Outcome(problem=f"the process was ended by {name}; {limit}")
    last = (_lines(errors) or ["it wrote nothing"])[-1][:_LONGEST_LINE]
    return Outcome(problem=f"the process ended with {code}: {last}")


def _lines(file: IO[bytes]) -> list[str]:
    file.seek(0)
    return file.read().decode(errors="replace").strip().splitlines()
