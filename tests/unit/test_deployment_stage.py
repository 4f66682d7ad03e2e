from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ml_lifecycle.backends import deployment
from ml_lifecycle.backends.deployment.alias import AliasTarget
from ml_lifecycle.backends.deployment.base import Means, Serving
from ml_lifecycle.backends.ledger.base import Ledger
from ml_lifecycle.core.contracts import Ask, ModelVersion, Move, Posting, RunRequest, Verdict, Vote
from ml_lifecycle.core.errors import (
    DigestMismatchError,
    LedgerError,
    LifecycleError,
    NoDecisionError,
    ServiceRefusedError,
    ServiceUnavailableError,
    StaleEpochError,
    TargetRefusedError,
    UnknownBackendError,
)
from ml_lifecycle.stages.approval import ApprovalJob, pose
from ml_lifecycle.stages.champion import means_of
from ml_lifecycle.stages.deployment import (
    DrillJob,
    RollbackJob,
    deploy,
    rehearse_rollback,
    roll_back,
)
from ml_lifecycle.stages.release_right import DeploymentJob
from ml_lifecycle.stages.runner import Tools, record, run
from tests.fakes import small_model
from tests.fakes.champions import NOON, at, decided, registered, released


@pytest.fixture
def noon(tools: Tools) -> Tools:
    return replace(tools, clock=lambda: NOON)


def back(run_id: str = "rollback/1", **request: Any) -> RollbackJob:
    return RollbackJob(request=RunRequest(model="flights", stream="rollback", run_id=run_id, **request))


def champion(tools: Tools) -> int | None:
    return tools.registry.alias("flights", "champion")


def states(tools: Tools, epoch: int) -> tuple[str, ...]:
    move = tools.ledger.moves("flights", "test")[epoch - 1]
    return tools.ledger.deployment_states(move)


# --- Releases --------------------------------------------------------------------------------------------------------


def test_an_approval_makes_a_move_and_moves_the_alias(noon: Tools, tmp_path: Path) -> None:
    version = registered(noon, tmp_path, 1)

    result = deploy(decided(noon, version), noon)

    assert result is not None
    assert (result.champion.epoch, result.champion.digest, result.champion.moved_by) == (1, version.digest, "ada")
    assert (result.previous, result.traffic) == (None, {"1": 100})
    assert champion(noon) == 1
    assert states(noon, 1) == ("intent", "observed", "done")


def test_the_next_release_names_the_champion_it_replaced(noon: Tools, tmp_path: Path) -> None:
    released(noon, tmp_path, 1)

    result = deploy(decided(noon, registered(noon, tmp_path, 2)), noon)

    assert result is not None
    assert result.previous is not None
    assert (result.champion.version, result.previous.version) == (2, 1)
    assert champion(noon) == 2


def test_a_rejection_changes_nothing(noon: Tools, tmp_path: Path) -> None:
    job = decided(noon, registered(noon, tmp_path, 1), "reject")

    assert deploy(job, noon) is None
    assert (champion(noon), noon.ledger.moves("flights", "test")) == (None, ())


def test_a_rejection_that_was_edited_on_its_way_changes_nothing(noon: Tools, tmp_path: Path) -> None:
    job = decided(noon, registered(noon, tmp_path, 1), "reject")
    forged = job.model_copy(update={"decision": job.decision.model_copy(update={"outcome": "approve"})})

    assert deploy(forged, noon) is None
    assert champion(noon) is None


def test_a_decision_that_nobody_made_changes_nothing(noon: Tools, tmp_path: Path) -> None:
    job = decided(noon, registered(noon, tmp_path, 1))
    ask = job.decision.ask.model_copy(update={"renewal": 5})
    forged = job.model_copy(update={"decision": job.decision.model_copy(update={"ask": ask})})

    with pytest.raises(NoDecisionError, match="no decision about version 1"):
        deploy(forged, noon)

    assert champion(noon) is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"version": 2}, "about version 1, and the run about 2"),
        ({"model": "trains"}, "about model 'flights', and the run about 'trains'"),
    ],
)
def test_a_run_about_something_else_than_the_decision_changes_nothing(
    noon: Tools, tmp_path: Path, change: dict[str, Any], why: str
) -> None:
    job = decided(noon, registered(noon, tmp_path, 1))
    other = job.model_copy(update={"request": job.request.model_copy(update=change)})

    with pytest.raises(NoDecisionError, match=why):
        deploy(other, noon)

    assert champion(noon) is None


