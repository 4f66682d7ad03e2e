from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any, Literal

import pytest

from ml_lifecycle.core.approval import (
    Briefing,
    Portrait,
    also_excluded,
    approve_label,
    body,
    cannot_approve,
    cell,
    form_mark,
    is_escalated,
    is_form_of,
    is_given_up,
    may_answer,
    not_compared,
    not_in_force,
    number,
    option_means,
    outcome_of,
    policy_decides,
    refusal,
    short,
    subject,
)
from ml_lifecycle.core.contracts import (
    ApprovalTerms,
    Ask,
    ChampionResult,
    Columns,
    DatasetRef,
    Decision,
    Difference,
    Evaluation,
    GateCheck,
    GateDecision,
    HoldoutFacts,
    HoldoutSpec,
    Metric,
    TrainedModel,
    Verdict,
    Vote,
)

Outcome = Literal["approve", "reject"]

DIGEST = "3f9a2c1b" + "0" * 56
NOON = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)


def dataset(*partitions: str, rows: int = 1000) -> DatasetRef:
    return DatasetRef(
        uri="snapshots/1",
        rows=rows,
        fingerprint=str(len(partitions)) * 64,
        columns=Columns(key="id"),
        partitions=partitions,
    )


def judged(*checks: GateCheck, champion: ChampionResult | None = None, **slices: dict[str, Metric]) -> GateDecision:
    model = TrainedModel(
        name="flights",
        uri="runs:/1/model",
        digest=DIGEST,
        training_key="b" * 64,
        run_id="1",
        dataset=dataset("2013-01"),
        holdout=HoldoutSpec(),
        training_rows=800,
    )
    evaluation = Evaluation(
        model=model,
        metrics={"roc_auc": Metric(value=0.75, rows=200), "log_loss": Metric(value=None, rows=200)},
        slices={
            column: {value: {"roc_auc": metric} for value, metric in values.items()}
            for column, values in slices.items()
        },
        champion=champion,
        predictions_uri="runs:/1/predictions",
        predictions_digest="c" * 64,
    )
    verdict = Verdict.worst(check.verdict for check in checks)
    return GateDecision(evaluation=evaluation, verdict=verdict, checks=checks, policy_digest="d" * 64)


def told(**changes: Any) -> str:
    told_otherwise: dict[str, Any] = {
        "ask_id": "e" * 64,
        "model": "flights",
        "environment": "prod",
        "candidate": Portrait(2, DIGEST, dataset("2013-01", "2013-02"), {"code_version": "abc"}, {"max_iter": 80}),
        "champion": None,
        "gate": judged(GateCheck(rule="roc_auc at least 0.6", verdict=Verdict.PASS, observed=0.75)),
        "verdict": Verdict.PASS,
    }
    return body(Briefing(**{**told_otherwise, **changes}))


def ask(terms: ApprovalTerms = ApprovalTerms(), verdict: Verdict = Verdict.PASS) -> Ask:  # noqa: B008  # frozen
    return Ask(
        model="flights",
        environment="prod",
        version=2,
        digest=DIGEST,
        dataset_fingerprint="d" * 64,
        metrics_digest="e" * 64,
        gate_verdict=verdict,
        policy_digest="f" * 64,
        epoch=1,
        terms=terms,
    )


def vote(person: str, outcome: Outcome = "approve", **changes: Any) -> Vote:
    given = {"channel": "airflow", "reason": "seen", "at": NOON, **changes}
    return Vote(ask_id=ask().ask_id, outcome=outcome, person=person, **given)


def refused(
    given: Vote,
    terms: ApprovalTerms = ApprovalTerms(),  # noqa: B008  # frozen
    *,
    verdict: Verdict = Verdict.PASS,
    barred: dict[str, str] | None = None,
    expires_at: datetime | None = None,
    votes: list[Vote] | None = None,
) -> str | None:
    question = ask(terms, verdict)
    return refusal(given, ask=question, asked_at=NOON, expires_at=expires_at, excluded=barred or {}, votes=votes or [])


# --- Who may answer --------------------------------------------------------------------------------------------------


def test_the_option_carries_the_first_eight_digits() -> None:
    assert short(DIGEST) == "3f9a2c1b"
    assert approve_label(DIGEST) == "Approve 3f9a2c1b"
    assert subject("flights", 2, DIGEST, "prod") == "Release flights version 2 (3f9a2c1b) to prod?"


