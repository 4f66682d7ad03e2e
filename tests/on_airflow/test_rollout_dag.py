"""A release that goes step by step, task by task."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ml_lifecycle.backends.deployment import _TARGETS
from ml_lifecycle.core.errors import ServiceUnavailableError
from ml_lifecycle.operators.rollout import PromoteModelOperator
from tests.fakes.noted_target import seen

Dags = Callable[..., dict[str, Any]]
POLICY = ("required: always, approvers: [approver]", "required: never")
STEPS = (
    "approval: {required: never}",
    """approval: {required: never}
deployment:
  backend: noted
  steps: [10, 50, 100]
  keep_previous: 1s
  analysis: {min_requests: 500, look_every: 1s, max_wait: 5s}""",
)


@pytest.fixture(autouse=True)
def _noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_TARGETS, "noted", ("tests.fakes.noted_target", "NotedTarget"))


@pytest.fixture
def stepwise(dags: Dags, airflow: Path, request: pytest.FixtureRequest) -> Iterator[Stepwise]:
    """A model with version 1 serving, and version 2 registered."""
    found = Stepwise(dags, airflow, f"steps{len(request.node.name)}")
    yield found
    found.note.unlink(missing_ok=True)


class Stepwise:
    """One model's DAGs, and what its place notes."""

    def __init__(self, dags: Dags, airflow: Path, model: str, steps: str = "") -> None:
        self.model = model
        told = f"approval: {{required: never}}\ndeployment:\n  backend: noted\n  {steps}" if steps else STEPS[1]
        self.dags = dags(model, POLICY, (STEPS[0], told))
        self.note = airflow / "serving" / f"{model}.json"
        self.run("train")
        self.run("release")
        self.run("train", max_depth=2)

    def run(self, stream: str, **conf: Any) -> Any:
        """One run of a DAG, to its end."""
        return self.dags[f"{self.model}_{stream}"].test(logical_date=None, run_conf=conf)

    def observed(self, what: dict[str, Any], **more: Any) -> None:
        """Let the versions have done this."""
        self.note.write_text(json.dumps({**json.loads(self.note.read_text()), "seen": what, **more}))

    @property
    def traffic(self) -> dict[str, int]:
        """Who gets something."""
        shares = json.loads(self.note.read_text())["traffic"]
        return {version: percent for version, percent in shares.items() if percent}


def states(run: Any) -> dict[str, str]:
    return {instance.task_id: str(instance.state) for instance in run.get_task_instances()}


def test_each_step_is_a_task(dags: Dags) -> None:
    release = dags("stairs", POLICY, STEPS)["stairs_release"]

    assert [task.task_id for task in release.topological_sort()] == [
        "resolve", "rollout_over", "approve", "deploy", "step_10", "step_50", "promote", "retire",
    ]  # fmt: skip
    emits = [task.task_id for task in release.tasks if task.outlets]
    assert emits == ["promote", "retire"]


def test_a_good_version_is_promoted_and_the_old_one_retired(stepwise: Stepwise) -> None:
    first = stepwise.traffic
    stepwise.observed({"1": seen(45_000), "2": seen(5_000)})

    run = stepwise.run("release")

    assert states(run) == dict.fromkeys(
        ["resolve", "rollout_over", "approve", "deploy", "step_10", "step_50", "promote", "retire"], "success"
    )
    assert (first, stepwise.traffic) == ({"1": 100}, {"2": 100})
    assert json.loads(stepwise.note.read_text())["ready"] == [2]
    writes = json.loads(stepwise.note.read_text())["writes"]
    assert [share for version, share in writes if version == 2] == [10, 50, 100]


def test_a_bad_version_is_rolled_back_and_what_follows_is_skipped(stepwise: Stepwise) -> None:
    stepwise.observed({"1": seen(45_000), "2": seen(5_000, errors=400)})

    run = stepwise.run("release")

    went, skipped = ["resolve", "rollout_over", "approve", "deploy"], ["step_10", "step_50", "promote", "retire"]
    assert states(run) == dict.fromkeys(went, "success") | dict.fromkeys(skipped, "skipped")
    assert (run.state, stepwise.traffic) == ("success", {"1": 100})


def test_a_step_waits_for_its_evidence_without_a_worker(stepwise: Stepwise) -> None:
    stepwise.observed({"1": seen(450), "2": seen(50)})

    def later() -> None:
        time.sleep(3)
        stepwise.observed({"1": seen(45_000), "2": seen(5_000)})

    thread = threading.Thread(target=later)
    thread.start()
    run = stepwise.run("release")
    thread.join()

    assert states(run)["promote"] == "success"
    assert stepwise.traffic == {"2": 100}


def few(dags: Dags, airflow: Path, model: str, policy: str) -> Stepwise:
    """A model whose candidate begins in the shadow, where nobody has asked anything."""
    waits = f"{{min_requests: 500, look_every: 1s, max_wait: 2s, on_inconclusive: {policy}}}"
    return Stepwise(dags, airflow, model, f"steps: [shadow, 10, 100]\n  keep_previous: 1s\n  analysis: {waits}")


def test_a_shadow_that_nothing_decides_waits_no_longer_than_it_may(dags: Dags, airflow: Path) -> None:
    place = few(dags, airflow, "dusk", "rollback")

    run = place.run("release")

    assert states(run)["shadow"] == "skipped"
    assert (states(run)["promote"], place.traffic) == ("skipped", {"1": 100})


def test_a_step_that_is_held_and_never_decided_fails(
    dags: Dags, airflow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = few(dags, airflow, "dawn", "hold")
    monkeypatch.setattr("ml_lifecycle.operators.rollout.HELD_FOR", timedelta(seconds=4))

    run = place.run("release")

    assert (states(run)["shadow"], place.traffic) == ("failed", {"1": 100})


def test_a_target_that_never_gets_there_is_not_waited_for_without_end() -> None:
    task = PromoteModelOperator(task_id="promote", model="stuck", decision={})

    with pytest.raises(ServiceUnavailableError, match="a server starts"):
        task.execute_again({}, {"status": "timeout", "seen": "a server starts", "value": None})
