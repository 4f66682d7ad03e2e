"""What one run works on: what it was asked for, merged with what the pipeline declares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ml_lifecycle.core.contracts import Contract, RunRequest, Scalar, Stream
from ml_lifecycle.core.data import EXAMPLES, Every, render, window_of, window_without
from ml_lifecycle.core.errors import RequestError, did_you_mean

Trigger = Literal["manual", "scheduled", "asset", "backfill", "command"]

TAKES: dict[Stream, tuple[str, ...]] = {
    "train": ("hyperparameters", "partition", "reason"),
    "release": ("reason", "version"),
    "score": ("partition", "partitions", "reason"),
    "monitor": ("partition", "reason"),
    "rollback": ("reason", "version"),
    "drill": ("reason",),
}
"""What a run of each stream may be asked for."""
MOST_PARTITIONS = 1000
"""How many partitions one run may be asked for: Airflow maps a task 1,024 times unless it is told otherwise."""
MAX_FILES = 6
"""How many missing files a message names."""
MAX_SPANS = 5
"""More runs of partitions than these would bury the message that lists them."""
MAX_REASON = 2000
"""Characters of a reason."""
_UNSEEN = "\t\n\r\u200d\u00a0\u3000"
"""Characters that are no mischief though they cannot be seen: white space, and what joins emojis."""
MAX_NUMBER = 1e300
"""Larger numbers are infinity under another name."""


class HyperparameterSpec(Contract):
    """A hyperparameter that a run may override, within its bounds."""

    value: Scalar = None
    """The default; a run's value must be of its type."""
    help: str = ""
    """What the trigger form says about it."""
    low: float | None = None
    """Least value that a run may ask for."""
    high: float | None = None
    """Greatest value that a run may ask for."""


def merge_request(
    *,
    model: str,
    stream: Stream,
    run_id: str = "",
    trigger: Trigger = "command",
    requester: str | None = None,
    conf: Mapping[str, Any],
    event: Mapping[str, Any],
    scheduled: str | None = None,
    available: Sequence[str] | None = (),
    held: Mapping[str, Sequence[str]] | None = None,
    every: Every = "monthly",
    window: int = 1,
    hyperparameters: Mapping[str, HyperparameterSpec],
) -> RunRequest:
    """Conf first, else the asset's event, else the schedule, else the newest partition that is there.

    :param conf: ``partition``, ``reason``, ``partitions`` (scoring), ``hyperparameters`` (training) and ``version``
        (release, rollback); a value of ``None`` or ``""`` is a form field left empty.
    :param event: Extra of the asset event that started the run; keys of no concern here are passed over. A training
        leaves out the partitions that it names as ``excluded``, and reaches further back for them, unless conf names
        a partition; a rollback is about the ``epoch`` that it names.
    :param scheduled: The partition of the schedule's interval; ``None`` for runs that have none.
    :param available: Names of the partitions that are there, sorted; ``None`` where a sensor waits for them later.
    :param held: Which partitions each source holds, by its uri; errors then say which file is missing.
    :param window: How many partitions a training reads; other streams read one.
    :raises RequestError: the run asks for something that the pipeline does not offer, or that is not there.
    """
    asked = _filled(conf)
    _refuse_unknown(asked, stream)
    told = _filled(event)
    partitions: tuple[str, ...] = ()
    excluded = _excluded(told) if stream == "train" and "partition" not in asked else ()
    if "partitions" in asked:
        partitions = _several(asked, every)
        _refuse_absent(partitions, available, held or {}, every)
    elif "partition" in TAKES[stream]:
        newest = _partition(asked, told, scheduled, available, held or {})
        count = window if stream == "train" else 1
        partitions = window_without(newest, every, count, excluded=excluded, available=available)
        if not partitions:
            raise _nothing_there(held or {}, excluded)
        _refuse_absent(partitions, available, held or {}, every)
    return RunRequest(
        model=model,
        stream=stream,
        run_id=run_id,
        trigger=trigger,
        partition=partitions[-1] if partitions else "",
        partitions=partitions,
        reason=_reason(asked, told),
        requester=requester,
        hyperparameters=_overrides(asked.get("hyperparameters", {}), hyperparameters),
        version=_version(asked.get("version", told.get("version"))) if "version" in TAKES[stream] else None,
        epoch=_epoch(told, trigger) if stream == "rollback" and not asked else None,
        excluded=tuple(name for name in excluded if partitions and name > partitions[0]),
    )


