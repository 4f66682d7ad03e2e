from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from ml_lifecycle.core.approval import (
    Briefing,
    Portrait,
    approve_label,
    body,
    cell,
    number,
    policy_decides,
    refusal,
    short,
    subject,
)
from ml_lifecycle.core.contracts import (
    ChampionResult,
    Columns,
    DatasetRef,
    Difference,
    Evaluation,
    GateCheck,
    GateDecision,
    HoldoutSpec,
    Metric,
    TrainedModel,
    Verdict,
)

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
        "model": "flights",
        "environment": "prod",
        "candidate": Portrait(2, DIGEST, dataset("2013-01", "2013-02"), {"code_version": "abc"}, {"max_iter": 80}),
        "champion": None,
        "gate": judged(GateCheck(rule="roc_auc at least 0.6", verdict=Verdict.PASS, observed=0.75)),
        "verdict": Verdict.PASS,
    }
    return body(Briefing(**{**told_otherwise, **changes}))


# --- Who may answer --------------------------------------------------------------------------------------------------


def test_the_option_carries_the_first_eight_digits() -> None:
    assert short(DIGEST) == "3f9a2c1b"
    assert approve_label(DIGEST) == "Approve 3f9a2c1b"
    assert subject("flights", 2, DIGEST, "prod") == "Release flights version 2 (3f9a2c1b) to prod?"


@pytest.mark.parametrize(
    ("option", "by", "why"),
    [
        ("Approve 3f9a2c1b", "ada", None),
        ("Reject", "ada", None),
        ("Reject", "bob", None),
        ("Approve 3f9a2c1b", "bob", "bob asked for this model, so somebody else has to approve it"),
        ("Approve 3f9a2c1b", "eve", "eve may not answer for this model, only ada, bob"),
        ("Reject", "eve", "eve may not answer for this model, only ada, bob"),
        ("Approve", "ada", "the form said 'Approve', but"),
        ("Approve aaaaaaaa", "ada", "the form said 'Approve aaaaaaaa', but the question is about 3f9a2c1b"),
        ("approve 3f9a2c1b", "ada", "the form said 'approve 3f9a2c1b', but"),
        ("", "ada", "the form said '', but"),
        ("Reject", "", "Airflow did not say who answered"),
        ("Approve 3f9a2c1b", "policy", "'policy' is the name under which policy itself decides"),
    ],
)
def test_who_may_answer_what(option: str, by: str, why: str | None) -> None:
    found = refusal(option, digest=DIGEST, approvers=("ada", "bob"), by=by, requested_by="bob")

    assert found is None if why is None else found is not None and found.startswith(why)


def test_without_a_list_anyone_may_approve_but_the_requester_in_any_spelling() -> None:
    assert refusal("Approve 3f9a2c1b", digest=DIGEST, approvers=(), by="eve", requested_by="Bob") is None
    assert refusal("Approve 3f9a2c1b", digest=DIGEST, approvers=(), by="eve", requested_by=None) is None
    assert refusal("Approve 3f9a2c1b", digest=DIGEST, approvers=(), by="bob", requested_by="Bob") is not None


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


# --- What an approver reads ------------------------------------------------------------------------------------------


def test_it_says_what_replaces_what_who_asked_and_until_when() -> None:
    text = told(champion=Portrait(1, "a" * 64), requested_by="bob", reason="drift in dep_delay", expires_at=NOON)

    assert "**flights version 2** (`3f9a2c1b`) replaces version 1 in **prod**. Gate: **pass**." in text
    assert "Asked for by bob: drift in dep_delay." in text
    assert "Answer before **2026-03-01 12:00 UTC**; no answer is a no." in text


def test_a_first_release_says_so() -> None:
    text = told()

    assert "would be the first champion" in text
    assert "| data partitions | 2013-01, 2013-02 |" in text
    assert "Asked for by the schedule or an event: no reason was given." in text


def test_slices_are_shown_by_the_metric_that_the_gate_looks_at_first() -> None:
    both = {"brier": Metric(value=0.2, rows=50), "roc_auc": Metric(value=0.7, rows=50)}
    evaluation = judged().evaluation.model_copy(update={"metrics": both, "slices": {"origin": {"JFK": both}}})
    check = GateCheck(rule="roc_auc at least 0.6", verdict=Verdict.PASS, observed=0.7)

    text = told(gate=judged().model_copy(update={"evaluation": evaluation, "checks": (check,)}))

    assert "| origin | roc_auc | Rows |" in text
    assert "| JFK | 0.7000 | 50 |" in text


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
    assert "Unchanged: code version." in text
    assert "| code version |" not in text


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
