"""What all sensors do alike: look at once, then wait without a worker, and say what was seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, PokeReturnValue
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout, AirflowSkipException

from ml_lifecycle.hooks.settings import read_settings
from ml_lifecycle.hooks.tasks import plain_errors
from ml_lifecycle.hooks.tools import build_tools, place_of
from ml_lifecycle.triggers import Status, StatusTrigger, load_probe, look

if TYPE_CHECKING:
    from airflow.sdk import Context

    from ml_lifecycle.stages.runner import Tools


class LifecycleSensor(BaseSensorOperator):
    """Wait for something that a probe can see.

    It looks once on the worker, and is done if it sees it; else it waits in the triggerer, or with
    ``deferrable=False`` on the worker as any sensor does.

    :param deferrable: Whether to wait without a worker.
    :param poke_interval: Seconds between two looks.
    :param timeout: Seconds after which the wait is over and the task fails.
    :param soft_fail: Skip instead, when the wait is over.
    """

    # Whatever people wrote into a YAML file or a form is never rendered as a template.
    template_ext: Sequence[str] = ()
    ui_color = "#eef5e6"
    probe = ""

    def __init__(self, *, deferrable: bool = True, poke_interval: float = 30.0, **kwargs: Any) -> None:
        super().__init__(poke_interval=poke_interval, **kwargs)
        self.deferrable = deferrable

    def waits_for(self) -> str:
        """For people: what the task waits for."""
        raise NotImplementedError

    def arguments(self, context: Context) -> Mapping[str, Any]:
        """The probe's keyword arguments, plain JSON."""
        raise NotImplementedError

    def finished(self, value: Any) -> Any:
        """What the task returns once it is ready."""
        return value

    def execute(self, context: Context) -> Any:
        """Look at once; wait only for what is not there."""
        if not self.deferrable:
            return super().execute(context)
        with plain_errors(self.log):
            arguments = self._arguments(context)
        outcome = look(load_probe(self.probe), arguments)
        if outcome["status"] != "waiting":
            return self.execute_complete(context, outcome)
        self.log.info("Waiting for %s: %s", self.waits_for(), outcome["seen"])
        deadline = datetime.now(timezone.utc) + timedelta(seconds=self.timeout)
        self.defer(
            trigger=StatusTrigger(
                probe=self.probe, arguments=arguments, interval_s=self.poke_interval, deadline=deadline.isoformat()
            ),
            method_name="execute_complete",
        )
        return None

    def poke(self, context: Context) -> PokeReturnValue:
        """One look, for those who wait on the worker."""
        with plain_errors(self.log):
            arguments = self._arguments(context)
        outcome = look(load_probe(self.probe), arguments)
        if outcome["status"] == "error":
            raise AirflowFailException(outcome["seen"])
        self.log.info("%s: %s", self.waits_for(), outcome["seen"])
        ready = outcome["status"] == "ready"
        return PokeReturnValue(is_done=ready, xcom_value=self.finished(outcome["value"]) if ready else None)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> Any:  # noqa: ARG002  # Airflow's names
        """Return what was waited for, or fail with what was seen last."""
        if event["status"] == "ready":
            self.log.info("%s: %s", self.waits_for(), event["seen"])
            return self.finished(event["value"])
        if event["status"] == "error":
            raise AirflowFailException(event["seen"])
        text = f"waited {self.timeout:g} s for {self.waits_for()}; seen last: {event['seen']}"
        if self.soft_fail:
            raise AirflowSkipException(text)
        raise AirflowSensorTimeout(text)

    def _arguments(self, context: Context) -> dict[str, Any]:
        return {**place_of(context), **self.arguments(context)}


def tools_of_probe(project: str, run: str) -> Tools:
    """The tools, in the triggerer or on a worker."""
    return build_tools(read_settings(), project=Path(project), run=run)


__all__ = ["LifecycleSensor", "Status", "tools_of_probe"]