def _filled(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None and value != ""}


def _refuse_unknown(asked: Mapping[str, Any], stream: Stream) -> None:
    known = TAKES[stream]
    for key in asked:
        if key not in known:
            raise RequestError(
                f"a {stream} run takes no {key!r}{did_you_mean(str(key), known)}",
                where="conf",
                way_out=f"it takes {', '.join(known)}",
            )


def _partition(
    asked: Mapping[str, Any],
    told: Mapping[str, Any],
    scheduled: str | None,
    available: Sequence[str] | None,
    held: Mapping[str, Sequence[str]],
) -> str:
    for place, values in (("conf", asked), ("event", told)):
        if "partition" in values:
            return _text("partition", values["partition"], place=place)
    if scheduled:
        return scheduled
    if available:
        return max(available)
    raise _nothing_there(held, ())


def _several(asked: Mapping[str, Any], every: Every) -> tuple[str, ...]:
    """The partitions that a run names, each once, oldest first."""
    names = asked["partitions"]
    if not isinstance(names, list) or not 0 < len(names) <= MOST_PARTITIONS or "partition" in asked:
        raise RequestError(
            f"{str(names)[:100]!r} does not say which partitions",
            where="conf: partitions",
            way_out=f'list 1 to {MOST_PARTITIONS:,} of them, such as ["{EXAMPLES[every]}"], and leave partition empty',
        )
    texts = [_text("partitions", name) for name in names]
    return tuple(sorted({window_of(name, every, 1)[0] for name in texts}))


def _nothing_there(held: Mapping[str, Sequence[str]], excluded: Sequence[str]) -> RequestError:
    without = f" without {', '.join(excluded)}, whose data was refused" if excluded else ""
    found = [f"{uri} holds {f'{min(names)} to {max(names)}' if names else 'none'}" for uri, names in held.items()]
    return RequestError(
        "; ".join([f"there is no partition to work on{without}", *found]),
        where="data.source",
        way_out="land the first partition below the data root, or check the source's uri",
    )


def _refuse_absent(
    partitions: Sequence[str], available: Sequence[str] | None, held: Mapping[str, Sequence[str]], every: Every
) -> None:
    absent = [name for name in partitions if available is not None and name not in available]
    if not absent:
        return
    missing = [render(uri, name) for uri, names in held.items() for name in absent if name not in names]
    more = f" and {len(missing) - MAX_FILES} more" if len(missing) > MAX_FILES else ""
    files = f": {', '.join(missing[:MAX_FILES])}{more}" if missing else ""
    # Names of one form sort by time; files of another form say nothing about this pipeline.
    alike = [name for name in available or () if len(name) == len(EXAMPLES[every])]
    raise RequestError(
        f"partition {', '.join(absent)} is not there{files}",
        where=f"the window {partitions[0]} to {partitions[-1]}" if len(partitions) > 1 else "data.source",
        way_out=f"there {_spans(alike, every)}; ask for one whose whole window is there, or land the missing files",
    )


def _spans(names: Sequence[str], every: Every) -> str:
    """``are 2013-01 to 2013-03, 2013-05``, the newest ones last: a gap is not passed over."""
    spans: list[list[str]] = []
    for name in sorted(names):
        if spans and _follows(name, spans[-1][-1], every):
            spans[-1].append(name)
        else:
            spans.append([name])
    texts = [span[0] if len(span) == 1 else f"{span[0]} to {span[-1]}" for span in spans]
    left_out = "..., " if len(texts) > MAX_SPANS else ""
    return f"are {left_out}{', '.join(texts[-MAX_SPANS:])}" if texts else "is none"


def _follows(name: str, other: str, every: Every) -> bool:
    try:
        return window_of(name, every, 2)[0] == other
    except RequestError:
        return False


