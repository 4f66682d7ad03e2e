from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from ml_lifecycle.core.approval import Required
from ml_lifecycle.core.contracts import Ask, Decision, ModelVersion, Move, Verdict, digest_of
from ml_lifecycle.core.deployment import denied, epoch_of, is_stale, objection, previous_champion

NOON = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)
VERSION = ModelVersion(
    name="flights",
    version=2,
    digest="a" * 64,
    training_key="b" * 64,
    uri="runs:/1/model",
    run_id="1",
    dataset_fingerprint="c" * 64,
    metrics_digest="d" * 64,
    gate_verdict=Verdict.PASS,
    policy_digest="e" * 64,
)
ASK = Ask(
    model="flights",
    environment="prod",
    version=2,
    digest="a" * 64,
    dataset_fingerprint="c" * 64,
    metrics_digest="d" * 64,
    gate_verdict=Verdict.PASS,
    policy_digest="e" * 64,
    epoch=1,
)
APPROVAL = Decision(ask=ASK, outcome="approve", decided_by="ada", decided_at=NOON, expires_at=NOON + HOUR)


def history(*steps: str) -> list[Move]:
    """``"1"`` releases version 1, ``"<1"`` rolls back to it; one hour apart."""
    return [
        Move(
            model="flights",
            environment="prod",
            epoch=epoch,
            kind="rollback" if step.startswith("<") else "release",
            version=int(step.strip("<")),
            digest=digest_of(step.strip("<")),
            uri="runs:/1/model",
            moved_by="ada",
            moved_at=NOON + epoch * HOUR,
        )
        for epoch, step in enumerate(steps, start=1)
    ]


def test_an_approval_of_exactly_this_version_has_no_objection() -> None:
    assert objection(APPROVAL, VERSION, "prod", [], NOON) == ""


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"digest": "f" * 64}, "the approval is about the digest aaaaaaaa, not ffffffff"),
        ({"dataset_fingerprint": "f" * 64}, "the approval is about the data fingerprint cccccccc, not ffffffff"),
        ({"metrics_digest": "f" * 64}, "the approval is about the metrics digest dddddddd, not ffffffff"),
        ({"policy_digest": "f" * 64}, "the approval is about the policy digest eeeeeeee, not ffffffff"),
        ({"gate_verdict": Verdict.INCONCLUSIVE}, "the approval is about the gate verdict pass, not inconclusive"),
        ({"version": 3}, "the approval is about flights version 2, not flights version 3"),
        ({"name": "trains"}, "the approval is about flights version 2, not trains version 2"),
    ],
)
def test_an_approval_of_something_else_is_objected_to(change: dict[str, object], why: str) -> None:
    assert objection(APPROVAL, VERSION.model_copy(update=change), "prod", [], NOON) == why


def test_an_approval_for_another_environment_is_objected_to() -> None:
    assert objection(APPROVAL, VERSION, "dev", [], NOON) == "the approval is for the environment 'prod', not 'dev'"


def test_a_rejection_is_objected_to() -> None:
    rejection = APPROVAL.model_copy(update={"outcome": "reject"})

    assert objection(rejection, VERSION, "prod", [], NOON) == "ada rejected it"


@pytest.mark.parametrize(("late", "objected"), [(timedelta(0), False), (timedelta(microseconds=1), True)])
def test_an_approval_is_good_until_its_last_moment(late: timedelta, objected: bool) -> None:  # noqa: FBT001  # a table
    why = objection(APPROVAL, VERSION, "prod", [], NOON + HOUR + late)

    assert bool(why) is objected


def test_an_approval_without_expiry_stays_good() -> None:
    forever = APPROVAL.model_copy(update={"expires_at": None})

    assert objection(forever, VERSION, "prod", [], NOON + 10_000 * HOUR) == ""


def test_nothing_that_the_gate_failed_is_released_even_if_somebody_approved_it() -> None:
    failed = APPROVAL.model_copy(update={"ask": ASK.model_copy(update={"gate_verdict": Verdict.FAIL})})
    version = VERSION.model_copy(update={"gate_verdict": Verdict.FAIL})

    assert objection(failed, version, "prod", [], NOON) == "the gate failed it"


@pytest.mark.parametrize(("epoch", "objected"), [(1, True), (2, True), (3, False)])
@pytest.mark.parametrize("decided", [1, 4])
def test_a_digest_that_was_rolled_back_needs_a_question_after_that_by_whichever_clock(
    epoch: int,
    decided: int,
    objected: bool,  # noqa: FBT001  # a table
) -> None:
    moves = history("1", "2", "<1")  # the rollback took place three hours after noon
    digest = digest_of("2")
    decision = Decision(
        ask=ASK.model_copy(update={"digest": digest, "epoch": epoch}),
        outcome="approve",
        decided_by="ada",
        decided_at=NOON + decided * HOUR,
    )

    why = objection(decision, VERSION.model_copy(update={"digest": digest}), "prod", moves, NOON + 5 * HOUR)

    assert ("was rolled back at epoch 3" in why) is objected