@pytest.mark.parametrize(
    ("option", "outcome"),
    [
        ("Approve 3f9a2c1b", "approve"),
        ("Reject", "reject"),
        ("Approve", None),
        ("Approve aaaaaaaa", None),
        ("approve 3f9a2c1b", None),
        ("reject", None),
        ("", None),
    ],
)
def test_a_form_of_another_question_says_nothing(option: str, outcome: str | None) -> None:
    assert option_means(option, DIGEST) == outcome


@pytest.mark.parametrize(
    ("outcome", "person", "why"),
    [
        ("approve", "ada", None),
        ("reject", "ada", None),
        ("reject", "bob", None),
        ("approve", "bob", "bob asked for it, so somebody else has to approve it"),
        ("approve", "eve", "eve may not answer this question, only ada, bob, BOB"),
        ("reject", "eve", "eve may not answer this question, only ada, bob, BOB"),
        ("approve", "BOB", "BOB asked for it"),
        ("approve", "Ada", "Ada may not answer this question"),
        ("reject", "", "nobody said who answered"),
        ("reject", " ", "nobody said who answered"),
        ("approve", "policy", "'policy' is the name under which policy itself decides"),
        ("reject", "Policy", "'policy' is the name under which policy itself decides"),
    ],
)
def test_who_may_answer_what(outcome: Outcome, person: str, why: str | None) -> None:
    found = refused(
        vote(person, outcome), ApprovalTerms(approvers=("ada", "bob", "BOB")), barred={"bob": "asked for it"}
    )

    assert found is None if why is None else found is not None and found.startswith(why)


def test_without_a_list_anyone_may_approve_but_those_who_had_a_hand_in_it_in_any_spelling() -> None:
    others = also_excluded(requesters=("Fay",), committers=("Dan Doe", "dan@example.com"))
    barred = cannot_approve(requested_by="Bob", authors=(None, "carol"), excluded=others)

    assert barred == {
        "Bob": "asked for it",
        "Fay": "asked for it, too",
        "carol": "started the run that asks",
        "Dan Doe": "committed the pipeline file last",
        "dan@example.com": "committed the pipeline file last",
    }
    for person in ("bob", "fay", "Carol", "DAN DOE", "dan@Example.com", "\uff22ob"):
        assert refused(vote(person), barred=barred) is not None
        assert refused(vote(person, "reject"), barred=barred) is None
    assert refused(vote("eve"), barred=barred) is None


def test_whoever_asked_and_started_the_run_is_told_the_first() -> None:
    assert cannot_approve(requested_by="bob", authors=("bob",)) == {"bob": "asked for it"}
    assert cannot_approve() == {}


@pytest.mark.parametrize("reason", ["", " ", "\n\t"])
def test_a_rejection_needs_a_reason_and_an_approval_none(reason: str) -> None:
    found = refused(vote("ada", "reject", reason=reason))

    assert found is not None
    assert found.startswith("a rejection needs a reason")
    assert refused(vote("ada", reason=reason)) is None


@pytest.mark.parametrize("again", ["approve", "reject"])
def test_nobody_answers_twice_in_any_spelling(again: Outcome) -> None:
    found = refused(vote("Ada", again), votes=[vote("ada")])

    assert found == "Ada has answered already, and nobody answers twice"


def test_an_answer_counts_up_to_the_last_moment() -> None:
    late = NOON + timedelta(microseconds=1)

    assert refused(vote("ada"), expires_at=NOON) is None
    for outcome in ("approve", "reject"):
        found = refused(vote("ada", outcome, at=late), expires_at=NOON)
        assert found == "the question expired at 2026-03-01 12:00:00 UTC"


def test_the_second_list_may_answer_once_the_question_waited() -> None:
    terms = ApprovalTerms(approvers=("ada",), escalate_to=("eve", "ada"), escalate_after_s=60)
    before = NOON + timedelta(seconds=59)
    then = NOON + timedelta(seconds=60)

    assert refused(vote("eve", at=before), terms) is not None
    assert refused(vote("eve", at=then), terms) is None
    assert refused(vote("ada", at=then), terms) is None
    assert refused(vote("mallory", at=then), terms) is not None
    assert may_answer(terms, asked_at=NOON, at=before) == ("ada",)
    assert may_answer(terms, asked_at=NOON, at=then) == ("ada", "eve")


def test_a_question_to_anyone_stays_one_when_it_is_escalated() -> None:
    terms = ApprovalTerms(escalate_to=("eve",), escalate_after_s=60)
    then = NOON + timedelta(seconds=60)

    assert is_escalated(terms, asked_at=NOON, at=then)
    assert may_answer(terms, asked_at=NOON, at=then) == ()


