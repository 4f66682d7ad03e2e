"""What somebody, or an accident, may do to a release that goes step by step."""

from __future__ import annotations

from pathlib import Path

import pytest

from ml_lifecycle.core.contracts import RunRequest, StepReport, Verdict
from ml_lifecycle.core.errors import NotProvenError, StaleEpochError, TargetFaultError
from ml_lifecycle.core.invariants import violations
from ml_lifecycle.stages import rollout
from ml_lifecycle.stages.champion import means_of
from ml_lifecycle.stages.deployment import RollbackJob, deploy, roll_back
from ml_lifecycle.stages.reconciliation import ReconciliationJob, reconcile, snapshot
from ml_lifecycle.stages.release_right import DeploymentJob
from ml_lifecycle.stages.rollout import begin, conclude_step, look, promote, reports_of, shift
from ml_lifecycle.stages.runner import Tools, record, run
from ml_lifecycle.stages.step_approval import held
from tests.fakes.champions import NOON, at, decided, registered
from tests.fakes.noted_target import change, read
from tests.fakes.stepwise import FAILING, FEW, GOOD, TARGET, approved, observed, passed, serving_place, step, traffic


@pytest.fixture
def place(tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    """A deployment at noon where version 1 serves, and releases go step by step."""
    return serving_place(tools, tmp_path, monkeypatch)


@pytest.fixture
def job(place: Tools, tmp_path: Path) -> DeploymentJob:
    """A rollout of version 2 that has begun."""
    found = approved(place, tmp_path, 2)
    assert begin(found, place) is not None
    return found


def passed_well(job: DeploymentJob, percent: int, tools: Tools) -> StepReport:
    """A step of a version that does well."""
    observed(tools, GOOD)
    return passed(job, percent, tools)


def died(tools: Tools) -> None:
    """The target finds the new version dead, and sends it nothing."""
    change("flights", means_of(tools), fault="its server exited", traffic={"1": 100})


def test_every_task_of_a_rollout_that_was_rolled_back_by_hand_finds_it_over(place: Tools, job: DeploymentJob) -> None:
    passed_well(job, 10, place)

    roll_back(RollbackJob(request=RunRequest(model="flights", stream="rollback", run_id="back/1")), at(place, 1))

    for late in (shift, look, conclude_step, held):
        with pytest.raises(StaleEpochError, match="version 1 at epoch 3 is in force"):
            late(step(job, 50), place)
    with pytest.raises(StaleEpochError):
        promote(job, place)
    assert traffic(place) == {"1": 100}


def test_a_version_that_died_between_two_steps_gets_no_more_traffic(place: Tools, job: DeploymentJob) -> None:
    passed_well(job, 10, place)
    died(place)

    with pytest.raises(TargetFaultError, match="its server exited"):
        shift(step(job, 50), place)
    given = traffic(place)
    report = conclude_step(step(job, 50), place)

    assert [row["content"]["percent"] for row in place.ledger.results("test", "flights", "shift")] == [10]
    assert (given, report.verdict, traffic(place)) == ({"1": 100}, Verdict.FAIL, {"1": 100})
    assert place.ledger.head("flights", "test").kind == "rollback"  # type: ignore[union-attr]


def test_a_version_that_died_before_promotion_is_taken_back(place: Tools, job: DeploymentJob) -> None:
    for percent in (10, 50):
        passed_well(job, percent, place)
    died(place)

    with pytest.raises(TargetFaultError, match="its server exited"):
        promote(job, place)

    head = place.ledger.head("flights", "test")
    assert head is not None
    assert (head.kind, head.version, head.reason, traffic(place)) == ("rollback", 1, "its server exited", {"1": 100})
    assert [2, 100] not in read("flights", means_of(place))["writes"]
    assert violations(snapshot("flights", place, target=TARGET)) == ()


def test_a_rollout_whose_approval_was_blocked_is_taken_back(place: Tools, job: DeploymentJob) -> None:
    passed_well(job, 10, place)
    place.ledger.block(job.decision.ask.ask_id, why="its answers contradict each other", at=NOON)

    found = reconcile(ReconciliationJob(model="flights", target=TARGET), place)

    assert "was taken back: the approval by ada gives no right" in found.repaired[0]
    assert (found.faults, traffic(place)) == ((), {"1": 100})


def test_a_step_that_is_cleared_after_a_later_one_keeps_its_result(place: Tools, job: DeploymentJob) -> None:
    first = passed_well(job, 10, place)
    passed_well(job, 50, place)
    observed(place, FEW)

    again = run(conclude_step, step(job, 10), place, model="flights")

    head = place.ledger.head("flights", "test")
    assert head is not None
    assert again == first
    assert reports_of(head, place)[10] == first


def test_a_step_that_failed_is_not_looked_at_until_it_passes(
    place: Tools, job: DeploymentJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    shift(step(job, 10), place)
    observed(place, FAILING)
    with monkeypatch.context() as patched:
        patched.setattr(rollout, "take_back", killed)
        with pytest.raises(KeyboardInterrupt):
            conclude_step(step(job, 10), place)
    observed(place, GOOD)

    report = conclude_step(step(job, 10), place)

    assert (report.verdict, traffic(place)) == (Verdict.FAIL, {"1": 100})


def test_steps_that_a_pipeline_names_later_are_not_gone(place: Tools, job: DeploymentJob) -> None:
    passed_well(job, 10, place)

    with pytest.raises(NotProvenError, match="begun with the steps 10, 50, 100, without 49"):
        shift(step(job, 49), place)

    assert traffic(place) == {"1": 90, "2": 10}


def test_a_release_without_steps_does_not_overtake_a_rollout(place: Tools, job: DeploymentJob, tmp_path: Path) -> None:
    third = decided(place, registered(place, tmp_path, 3)).model_copy(update={"target": {"backend": "noted"}})

    with pytest.raises(StaleEpochError, match="version 2 is being rolled out at epoch 2"):
        deploy(third, place)

    assert (job.decision.ask.version, traffic(place)) == (2, {"1": 100})


def test_a_promotion_that_left_traffic_split_is_noticed(place: Tools, job: DeploymentJob) -> None:
    for percent in (10, 50):
        passed_well(job, percent, place)
    deployment = run(promote, job, place, model="flights")
    record("promote", deployment.model_copy(update={"traffic": {"1": 50, "2": 50}}), place, model="flights")

    found = [violation.invariant for violation in violations(snapshot("flights", place, target=TARGET))]

    assert found == ["traffic"]
