"""The shadow: what was asked before is asked of a new version, and no user sees its answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import Field

from ml_lifecycle.backends.evaluation.paired_scores import compare
from ml_lifecycle.backends.models.base import PackageInfo, read_info
from ml_lifecycle.backends.models.inputs import TWO_CLASSES, predict
from ml_lifecycle.backends.models.skops import SkopsFormat
from ml_lifecycle.backends.monitoring.logged_answers import Answerer, newest_answers
from ml_lifecycle.backends.monitoring.prediction_log import INPUT
from ml_lifecycle.core.contracts import AnalysisPolicy, Contract, ModelVersion, Move, PairedScores
from ml_lifecycle.core.errors import DataError
from ml_lifecycle.core.values import StoredDuration
from ml_lifecycle.stages.champion import verified_package
from ml_lifecycle.stages.runner import Tools
from ml_lifecycle.stages.step_evidence import logs_of

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    Scores = NDArray[np.float64]

TOLERANCE: Final = 1e-6
USUAL: Final = 2000
"""Requests of one comparison."""
MOST: Final = 100_000
"""Requests that one comparison holds in memory."""
_MOST_MISMATCHED: Final = 0.01
"""Share of the logged answers that may be other ones than the serving version's before nothing is concluded."""
_ROWS: Final = 1000
"""That are asked at a time."""
_PATIENCE: Final = 500
"""How often a model may raise before requests beside one that it cannot answer count as unanswered, too."""
_NAMED: Final = 10


class ShadowJob(Contract):
    """Which versions are compared, and on how many requests."""

    model: str
    candidate: Move | ModelVersion
    previous: Move | None
    """What serves; ``None`` for a first release, which nothing can be compared with."""
    requests: int = Field(default=USUAL, ge=1, le=MOST)
    """The newest ones that the serving version answered."""
    window: StoredDuration | None = None
    """How far back they are looked for; ``None``: as far as the log goes."""
    at_least: int = Field(default=1, ge=1)
    """With fewer requests than this no model is asked, and nothing concluded."""
    tolerance: float = Field(default=TOLERANCE, ge=0)
    """How far the serving version's answers may lie from those that the log holds, relative for those beyond 1."""

    @classmethod
    def of(cls, move: Move, previous: Move | None, policy: AnalysisPolicy) -> ShadowJob:
        """What a policy asks of a shadow: enough requests for its verdict, though some may fail."""
        wanted = min(MOST, policy.min_requests)
        return cls(
            model=move.model,
            candidate=move,
            previous=previous,
            requests=min(MOST, max(USUAL, 2 * wanted)),
            at_least=wanted,
        )


def replay(job: ShadowJob, tools: Tools) -> PairedScores:
    """Have the candidate answer the newest requests that the serving version answered, and compare.

    Nothing is changed, and the same log always gives the same result. What cannot be compared is an answer, too:
    without numbers, and with the reason.

    :raises DigestMismatchError: the bytes of one of the packages are not those that were approved.
    :raises UntrustedModelError: a package holds types that this deployment does not load.
    """
    previous = job.previous
    if previous is None:
        return _nothing("nothing serves that the candidate could be compared with; leave the shadow out of its steps")
    try:
        logged = _logged(job, previous, tools)
    except DataError as error:
        return _nothing(str(error))
    if logged.empty:
        return _nothing(_unasked(f"version {previous.version}"))
    if len(logged) < job.at_least:
        return _nothing(f"the log holds {len(logged):,} requests so far, and {job.at_least:,} are wanted")
    with _fetched(previous, tools) as old, _fetched(job.candidate, tools) as new:
        return ask_again(logged, old, new, tolerance=job.tolerance)


def requests_logged(job: ShadowJob, tools: Tools) -> int:
    """How many requests :func:`replay` would ask again; no model is fetched or loaded for it.

    :raises DataError: the log cannot be read.
    """
    return len(_logged(job, job.previous, tools)) if job.previous is not None else 0


def _logged(job: ShadowJob, previous: Move, tools: Tools) -> pd.DataFrame:
    since = tools.clock() - job.window if job.window is not None else None
    who = Answerer(digest=previous.digest, version=previous.version, is_alone=True)
    return newest_answers(logs_of(tools), job.model, who, count=job.requests, since=since)


# --- Models ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answering:
    """A model that can be asked."""

    name: str
    """For people, such as ``version 7``."""
    info: PackageInfo
    model: Any
    """The fitted estimator."""

    @property
    def width(self) -> int:
        """How many numbers an answer has."""
        return len(self.info.classes) if len(self.info.classes) > TWO_CLASSES else 1


def loaded(folder: Path, name: str, trusted_types: Sequence[str] = ()) -> Answering:
    """The model of a package whose digest was checked before.

    :raises UntrustedModelError: it cannot be read, or holds types that are not loaded here.
    """
    info = read_info(folder, where=str(folder))
    return Answering(name, info, SkopsFormat().load(folder, allowed_types=trusted_types))


@contextmanager
def _fetched(version: Move | ModelVersion, tools: Tools) -> Iterator[Answering]:
    with verified_package(version.uri, version.digest, tools) as folder:
        yield loaded(folder, f"version {version.version}", tools.trusted_types)