@pytest.mark.parametrize(
    ("person", "outcome", "verdict", "why"),
    [
        ("policy", "approve", Verdict.PASS, None),
        ("policy", "approve", Verdict.INCONCLUSIVE, "policy only approves, and only what passed"),
        ("policy", "approve", Verdict.FAIL, "policy only approves, and only what passed"),
        ("policy", "reject", Verdict.PASS, "policy only approves"),
        ("ada", "approve", Verdict.PASS, "policy answers under the name 'policy', not 'ada'"),
    ],
)
def test_policy_answers_on_a_pass_only_and_under_its_own_name(
    person: str, outcome: Outcome, verdict: Verdict, why: str | None
) -> None:
    terms = ApprovalTerms(approvers=("ada",), count=2)

    found = refused(vote(person, outcome, channel="policy"), terms, verdict=verdict)

    assert found is None if why is None else found is not None and found.startswith(why)


def test_policy_is_bound_by_the_expiry_too() -> None:
    late = NOON + timedelta(seconds=1)

    assert refused(vote("policy", channel="policy", at=late), expires_at=NOON) is not None


@pytest.mark.parametrize(
    ("count", "given", "outcome"),
    [
        (1, [], None),
        (1, [("ada", "approve")], "approve"),
        (2, [("ada", "approve")], None),
        (2, [("ada", "approve"), ("ADA", "approve")], None),
        (2, [("ada", "approve"), ("bob", "approve")], "approve"),
        (2, [("ada", "approve"), ("bob", "reject")], "reject"),
        (2, [("bob", "reject")], "reject"),
        (1, [("ada", "approve"), ("bob", "reject")], "reject"),
    ],
)
def test_one_rejection_is_enough_and_an_approval_needs_different_people(
    count: int, given: list[tuple[str, Outcome]], outcome: str | None
) -> None:
    question = ask(ApprovalTerms(count=count))

    assert outcome_of(question, [vote(person, what) for person, what in given]) == outcome


def test_policys_approval_needs_no_second_person() -> None:
    question = ask(ApprovalTerms(count=2))

    assert outcome_of(question, [vote("policy", channel="policy")]) == "approve"


@pytest.mark.parametrize(
    ("required", "verdict", "expected"),
    [
        ("always", Verdict.PASS, False),
        ("always", Verdict.INCONCLUSIVE, False),
        ("on_inconclusive", Verdict.PASS, True),
        ("on_inconclusive", Verdict.INCONCLUSIVE, False),
        ("on_inconclusive", Verdict.FAIL, False),
        ("never", Verdict.PASS, True),
        ("never", Verdict.INCONCLUSIVE, False),
        ("never", Verdict.FAIL, False),
    ],
)
def test_policy_decides_only_on_a_pass_and_only_where_it_may(required: Any, verdict: Verdict, expected: bool) -> None:  # noqa: FBT001  # a table
    assert policy_decides(required, verdict) is expected


@pytest.mark.parametrize(
    ("against", "head", "why"),
    [
        (None, None, ""),
        (None, 1, "judged against no champion, not against the present champion, version 1: train again to compare"),
        (1, None, ""),
        (1, 1, ""),
        (1, 2, "judged against version 1, not against the present champion, version 2: train again to compare"),
        (2, 1, "judged against version 2, not against the present champion, version 1: train again to compare"),
    ],
)
def test_what_never_met_the_present_champion_is_not_compared(against: int | None, head: int | None, why: str) -> None:
    old = ChampionResult(version=against, digest=str(against) * 64, metrics={}, differences={}) if against else None
    present = Portrait(head, str(head) * 64) if head else None

    assert not_compared(judged(champion=old).evaluation, present) == why


def test_a_champion_of_the_same_number_and_other_bytes_is_another_one() -> None:
    old = ChampionResult(version=1, digest="a" * 64, metrics={}, differences={})

    assert "judged against version 1" in not_compared(judged(champion=old).evaluation, Portrait(1, "b" * 64))


def test_a_judgement_that_is_not_on_record_compares_with_nothing() -> None:
    assert "nothing that is on record" in not_compared(None, Portrait(1, "a" * 64))
    assert not_compared(None, None) == ""