def test_a_decision_of_another_environment_changes_nothing(noon: Tools, tmp_path: Path) -> None:
    sandbox = replace(noon, environment="sandbox")
    job = decided(sandbox, registered(sandbox, tmp_path, 1))

    with pytest.raises(NoDecisionError, match="about environment 'sandbox', and the run about 'test'"):
        deploy(job, noon)

    assert champion(noon) is None


def test_an_expired_approval_changes_nothing_and_leaves_a_trace(noon: Tools, tmp_path: Path) -> None:
    job = decided(noon, registered(noon, tmp_path, 1))

    with pytest.raises(NoDecisionError, match="expired"):
        deploy(job, at(noon, 73))

    assert champion(noon) is None
    assert noon.ledger.audit("flights")[-1]["action"] == "release refused"


def test_swapped_bytes_change_nothing(noon: Tools, tmp_path: Path) -> None:
    version = registered(noon, tmp_path, 1)
    job = decided(noon, version)
    (stored,) = (tmp_path / "tracking").rglob("package.json")
    stored.write_text("swapped")

    with pytest.raises(DigestMismatchError, match="the model package has digest"):
        deploy(job, noon)

    assert (champion(noon), noon.ledger.moves("flights", "test")) == (None, ())


def test_a_package_that_is_gone_changes_nothing(noon: Tools, tmp_path: Path) -> None:
    job = decided(noon, registered(noon, tmp_path, 1))
    (stored,) = (tmp_path / "tracking").rglob("package.json")
    stored.unlink()
    stored.parent.rmdir()

    with pytest.raises(ServiceRefusedError, match="nothing to download"):
        deploy(job, noon)

    assert noon.ledger.moves("flights", "test") == ()


def test_a_release_that_is_repeated_after_another_one_changes_nothing(noon: Tools, tmp_path: Path) -> None:
    old = released(noon, tmp_path, 1)
    released(noon, tmp_path, 2)

    with pytest.raises(StaleEpochError, match="version 1 was moved at epoch 1, but version 2 at epoch 2 is in force"):
        deploy(old, noon)

    assert champion(noon) == 2


def test_repeating_a_release_gives_the_same_result_and_writes_nothing(noon: Tools, tmp_path: Path) -> None:
    job = decided(noon, registered(noon, tmp_path, 1))
    record("resolve", job.request, noon, model="flights")
    first = run(deploy, job, noon, model="flights")  # type: ignore[type-var]  # None is a rejection
    rows = len(noon.ledger.audit("flights"))

    again = run(deploy, job, at(noon, 100), model="flights")  # type: ignore[type-var]  # None is a rejection

    assert again == first
    assert len(noon.ledger.audit("flights")) == rows


def test_an_alias_that_was_moved_by_hand_is_set_again(noon: Tools, tmp_path: Path) -> None:
    registered(noon, tmp_path, 1)
    job = released(noon, tmp_path, 2)
    noon.registry.set_alias("flights", "champion", 1)

    deploy(job, noon)

    assert champion(noon) == 2


def test_an_unknown_target_changes_nothing(noon: Tools, tmp_path: Path) -> None:
    job = decided(noon, registered(noon, tmp_path, 1)).model_copy(update={"target": {"backend": "sagemakr"}})

    with pytest.raises(UnknownBackendError, match="no deployment backend is called 'sagemakr'"):
        deploy(job, noon)

    assert noon.ledger.moves("flights", "test") == ()


# --- Crashes ---------------------------------------------------------------------------------------------------------


