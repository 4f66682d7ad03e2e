"""Every invariant on a picture in which exactly that one is broken."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from ml_lifecycle.core.contracts import (
    ApprovalTerms,
    Ask,
    Decision,
    Deployment,
    Move,
    Posting,
    Verdict,
    Vote,
    digest_of,
)
from ml_lifecycle.core.invariants import AskRecord, Snapshot, violations

NOON = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)
DONE = ("intent", "observed", "done")


def ask(epoch: int, version: int, **changes: Any) -> Ask:
    fields = {
        "model": "flights",
        "environment": "prod",
        "version": version,
        "digest": digest_of(version),
        "dataset_fingerprint": "c" * 64,
        "metrics_digest": "d" * 64,
        "gate_verdict": Verdict.PASS,
        "policy_digest": "e" * 64,
        "epoch": epoch - 1,
    }
    return Ask.model_validate({**fields, **changes})


def vote(record: Ask, person: str = "ada", outcome: str = "approve", **changes: Any) -> Vote:
    fields = {"ask_id": record.ask_id, "outcome": outcome, "person": person, "channel": "airflow", "posting": 1}
    return Vote.model_validate({**fields, "reason": "seen", "at": NOON, **changes})


def posting(question: Ask, number: int = 1, author: str | None = "carol") -> Posting:
    place = {"dag_id": "flights_release", "run_id": str(number), "task_id": "approve"}
    return Posting(ask_id=question.ask_id, model="flights", environment="prod", number=number, author=author, **place)


def approved(question: Ask, *, at: datetime, **changes: Any) -> AskRecord:
    """Asked for by Carol, and approved by Ada at this moment."""
    decision = Decision(
        ask=question,
        outcome="approve",
        decided_by="ada",
        approved_by=("ada",),
        requested_by="carol",
        decided_at=at,
        expires_at=at + 72 * HOUR,
    )
    record = AskRecord(
        ask=question,
        asked_at=at - HOUR,
        expires_at=at + 72 * HOUR,
        requested_by="carol",
        decision=decision,
        votes=(vote(question, at=at),),
        postings=(posting(question),),
    )
    return replace(record, **changes)


def move(epoch: int, version: int, kind: str = "release", **changes: Any) -> Move:
    fields = {
        "model": "flights",
        "environment": "prod",
        "epoch": epoch,
        "kind": kind,
        "version": version,
        "digest": digest_of(version),
        "uri": "runs:/1/model",
        "decision_id": ask(epoch, version).ask_id if kind == "release" else None,
        "moved_by": "ada",
        "moved_at": NOON + epoch * HOUR,
    }
    return Move.model_validate({**fields, **changes})


def row(made: Move, seq: int, **changes: Any) -> dict[str, Any]:
    named = f"{made.model} version {made.version} ({made.digest[:8]}) at epoch {made.epoch} in {made.environment}"
    return {"seq": seq, "action": made.kind, "subject": named, "detail": "", **changes}


def sound(*steps: str) -> Snapshot:
    """``"1"`` releases version 1, ``"<1"`` rolls back to it; one hour apart, each approved half an hour before."""
    moves = tuple(
        move(epoch, int(step.strip("<")), "rollback" if "<" in step else "release")
        for epoch, step in enumerate(steps, start=1)
    )
    asks = [(one, ask(one.epoch, one.version)) for one in moves if one.kind == "release"]
    return Snapshot(
        model="flights",
        environment="prod",
        moves=moves,
        asks={question.ask_id: approved(question, at=one.moved_at - HOUR / 2) for one, question in asks},
        steps={one.epoch: DONE for one in moves},
        deployments=tuple(Deployment(champion=one, previous=None, traffic={str(one.version): 100}) for one in moves),
        audit=tuple(row(one, seq) for seq, one in enumerate(moves, start=1)),
        observed={moves[-1].version: 100} if moves else {},
        runs={"a" * 64: ("run-1",)},
        versions={"a" * 64: (1,)},
    )


def broken(snapshot: Snapshot) -> list[tuple[str, str]]:
    """What is violated, and what the person is told."""
    return [(one.invariant, f"{one.where}: {one.what}") for one in violations(snapshot)]


def with_record(snapshot: Snapshot, epoch: int, **changes: Any) -> Snapshot:
    """The snapshot with the ask behind a move changed."""
    ask_id = snapshot.moves[epoch - 1].decision_id
    assert ask_id is not None
    return replace(snapshot, asks={**snapshot.asks, ask_id: replace(snapshot.asks[ask_id], **changes)})


def decided(snapshot: Snapshot, epoch: int, **changes: Any) -> Snapshot:
    """The snapshot with the decision behind a move changed."""
    record = snapshot.asks[snapshot.moves[epoch - 1].decision_id or ""]
    assert record.decision is not None
    return with_record(snapshot, epoch, decision=record.decision.model_copy(update=changes))


@pytest.mark.parametrize(
    "steps", [(), ("1",), ("1", "2"), ("1", "2", "<1"), ("1", "2", "<1", "3"), ("1", "2", "<1", "2")]
)
def test_a_history_as_it_should_be_violates_nothing(steps: tuple[str, ...]) -> None:
    assert broken(sound(*steps)) == []


def test_a_violation_says_what_where_and_which_invariant() -> None:
    (found,) = violations(replace(sound("1"), chain="row 3 cannot be trusted: it was changed"))

    assert str(found) == "flights in prod, audit: audit chain: row 3 cannot be trusted: it was changed"


# --- Moves -----------------------------------------------------------------------------------------------------------


def test_two_champions_of_one_epoch_are_found() -> None:
    snapshot = sound("1", "2")
    twin = move(2, 3, decision_id=None, kind="rollback")

    found = broken(replace(snapshot, moves=(*snapshot.moves, twin), audit=(*snapshot.audit, row(twin, 3))))

    assert ("one champion", "flights in prod, epoch 2: versions 2, 3 are all champion") in found


def test_a_missing_epoch_is_found() -> None:
    snapshot = sound("1", "2", "3")

    found = broken(
        replace(
            snapshot,
            moves=(snapshot.moves[0], snapshot.moves[2]),
            audit=(snapshot.audit[0], snapshot.audit[2]),
            steps={1: DONE, 3: DONE},
        )
    )

    assert found == [("epochs without a gap", "flights in prod, epoch 2: it is missing, and the head is at 3")]


def test_a_champion_of_a_sandbox_is_found() -> None:
    snapshot = sound("1")
    moved = snapshot.moves[0].model_copy(update={"environment": "sandbox", "kind": "rollback", "decision_id": None})

    found = broken(replace(snapshot, environment="sandbox", moves=(moved,), audit=(row(moved, 1),)))

    assert found == [("no move in a sandbox", "flights in sandbox, epoch 1: a sandbox has a champion")]


def test_a_decision_that_made_two_moves_is_found() -> None:
    snapshot = sound("1", "1")
    used = snapshot.moves[0].decision_id
    second = snapshot.moves[1].model_copy(update={"decision_id": used})

    found = broken(replace(snapshot, moves=(snapshot.moves[0], second)))

    assert ("one move per decision", f"flights in prod, decision {str(used)[:12]}: it made 2 moves") in found


def test_a_rolled_back_digest_that_returned_under_its_old_approval_is_found() -> None:
    snapshot = sound("1", "2", "<1", "2")

    found = broken(decided(snapshot, 4, decided_at=NOON + 2 * HOUR))

    what = "version 2 was rolled back at epoch 3, and nobody approved it since"
    assert found == [("no release of a denied digest", f"flights in prod, epoch 4: {what}")]


def test_a_rolled_back_digest_that_policy_brought_back_is_found() -> None:
    found = broken(decided(sound("1", "2", "<1", "2"), 4, decided_by="policy"))

    assert [name for name, _ in found] == ["no release of a denied digest"]


# --- Decisions and votes ---------------------------------------------------------------------------------------------


def test_a_release_without_a_decision_is_found() -> None:
    found = broken(replace(sound("1"), asks={}))

    assert found == [("valid decision", "flights in prod, epoch 1: no decision stands behind version 1")]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"expires_at": NOON + HOUR - timedelta(seconds=1)}, "and the decision expired 2026-03-01T12:59:59"),
        ({"decided_at": NOON + 2 * HOUR}, "before it was decided at 2026-03-01T14:00:00"),
        ({"outcome": "reject"}, "ada rejected version 1"),
    ],
)
def test_a_release_under_a_decision_that_was_not_valid_at_that_moment_is_found(
    change: dict[str, Any], why: str
) -> None:
    found = [what for name, what in broken(decided(sound("1"), 1, **change)) if name == "valid decision"]

    assert len(found) == 1
    assert why in found[0]


def test_a_decision_by_a_clock_that_is_a_little_ahead_is_no_violation() -> None:
    assert broken(decided(sound("1"), 1, decided_at=NOON + HOUR + timedelta(minutes=5))) == []


def test_an_approval_after_a_rollback_by_a_clock_that_is_a_little_behind_is_no_violation() -> None:
    anew = sound("1", "2", "<1", "2")

    assert broken(decided(anew, 4, decided_at=NOON + 3 * HOUR - timedelta(minutes=4))) == []


def test_a_move_at_the_decisions_last_moment_is_in_time() -> None:
    assert broken(decided(sound("1"), 1, expires_at=NOON + HOUR)) == []


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"digest": "f" * 64}, "about model flights version 1 (ffffffff) in prod"),
        ({"version": 7}, "about model flights version 7"),
        ({"environment": "dev"}, "in dev, and the move"),
        ({"model": "trains"}, "about model trains"),
        ({"kind": "dataset"}, "about dataset flights"),
        ({"epoch": 5}, "was asked at epoch 5, so it gives no right to epoch 1"),
        ({"gate_verdict": Verdict.FAIL}, "the gate failed it"),
    ],
)
def test_a_release_under_an_answer_to_another_question_is_found(change: dict[str, Any], why: str) -> None:
    snapshot = sound("1")

    found = broken(with_record(snapshot, 1, ask=ask(1, 1).model_copy(update=change)))

    assert any(name == "valid decision" and why in what for name, what in found)


def test_a_champion_whose_approval_was_blocked_is_found_and_history_is_not() -> None:
    contradicted = with_record(sound("1", "2"), 2, blocked="Airflow records a Reject")

    assert broken(contradicted) == [
        ("valid decision", "flights in prod, epoch 2: the decision is blocked: Airflow records a Reject")
    ]
    assert broken(with_record(sound("1", "2"), 1, blocked="Airflow records a Reject")) == []


@pytest.mark.parametrize(
    ("person", "changes", "why"),
    [
        ("carol", {}, "carol asked for it"),
        ("CAROL", {}, "CAROL asked for it"),
        ("ada", {"at": NOON + 100 * HOUR}, "the question expired"),
        ("policy", {}, "is the name under which policy itself decides"),
        ("policy", {"channel": "policy", "posting": None, "outcome": "reject"}, "policy only approves"),
        ("ada", {"outcome": "reject", "reason": " "}, "a rejection needs a reason"),
    ],
)
def test_a_vote_that_should_not_count_is_found(person: str, changes: dict[str, Any], why: str) -> None:
    snapshot = sound("1")
    cast = vote(ask(1, 1), person, **{"at": NOON, **changes})

    found = broken(with_record(snapshot, 1, votes=(cast,)))

    assert any(name == "votes" and why in what for name, what in found)


def test_the_author_of_the_run_and_the_committer_are_found_as_approvers() -> None:
    snapshot = sound("1")
    shown = (posting(ask(1, 1), author="ada"),)

    started = broken(with_record(snapshot, 1, postings=shown))
    committed = broken(with_record(snapshot, 1, excluded={"ada": "committed the pipeline file last"}))

    assert [name for name, _ in (*started, *committed)] == ["votes", "votes"]
    assert "ada started the run that asks" in started[0][1]
    assert "ada committed the pipeline file last" in committed[0][1]


def test_a_run_that_asks_anew_after_the_vote_bars_nobody_backwards() -> None:
    question = ask(1, 1)
    later = (posting(question, 1), posting(question, 2, author="ada"))

    assert broken(with_record(sound("1"), 1, postings=later)) == []


def test_one_person_twice_and_one_showing_twice_are_found() -> None:
    question = ask(1, 1)

    found = broken(with_record(sound("1"), 1, votes=(vote(question), vote(question))))

    assert [name for name, _ in found] == ["votes", "votes"]
    assert "ada has answered already" in found[0][1]
    assert "showing 1 has 2 answers" in found[1][1]


def test_a_stranger_among_the_voters_is_found() -> None:
    question = ask(1, 1, terms=ApprovalTerms(approvers=("bert",)))
    snapshot = sound("1")

    found = broken(with_record(snapshot, 1, ask=question))

    assert any("ada may not answer this question, only bert" in what for _, what in found)


def test_an_approval_with_too_few_votes_is_found() -> None:
    question = ask(1, 1, terms=ApprovalTerms(count=2))

    found = broken(with_record(sound("1"), 1, ask=question))

    assert any("the votes come to nothing, and the decision is approve" in what for _, what in found)


def test_a_decision_against_a_rejection_is_found() -> None:
    question = ask(1, 1)
    votes = (vote(question), vote(question, "bert", "reject", posting=2))

    found = broken(with_record(sound("1"), 1, votes=votes))

    assert any("the votes come to reject, and the decision is approve" in what for _, what in found)


def test_a_decision_from_before_votes_were_kept_is_sound() -> None:
    old = decided(sound("1"), 1, approved_by=())

    assert broken(with_record(old, 1, votes=(), postings=())) == []


def test_a_decision_without_any_vote_is_found() -> None:
    assert any("the votes come to nothing" in what for _, what in broken(with_record(sound("1"), 1, votes=())))


# --- Deployments -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [("done",), ("observed", "intent"), ("intent", "done"), ("intent", "intent")])
def test_steps_that_were_not_written_ahead_are_found(steps: tuple[str, ...]) -> None:
    found = broken(replace(sound("1", "2"), steps={1: steps, 2: DONE}))

    assert found == [
        ("written ahead", f"flights in prod, epoch 1: its steps are {', '.join(steps)}, and not intent, observed, done")
    ]


def test_steps_of_no_move_and_a_closed_head_are_found() -> None:
    snapshot = sound("1")

    stray = broken(replace(snapshot, steps={1: DONE, 2: ("intent",)}))
    closed = broken(replace(snapshot, steps={1: ("intent", "superseded")}))

    assert stray == [("written ahead", "flights in prod, epoch 2: it has the steps intent, and no move")]
    assert closed == [("written ahead", "flights in prod, epoch 1: it is in force, and was closed as superseded")]


@pytest.mark.parametrize("steps", [("superseded",), ("intent", "superseded"), ("intent", "observed", "superseded")])
def test_a_deployment_that_was_overtaken_and_closed_is_sound(steps: tuple[str, ...]) -> None:
    assert broken(replace(sound("1", "2"), steps={1: steps, 2: DONE})) == []


@pytest.mark.parametrize("seen", [{}, {1: 100}, {9: 100}])
def test_a_target_that_serves_another_than_the_head_is_found(seen: dict[int, int]) -> None:
    ((name, what),) = broken(replace(sound("1", "2"), observed=seen))

    assert name == "target serves the head"
    assert what.endswith("and version 2 is in force at epoch 2")


@pytest.mark.parametrize(
    ("seen", "is_sound"), [({}, True), ({1: 100}, True), ({1: 90, 2: 10}, True), ({9: 100}, False)]
)
def test_an_open_deployment_may_serve_what_it_leaves_and_what_it_brings(seen: dict[int, int], is_sound: bool) -> None:  # noqa: FBT001  # a table
    opened = replace(sound("1", "2"), steps={1: DONE, 2: ("intent",)}, observed=seen)

    assert (broken(opened) == []) is is_sound


@pytest.mark.parametrize(("share", "is_sound"), [(0, True), (10, True), (11, False), (100, False)])
def test_a_version_that_is_rolled_out_gets_no_more_than_its_steps_gave(share: int, is_sound: bool) -> None:  # noqa: FBT001  # as above
    seen = {1: 100 - share, 2: share}
    opened = replace(sound("1", "2"), steps={1: DONE, 2: ("intent",)}, observed=seen, reached=10)

    assert (broken(opened) == []) is is_sound


def test_something_that_serves_before_the_first_release_is_found() -> None:
    assert [name for name, _ in broken(replace(sound(), observed={1: 100}))] == ["target serves the head"]


def test_nobody_looking_is_no_violation() -> None:
    assert broken(replace(sound("1"), observed=None)) == []


def test_traffic_that_does_not_sum_to_a_hundred_is_found() -> None:
    opened = replace(sound("1", "2"), steps={1: DONE, 2: ("intent",)}, observed={1: 80, 2: 10})

    assert broken(opened) == [("traffic", "flights in prod, target: version 1: 80%, version 2: 10% do not sum to 100")]


@pytest.mark.parametrize("traffic", [{}, {"1": 50, "2": 50}, {"1": 90}])
def test_a_deployment_that_ended_with_shared_traffic_is_found(traffic: dict[str, int]) -> None:
    snapshot = sound("1")
    ended = snapshot.deployments[0].model_copy(update={"traffic": traffic})

    assert [name for name, _ in broken(replace(snapshot, deployments=(ended,)))] == ["traffic"]


# --- What was written down -------------------------------------------------------------------------------------------


def test_a_move_without_an_audit_row_or_with_two_is_found() -> None:
    snapshot = sound("1", "2")

    without = broken(replace(snapshot, audit=snapshot.audit[:1]))
    twice = broken(replace(snapshot, audit=(*snapshot.audit, row(snapshot.moves[0], 3))))

    assert without == [("one audit row per move", "flights in prod, epoch 2: the release has 0 audit rows")]
    assert twice == [("one audit row per move", "flights in prod, epoch 1: the release has 2 audit rows")]


def test_an_audit_row_of_a_move_that_was_never_made_is_found() -> None:
    snapshot = sound("1")
    invented = row(move(11, 1), 2)

    found = broken(replace(snapshot, audit=(*snapshot.audit, invented)))

    assert found == [("one audit row per move", "flights in prod, row 2: it tells of a release that was never made")]


def test_a_training_that_made_two_runs_or_versions_is_found() -> None:
    runs = broken(replace(sound("1"), runs={"a" * 64: ("run-1", "run-2")}))
    versions = broken(replace(sound("1"), versions={"a" * 64: (1, 2)}))

    where = "flights in prod, training aaaaaaaaaaaa"
    assert runs == [("one run and version per training", f"{where}: it has the runs run-1, run-2")]
    assert versions == [("one run and version per training", f"{where}: it has the versions 1, 2")]
