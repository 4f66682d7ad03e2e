from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ml_lifecycle.backends.files import manifest_of
from ml_lifecycle.backends.signing import dsse
from ml_lifecycle.backends.signing.keys import generated
from ml_lifecycle.core.contracts import Deployment
from ml_lifecycle.core.errors import DigestMismatchError, EvidenceError, LedgerError, NoDecisionError
from ml_lifecycle.core.provenance import (
    PAYLOAD_TYPE,
    Statement,
    contradictions,
    differences_of_audit,
    differences_of_bytes,
)
from ml_lifecycle.stages.deployment import RollbackJob, roll_back
from ml_lifecycle.stages.provenance import ProvenanceJob, provenance, tell
from ml_lifecycle.stages.runner import Tools, run
from tests.fakes.small_model import request
from tests.fakes.told_release import HOUR, NOON, candidate, deployment_below, release, with_clock

KEY = generated()
PLACE = "provenance/flights/test/1.dsse.json"


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tools, Deployment]:
    """One release for all tests that only look: training takes the longest."""
    tools = deployment_below(tmp_path_factory.mktemp("release"), KEY)
    return tools, release(tools, candidate(tools))


@pytest.fixture
def told(everything: tuple[Tools, Deployment]) -> Statement:
    tools, deployed = everything
    return tell(deployed.champion, tools)


def published(tools: Tools) -> bytes:
    return (tools.data.root / PLACE).read_bytes()  # type: ignore[attr-defined, no-any-return]  # a LocalStore


def changed(told: Statement, **parts: dict[str, Any]) -> Statement:
    """The statement with other values in parts of its predicate."""
    content = told.predicate.model_dump()
    for name, values in parts.items():
        content[name] = {**content[name], **values}
    return told.model_copy(update={"predicate": told.predicate.model_validate(content)})


# --- What is told ----------------------------------------------------------------------------------------------------


def test_a_release_is_told_as_an_in_toto_statement(told: Statement) -> None:
    content = told.model_dump(mode="json", by_alias=True)

    assert content["_type"] == "https://in-toto.io/Statement/v1"
    assert content["predicateType"] == "urn:airflow-provider-ml-lifecycle:provenance:v1"
    assert sorted(content) == ["_type", "predicate", "predicateType", "subject"]
    assert contradictions(told) == ()


