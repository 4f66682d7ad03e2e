"""One trigger for all waiting: it asks a probe again and again, in a thread, until the probe is satisfied."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import import_module
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from ml_lifecycle.core.errors import LifecycleError, PassingError


@dataclass(frozen=True)
class Status:
    """What a probe sees."""

    ready: bool
    seen: str
    """For people: why it is not ready yet, or what is there."""
    value: Any = None
    """Plain JSON that the waiting task returns."""


Probe = Callable[..., Status]
"""Looks once, without waiting, at what its keyword arguments of plain JSON describe."""


SEEN_AFTER_S = 2.0
"""Airflow's scheduler may fail a task that is resumed before it has seen that the task was deferred."""


class StatusTrigger(BaseTrigger):
    """Wait until a probe is ready.

    The probe runs in a thread, so that slow files or services never hold up other triggers; the connections that it
    needs are looked up there as well, which Airflow serves from any thread of the triggerer.

    :param probe: ``module:function`` of a :data:`Probe` of this package.
    :param arguments: The probe's keyword arguments, plain JSON.
    :param interval_s: Seconds between two looks.
    :param deadline: ISO 8601 moment after which the wait is over.
    :param stop: ``module:function`` of this package that ends what is waited for, with the probe's arguments, where a
        person ends the task; left out, it goes on.
    """

    def __init__(
        self, *, probe: str, arguments: dict[str, Any], interval_s: float, deadline: str, stop: str = ""
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow leaves it untyped
        self.probe = probe
        self.arguments = arguments
        self.interval_s = interval_s
        self.deadline = deadline
        self.stop = stop

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """What the triggerer needs to go on with the wait, after a restart too."""
        values = {
            "probe": self.probe,
            "arguments": self.arguments,
            "interval_s": self.interval_s,
            "deadline": self.deadline,
        } | ({"stop": self.stop} if self.stop else {})
        return f"{type(self).__module__}.{type(self).__qualname__}", values

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """One event: ``ready``, ``timeout`` or ``error``, with what was seen last."""
        probe = load_probe(self.probe)
        deadline = datetime.fromisoformat(self.deadline)
        await asyncio.sleep(min(self.interval_s, SEEN_AFTER_S))
        while True:
            outcome = await asyncio.to_thread(look, probe, self.arguments)
            if outcome["status"] == "waiting" and datetime.now(timezone.utc) >= deadline:
                outcome["status"] = "timeout"
            if outcome["status"] != "waiting":
                yield TriggerEvent(outcome)  # type: ignore[no-untyped-call]  # Airflow leaves it untyped
                return
            await asyncio.sleep(self.interval_s)

    async def on_kill(self) -> None:
        """End what is waited for: a person failed, cleared or passed the task."""
        if self.stop:
            await asyncio.to_thread(load_probe(self.stop), **self.arguments)


def look(probe: Probe, arguments: dict[str, Any]) -> dict[str, Any]:
    """One look as plain JSON: ``{status: ready | waiting | error, seen, value}``; what may pass is waited out."""
    try:
        status = probe(**arguments)
    except PassingError as error:
        return {"status": "waiting", "seen": str(error), "value": None}
    except LifecycleError as error:
        return {"status": "error", "seen": str(error), "value": None}
    return {"status": "ready" if status.ready else "waiting", "seen": status.seen, "value": status.value}


def load_probe(path: str) -> Probe:
    """The probe that ``module:function`` names; only this package's own are run."""
    module, _, name = path.partition(":")
    if not module.startswith("ml_lifecycle.sensors."):
        raise LifecycleError(f"{path!r} is no probe of this package", way_out="use the package's own sensors")
    probe: Probe = getattr(import_module(module), name)
    return probe
