"""A decision in, traffic shifted step by step; each step's evidence decides about the next one.

The ledger holds everything that a try needs to know: the move, the shifts that were begun, the steps that passed. A
task that is killed, cleared or run twice goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import Field

from ml_lifecycle.backends.deployment import target_from
from ml_lifecycle.backends.deployment.base import ALL, SHADOW, SplittingTarget, percents_of
from ml_lifecycle.backends.reports.rollout import rollout_page
from ml_lifecycle.core.contracts import (
    Contract,
    Decision,
    Deployment,
    Move,
    Rollout,
    RunRequest,
    StepAnswer,
    StepReport,
    TrafficShift,
    Verdict,
)
from ml_lifecycle.core.deployment import ANALYSIS
from ml_lifecycle.core.errors import LifecycleError, NotProvenError, PassingError, TargetFaultError
from ml_lifecycle.core.rollout import judge, verdict_of
from ml_lifecycle.core.step_approval import is_about
from ml_lifecycle.stages.champion import means_of
from ml_lifecycle.stages.deployment import (
    carry_out,
    follow,
    no_objection,
    note,
    places_of,
    refuse_second,
    refuse_superseded,
    settled,
)
from ml_lifecycle.stages.release_right import DeploymentJob, Right, check_bytes, refusal_audited, right_of, unblocked
from ml_lifecycle.stages.report import PAGE
from ml_lifecycle.stages.runner import Tools, record
from ml_lifecycle.stages.shadow import ShadowJob, replay
from ml_lifecycle.stages.step_evidence import EvidenceJob, gather

_DIGITS = 12
"""Of a digest: enough for a name."""


class StepJob(DeploymentJob):
    """One step of a rollout."""

    percent: int = Field(ge=0, le=100)
    """Of the traffic to the new version; 0 is the shadow."""
    is_over: bool = False
    """Whether the step has waited as long as it may."""


class RetirementJob(Contract):
    """Take away what serves no longer."""

    request: RunRequest
    deployment: Deployment


def begin(job: DeploymentJob, tools: Tools) -> Rollout | None:
    """Make the move, and have the approved version run without traffic; ``None`` on a reject.

    :raises NoDecisionError: no valid decision stands in the ledger for exactly this version, environment and gate.
    :raises StaleEpochError: another move was made since; nothing is changed.
    :raises DigestMismatchError: the model's bytes are not those that were approved; nothing is changed.
    :raises StillSettlingError: it is on its way; call again.
    """
    with refusal_audited("release", job.request, tools):
        target = splitting(job.target)
        right = right_of(job, tools)
        if right is None:
            return None
        check_bytes(right.version.uri, right.version.digest, tools)
        target.status(right.version.name, means_of(tools))  # what cannot be looked at must not be moved
        refuse_second(right, tools)
        right.check()
    options = target.model_dump(mode="json")
    by = right.decision.decided_by
    move = tools.ledger.release(right.version, right.decision, moved_by=by, at=tools.clock(), target=options)
    with refusal_audited("release", job.request, tools):
        refuse_superseded(move, tools)
        note(move, "intent", {"targets": [options]}, tools)
        target.deploy(move, means_of(tools))
        follow(move, target, tools)
        serving = settled(move, target, tools)
    traffic = {str(version): percent for version, percent in serving.traffic.items()}
    return Rollout(move=move, previous=_previous(move, tools), steps=target.steps, traffic=traffic)


def shift(job: StepJob, tools: Tools) -> TrafficShift:
    """Give the new version this step's traffic; what a later step gave is not taken back.

    :raises NotProvenError: a step before did not pass, or the rollout was begun without this step.
    :raises TargetFaultError: the new version does not work; it gets nothing more.
    :raises StaleEpochError: another move is in force.
    :raises StillSettlingError: it is on its way; call again.
    """
    with going_on(job, tools) as rollout:
        _refuse_other_step(rollout, job.percent)
        _refuse_unproven(rollout, tools, below=job.percent)
        wanted = rollout.shift_to(job.percent, because=f"step {job.percent}")
        if rollout.reached(tools) > job.percent:
            return wanted
        rollout.refuse_fault(tools)
        record("shift", wanted, tools, model=rollout.move.model)
        rollout.target.set_split(rollout.move, job.percent, means_of(tools))
        follow(rollout.move, rollout.target, tools)
        settled(rollout.move, rollout.target, tools)
        return wanted


def look(job: StepJob, tools: Tools) -> StepReport:
    """What the step comes to at this moment; nothing is changed.

    :raises StaleEpochError: another move is in force.
    """
    with going_on(job, tools) as rollout:
        return _judged(job.percent, rollout, tools)


def conclude_step(job: StepJob, tools: Tools) -> StepReport:
    """What the step comes to; where it fails, the version before gets everything back at once.

    The digest that failed is not released again without a person's new approval.

    :raises StillSettlingError: the target is on its way back; call again.
    """
    if ended := taken_back(job, tools):
        return ended
    report = _shown(look(job, tools), tools)
    if _ends_here(report, job, tools):
        # Written down first: the move back must not be without its reason.
        record("conclude_step", report, tools, model=report.model)
        with going_on(job, tools) as rollout:
            if rollout.previous is None:
                raise TargetFaultError(
                    why_not(report),
                    where=f"{report.model} in {report.environment}",
                    way_out="there is no version before to go back to; mend it, then release again",
                )
            take_back(rollout.move, why_not(report), tools)
    return report


def taken_back(job: StepJob, tools: Tools) -> StepReport | None:
    """What this step came to where it ended the rollout: the way back is gone to its end; ``None`` where it did not.

    By then the decision gives no right any more, and the way back needs none.

    :raises StillSettlingError: the target is on its way back; call again.
    """
    moves = tools.ledger.moves(job.request.model, tools.environment)
    move = next((one for one in moves if one.decision_id == job.decision.ask.ask_id), None)
    report = report_of(move, job.percent, tools) if move is not None else None
    if move is None or report is None:
        return None
    back = tools.ledger.rolled_back(move.model, move.environment, _way_back(move))
    if back is None or back.reason != why_not(report):
        return None
    take_back(move, back.reason, tools)
    return report


def _shown(report: StepReport, tools: Tools) -> StepReport:
    """The report with its page, published once below a name that comes from its content."""
    if report.report_uri:
        return report
    uri = f"reports/rollout/{report.model}/{report.epoch}-{report.percent}-{report.content_digest()[:_DIGITS]}"

    def write(folder: Path) -> None:
        rows = tools.ledger.results(tools.environment, report.model, "conclude_step", epoch=report.epoch)
        earlier = [StepReport.model_validate(row["content"]) for row in rows]
        shifts = tools.ledger.results(tools.environment, report.model, "shift", epoch=report.epoch)
        page = rollout_page([*earlier, report], shifts, until=tools.clock())
        (folder / PAGE).write_text(page, encoding="utf-8")

    try:
        tools.data.publish(uri, write)
    except PassingError:
        # Traffic does not wait for a page.
        return report
    return report.model_copy(update={"report_uri": f"{uri}/{PAGE}"})


def answered(job: StepJob, tools: Tools) -> Decision | None:
    """What people decided about going on from this step."""
    with going_on(job, tools) as rollout:
        return answer_about(rollout.move, job.percent, tools)


def why_not(report: StepReport) -> str:
    """Why a step did not pass, in one line for people."""
    found = [check for check in report.checks if check.verdict is not Verdict.PASS]
    reasons = "; ".join(f"{check.name}: {check.detail or check.verdict.value}" for check in found)
    step = f"{report.percent}% of the traffic" if report.percent else "the shadow"
    return f"version {report.version} at {step}: {reasons or report.verdict.value}"


def promote(job: DeploymentJob, tools: Tools) -> Deployment:
    """All traffic to the version whose steps have passed; where it does not work, the version before gets it back.

    :raises NotProvenError: a step did not pass.
    :raises TargetFaultError: the new version does not work.
    :raises StaleEpochError: another move is in force.
    :raises StillSettlingError: it is on its way; call again.
    """
    with going_on(job, tools) as rollout:
        _refuse_unproven(rollout, tools, below=ALL)
        wanted = rollout.shift_to(ALL, because="every step has passed")
        try:
            rollout.refuse_fault(tools)
            record("shift", wanted, tools, model=rollout.move.model)
            return carry_out(rollout.move, [rollout.target], rollout.right.check, tools)
        except TargetFaultError as fault:
            if rollout.previous is not None:
                take_back(rollout.move, fault.what, tools)
            raise


def take_back(move: Move, why: str, tools: Tools) -> Deployment:
    """End a rollout: all traffic to the version before, under a move of its own; however often it is called, once."""
    key = _way_back(move)
    back = tools.ledger.rolled_back(move.model, move.environment, key) or tools.ledger.rollback(
        move.model,
        move.environment,
        key=key,
        moved_by=ANALYSIS,
        reason=why,
        at=tools.clock(),
        epoch=move.epoch,
    )
    deployment = carry_out(back, places_of(back, move.target, tools), no_objection, tools)
    note(move, "superseded", {"by": back.epoch}, tools)
    return deployment


def _way_back(move: Move) -> str:
    """The key of the rollback that ends a rollout."""
    return f"{ANALYSIS} of epoch {move.epoch}"


def warm_until(job: RetirementJob, tools: Tools) -> datetime:
    """Until when the version before stays ready, counted from the moment when all traffic was asked for.

    After a first release there is nobody to keep.
    """
    move = job.deployment.champion
    if _previous(move, tools) is None:
        return move.moved_at
    return _began(ALL, move, tools) + splitting(move.target).keep_previous


def watch(job: RetirementJob, tools: Tools) -> str:
    """What is wrong with the version that has just got all traffic; empty while nothing is."""
    move = job.deployment.champion
    if back := tools.ledger.rolled_back(move.model, move.environment, _way_back(move)):
        return back.reason
    refuse_superseded(move, tools)
    return splitting(move.target).status(move.model, means_of(tools)).fault


def retire(job: RetirementJob, tools: Tools) -> Deployment:
    """Remove the version before; where the new one has failed meanwhile, bring it back instead.

    :raises StaleEpochError: another move is in force: whoever made it sees to what runs.
    """
    move = job.deployment.champion
    if fault := watch(job, tools):
        return take_back(move, fault, tools)
    target = splitting(move.target)
    target.retire(move, means_of(tools))
    follow(move, target, tools)
    return job.deployment


# --- What goes on ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GoingOn:
    """A rollout that this job belongs to, its right checked at this moment."""

    move: Move
    previous: Move | None
    target: SplittingTarget
    right: Right

    def shift_to(self, percent: int, *, because: str) -> TrafficShift:
        """The change of traffic to this share."""
        return TrafficShift(
            model=self.move.model,
            environment=self.move.environment,
            epoch=self.move.epoch,
            version=self.move.version,
            percent=percent,
            because=because,
        )

    def reached(self, tools: Tools) -> int:
        """The largest share that was ever asked for."""
        return largest_share(self.move, tools)

    def refuse_fault(self, tools: Tools) -> None:
        """A version that does not work gets no more traffic; a first release has nobody to leave it to.

        :raises TargetFaultError: the target found that it does not.
        """
        fault = self.target.status(self.move.model, means_of(tools)).fault
        if fault and self.previous is not None:
            raise TargetFaultError(
                fault, where=f"{self.move.model} on {self.target.backend}", way_out="mend it, then release again"
            )


@contextmanager
def going_on(job: DeploymentJob, tools: Tools) -> Iterator[GoingOn]:
    """The rollout under the job's decision; what is refused stands in the audit."""
    with refusal_audited("release", job.request, tools):
        decision = job.decision.ask.ask_id
        moves = tools.ledger.moves(job.request.model, tools.environment)
        move = next((one for one in moves if one.decision_id == decision), None)
        if move is not None:
            # Before the right, which a rollback takes away: a rollout that is over is no mistake.
            refuse_superseded(move, tools)
        right = right_of(job, tools)
        if right is None or move is None:
            raise NotProvenError(
                "no rollout was begun under this decision",
                where=f"{job.request.model} in {tools.environment}",
                way_out="run the release from its beginning",
            )
        yield GoingOn(move, _previous(move, tools), splitting(move.target or job.target), right)