def test_the_subjects_are_the_package_and_each_of_its_files(
    everything: tuple[Tools, Deployment], told: Statement
) -> None:
    tools, deployed = everything
    move = deployed.champion
    folder = tools.tracking.download(move.uri, tools.project / "again")

    names = {subject.name: subject.digest["sha256"] for subject in told.subject}

    assert names.pop("flights/1") == move.digest
    assert names == {
        f"flights/1/{path.relative_to(folder).as_posix()}": hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_everything_that_the_release_rests_on_is_told(everything: tuple[Tools, Deployment], told: Statement) -> None:
    tools, _ = everything
    predicate = told.predicate
    (trained,) = tools.ledger.results("test", "flights", "train")
    (version,) = tools.ledger.results("test", "flights", "register")
    (gate,) = tools.ledger.results("test", "flights", "gate")

    assert predicate.data.fingerprint == trained["content"]["dataset"]["fingerprint"]
    assert (predicate.data.partitions, predicate.data.rows) == (("2013-01",), 400)
    assert predicate.code.features == "crew.features:build"
    assert predicate.code.features_digest == trained["content"]["features_digest"]
    assert predicate.seed == 7
    assert predicate.config.estimator == "sklearn.linear_model.LogisticRegression"
    assert predicate.config.target["backend"] == "alias"
    assert predicate.config.policy_digest == version["content"]["policy_digest"]
    assert (predicate.evaluation.digest, predicate.gate.digest) == (
        version["content"]["metrics_digest"],
        gate["digest"],
    )
    assert predicate.training.environment_digest != ""
    assert "cores" in predicate.training.hardware
    assert [(vote.person, vote.reason, vote.at) for vote in predicate.decision.votes] == [
        ("bert", "bert looked", NOON + HOUR),
        ("carl", "carl looked", NOON + 2 * HOUR),
    ]
    assert (predicate.move.epoch, predicate.move.by, predicate.move.at) == (1, "carl", NOON + 3 * HOUR)


def test_the_rows_of_the_audit_are_named_up_to_the_last_step(
    everything: tuple[Tools, Deployment], told: Statement
) -> None:
    tools, _ = everything
    rows = {row["seq"]: row for row in tools.ledger.audit("flights")}

    actions = [row.action for row in told.predicate.audit]

    assert actions == ["ask", "vote", "vote", "decide", "release", "deployment"]
    assert rows[told.predicate.audit[-1].seq]["detail"] == "done"
    assert differences_of_audit(told, rows.values()) == ()


# --- Publishing ------------------------------------------------------------------------------------------------------


def told_again(tools: Tools, deployed: Deployment) -> Any:
    job = ProvenanceJob(deployment=deployed)
    return run(provenance, job, tools, model="flights")  # type: ignore[type-var]  # None where there is no key


def test_a_statement_is_published_signed_and_recorded(everything: tuple[Tools, Deployment], told: Statement) -> None:
    tools, deployed = everything

    record = told_again(tools, deployed)

    payload, _ = dsse.unseal(published(tools), PAYLOAD_TYPE, [KEY.public], where="here")
    assert Statement.model_validate_json(payload) == told
    assert record.uri == PLACE
    assert record.digest == hashlib.sha256(published(tools)).hexdigest()
    assert tools.ledger.has_result("test", record.content_digest())


def test_publishing_again_changes_nothing(everything: tuple[Tools, Deployment]) -> None:
    tools, deployed = everything
    first, before = told_again(tools, deployed), published(tools)
    rows = tools.ledger.audit("flights")

    assert told_again(tools, deployed) == first
    assert published(tools) == before
    assert tools.ledger.audit("flights") == rows


@pytest.mark.parametrize("damage", ["", "{}", "gone"])
def test_a_file_that_was_changed_or_lost_is_written_again(everything: tuple[Tools, Deployment], damage: str) -> None:
    tools, deployed = everything
    first, before = told_again(tools, deployed), published(tools)
    file = Path(str(tools.data.root), PLACE)  # type: ignore[attr-defined]  # a LocalStore
    file.unlink() if damage == "gone" else file.write_text(damage)

    assert told_again(tools, deployed) == first
    assert published(tools) == before


def test_a_statement_under_an_earlier_key_stays(everything: tuple[Tools, Deployment]) -> None:
    tools, deployed = everything
    first = told_again(tools, deployed)

    assert told_again(replace(tools, signing_key=generated), deployed) == first


def test_without_a_key_nothing_is_published(everything: tuple[Tools, Deployment]) -> None:
    tools, deployed = everything

    assert told_again(replace(tools, signing_key=lambda: None), deployed) is None


def test_a_forged_deployment_is_not_told_of(everything: tuple[Tools, Deployment]) -> None:
    tools, deployed = everything
    forged = deployed.model_copy(update={"champion": deployed.champion.model_copy(update={"moved_by": "eve"})})

    with pytest.raises(EvidenceError):
        told_again(tools, forged)


# --- What is not told ------------------------------------------------------------------------------------------------


@pytest.fixture
def apart(tools: Tools, tmp_path: Path) -> Tools:
    return replace(with_clock(tools, tmp_path / "project"), signing_key=lambda: KEY)


def test_a_rollback_and_a_move_that_was_not_carried_out_are_not_told_of(apart: Tools) -> None:
    release(apart, candidate(apart))
    second = release(apart, candidate(apart, seed=8))
    back = roll_back(RollbackJob(request=request(stream="rollback", run_id="one")), apart)
    waiting = second.champion.model_copy(update={"epoch": 9})

    with pytest.raises(NoDecisionError, match="no decision stands behind"):
        provenance(ProvenanceJob(deployment=back), apart)
    with pytest.raises(LedgerError, match="not deployed yet"):
        provenance(ProvenanceJob(deployment=second.model_copy(update={"champion": waiting})), apart)
    assert tell(second.champion, apart).predicate.seed == 8


def test_bytes_that_were_swapped_after_the_release_are_not_told_of(apart: Tools, tmp_path: Path) -> None:
    deployed = release(apart, candidate(apart))
    for file in (tmp_path / "tracking").rglob("package.json"):
        file.write_text(file.read_text() + " ")

    with pytest.raises(DigestMismatchError):
        provenance(ProvenanceJob(deployment=deployed), apart)


# --- What contradicts it ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ({"move": {"environment": "prod"}}, "the decision is about flights version 1 in test, not about this move"),
        ({"move": {"version": 2}}, "not about this move"),
        ({"move": {"epoch": 2}}, "asked at epoch 0, and the move made at epoch 2"),
        ({"move": {"at": NOON + 100 * HOUR}}, "after the approval expired"),
        ({"data": {"fingerprint": "0" * 64}}, "the data fingerprint is not the one that was asked about"),
        ({"evaluation": {"digest": "0" * 64}}, "the evaluation is not"),
        ({"config": {"policy_digest": "0" * 64}}, "the gate's rules is not"),
        ({"gate": {"verdict": "fail"}}, "the gate's verdict is not"),
        ({"decision": {"outcome": "reject"}}, "the decision was reject"),
        ({"decision": {"ask_id": "0" * 64}}, "not the one that its id names"),
        ({"decision": {"votes": ()}}, "0 approved, and the question asks for 2"),
    ],
)
def test_a_statement_that_contradicts_itself_is_seen(told: Statement, parts: dict[str, Any], why: str) -> None:
    found = contradictions(changed(told, **parts))

    assert any(why in line for line in found)


