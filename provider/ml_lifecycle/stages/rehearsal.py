"""The packaged model in a process of its own, before anybody relies on it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final

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


@contextmanager
def rehearsing(
    model: TrainedModel, tools: Tools, *, timeout_s: float = TIMEOUT_S, memory_mb: int | None = None
) -> Iterator[Callable[[], ServingCheck]]:
    """Load the package in a clean process, with our trusted types only, and have it repeat training's predictions.

    The process loads while the caller works, and measures its latencies once the caller asks what came of it, which is
    when nothing else should run. It gets no secret: an environment, a working directory and a temporary folder of its
    own, and bounded memory and time. A package that would not serve is an answer and never an error.

    :param timeout_s: So long after it was asked the process is killed.
    :param memory_mb: Address space that it may ask for; by default 4 GB, and more for packages beyond 400 MB.
    """
    with ExitStack() as stack:
        temporary = stack.enter_context(tempfile.TemporaryDirectory(prefix="ml-lifecycle-"))
        folder = _package(model, tools, stack)
        if isinstance(folder, ServingCheck):
            yield lambda: folder
            return
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / MEGABYTE
        asked = Rehearsal(
            folder=str(folder.resolve()),
            digest=model.digest,
            trusted_types=tools.trusted_types,
            memory_mb=memory_mb or max(MEMORY_MB, int(_UNPACKED * size)),
            seconds=int(timeout_s) + 1,
        )
        answer = stack.enter_context(_started(asked, Path(temporary), timeout_s))
        yield lambda: judge(answer(), size)


def _package(model: TrainedModel, tools: Tools, stack: ExitStack) -> Path | ServingCheck:
    """The verified package, or why there is none."""
    try:
        return stack.enter_context(verified_package(model.uri, model.digest, tools))
    except PassingError:
        raise
    except LifecycleError as error:
        return ServingCheck(verdict=Verdict.FAIL, rows=0, detail=str(error))


def rehearse(model: TrainedModel, tools: Tools, **limits: Any) -> ServingCheck:
    """As :func:`rehearsing`, with nothing beside it."""
    with rehearsing(model, tools, **limits) as conclude:
        return conclude()


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


@contextmanager
def _started(asked: Rehearsal, folder: Path, timeout_s: float) -> Iterator[Callable[[], Outcome]]:
    """The process, and a call that lets it measure and waits for it; files take its output, of bounded size."""
    command = [sys.executable, "-I", "-c", _PROGRAM, str(_SOURCE_ROOT)]
    with (folder / "told.txt").open("w+b") as told, (folder / "errors.txt").open("w+b") as errors:
        process = subprocess.Popen(  # noqa: S603  # our own interpreter and program
            command,
            stdin=subprocess.PIPE,
            stdout=told,
            stderr=errors,
            cwd=folder,
            env=_environment(folder),
            start_new_session=True,
        )
        try:
            _say(process, json.dumps(asked.to_xcom()))
            yield lambda: _outcome(process, told, errors, asked, timeout_s)
        finally:
            # Also what it may have started, and also where this task is being killed.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if process.stdin is not None:
                with suppress(OSError):
                    process.stdin.close()


def _say(process: subprocess.Popen[bytes], line: str) -> None:
    """Hand a line over; a process that has ended tells why elsewhere."""
    if process.stdin is not None:
        with suppress(OSError):
            process.stdin.write(line.encode() + b"\n")
            process.stdin.flush()


def _outcome(
    process: subprocess.Popen[bytes], told: IO[bytes], errors: IO[bytes], asked: Rehearsal, timeout_s: float
) -> Outcome:
    _say(process, "measure")
    try:
        code = process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        return Outcome(problem=f"it did not answer within {timeout_s:g} s")
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