@pytest.mark.parametrize(
    ("outcome", "blocked", "late", "why"),
    [
        ("approve", "", False, ""),
        ("approve", "", True, "the approval by ada expired at 2026-03-01 12:00 UTC"),
        ("reject", "", True, ""),
        ("approve", "ada and bob differ", False, "the question was blocked: ada and bob differ"),
        ("reject", "ada and bob differ", False, "the question was blocked: ada and bob differ"),
    ],
)
def test_an_approval_runs_out_a_rejection_does_not_and_a_contradiction_takes_both(
    outcome: Outcome,
    blocked: str,
    late: bool,  # noqa: FBT001  # a table
    why: str,
) -> None:
    decision = Decision(ask=ask(), outcome=outcome, decided_by="ada", decided_at=NOON, expires_at=NOON)

    at = NOON + timedelta(microseconds=1) if late else NOON

    assert not_in_force(decision, blocked=blocked, at=at) == why


# --- What an approver reads ------------------------------------------------------------------------------------------


def test_it_says_what_replaces_what_who_asked_and_until_when() -> None:
    text = told(champion=Portrait(1, "a" * 64), requested_by="bob", reason="drift in dep_delay", expires_at=NOON)

    assert "**flights version 2** (`3f9a2c1b`) replaces version 1 in **prod**. Gate: **pass**." in text
    assert "Asked for by bob: drift in dep_delay." in text
    assert "Answer before **2026-03-01 12:00 UTC**; no answer is a no." in text


def test_its_last_line_says_which_question_it_is_and_no_reason_can_pretend_another() -> None:
    text = told(reason=f"drift\n\n{form_mark('f' * 64)}", links={form_mark("f" * 64): f"x\n{form_mark('f' * 64)}"})

    assert is_form_of("e" * 64, text)
    assert not is_form_of("f" * 64, text)


def test_a_first_release_says_so() -> None:
    text = told()

    assert "would be the first champion" in text
    assert "| data partitions | 2013-01, 2013-02 |" in text
    assert "Asked for by the schedule or an event: no reason was given." in text


def test_slices_are_shown_by_the_metric_that_the_gate_looks_at_first() -> None:
    both = {"brier": Metric(value=0.2, rows=50), "roc_auc": Metric(value=0.7, rows=50)}
    evaluation = judged().evaluation.model_copy(update={"metrics": both, "slices": {"origin": {"JFK": both}}})
    check = GateCheck(rule="roc_auc at least 0.6", verdict=Verdict.PASS, observed=0.7, metric="roc_auc")

    text = told(gate=judged().model_copy(update={"evaluation": evaluation, "checks": (check,)}))

    assert "| origin | roc_auc | Rows |" in text
    assert "| JFK | 0.7000 | 50 |" in text


def test_it_says_how_often_the_holdout_was_used_and_what_looks_like_leakage() -> None:
    sign = "'arr_delay' tells the target almost alone | <b>"
    holdout = HoldoutFacts(fingerprint="f" * 64, rows=200, training_rows=800, warnings=(sign,))
    evaluation = judged().evaluation.model_copy(update={"holdout": holdout})

    text = told(gate=judged().model_copy(update={"evaluation": evaluation, "judged": 14}))

    assert "This holdout has judged 14 candidates, this one included" in text
    assert "**Look at this before you decide:** 'arr_delay' tells the target almost alone \\| &lt;b&gt;" in text


def test_a_holdout_of_its_own_is_not_worth_a_word() -> None:
    text = told()

    assert "holdout has judged" not in text
    assert "Look at this" not in text


def test_the_interval_of_a_difference_is_the_one_that_was_measured() -> None:
    found = Difference(estimate=0.02, standard_error=0.01, rows=200, low=0.001, high=0.037, method="BCa bootstrap")
    champion = ChampionResult(version=1, digest="a" * 64, metrics={}, differences={"roc_auc": found})

    text = told(gate=judged(champion=champion))

    assert "+0.0200 | +0.0010 to +0.0370" in text


def test_a_commit_is_shown_by_its_first_digits() -> None:
    text = told(candidate=Portrait(2, "b" * 64, None, {"code_version": "1234567890ab" + "c" * 28 + "-dirty"}))

    assert "| code version | 1234567890ab-dirty |" in text


def test_only_what_changed_since_the_champion_is_a_row() -> None:
    champion = Portrait(1, "a" * 64, dataset("2013-01", rows=500), {"code_version": "abc"}, {"max_iter": 50, "l2": 1})

    text = told(champion=champion)

    assert "| max_iter | 50 | 80 |" in text
    assert "| l2 | 1 | – |" in text  # noqa: RUF001  # the dash of a value that is not there
    assert "| data rows | 500 | 1,000 |" in text
    assert "| data fingerprint | `11111111` | `22222222` |" in text
    assert "Changed: data, hyperparameters." in text
    assert "Unchanged: code version." in text
    assert "| code version |" not in text


