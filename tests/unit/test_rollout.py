"""A release that goes step by step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ml_lifecycle.core.contracts import RunRequest, StepAnswer, Verdict, Vote
from ml_lifecycle.core.errors import NoDecisionError, NotProvenError, StaleEpochError, StillSettlingError
from ml_lifecycle.core.invariants import violations
from ml_lifecycle.stages.approval import Question
from ml_lifecycle.stages.champion import means_of, promoted
from ml_lifecycle.stages.deployment import RollbackJob, roll_back
from ml_lifecycle.stages.reconciliation import ReconciliationJob, reconcile, snapshot
from ml_lifecycle.stages.release_right import DeploymentJob
from ml_lifecycle.stages.rollout import (
    RetirementJob,
    begin,
    conclude_step,
    look,
    promote,
    retire,
    shift,
    warm_until,
    watch,
)
from ml_lifecycle.stages.runner import Tools, record, run
from ml_lifecycle.stages.step_approval import StepQuestionJob, pose_step
from tests.fakes.champions import NOON, at, decided, registered, shown
from tests.fakes.noted_target import change, read, seen
from tests.fakes.stepwise import (
    FAILING,
    GOOD,
    TARGET,
    approved,
    empty_place,
    observed,
    passed,
    serving_place,
    step,
    traffic,
)


@pytest.fixture
def place(tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    """A deployment at noon where version 1 serves, and releases go step by step."""
    return serving_place(tools, tmp_path, monkeypatch)


@pytest.fixture
def job(place: Tools, tmp_path: Path) -> DeploymentJob:
    """An approval of version 2."""
    return approved(place, tmp_path, 2)


def test_a_good_version_goes_up_step_by_step(place: Tools, job: DeploymentJob) -> None:
    begun = begin(job, place)
    start = traffic(place)
    observed(place, GOOD)
    shares, verdicts = [], []
    for percent in (10, 50):
        report = passed(job, percent, at(place, percent / 10))
        shares.append(traffic(place))
        verdicts.append(report.verdict)

    deployment = run(promote, job, at(place, 9), model="flights")

    assert begun is not None
    assert (begun.move.version, begun.previous.version if begun.previous else 0) == (2, 1)
    assert (start, shares) == ({"1": 100}, [{"1": 90, "2": 10}, {"1": 50, "2": 50}])
    assert verdicts == [Verdict.PASS, Verdict.PASS]
    assert (deployment.traffic, deployment.champion.version) == ({"2": 100}, 2)
    assert place.ledger.deployment_states(deployment.champion) == ("intent", "observed", "done")
    assert violations(snapshot("flights", place, target=TARGET)) == ()


def test_while_it_is_rolled_out_the_version_before_is_the_champion(place: Tools, job: DeploymentJob) -> None:
    begin(job, place)
    observed(place, GOOD)
    during = promoted("flights", place)
    for percent in (10, 50):
        passed(job, percent, place)
    promote(job, place)

    after = promoted("flights", place)

    assert during is not None
    assert after is not None
    assert (during.version, after.version) == (1, 2)


def test_a_failing_step_brings_the_old_version_back_at_once(place: Tools, job: DeploymentJob) -> None:
    begin(job, place)
    observed(place, FAILING)

    report = passed(job, 10, place)

    head = place.ledger.head("flights", "test")
    assert head is not None
    assert report.verdict is Verdict.FAIL
    assert (head.kind, head.version, head.moved_by, traffic(place)) == ("rollback", 1, "analysis", {"1": 100})
    assert "version 2 at 10% of the traffic: error rate" in head.reason
    assert violations(snapshot("flights", place, target=TARGET)) == ()


def test_a_rolled_back_version_is_not_released_by_its_old_approval(place: Tools, job: DeploymentJob) -> None:
    begin(job, place)
    observed(place, FAILING)
    passed(job, 10, place)

    for again in (begin, promote):
        with pytest.raises((NoDecisionError, StaleEpochError)):
            again(job, place)

    assert traffic(place) == {"1": 100}


def test_no_task_gets_past_a_step_that_did_not_pass(place: Tools, job: DeploymentJob) -> None:
    begin(job, place)
    shift(step(job, 10), place)

    with pytest.raises(NotProvenError, match="step 10 has no result"):
        shift(step(job, 50), place)
    with pytest.raises(NotProvenError, match="step 10 has no result"):
        promote(job, place)

    assert traffic(place) == {"1": 90, "2": 10}


def test_too_few_requests_prove_nothing(place: Tools, job: DeploymentJob) -> None:
    begin(job, place)
    observed(place, {"1": seen(4_000), "2": seen(400)})

    report = passed(job, 10, place)

    assert report.verdict is Verdict.INCONCLUSIVE
    with pytest.raises(NotProvenError, match="step 10 has the verdict inconclusive"):
        shift(step(job, 50), place)


def test_what_waited_too_long_is_taken_back_where_the_policy_says_so(place: Tools, job: DeploymentJob) -> None:
    strict = {**TARGET, "analysis": {**TARGET["analysis"], "on_inconclusive": "rollback"}}
    job = job.model_copy(update={"target": strict})
    begin(job, place)
    shift(step(job, 10), place)
    early = conclude_step(step(job, 10), place)
    before = traffic(place)

    conclude_step(step(job, 10).model_copy(update={"is_over": True}), place)

    assert (early.verdict, before, traffic(place)) == (Verdict.INCONCLUSIVE, {"1": 90, "2": 10}, {"1": 100})


def test_an_inconclusive_step_can_be_let_through_once_it_has_waited(place: Tools, job: DeploymentJob) -> None:
    lax = {**TARGET, "analysis": {**TARGET["analysis"], "on_inconclusive": "continue"}}
    job = job.model_copy(update={"target": lax})
    begin(job, place)
    passed(job, 10, place)
    with pytest.raises(NotProvenError, match="step 10 has the verdict inconclusive"):
        shift(step(job, 50), at(place, 0.99))

    shift(step(job, 50), at(place, 1))

    assert traffic(place) == {"1": 50, "2": 50}


def test_a_step_that_is_cleared_later_takes_no_traffic_away(place: Tools, job: DeploymentJob) -> None:
    begin(job, place)
    observed(place, GOOD)
    passed(job, 10, place)
    passed(job, 50, place)

    again = shift(step(job, 10), place)

    assert (again.percent, traffic(place)) == (10, {"1": 50, "2": 50})


def test_every_share_is_written_down_before_it_is_given(place: Tools, job: DeploymentJob) -> None:
    begin(job, place)
    change("flights", means_of(place), slow=True)

    with pytest.raises(StillSettlingError):
        shift(step(job, 10), place)

    shifts = place.ledger.results("test", "flights", "shift")
    assert [row["content"]["percent"] for row in shifts] == [10]
    place.ledger.verify_audit("flights")


def test_a_rollback_by_hand_ends_the_rollout(place: Tools, job: DeploymentJob) -> None:
    begin(job, place)
    shift(step(job, 10), place)

    roll_back(RollbackJob(request=RunRequest(model="flights", stream="rollback", run_id="back/1")), at(place, 1))

    assert traffic(place) == {"1": 100}
    for late in (lambda: shift(step(job, 50), place), lambda: look(step(job, 10), place)):
        with pytest.raises((NoDecisionError, StaleEpochError)):
            late()
    assert traffic(place) == {"1": 100}


def test_the_reconciler_leaves_a_rollout_alone(place: Tools, job: DeploymentJob) -> None:
    begin(job, place)
    shift(step(job, 10), place)

    found = reconcile(ReconciliationJob(model="flights", target=TARGET), place)

    assert (found.faults, found.finished, found.repaired, traffic(place)) == ((), (), (), {"1": 90, "2": 10})


def test_traffic_that_no_step_gave_is_noted_and_taken_back(place: Tools, job: DeploymentJob) -> None:
    begin(job, place)
    shift(step(job, 10), place)
    change("flights", means_of(place), traffic={"1": 40, "2": 60})
    strange = [one.what for one in violations(snapshot("flights", place, target=TARGET))]

    found = reconcile(ReconciliationJob(model="flights", target=TARGET), place)

    assert strange == ["version 1: 40%, version 2: 60%, and no step gave version 2 more than 10%"]
    assert found.repaired == ("the target gives version 2 60%, and no step more than 10%",)
    assert (traffic(place), found.violations) == ({"1": 90, "2": 10}, ())
    assert "it is set back" in place.ledger.audit("flights")[-1]["detail"]


def test_less_traffic_than_a_step_gave_is_left_alone(place: Tools, job: DeploymentJob) -> None:
    begin(job, place)
    shift(step(job, 10), place)
    change("flights", means_of(place), traffic={"1": 100, "2": 0})

    found = reconcile(ReconciliationJob(model="flights", target=TARGET), place)

    assert (found.repaired, found.violations, traffic(place)) == ((), (), {"1": 100})


def test_the_reconciler_takes_back_what_the_target_found_broken(place: Tools, job: DeploymentJob) -> None:
    begin(job, place)
    shift(step(job, 10), place)
    change("flights", means_of(place), fault="its server exited", traffic={"1": 100})

    found = reconcile(ReconciliationJob(model="flights", target=TARGET), place)

    assert found.repaired == ("the rollout of version 2 was taken back: its server exited",)
    assert (found.faults, traffic(place)) == ((), {"1": 100})


def test_a_fault_of_the_target_fails_the_step(place: Tools, job: DeploymentJob) -> None:
    begin(job, place)
    shift(step(job, 10), place)
    observed(place, GOOD)
    change("flights", means_of(place), fault="its server exited", traffic={"1": 100})

    report = conclude_step(step(job, 10), place)

    assert (report.verdict, traffic(place)) == (Verdict.FAIL, {"1": 100})


def test_a_first_release_is_compared_with_nothing(
    tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = empty_place(tools, tmp_path, monkeypatch)
    job = approved(place, tmp_path, 1)

    begun = begin(job, place)
    verdicts = [passed(job, percent, place).verdict for percent in (10, 50)]
    deployment = promote(job, place)
    kept_until = warm_until(RetirementJob(request=job.request, deployment=deployment), place)

    assert begun is not None
    assert (begun.previous, verdicts, deployment.traffic) == (None, [Verdict.PASS] * 2, {"1": 100})
    assert kept_until <= place.clock()


def test_the_version_before_is_kept_and_then_removed(place: Tools, job: DeploymentJob) -> None:
    begin(job, place)
    observed(place, GOOD)
    for percent in (10, 50):
        passed(job, percent, place)
    deployment = promote(job, place)
    warm = read("flights", means_of(place))["ready"]
    end = RetirementJob(request=job.request, deployment=deployment)

    kept = retire(end, place)

    assert (watch(end, place), warm, read("flights", means_of(place))["ready"]) == ("", [1, 2], [2])
    assert kept == deployment


def test_a_version_that_dies_after_promotion_is_taken_back(place: Tools, job: DeploymentJob) -> None:
    begin(job, place)
    observed(place, GOOD)
    for percent in (10, 50):
        passed(job, percent, place)
    deployment = promote(job, place)
    change("flights", means_of(place), fault="its server exited")

    serves = retire(RetirementJob(request=job.request, deployment=deployment), place)

    assert (serves.champion.version, serves.champion.reason, traffic(place)) == (1, "its server exited", {"1": 100})
    assert violations(snapshot("flights", place, target=TARGET)) == ()


class Crash(Exception):  # noqa: N818  # stands for a killed process, which is no error of ours
    """The process ends here."""


@pytest.mark.parametrize("nth", range(1, 12))
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_any_write_the_next_try_ends_the_same(
    place: Tools, job: DeploymentJob, monkeypatch: pytest.MonkeyPatch, nth: int, when: str
) -> None:
    from tests.fakes.noted_target import NotedTarget

    count = 0

    def killed_at(name: str) -> Any:
        real = getattr(NotedTarget, name)

        def call(self: NotedTarget, *arguments: Any) -> Any:
            nonlocal count
            count += 1
            if count == nth and when == "before":
                raise Crash
            found = real(self, *arguments)
            if count == nth:
                raise Crash
            return found

        return call

    observed(place, GOOD)
    for name in ("deploy", "set_split", "promote", "status"):
        monkeypatch.setattr(NotedTarget, name, killed_at(name))

    def until_done(call: Any) -> Any:
        try:
            return call()
        except Crash:
            return call()

    until_done(lambda: begin(job, place))
    for percent in (10, 50):
        until_done(lambda percent=percent: passed(job, percent, place))
    deployment = until_done(lambda: run(promote, job, place, model="flights"))

    assert (deployment.traffic, len(place.ledger.moves("flights", "test"))) == ({"2": 100}, 2)
    assert traffic(place) == {"2": 100}
    assert violations(snapshot("flights", place, target=TARGET)) == ()


# --- People ----------------------------------------------------------------------------------------------------------


def asking(job: DeploymentJob) -> DeploymentJob:
    """The same release, of a pipeline that asks people about what the evidence does not decide."""
    return job.model_copy(update={"target": {**TARGET, "analysis": {**TARGET["analysis"], "on_inconclusive": "ask"}}})


def held_at_10(job: DeploymentJob, place: Tools) -> Question:
    """A step that has waited as long as it may, and the question about it."""
    begin(job, place)
    shift(step(job, 10), place)
    over = step(job, 10).model_copy(update={"is_over": True})
    assert run(conclude_step, over, place, model="flights").verdict is Verdict.INCONCLUSIVE
    question = pose_step(StepQuestionJob(**dict(step(job, 10)), terms={"approvers": ["bea"]}), place)
    assert question is not None
    return question


def answer(question: Question, outcome: str, place: Tools) -> None:
    """What the operator records once somebody has answered."""
    vote = {"ask_id": question.ask.ask_id, "outcome": outcome, "person": "bea", "reason": "why", "at": NOON}
    place.ledger.vote(Vote.model_validate({**vote, "channel": "airflow", "posting": shown(question.ask, place)}))
    said = StepAnswer(model="flights", epoch=question.ask.epoch, percent=10, ask_id=question.ask.ask_id)
    record("answer_step", said, place, model="flights")


def test_people_read_what_was_observed_and_what_their_answer_does(place: Tools, job: DeploymentJob) -> None:
    question = held_at_10(asking(job), place)

    assert question.subject.startswith("Go on from 10% with version 2 (")
    assert "| error rate |" in question.body
    assert "Reject: the version before gets everything back." in question.body


def test_people_can_let_a_step_pass_that_the_evidence_does_not_decide(place: Tools, job: DeploymentJob) -> None:
    job = asking(job)
    answer(held_at_10(job, place), "approve", place)

    shift(step(job, 50), place)

    assert traffic(place) == {"1": 50, "2": 50}
    assert violations(snapshot("flights", place, target=TARGET)) == ()


def test_people_can_have_the_old_version_back(place: Tools, job: DeploymentJob) -> None:
    job = asking(job)
    answer(held_at_10(job, place), "reject", place)

    conclude_step(step(job, 10), place)

    assert traffic(place) == {"1": 100}


def test_an_answer_that_only_a_task_claims_lets_nothing_pass(place: Tools, job: DeploymentJob) -> None:
    job = asking(job)
    question = held_at_10(job, place)
    for ask_id in (question.ask.ask_id, job.decision.ask.ask_id):
        said = StepAnswer(model="flights", epoch=question.ask.epoch, percent=10, ask_id=ask_id)
        record("answer_step", said, place, model="flights")

    with pytest.raises(NotProvenError):
        shift(step(job, 50), place)


def test_while_people_are_asked_a_version_that_proves_worse_is_rolled_back(place: Tools, job: DeploymentJob) -> None:
    job = asking(job)
    question = held_at_10(job, place)
    observed(place, FAILING)

    conclude_step(step(job, 10), place)
    answer(question, "approve", place)

    assert traffic(place) == {"1": 100}
    with pytest.raises((NoDecisionError, StaleEpochError)):
        shift(step(job, 50), place)


def test_nobody_is_asked_about_a_step_that_the_evidence_decided(place: Tools, job: DeploymentJob) -> None:
    job = asking(job)
    begin(job, place)
    observed(place, GOOD)
    passed(job, 10, place)

    assert pose_step(StepQuestionJob(**dict(step(job, 10))), place) is None


def test_no_second_rollout_begins_beside_the_first(place: Tools, job: DeploymentJob, tmp_path: Path) -> None:
    begin(job, place)
    third = decided(place, registered(place, tmp_path, 3)).model_copy(update={"target": TARGET})

    with pytest.raises(StaleEpochError, match="version 2 is being rolled out at epoch 2"):
        begin(third, place)

    assert traffic(place) == {"1": 100}