def test_policy_brings_nothing_back_that_was_rolled_back() -> None:
    digest = digest_of("2")
    decision = Decision(
        ask=ASK.model_copy(update={"digest": digest, "epoch": 3}),
        outcome="approve",
        decided_by="policy",
        decided_at=NOON + 4 * HOUR,
    )
    version = VERSION.model_copy(update={"digest": digest})

    why = objection(decision, version, "prod", history("1", "2", "<1"), NOON + 5 * HOUR)

    assert why == "the digest was rolled back at epoch 3, and only a person brings it back, not policy"


@pytest.mark.parametrize(("present", "objected"), [(None, False), ("e" * 64, False), ("f" * 64, True)])
def test_a_gate_that_was_changed_after_the_approval_is_objected_to(present: str | None, objected: bool) -> None:  # noqa: FBT001  # a table
    why = objection(APPROVAL, VERSION, "prod", [], NOON, policy_digest=present)

    assert ("the gate was changed after it was approved" in why) is objected


@pytest.mark.parametrize(
    ("required", "by", "objected"),
    [
        (None, "policy", False),
        ("never", "policy", False),
        ("on_inconclusive", "policy", False),
        ("always", "policy", True),
        ("always", "ada", False),
    ],
)
def test_policys_approval_is_objected_to_where_the_pipeline_wants_a_person(
    required: Required | None,
    by: str,
    objected: bool,  # noqa: FBT001  # a table
) -> None:
    decision = APPROVAL.model_copy(update={"decided_by": by})

    why = objection(decision, VERSION, "prod", [], NOON, required=required)

    assert why == ("policy approved it, and the pipeline wants a person to" if objected else "")


def test_a_move_that_was_made_in_time_may_be_finished_after_the_approval_ran_out() -> None:
    assert "expired" in objection(APPROVAL, VERSION, "prod", [], NOON + 2 * HOUR)
    assert objection(APPROVAL, VERSION, "prod", [], None) == ""


def test_a_question_is_stale_once_another_move_was_made() -> None:
    (first, second) = history("1", "2")

    assert is_stale(ASK, None)
    assert not is_stale(ASK, first)
    assert is_stale(ASK, second)
    assert (epoch_of(None), epoch_of(second)) == (0, 2)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([], None),
        (["1"], None),
        (["1", "1"], None),
        (["1", "2"], 1),
        (["1", "2", "3"], 2),
        (["1", "2", "3", "<2"], 1),
        (["1", "2", "3", "<2", "<1"], None),
        (["1", "2", "<1"], None),
        (["1", "2", "<1", "3"], 1),
        (["1", "2", "<1", "2"], 1),
        (["1", "2", "<1", "2", "<1", "3", "4"], 3),
        (["1", "2", "3", "<2", "4"], 2),
        (["1", "2", "3", "<2", "4", "<2"], 1),
        (["1", "2", "1", "3", "<1", "<2"], None),
    ],
)
def test_a_rollback_walks_back_and_never_to_what_was_rolled_back(steps: list[str], expected: int | None) -> None:
    found = previous_champion(history(*steps), blocked=())

    assert (found.version if found else None) == expected


@pytest.mark.parametrize(
    ("steps", "blocked", "expected"),
    [
        (["1", "2"], [1], None),
        (["1", "2", "3"], [2], 1),
        (["1", "2", "3"], [1], 2),
        (["1", "2", "3"], [1, 2], None),
        (["1", "2", "3", "<2", "4"], [2], 1),
        (["1", "2", "1", "3"], [1], 1),
        (["1", "2", "1", "3"], [3], 2),
        (["1", "2"], [2], 1),
    ],
)
def test_a_rollback_never_brings_back_what_a_blocked_decision_released(
    steps: list[str], blocked: list[int], expected: int | None
) -> None:
    moves = [
        move.model_copy(update={"decision_id": str(move.epoch) if move.kind == "release" else None})
        for move in history(*steps)
    ]

    found = previous_champion(moves, blocked=[str(epoch) for epoch in blocked])

    assert (found.version if found else None) == expected


def test_a_release_takes_a_digest_off_the_list_of_denied_ones() -> None:
    moves = history("1", "2", "3", "<2", "<1", "3")

    assert {digest: move.epoch for digest, move in denied(moves).items()} == {digest_of("2"): 5}