def test_values_that_differ_after_what_is_shown_of_them_have_changed() -> None:
    long = "x" * 300
    champion = Portrait(1, "a" * 64, None, {"code_version": "c" * 40}, {"kind": f"{long}1"})

    text = told(
        champion=champion, candidate=Portrait(2, DIGEST, None, {"code_version": "c" * 39 + "d"}, {"kind": f"{long}2"})
    )

    assert "| code version | cccccccccccc | cccccccccccc |" in text
    assert "Changed: code, hyperparameters." in text
    assert "Unchanged" not in text


def test_a_hyperparameter_hides_nothing_that_is_called_alike() -> None:
    champion = Portrait(1, "a" * 64, None, {"features": "old:build"}, {"features": 3})

    text = told(champion=champion, candidate=Portrait(2, DIGEST, None, {"features": "new:build"}, {"features": 3}))

    assert "| features | old:build | new:build |" in text
    assert "Unchanged: features." in text


def test_it_says_how_many_have_to_approve_and_who_did() -> None:
    terms = ApprovalTerms(approvers=("ada", "bob", "cid"), count=2, escalate_to=("eve",), escalate_after_s=3600)

    text = told(terms=terms, asked_at=NOON, approved_by=("ada",))

    assert "- 2 different people of ada, bob, cid have to approve it; one rejection, which needs a reason" in text
    assert "- Approved so far by 1 of 2: ada." in text
    assert "- From 2026-03-01 13:00 UTC on, eve may answer too." in text
    assert "more than may still approve" not in text


def test_it_says_who_cannot_approve_and_why() -> None:
    others = also_excluded(committers=("Dan", "dan@example.com"))
    barred = cannot_approve(requested_by="bob", authors=("carol",), excluded=others)

    text = told(barred=barred)

    assert "- One person has to approve it" in text
    assert "- Dan, dan@example.com committed the pipeline file last, and may reject but not approve." in text
    assert "- bob asked for it, and may reject but not approve." in text
    assert "- carol started the run that asks, and may reject but not approve." in text


@pytest.mark.parametrize(
    ("approved", "barred", "missing"),
    [
        ((), (), ""),
        ((), ("ada",), ""),
        ((), ("ada", "BOB"), "1 more"),
        (("ada",), ("ada", "bob"), ""),
        ((), ("ada", "bob", "cid"), "2 more"),
    ],
)
def test_it_warns_when_too_few_are_left_to_approve(
    approved: tuple[str, ...], barred: tuple[str, ...], missing: str
) -> None:
    terms = ApprovalTerms(approvers=("ada", "bob", "cid"), count=2)

    text = told(terms=terms, approved_by=approved, barred=cannot_approve(authors=barred))

    assert (f"- **{missing} than may still approve are needed.**" in text) if missing else ("are needed" not in text)


def test_slices_stand_beside_the_champions_where_those_are_known() -> None:
    values = {"EWR": Metric(value=0.7, rows=50), "JFK": Metric(value=0.6, rows=40)}
    champion = ChampionResult(
        version=1,
        digest="a" * 64,
        metrics={},
        differences={},
        slices={"origin": {"JFK": {"roc_auc": Metric(value=0.65, rows=40)}}},
    )

    text = told(gate=judged(champion=champion, origin=values))

    assert "| origin | roc_auc | Version 1 | Rows |" in text
    assert "| JFK | 0.6000 | 0.6500 | 40 |" in text
    assert "| EWR | 0.7000 | – | 50 |" in text  # noqa: RUF001  # the dash of what was not measured


def test_failed_checks_stand_first_with_what_was_observed_and_bounds() -> None:
    gate = judged(
        GateCheck(rule="roc_auc at least 0.6", verdict=Verdict.PASS, observed=0.75),
        GateCheck(rule="roc_auc versus champion", verdict=Verdict.INCONCLUSIVE, observed=0.01, low=-0.02, high=0.04),
    )

    lines = told(gate=gate).splitlines()

    first = lines.index("### Gate") + 4
    assert lines[first] == "| roc_auc versus champion | **inconclusive** | 0.0100 | -0.0200 to 0.0400 |  |"
    assert "| pass |" in lines[first + 1]