def _text(name: str, value: Any, *, place: str = "conf") -> str:
    if isinstance(value, str):
        return value
    raise RequestError(f"{value!r} is not text", where=f"{place}: {name}", way_out="put it in quotes")


def _reason(asked: Mapping[str, Any], told: Mapping[str, Any]) -> str:
    """What a person wrote is kept for good and shown to approvers: it is short, and shows what it holds."""
    if "reason" not in asked:
        return _text("reason", told.get("reason", ""), place="event")
    reason = _text("reason", asked["reason"])
    if len(reason) > MAX_REASON:
        raise RequestError(
            f"the text has {len(reason):,} characters",
            where="conf: reason",
            way_out=f"write at most {MAX_REASON:,}, and link to the rest",
        )
    hidden = next((letter for letter in reason if not letter.isprintable() and letter not in _UNSEEN), None)
    if hidden is not None:
        raise RequestError(
            f"the character U+{ord(hidden):04X} cannot be seen", where="conf: reason", way_out="remove it"
        )
    return reason


def _version(value: Any) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise RequestError(f"{value!r} is not a model version", where="version", way_out="give a whole number from 1 on")


def _epoch(told: Mapping[str, Any], trigger: Trigger) -> int | None:
    """The epoch whose champion is to be rolled back: without it, an event that comes late would hit a newer one."""
    epoch = told.get("epoch")
    if epoch is None and trigger != "asset":
        return None
    if isinstance(epoch, int) and not isinstance(epoch, bool) and epoch >= 1:
        return epoch
    raise RequestError(f"{epoch!r} is not an epoch", where="event: epoch", way_out="give a whole number from 1 on")


def _excluded(told: Mapping[str, Any]) -> tuple[str, ...]:
    names = told.get("excluded", [])
    if not isinstance(names, list):
        raise RequestError(f"{names!r} is no list", where="event: excluded", way_out="list partitions")
    return tuple(sorted({_text("excluded", name, place="event") for name in names}))


def _overrides(values: Any, declared: Mapping[str, HyperparameterSpec]) -> dict[str, Scalar]:
    if not isinstance(values, Mapping):
        raise RequestError(
            f"{values!r} is not a mapping", where="conf: hyperparameters", way_out='write {"max_iter": 100}'
        )
    return {name: _override(name, value, declared) for name, value in _filled(values).items()}


def _override(name: str, value: Any, declared: Mapping[str, HyperparameterSpec]) -> Scalar:
    where = f"conf: hyperparameters.{name}"
    if name not in declared:
        raise RequestError(
            f"the pipeline declares no hyperparameter {name!r}{did_you_mean(name, declared)}",
            where=where,
            way_out=f"declared are {', '.join(sorted(declared)) or 'none'}; add it to training.hyperparameters",
        )
    spec = declared[name]
    if not _same_type(value, spec.value):
        wanted = (
            "a text, a number, true or false" if spec.value is None else f"{_kind(spec.value)}, as {spec.value!r} is"
        )
        raise RequestError(f"{value!r} is not {wanted}", where=where, way_out="give a value of that type")
    within = not isinstance(value, int | float) or (
        (spec.low is None or value >= spec.low) and (spec.high is None or value <= spec.high)
    )
    if not within:
        raise RequestError(
            f"{value!r} is out of bounds",
            where=where,
            way_out=f"give {_bounds(spec)}, or change training.hyperparameters",
        )
    return float(value) if isinstance(spec.value, float) else value


def _same_type(value: Any, default: Scalar) -> bool:
    if isinstance(value, int | float) and not abs(value) <= MAX_NUMBER:  # true of NaN, too
        return False
    if default is None:
        return isinstance(value, str | int | float | bool)
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    return isinstance(value, int | float if isinstance(default, float) else type(default))


def _kind(default: Scalar) -> str:
    kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    return kinds[type(default)]


def _bounds(spec: HyperparameterSpec) -> str:
    if spec.low is not None and spec.high is not None:
        return f"{spec.low:g} to {spec.high:g}"
    return f"{spec.low:g} or more" if spec.low is not None else f"{spec.high:g} or less"