def _ends_here(report: StepReport, job: StepJob, tools: Tools) -> bool:
    if report.verdict is not Verdict.INCONCLUSIVE:
        return report.verdict is Verdict.FAIL
    if job.is_over and report.policy.on_inconclusive == "rollback":
        return True
    with going_on(job, tools) as rollout:
        answer = answer_about(rollout.move, job.percent, tools)
    return answer is not None and answer.outcome == "reject"


def _judged(percent: int, rollout: GoingOn, tools: Tools) -> StepReport:
    move, target = rollout.move, rollout.target
    earlier = reports_of(move, tools)
    previous = rollout.previous
    if _is_settled(earlier.get(percent), rollout, tools):
        return earlier[percent]
    shadow = ShadowJob.of(move, previous, target.analysis) if percent == 0 and previous else None
    evidence = gather(
        EvidenceJob(
            model=move.model,
            move=move,
            previous=previous,
            percent=percent,
            began_at=_began(percent, move, tools),
            policy=target.analysis,
            target=dict(move.target),
            paired=replay(shadow, tools) if shadow else None,
        ),
        tools,
    )
    before = [earlier[step].evidence for step in sorted(earlier) if step < percent]
    percents = percents_of(target.steps)
    is_last = percent == max((one for one in percents if one < ALL), default=0)
    checks = judge(target.analysis, [*before, evidence], final=is_last)
    if previous is None:
        # Nobody has to be won over from an old version, and perhaps nobody asks anything yet.
        checks = tuple(check for check in checks if check.name == "target")
    serving = target.status(move.model, means_of(tools))
    return StepReport(
        model=move.model,
        environment=move.environment,
        epoch=move.epoch,
        version=move.version,
        percent=percent,
        verdict=verdict_of(checks),
        checks=checks,
        evidence=evidence,
        policy=target.analysis,
        traffic={str(version): share for version, share in serving.traffic.items()},
    )