def test_metrics_stand_beside_the_champion_with_the_bounds_of_their_difference() -> None:
    champion = ChampionResult(
        version=1,
        digest="a" * 64,
        metrics={"roc_auc": Metric(value=0.7, rows=200)},
        differences={"roc_auc": Difference(estimate=0.05, standard_error=0.01, rows=200)},
    )

    text = told(gate=judged(champion=champion), champion=Portrait(1, "a" * 64))

    # 0.05 - 1.96 * 0.01 and 0.05 + 1.96 * 0.01
    assert "| roc_auc | 0.7500 | 0.7000 | +0.0500 | +0.0304 to +0.0696 | 200 |" in text
    assert "| log_loss | – | – | – | – | 200 |" in text  # noqa: RUF001  # dashes of what was not measured


def test_the_worst_slices_stand_first_and_unknown_ones_are_counted() -> None:
    values = {name: Metric(value=0.5 + index / 100, rows=100) for index, name in enumerate("FEDCBA")}
    values["Z"] = Metric(value=None, rows=30)
    values["Y"] = Metric(value=0.1, rows=29)

    text = told(gate=judged(origin=values))

    assert "### Worst 5 of 8 by origin" in text
    assert [line[2] for line in text.splitlines() if line.endswith("| 100 |")] == ["F", "E", "D", "C", "B"]
    assert "Not measurable: 1 of 8." in text
    assert "Not shown: 1 with fewer than 30 rows." in text


def test_without_a_gate_decision_it_warns() -> None:
    assert "**Do not approve it.**" in told(gate=None)


def test_without_conditions_it_says_that_the_judgement_is_the_approvers() -> None:
    assert "declares no conditions" in told(gate=judged())


def test_only_web_addresses_become_links() -> None:
    links = {
        "Run": "http://127.0.0.1:5000/#/runs/1",
        "Report": "reports/1.html",
        "Bad": "javascript:alert(1)",
        "No": "",
    }

    text = told(links=links)

    assert "- [Run](<http://127.0.0.1:5000/#/runs/1>)" in text
    assert "- Report: reports/1.html" in text
    assert "](javascript" not in text
    assert "](<javascript" not in text
    assert "- No" not in text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("roc_auc", "roc_auc"),
        ("a|b", "a\\|b"),
        ("`rm`", "\\`rm\\`"),
        ("<img onerror=x>", "&lt;img onerror=x&gt;"),
        ("[x](http://evil)", "\\[x\\](http://evil)"),
        ("two\nlines\r\n# head", "two lines # head"),
        ("**bold** _it_", "\\*\\*bold\\*\\* \\_it\\_"),
        ("a\\|b", "a\\\\\\|b"),
        ("\u202eevil", "evil"),
        ("", ""),
        (None, "None"),
        ("x" * 500, "x" * 159 + "…"),
    ],
)
def test_no_value_breaks_out_of_its_cell(value: object, shown: str) -> None:
    assert cell(value) == shown


def test_a_hostile_slice_name_stays_one_row() -> None:
    text = told(gate=judged(origin={"a|b\n| <script>": Metric(value=0.5, rows=30)}))

    assert "| a\\|b \\| &lt;script&gt; | 0.5000 | 30 |" in text


def test_what_was_not_measured_is_a_dash() -> None:
    assert number(None) == "–"  # noqa: RUF001  # the dash of a value that is not there
    assert number(0.1) == "0.1000"


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("01a1fec7-4ad2-7f7f-b47d-879cb5f57797", "01a1fec7-dafe-7f55-8a71-fa21785aa864", True),
        ("01a1fec7-dafe-7f55-8a71-fa21785aa864", "01a1fec7-4ad2-7f7f-b47d-879cb5f57797", False),
        ("01a1fec7-4ad2-7000-8000-000000000000", "01a1fec7-4ad2-7fff-bfff-ffffffffffff", False),
        ("01a1fec7-4ad2-4f7f-b47d-879cb5f57797", "01a1fec7-dafe-4f55-8a71-fa21785aa864", False),
        ("first try", "second try", False),
        ("", "01a1fec7-dafe-7f55-8a71-fa21785aa864", False),
    ],
    ids=["begun earlier", "begun later", "in the same millisecond", "ids without a time", "no ids of Airflow", "none"],
)
def test_a_try_is_given_up_once_airflow_has_begun_another(one: str, other: str, expected: bool) -> None:  # noqa: FBT001  # a table
    assert is_given_up(one, other) is expected