class Crash(Exception):  # noqa: N818  # stands for a killed process, which is no error of ours
    """The process ends here."""


class Fragile(AliasTarget):
    """Crashes once, at the point that is pending: it is looked at before the move, and observed after it."""

    def promote(self, move: Move, means: Means) -> None:
        _crash("before deploying")
        super().promote(move, means)
        _deployed.append(move)
        _crash("after deploying")

    def status(self, model: str, means: Means) -> Serving:
        point = "observing" if _deployed else "looking"
        _crash(f"before {point}")
        seen = super().status(model, means)
        _crash(f"after {point}")
        return seen


_pending: list[str] = []
_deployed: list[Move] = []
POINTS = [f"{when} {what}" for what in ("looking", "deploying", "observing") for when in ("before", "after")]


def _crash(point: str) -> None:
    if point in _pending:
        _pending.remove(point)
        raise Crash(point)


@pytest.fixture(params=POINTS)
def fragile(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    point: str = request.param
    monkeypatch.setattr("ml_lifecycle.stages.deployment.target_from", lambda _options: Fragile())
    _deployed.clear()
    _pending[:] = [point]
    return point


def test_a_release_that_crashed_at_the_target_ends_as_if_it_had_not(noon: Tools, tmp_path: Path, fragile: str) -> None:
    job = decided(noon, registered(noon, tmp_path, 1))
    with pytest.raises(Crash, match=fragile):
        deploy(job, noon)

    result = deploy(job, at(noon, 1))

    assert result is not None
    assert (result.champion.version, champion(noon)) == (1, 1)
    assert len(noon.ledger.moves("flights", "test")) == 1
    assert states(noon, 1) == ("intent", "observed", "done")


def test_a_move_that_was_made_in_time_is_carried_out_even_after_the_approval_ran_out(
    noon: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = decided(noon, registered(noon, tmp_path, 1))
    with monkeypatch.context() as down:
        down.setattr(AliasTarget, "promote", _unreachable)
        with pytest.raises(ServiceUnavailableError):
            deploy(job, noon)

    result = deploy(job, at(noon, 80))

    assert result is not None
    assert champion(noon) == 1


def test_a_rollback_that_crashed_at_the_target_ends_as_if_it_had_not(noon: Tools, tmp_path: Path, fragile: str) -> None:
    _pending.clear()
    for number in (1, 2, 3):
        released(noon, tmp_path, number)
    _deployed.clear()
    _pending[:] = [fragile]
    with pytest.raises(Crash, match=fragile):
        roll_back(back(), noon)

    result = roll_back(back(), noon)

    assert (result.champion.version, champion(noon)) == (2, 2)
    assert [move.version for move in noon.ledger.moves("flights", "test")] == [1, 2, 3, 2]
    assert states(noon, 4) == ("intent", "observed", "done")


@pytest.mark.parametrize("written", [0, 1, 2, 3])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_release_that_crashed_at_the_ledger_ends_as_if_it_had_not(
    noon: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int, when: str
) -> None:
    job = decided(noon, registered(noon, tmp_path, 1))

    with monkeypatch.context() as crashing:
        _crash_at_write(noon.ledger, crashing, written, when)
        with suppress(Crash):
            deploy(job, noon)
    result = deploy(job, noon)

    assert result is not None
    assert (result.champion.version, champion(noon)) == (1, 1)
    assert len(noon.ledger.moves("flights", "test")) == 1
    assert states(noon, 1) == ("intent", "observed", "done")


def _crash_at_write(ledger: Ledger, patch: pytest.MonkeyPatch, number: int, when: str) -> None:
    """End the process right before or after one of the ledger's writes: the move, then each step of carrying it out."""
    writes = iter(range(100))

    def fragile(original: Callable[..., Any]) -> Callable[..., Any]:
        def write(*args: Any, **kwargs: Any) -> Any:
            here = next(writes) == number
            if here and when == "before":
                raise Crash
            result = original(*args, **kwargs)
            if here:
                raise Crash
            return result

        return write

    for method in ("release", "record_deployment"):
        patch.setattr(ledger, method, fragile(getattr(ledger, method)))


def test_the_alias_is_never_moved_before_the_ledger(
    noon: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released(noon, tmp_path, 1)
    job = decided(noon, registered(noon, tmp_path, 2))

    monkeypatch.setattr(noon.ledger, "release", _unreachable)
    with pytest.raises(ServiceUnavailableError):
        deploy(job, noon)

    assert champion(noon) == 1


def _unreachable(*_args: Any, **_kwargs: Any) -> Any:
    raise ServiceUnavailableError("the service does not answer")


def test_a_try_that_was_overtaken_puts_back_what_the_newer_move_set(
    noon: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released(noon, tmp_path, 1)
    job = decided(noon, registered(noon, tmp_path, 2))
    real = AliasTarget.promote

    def overtaken(self: AliasTarget, move: Move, means: Means) -> None:
        if move.epoch == 2:
            monkeypatch.setattr(AliasTarget, "promote", real)
            roll_back(back(), noon)
        real(self, move, means)

    monkeypatch.setattr(AliasTarget, "promote", overtaken)
    noon.ledger.release(_version_of(noon, 2), job.decision, moved_by="ada", at=NOON)
    with pytest.raises(StaleEpochError):
        deploy(job, noon)

    assert champion(noon) == 1
    head = noon.ledger.head("flights", "test")
    assert head is not None
    assert (head.epoch, head.version) == (3, 1)


def _version_of(tools: Tools, number: int) -> ModelVersion:
    (content,) = [
        row["content"]
        for row in tools.ledger.results("test", "flights", "register")
        if row["content"]["version"] == number
    ]
    return ModelVersion.model_validate(content)


# --- Rollbacks -------------------------------------------------------------------------------------------------------


def test_a_rollback_brings_the_previous_champion_back_with_who_and_why(noon: Tools, tmp_path: Path) -> None:
    for number in (1, 2):
        released(noon, tmp_path, number)

    result = roll_back(back(requester="olga", reason="Newark complains"), noon)

    assert result.previous is not None
    assert (result.champion.version, result.previous.version, result.traffic) == (1, 2, {"1": 100})
    assert (result.champion.moved_by, result.champion.reason) == ("olga", "Newark complains")
    assert champion(noon) == 1


def test_a_rollback_and_its_drill_pass_over_what_a_blocked_decision_released(noon: Tools, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        released(noon, tmp_path, number)
    noon.ledger.block(noon.ledger.moves("flights", "test")[1].decision_id or "", why="no", at=NOON)

    drill = rehearse_rollback(DrillJob(request=RunRequest(model="flights", stream="drill")), noon)
    result = roll_back(back(requester="olga"), noon)

    assert drill.to_version == 1
    assert (result.champion.version, champion(noon)) == (1, 1)


def test_a_rollback_without_a_name_or_a_reason_says_so(noon: Tools, tmp_path: Path) -> None:
    for number in (1, 2):
        released(noon, tmp_path, number)

    result = roll_back(back(reason="  "), noon)

    assert (result.champion.moved_by, result.champion.reason) == ("unknown", "no reason given")


def test_the_same_run_rolls_back_once_and_another_run_walks_further(noon: Tools, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        released(noon, tmp_path, number)

    first, again = roll_back(back("rollback/1"), noon), roll_back(back("rollback/1"), at(noon, 1))
    further = roll_back(back("rollback/2"), at(noon, 2))

    assert first == again
    assert (first.champion.version, further.champion.version, champion(noon)) == (2, 1, 1)


def test_each_rollback_by_command_is_one_of_its_own(noon: Tools, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        released(noon, tmp_path, number)

    walked = [roll_back(back(""), at(noon, hours)).champion.version for hours in (1, 2)]

    assert walked == [2, 1]


def test_a_rollback_to_another_version_than_the_previous_is_refused(noon: Tools, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        released(noon, tmp_path, number)

    with pytest.raises(LedgerError, match="brings back version 2, not 1"):
        roll_back(back(version=1), noon)

    assert champion(noon) == 3


def test_a_rollback_to_swapped_bytes_changes_nothing(noon: Tools, tmp_path: Path) -> None:
    for number in (1, 2):
        released(noon, tmp_path, number)
    for stored in (tmp_path / "tracking").rglob("package.json"):
        if json.loads(stored.read_text())["number"] == 1:
            stored.write_text("swapped")

    with pytest.raises(DigestMismatchError):
        roll_back(back(), noon)

    assert (champion(noon), len(noon.ledger.moves("flights", "test"))) == (2, 2)


@pytest.mark.parametrize("releases", [0, 1])
def test_without_an_earlier_champion_a_rollback_changes_nothing(noon: Tools, tmp_path: Path, releases: int) -> None:
    for number in range(1, releases + 1):
        released(noon, tmp_path, number)

    with pytest.raises(LedgerError, match="no earlier champion"):
        roll_back(back(), noon)

    assert champion(noon) == (1 if releases else None)


def test_an_old_rollback_is_not_repeated_after_a_newer_release(noon: Tools, tmp_path: Path) -> None:
    for number in (1, 2):
        released(noon, tmp_path, number)
    roll_back(back(), noon)
    released(noon, tmp_path, 3)

    with pytest.raises(StaleEpochError):
        roll_back(back(), noon)

    assert champion(noon) == 3


def test_a_rolled_back_digest_comes_back_only_under_a_new_approval(noon: Tools, tmp_path: Path) -> None:
    released(noon, tmp_path, 1)
    old = released(noon, tmp_path, 2)
    roll_back(back(), at(noon, 1))
    version = _version_of(noon, 2)

    with pytest.raises(NoDecisionError, match="was rolled back at epoch 3"):
        deploy(old, at(noon, 2))
    anew = deploy(decided(at(noon, 3), version), at(noon, 4))

    assert anew is not None
    assert (anew.champion.version, anew.champion.epoch, champion(noon)) == (2, 4, 2)


def test_policy_leaves_what_was_rolled_back_to_a_person(noon: Tools, tmp_path: Path) -> None:
    for number in (1, 2):
        released(noon, tmp_path, number)
    roll_back(back(), at(noon, 1))
    asked = RunRequest(model="flights", stream="release", trigger="asset", version=2)

    question = pose(ApprovalJob(request=asked, required="never"), at(noon, 2))

    assert question is not None
    assert question.decision is None


def test_a_rollback_restores_where_the_previous_champion_served(noon: Tools, tmp_path: Path) -> None:
    released(noon, tmp_path, 1)
    second = decided(noon, registered(noon, tmp_path, 2))
    assert deploy(second.model_copy(update={"target": {"backend": "alias", "alias": "live"}}), noon) is not None
    assert (champion(noon), noon.registry.alias("flights", "live")) == (1, 2)

    result = roll_back(back().model_copy(update={"target": {"backend": "alias", "alias": "live"}}), noon)

    assert result.champion.target == {"backend": "alias", "alias": "champion"}
    # Nothing goes on with what was rolled back.
    assert (champion(noon), noon.registry.alias("flights", "live")) == (1, 1)


def test_a_move_that_names_no_target_is_rolled_back_to_the_present_one(noon: Tools, tmp_path: Path) -> None:
    for number in (1, 2):
        job = decided(noon, registered(noon, tmp_path, number))
        noon.ledger.release(_version_of(noon, number), job.decision, moved_by="ada", at=NOON)

    roll_back(back().model_copy(update={"target": {"backend": "alias", "alias": "live"}}), noon)

    assert (champion(noon), noon.registry.alias("flights", "live")) == (None, 1)


# --- What gives no right ---------------------------------------------------------------------------------------------


def refusals(tools: Tools) -> list[tuple[str, str]]:
    return [(row["action"], row["detail"]) for row in tools.ledger.audit("flights") if "refused" in row["action"]]


def test_a_gate_that_was_loosened_after_the_approval_gives_no_right(noon: Tools, tmp_path: Path) -> None:
    job = decided(noon, registered(noon, tmp_path, 1)).model_copy(update={"policy_digest": "0" * 64})

    with pytest.raises(NoDecisionError, match="the gate was changed after it was approved: the policy digest is 0000"):
        deploy(job, noon)

    assert (champion(noon), noon.ledger.moves("flights", "test")) == (None, ())
    ((action, why),) = refusals(noon)
    assert action == "release refused"
    assert "evaluate again where the gate changed" in why


def test_a_gate_that_is_what_it_was_gives_the_right(noon: Tools, tmp_path: Path) -> None:
    job = decided(noon, registered(noon, tmp_path, 1)).model_copy(update={"policy_digest": "f" * 64})

    assert deploy(job, noon) is not None


def test_policys_approval_gives_no_right_once_the_pipeline_wants_a_person(noon: Tools, tmp_path: Path) -> None:
    job = decided(noon, registered(noon, tmp_path, 1), by="policy")

    with pytest.raises(NoDecisionError, match="policy approved it, and the pipeline wants a person to"):
        deploy(job.model_copy(update={"required": "always"}), noon)

    assert (champion(noon), noon.ledger.moves("flights", "test")) == (None, ())
    assert deploy(job.model_copy(update={"required": "never"}), noon) is not None


def test_a_sandbox_neither_deploys_nor_rolls_back(noon: Tools, tmp_path: Path) -> None:
    sandbox = replace(noon, environment="sandbox")
    job = decided(sandbox, registered(sandbox, tmp_path, 1))

    with pytest.raises(TargetRefusedError, match="'sandbox' deploys nothing"):
        deploy(job, sandbox)
    with pytest.raises(TargetRefusedError, match="rolls nothing back"):
        roll_back(back(requester="olga"), sandbox)

    assert champion(noon) is None
    assert [action for action, _ in refusals(noon)] == ["release refused", "rollback refused"]
    assert noon.ledger.audit("flights")[-1]["actor"] == "olga"


def test_a_blocked_approval_gives_no_right_and_leaves_a_trace(noon: Tools, tmp_path: Path) -> None:
    job = decided(noon, registered(noon, tmp_path, 1))
    noon.ledger.block(job.decision.ask.ask_id, why="two answers contradict each other", at=NOON)

    with pytest.raises(NoDecisionError, match="two answers contradict each other"):
        deploy(job, noon)

    assert champion(noon) is None
    assert refusals(noon)[-1][0] == "release refused"


def test_an_approval_that_is_blocked_while_it_is_carried_out_ends_before_the_target(
    noon: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = decided(noon, registered(noon, tmp_path, 1))
    real = noon.ledger.record_deployment

    def blocked_after_intent(move: Move, state: str, **kwargs: Any) -> None:
        real(move, state, **kwargs)
        noon.ledger.block(job.decision.ask.ask_id, why="late news", at=NOON)

    monkeypatch.setattr(noon.ledger, "record_deployment", blocked_after_intent)
    with pytest.raises(NoDecisionError, match="late news"):
        deploy(job, noon)

    assert (champion(noon), states(noon, 1)) == (None, ("intent",))


def shown_and_approved(tools: Tools, version: ModelVersion) -> DeploymentJob:
    """The version, asked about in Airflow and approved there by Ada."""
    fields = version.model_dump(include={"version", "digest", "dataset_fingerprint", "metrics_digest", "policy_digest"})
    ask = Ask(model="flights", environment="test", gate_verdict=version.gate_verdict, epoch=0, **fields)
    tools.ledger.ask(ask, requested_by=None, at=NOON, expires_at=None)
    place = {"dag_id": "flights_release", "run_id": "r", "task_id": "approve", "ti_id": "try-1"}
    shown = tools.ledger.post(Posting(ask_id=ask.ask_id, model="flights", environment="test", **place), at=NOON)
    decision = tools.ledger.vote(
        Vote(ask_id=ask.ask_id, outcome="approve", person="ada", channel="airflow", posting=shown.number, at=NOON)
    )
    assert decision is not None
    return DeploymentJob(request=RunRequest(model="flights", stream="release", run_id="release/1"), decision=decision)


def test_a_rejection_that_only_airflow_knows_blocks_the_approval_for_ever(noon: Tools, tmp_path: Path) -> None:
    job = shown_and_approved(noon, registered(noon, tmp_path, 1))
    told = replace(noon, answers=lambda posting: {"try-1": "Reject"}.get(posting.ti_id))

    with pytest.raises(NoDecisionError, match="Airflow records 'Reject' for showing 1, and the ledger an approval"):
        deploy(job, told)
    with pytest.raises(NoDecisionError, match="Airflow records 'Reject'"):
        deploy(job, noon)

    assert (champion(noon), noon.ledger.moves("flights", "test")) == (None, ())


@pytest.mark.parametrize("recorded", ["Approve", None, "Approve 00000000"])
def test_an_answer_that_agrees_or_is_gone_changes_nothing(noon: Tools, tmp_path: Path, recorded: str | None) -> None:
    version = registered(noon, tmp_path, 1)
    job = shown_and_approved(noon, version)
    option = f"Approve {version.digest[:8]}" if recorded == "Approve" else recorded

    assert deploy(job, replace(noon, answers=lambda _posting: option)) is not None
    assert champion(noon) == 1


def test_bytes_that_are_swapped_between_the_move_and_the_target_are_not_deployed(
    noon: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = decided(noon, registered(noon, tmp_path, 1))
    real = noon.ledger.release

    def swapped(*args: Any, **kwargs: Any) -> Move:
        (stored,) = (tmp_path / "tracking").rglob("package.json")
        stored.write_text("swapped")
        return real(*args, **kwargs)

    monkeypatch.setattr(noon.ledger, "release", swapped)
    with pytest.raises(DigestMismatchError):
        deploy(job, noon)

    assert champion(noon) is None
    assert refusals(noon)[-1][0] == "release refused"


# --- Late writers ----------------------------------------------------------------------------------------------------


def test_a_writer_that_passed_the_fence_before_a_rollback_is_undone(
    noon: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registry compares nothing when it writes: the ledger is looked at again afterwards."""
    released(noon, tmp_path, 1)
    job = decided(noon, registered(noon, tmp_path, 2))
    noon.ledger.release(_version_of(noon, 2), job.decision, moved_by="ada", at=NOON)
    real = noon.registry.set_alias

    def late(name: str, alias: str, version: int) -> None:
        monkeypatch.setattr(noon.registry, "set_alias", real)
        roll_back(back(), noon)
        real(name, alias, version)

    monkeypatch.setattr(noon.registry, "set_alias", late)
    with pytest.raises(StaleEpochError):
        deploy(job, noon)

    assert champion(noon) == 1
    assert AliasTarget().status("flights", means_of(noon)).epoch == 3


# --- Drills ----------------------------------------------------------------------------------------------------------


def drill(**changes: Any) -> DrillJob:
    return DrillJob(request=RunRequest(model="flights", stream="drill", run_id="drill/1"), **changes)


@pytest.fixture
def loading(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Which versions were loaded: the packages of these tests hold no model."""
    loaded: list[int] = []

    def load(move: Move, _tools: Tools) -> None:
        loaded.append(move.version)

    monkeypatch.setattr("ml_lifecycle.stages.deployment.load_champion", load)
    return loaded


@pytest.mark.parametrize("releases", [0, 1])
def test_a_drill_with_nothing_to_go_back_to_says_that_nothing_is_known(
    noon: Tools, tmp_path: Path, releases: int
) -> None:
    for number in range(1, releases + 1):
        released(noon, tmp_path, number)

    report = rehearse_rollback(drill(), noon)

    assert (report.verdict, report.to_version, report.seconds) == (Verdict.INCONCLUSIVE, None, None)
    assert report.detail == "there is no earlier champion to go back to"


def test_a_drill_loads_what_would_come_back_and_moves_nothing(noon: Tools, tmp_path: Path, loading: list[int]) -> None:
    for number in (1, 2):
        released(noon, tmp_path, number)
    rows = len(noon.ledger.audit("flights"))

    report = rehearse_rollback(drill(), noon)

    assert (report.verdict, report.from_version, report.to_version) == (Verdict.PASS, 2, 1)
    assert (report.epoch, report.seconds, report.within_s) == (2, 0.0, 300.0)
    assert loading == [1]
    assert (champion(noon), noon.registry.alias("flights", "champion-drill")) == (2, None)
    assert len(noon.ledger.audit("flights")) == rows


@pytest.mark.parametrize(("took", "verdict"), [(300, Verdict.PASS), (301, Verdict.FAIL)])
def test_a_drill_that_takes_too_long_fails(
    noon: Tools, tmp_path: Path, loading: list[int], took: int, verdict: Verdict
) -> None:
    for number in (1, 2):
        released(noon, tmp_path, number)
    ticks = iter((NOON, NOON + timedelta(seconds=took)))

    report = rehearse_rollback(drill(), replace(noon, clock=lambda: next(ticks)))

    assert (report.verdict, report.seconds) == (verdict, took)
    assert ("301.0 s" in report.detail) == (verdict is Verdict.FAIL)


def test_a_drill_says_why_a_rollback_would_not_work(noon: Tools, tmp_path: Path) -> None:
    for number in (1, 2):
        released(noon, tmp_path, number)

    report = rehearse_rollback(drill(), noon)

    # Its training is not on record, so it could not be loaded.
    assert report.verdict is Verdict.FAIL
    assert "the ledger holds no training of the champion's digest" in report.detail
    assert report.seconds is None


def test_a_drill_on_a_real_model_loads_it_and_leaves_no_alias(tools: Tools, tmp_path: Path) -> None:
    own = small_model.with_project(tools, tmp_path / "project")
    for seed in (1, 2):
        small_model.released(own, small_model.trained(own, seed=seed))

    report = rehearse_rollback(drill(), own)

    assert (report.verdict, report.from_version, report.to_version, report.detail) == (Verdict.PASS, 2, 1, "")
    assert own.registry.alias("flights", "champion-drill") is None


def test_a_drill_finds_feature_code_that_changed_since(tools: Tools, tmp_path: Path) -> None:
    own = small_model.with_project(tools, tmp_path / "project")
    for seed in (1, 2):
        small_model.released(own, small_model.trained(own, seed=seed))
    code = tmp_path / "project" / "crew" / "features.py"
    code.write_text(code.read_text().replace("temp", "heat"))

    report = rehearse_rollback(drill(), own)

    assert report.verdict is Verdict.FAIL
    assert "the feature code crew.features:build" in report.detail


# --- Targets by name -------------------------------------------------------------------------------------------------


def test_targets_are_found_by_name() -> None:
    assert "alias" in deployment.known_targets()
    assert deployment.target_from({"backend": "alias", "alias": "live"}) == AliasTarget(alias="live")


@pytest.mark.parametrize("options", [{}, {"backend": ""}, {"backend": None}, {"backend": "nomad"}])
def test_an_unknown_name_is_refused_with_those_that_are_known(options: dict[str, Any]) -> None:
    with pytest.raises(UnknownBackendError, match="installed are alias, "):
        deployment.target_from(options)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"alais": "live"}, "alais: Extra inputs are not permitted; its options are alias, backend"),
        ({"alias": "Live!"}, "alias: String should match pattern"),
        ({"alias": "latest"}, "'latest' means a version to MLflow"),
        ({"alias": "v3"}, "'v3' means a version to MLflow"),
        ({"alias": 3}, "alias: Input should be a valid string"),
    ],
)
def test_a_bad_option_is_named(options: dict[str, Any], why: str) -> None:
    with pytest.raises(LifecycleError, match=why):
        deployment.target_from({"backend": "alias", **options})