def _is_settled(report: StepReport | None, rollout: GoingOn, tools: Tools) -> bool:
    """Whether a step's result stands: it failed, or a later step has begun, whose requests are not this one's."""
    if report is None or rollout.previous is None:
        return False
    return report.verdict is Verdict.FAIL or rollout.reached(tools) > report.percent


def _began(percent: int, move: Move, tools: Tools) -> datetime:
    """When the step's traffic was first asked for; the shadow begins with the move."""
    rows = [row for row in _rows("shift", move, tools) if row["content"]["percent"] == percent]
    began: datetime = rows[0]["at"] if rows else move.moved_at
    return began


def largest_share(move: Move, tools: Tools) -> int:
    """The largest percent that a rollout's steps ever asked for; they write it down before they give it."""
    return max((row["content"]["percent"] for row in _rows("shift", move, tools)), default=0)


def report_of(move: Move, percent: int, tools: Tools) -> StepReport | None:
    """What a step came to, as far as it was concluded."""
    return reports_of(move, tools).get(percent)


def reports_of(move: Move, tools: Tools) -> dict[int, StepReport]:
    """What each step came to, by percent; the newest counts."""
    found = (StepReport.model_validate(row["content"]) for row in _rows("conclude_step", move, tools))
    return {report.percent: report for report in found}