# --- Requests --------------------------------------------------------------------------------------------------------


def ask_again(logged: pd.DataFrame, old: Answering, new: Answering, *, tolerance: float = TOLERANCE) -> PairedScores:
    """Have both models answer what the old one was asked, and compare the answers.

    :param logged: The old model's answers, with what it was asked in columns ``input_<name>``.
    :param tolerance: How far its answers may lie from the logged ones, relative for those beyond 1.
    """
    import numpy as np

    names = list(dict.fromkeys([*old.info.inputs, *new.info.inputs]))
    if why := _objection(logged, old, new):
        return _nothing(why)
    asked = logged[[f"{INPUT}{name}" for name in names]].set_axis(names, axis=1)
    before = _answers(old, asked)
    same = _as_logged(before, logged["score"], tolerance)
    mismatched = int((~same).sum())
    if mismatched > _MOST_MISMATCHED * len(asked):
        return _nothing(
            f"{mismatched:,} of {len(asked):,} logged answers are not what {old.name} answers to the logged inputs; "
            "find out what wrote the log: other inputs than the model saw, or another model's answers",
            mismatched=mismatched,
        )
    after = _answers(new, asked[same])
    answered = np.isfinite(after).all(axis=1)
    found = compare(before[same][answered], after[answered], decides=bool(old.info.classes))
    return found.model_copy(update={"failed": int((~answered).sum()), "mismatched": mismatched})


def _nothing(why: str, *, mismatched: int = 0) -> PairedScores:
    return PairedScores(rows=0, mismatched=mismatched, detail=why)


def _objection(logged: pd.DataFrame, old: Answering, new: Answering) -> str:
    """Why the requests cannot be asked again; empty where they can."""
    if old.info.classes != new.info.classes:
        return (
            f"{old.name} tells {_classes(old)}, and {new.name} {_classes(new)}; leave the shadow out, or release the "
            "candidate as a model of its own"
        )
    if logged.empty:
        return _unasked(old.name)
    for one in (old, new):
        known = [f"{INPUT}{name}" in logged.columns for name in one.info.inputs]
        missing = [name for name, is_known in zip(one.info.inputs, known, strict=True) if not is_known]
        if missing:
            return (
                f"{one.name} takes inputs that the log does not hold: {_named(missing)}; leave the shadow out, or have "
                "them logged with the others before the next release"
            )
    return ""


def _unasked(name: str) -> str:
    return (
        f"the log holds no request that {name} answered; let it serve with its log on, score a partition, or make a "
        "log of what SageMaker captured by `ml-lifecycle capture`"
    )


def _classes(one: Answering) -> str:
    classes = [repr(name) for name in one.info.classes]
    return f"the classes {_named(classes)} apart" if classes else "a number"


def _named(names: Sequence[str]) -> str:
    more = [f"{len(names) - _NAMED:,} more"] if len(names) > _NAMED else []
    return ", ".join([*names[:_NAMED], *more])


# --- Answers ---------------------------------------------------------------------------------------------------------


def _as_logged(answers: Scores, logged: pd.Series[Any], tolerance: float) -> NDArray[np.bool_]:
    """Which answers are those that the log holds; of several classes it holds the most probable one's."""
    import numpy as np

    held = logged.to_numpy("float64", na_value=np.nan)
    with np.errstate(invalid="ignore"):
        near: NDArray[np.bool_] = abs(answers.max(axis=1) - held) <= tolerance * np.maximum(1.0, abs(held))
    usable: NDArray[np.bool_] = near & np.isfinite(held)
    return usable


def _answers(who: Answering, asked: pd.DataFrame) -> Scores:
    """Each request's answer ``(requests, numbers)``; NaN throughout where there is none."""
    import numpy as np

    patience = _Patience(_PATIENCE)
    parts = [
        _portion(who, asked.iloc[first : first + _ROWS], patience) for first in range(0, max(1, len(asked)), _ROWS)
    ]
    return np.concatenate(parts)


@dataclass
class _Patience:
    """How often a model may still raise."""

    left: int


def _portion(who: Answering, asked: pd.DataFrame, patience: _Patience) -> Scores:
    """As :func:`_answers`; where the model raises, it is asked for each half, down to the requests that make it."""
    import numpy as np

    if asked.empty:
        return np.empty((0, who.width))
    try:
        found = np.asarray(predict(who.model, who.info, asked), dtype="float64").reshape(len(asked), -1)
    except Exception:  # noqa: BLE001  # a model may raise anything, and here that is what is counted
        found = np.empty((0, 0))
    if found.shape == (len(asked), who.width):
        return np.where(np.isfinite(found).all(axis=1, keepdims=True), found, np.nan)
    patience.left -= 1
    if len(asked) == 1 or patience.left <= 0:
        return np.full((len(asked), who.width), np.nan)
    middle = len(asked) // 2
    halves = [_portion(who, half, patience) for half in (asked.iloc[:middle], asked.iloc[middle:])]
    return np.concatenate(halves)