def test_a_statement_about_other_bytes_than_the_approved_is_seen(told: Statement) -> None:
    other = told.model_copy(update={"subject": told.subject[1:]})

    assert "the first subject is not the package that was approved" in contradictions(other)[0]


def test_a_package_is_held_against_its_statement(
    everything: tuple[Tools, Deployment], told: Statement, tmp_path: Path
) -> None:
    tools, deployed = everything
    folder = tools.tracking.download(deployed.champion.uri, tmp_path / "model")

    assert differences_of_bytes(told, deployed.champion.digest, manifest_of(folder)) == ()

    (folder / "package.json").write_text("{}")
    (folder / "more").write_text("x")
    next(iter(folder.glob("*.skops"))).unlink()
    found = differences_of_bytes(told, "0" * 64, manifest_of(folder))

    assert "the bytes of flights/1 are not those that were released" in found
    assert "the bytes of flights/1/package.json are not those that were released" in found
    assert "flights/1/more was not released" in found
    assert any(line.endswith(".skops is missing") for line in found)


def test_an_audit_of_another_ledger_is_seen(everything: tuple[Tools, Deployment], told: Statement) -> None:
    tools, _ = everything
    rows = [dict(row) for row in tools.ledger.audit("flights")]

    assert any("the audit has no row" in line for line in differences_of_audit(told, rows[:3]))
    assert any("no row of the audit says that carl moved" in line for line in differences_of_audit(told, []))
    for row in rows:
        row["digest"] = "0" * 64
    assert len(differences_of_audit(told, rows)) == 6


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ({"move": {"by": "eve"}}, "eve moved flights to version 1"),
        ({"move": {"at": NOON}}, "carl moved flights to version 1"),
        ({"decision": {"decided_by": "eve"}}, "eve decided"),
    ],
)
def test_a_statement_that_says_more_than_the_audit_is_seen(
    everything: tuple[Tools, Deployment], told: Statement, parts: dict[str, Any], why: str
) -> None:
    tools, _ = everything

    found = differences_of_audit(changed(told, **parts), tools.ledger.audit("flights"))

    assert any(line.startswith("no row of the audit says that") and why in line for line in found)


def test_times_of_an_exported_audit_are_read(everything: tuple[Tools, Deployment], told: Statement) -> None:
    tools, _ = everything
    rows = [{**row, "at": row["at"].isoformat()} for row in tools.ledger.audit("flights")]

    assert differences_of_audit(told, json.loads(json.dumps(rows))) == ()
