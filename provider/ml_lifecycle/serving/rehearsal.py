"""A program that loads a model package as a server would, repeats training's predictions, and measures itself.

The first line of its standard input is a :class:`Rehearsal` as JSON; at the second one it measures latencies, so that
whoever started it can be still meanwhile. Its output is an :class:`Outcome` as JSON. It trusts nothing that the
package says of itself: the digest names the bytes, and the list of types comes from whoever starts it.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ml_lifecycle.backends.files import digest_of_folder
from ml_lifecycle.backends.models.base import PackageInfo, read_info
from ml_lifecycle.backends.models.golden import kinds_of, read_golden
from ml_lifecycle.backends.models.inputs import predict
from ml_lifecycle.backends.models.skops import SkopsFormat
from ml_lifecycle.core.contracts import Contract
from ml_lifecycle.core.errors import DigestMismatchError, LifecycleError, UntrustedModelError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    Scores = NDArray[np.float64]

MEGABYTE: Final = 1_000_000
_OUTPUT, _ERRORS = 1, 2
"""Descriptors, of every process."""
_WARM_UP: Final = 5
_LONGEST_PROBLEM: Final = 500
_MOST_OUTPUT: Final = 1 << 20


class Rehearsal(Contract):
    """What is loaded, and within which limits."""

    folder: str
    digest: str
    trusted_types: tuple[str, ...] = ()
    """Beside those that this package lists."""
    requests: int = 100
    """Of one row each, one after the other, that the latency is measured on."""
    memory_mb: int = 4096
    """Address space that the process may ask for."""
    seconds: int = 120
    """Of processor time, and by the clock: whoever started the process may be gone."""


class Outcome(Contract):
    """What happened."""

    problem: str = ""
    """Why the package would not serve; empty where it would."""
    rows: int = 0
    """Golden rows that were scored; 0 where the package holds none."""
    largest_difference: float | None = None
    """Between these predictions and training's, relative for those beyond 1."""
    load_s: float | None = None
    """From the first line of this program to a model that is ready; libraries included."""
    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None
    peak_mb: float | None = None


def main() -> None:
    """Read the rehearsal, take the limits upon this process, and tell the outcome."""
    started = time.perf_counter()
    # What a model or a library prints, by whatever means, is no part of the answer.
    with os.fdopen(os.dup(_OUTPUT), "w") as answer:
        os.dup2(_ERRORS, _OUTPUT)
        rehearsal = Rehearsal.model_validate_json(sys.stdin.readline())
        confine(rehearsal)
        outcome = rehearse(rehearsal, started=started, wait=lambda: _wait(rehearsal))
        answer.write(json.dumps(outcome.to_xcom()))


def _wait(rehearsal: Rehearsal) -> None:
    """Stand by, however long it takes; whoever is gone sends no line, and nobody reads on."""
    signal.alarm(0)
    if not sys.stdin.readline():
        sys.exit("whoever started this is gone")
    signal.alarm(rehearsal.seconds)


def confine(rehearsal: Rehearsal) -> None:
    """Bound this process's address space, time, written files and core dumps, for good."""
    memory = rehearsal.memory_mb * MEGABYTE
    limits = {
        resource.RLIMIT_AS: memory,
        resource.RLIMIT_CPU: rehearsal.seconds,
        resource.RLIMIT_FSIZE: _MOST_OUTPUT,
        resource.RLIMIT_CORE: 0,
    }
    for limit, value in limits.items():
        highest = resource.getrlimit(limit)[1]
        allowed = value if highest == resource.RLIM_INFINITY else min(value, highest)
        resource.setrlimit(limit, (allowed, allowed))
    signal.alarm(rehearsal.seconds)