def _refuse_other_step(rollout: GoingOn, percent: int) -> None:
    """Steps are those that the rollout was begun with: what a pipeline says since is for the next one."""
    if percent not in rollout.target.steps:
        raise NotProvenError(
            f"the rollout was begun with the steps {', '.join(map(str, rollout.target.steps))}, without {percent}",
            where=f"{rollout.move.model} version {rollout.move.version} at epoch {rollout.move.epoch}",
            way_out=f"trigger {rollout.move.model}_rollback, then release again with the new steps",
        )


def _refuse_unproven(rollout: GoingOn, tools: Tools, *, below: int) -> None:
    """Each step has to have passed in the ledger: a task that was marked as successful proves nothing."""
    if rollout.previous is None:
        return
    reports = reports_of(rollout.move, tools)
    for step in rollout.target.steps:
        percent = 0 if step == SHADOW else step
        if percent >= below:
            return
        verdict = reports[percent].verdict if percent in reports else None
        if verdict is not Verdict.PASS and not (
            verdict is Verdict.INCONCLUSIVE and _may_go_on(rollout, reports[percent], tools)
        ):
            raise NotProvenError(
                f"step {step} has {'no result' if verdict is None else f'the verdict {verdict.value}'}",
                where=f"{rollout.move.model} version {rollout.move.version} at epoch {rollout.move.epoch}",
                way_out="clear that step's task, and wait for its evidence",
            )


def _may_go_on(rollout: GoingOn, report: StepReport, tools: Tools) -> bool:
    """Whether what is not proven is passed all the same: a person did, or the policy does once it has waited."""
    if continues(report, tools):
        return True
    answer = answer_about(rollout.move, report.percent, tools)
    return answer is not None and answer.outcome == "approve"


def continues(report: StepReport, tools: Tools) -> bool:
    """Whether the policy lets a step pass without a proof, now that it has waited as long as it may."""
    return report.policy.on_inconclusive == "continue" and tools.clock() >= end_of_waiting(report)


def end_of_waiting(report: StepReport) -> datetime:
    """Until when a step may wait, however often its task was begun."""
    return report.evidence.began_at + report.policy.max_wait


def answer_about(move: Move, percent: int, tools: Tools) -> Decision | None:
    """What people decided about going on from a step that its evidence did not decide."""
    for row in reversed(_rows("answer_step", move, tools)):
        answer = StepAnswer.model_validate(row["content"])
        decision = tools.ledger.decision(answer.ask_id)
        if answer.percent != percent or decision is None or not is_about(decision.ask, move, percent):
            continue
        return unblocked(answer.ask_id, move.model, tools)
    return None


def _rows(stage: str, move: Move, tools: Tools) -> Sequence[Any]:
    return tools.ledger.results(tools.environment, move.model, stage, epoch=move.epoch)


def _previous(move: Move, tools: Tools) -> Move | None:
    earlier = [one for one in tools.ledger.moves(move.model, move.environment) if one.epoch < move.epoch]
    return earlier[-1] if earlier else None


def splitting(options: Mapping[str, Any]) -> SplittingTarget:
    """The target, which has to be one where two versions serve beside each other."""
    target = target_from(options)
    if isinstance(target, SplittingTarget):
        return target
    raise LifecycleError(
        f"the target {target.backend!r} cannot split traffic",
        where="deployment",
        way_out="leave its steps out, or choose a backend that can",
    )