def rehearse(rehearsal: Rehearsal, *, started: float, wait: Callable[[], None] = lambda: None) -> Outcome:
    """Load the package and hold it against its golden rows; whatever goes wrong is told, and never raised.

    :param wait: Returns when latencies can be measured.
    """
    try:
        return _rehearsed(rehearsal, started, wait)
    except MemoryError:
        return Outcome(problem=f"it needs more than the {rehearsal.memory_mb:,} MB of address space that it may have")
    except LifecycleError as error:
        return Outcome(problem=str(error)[:_LONGEST_PROBLEM])
    except Exception as error:  # noqa: BLE001  # a model may raise anything, and this is the place to find out
        return Outcome(problem=f"it raised {type(error).__name__}: {error}"[:_LONGEST_PROBLEM])


def _rehearsed(rehearsal: Rehearsal, started: float, wait: Callable[[], None]) -> Outcome:
    folder = Path(rehearsal.folder)
    found = digest_of_folder(folder)
    if found != rehearsal.digest:
        raise DigestMismatchError("the model package", expected=rehearsal.digest, found=found)
    info = read_info(folder, where="the package")
    model = SkopsFormat().load(folder, allowed_types=rehearsal.trusted_types)
    load_s = time.perf_counter() - started
    golden = read_golden(folder)
    if golden is None:
        return Outcome(load_s=load_s, peak_mb=_peak_mb())
    rows, expected = golden
    _check_signature(info, rows)
    answered = _answers(model, info, rows)
    difference = _largest_difference(answered, expected)
    wait()
    served, latencies = _served(lambda row: _answers(model, info, row), rows, rehearsal.requests)
    alone = _largest_difference(served, expected[[number % len(rows) for number in range(len(served))]])
    return Outcome(
        rows=len(rows),
        largest_difference=max(difference, alone),
        load_s=load_s,
        latency_p50_ms=_percentile(latencies, 50),
        latency_p95_ms=_percentile(latencies, 95),
        peak_mb=_peak_mb(),
    )


def _check_signature(info: PackageInfo, rows: pd.DataFrame) -> None:
    """The input that the package declares is the one that training gave: names, order, kinds."""
    found = kinds_of(rows)
    if list(found.items()) != list(info.inputs.items()):
        raise UntrustedModelError(
            f"it declares the inputs {_told(info.inputs)}, and training gave {_told(found)}", way_out="train again"
        )


def _told(inputs: dict[str, str]) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in inputs.items()) or "none"


def _answers(model: Any, info: PackageInfo, rows: pd.DataFrame) -> Scores:
    import numpy as np

    scores: Scores = np.asarray(predict(model, info, rows), dtype="float64").reshape(len(rows), -1)
    return scores


def _largest_difference(found: Scores, expected: Scores) -> float:
    import numpy as np

    if found.shape != expected.shape:
        raise UntrustedModelError(f"it answers {found.shape[1]} numbers a row, and training got {expected.shape[1]}")
    if not np.isfinite(found).all():
        raise UntrustedModelError(f"it answers NaN or infinity in {int((~np.isfinite(found)).any(axis=1).sum())} rows")
    if not np.isfinite(expected).all():
        raise UntrustedModelError("training's own predictions hold NaN or infinity")
    return float((abs(found - expected) / np.maximum(1.0, abs(expected))).max(initial=0.0))


def _served(answer: Callable[[pd.DataFrame], Scores], rows: pd.DataFrame, requests: int) -> tuple[Scores, list[float]]:
    """The answers to requests with one row each, and how many milliseconds each took."""
    import numpy as np

    for number in range(_WARM_UP):
        answer(rows.iloc[[number % len(rows)]])
    answers, latencies = [], []
    for number in range(requests):
        row = rows.iloc[[number % len(rows)]]
        begun = time.perf_counter()
        answers.append(answer(row))
        latencies.append(1000 * (time.perf_counter() - begun))
    return np.concatenate(answers), latencies


def _percentile(values: list[float], percent: float) -> float:
    import numpy as np

    return float(np.percentile(values, percent))


def _peak_mb() -> float:
    """Of this process; macOS tells bytes, others kilobytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MEGABYTE
