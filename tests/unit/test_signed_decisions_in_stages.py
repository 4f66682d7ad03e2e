"""Where the deployment says whose signed answers count, deployment and training check their signatures once more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ml_lifecycle.backends.signing.answers import sign_answer, submit
from ml_lifecycle.backends.signing.keys import Keys
from ml_lifecycle.core.answers import OpenAsk, answer_to
from ml_lifecycle.core.contracts import ApprovalTerms, Ask, RunRequest, Vote
from ml_lifecycle.core.data_approval import DataPolicy, ask_about
from ml_lifecycle.core.deployment import NAMED
from ml_lifecycle.core.errors import NoDecisionError, SignatureError
from ml_lifecycle.stages.data_approval import require_approval
from ml_lifecycle.stages.deployment import deploy
from ml_lifecycle.stages.release_right import DeploymentJob
from ml_lifecycle.stages.runner import Tools
from tests.fakes.asking import ADA, BOB, HOUR, KEYS, NOON
from tests.fakes.champions import registered
from tests.fakes.small_model import dataset

POLICY = DataPolicy(terms=ApprovalTerms(approvers=("ada",)))


@pytest.fixture
def noon(tools: Tools) -> Tools:
    return replace(tools, clock=lambda: NOON + HOUR, approver_keys=lambda: KEYS)


def asked(ask: Ask, tools: Tools) -> OpenAsk:
    tools.ledger.ask(ask, requested_by="carol", at=NOON, expires_at=NOON + 72 * HOUR)
    return OpenAsk(ask_id=ask.ask_id, ask=ask, asked_at=NOON, expires_at=NOON + 72 * HOUR)


def signed_by_ada(question: OpenAsk, tools: Tools) -> None:
    answer = answer_to(question, outcome="approve", person="ada", reason="seen", at=NOON)
    envelope = sign_answer(answer, ADA)
    submit(envelope, keys=KEYS, ledger=tools.ledger, environment=tools.environment, at=NOON)


def put_in(question: OpenAsk, tools: Tools, **changes: Any) -> None:
    """An answer that says of itself that it was signed."""
    values = {"ask_id": question.ask_id, "outcome": "approve", "person": "ada", "channel": "signed", "at": NOON}
    tools.ledger.vote(Vote.model_validate({**values, **changes}))


def about_a_version(tools: Tools, folder: Path) -> OpenAsk:
    version = registered(tools, folder, 1)
    named = {name: getattr(version, name) for name in NAMED}
    ask = Ask(model="flights", environment=tools.environment, version=version.version, epoch=0, **named)
    return asked(ask, tools)


def deployed(question: OpenAsk, tools: Tools) -> int | None:
    decision = tools.ledger.decision(question.ask_id)
    assert decision is not None
    request = RunRequest(model="flights", stream="release", run_id="release/1", version=question.ask.version)
    deploy(DeploymentJob(request=request, decision=decision), tools)
    return tools.registry.alias("flights", "champion")


def test_a_version_is_deployed_under_a_signed_approval(noon: Tools, tmp_path: Path) -> None:
    question = about_a_version(noon, tmp_path)
    signed_by_ada(question, noon)

    assert deployed(question, noon) == 1


@pytest.mark.parametrize("signature", ["", "{}", "signed, ada"])
def test_an_approval_that_nobody_signed_deploys_nothing_and_leaves_a_trace(
    noon: Tools, tmp_path: Path, signature: str
) -> None:
    question = about_a_version(noon, tmp_path)
    put_in(question, noon, signature=signature)

    with pytest.raises(SignatureError):
        deployed(question, noon)

    assert noon.registry.alias("flights", "champion") is None
    assert noon.ledger.moves("flights", "test") == ()
    assert noon.ledger.audit("flights")[-1]["action"] == "release refused"


@pytest.mark.parametrize("keys", [{}, {"ada": (BOB.public,)}, {"bob": (ADA.public,)}])
def test_an_approval_under_a_key_that_was_taken_away_deploys_nothing(noon: Tools, tmp_path: Path, keys: Keys) -> None:
    question = about_a_version(noon, tmp_path)
    signed_by_ada(question, noon)

    with pytest.raises(SignatureError):
        deployed(question, replace(noon, approver_keys=lambda: keys))

    assert noon.registry.alias("flights", "champion") is None


def test_a_signed_approval_deploys_nothing_where_nobody_says_whose_signatures_count(
    noon: Tools, tmp_path: Path
) -> None:
    question = about_a_version(noon, tmp_path)
    signed_by_ada(question, noon)

    with pytest.raises(SignatureError, match=r"whose signed answers count.*\[ml_lifecycle\] approver_keys"):
        deployed(question, replace(noon, approver_keys=lambda: None))

    assert noon.registry.alias("flights", "champion") is None
    assert noon.ledger.moves("flights", "test") == ()


def test_policys_own_approval_needs_no_signature(noon: Tools, tmp_path: Path) -> None:
    question = about_a_version(noon, tmp_path)
    put_in(question, noon, person="policy", channel="policy")

    assert deployed(question, noon) == 1


def test_data_is_trained_on_under_a_signed_approval_and_no_other(noon: Tools) -> None:
    data = dataset(noon)
    question = asked(ask_about(data, POLICY, model="flights", environment="test"), noon)
    signed_by_ada(question, noon)

    decision = require_approval(data, POLICY, noon, model="flights", action="train", by="carol")

    assert decision.approved_by == ("ada",)
    with pytest.raises(NoDecisionError, match=r"name the approvers' public keys in \[ml_lifecycle\] approver_keys"):
        require_approval(
            data, POLICY, replace(noon, approver_keys=lambda: None), model="flights", action="train", by="carol"
        )
    with pytest.raises(NoDecisionError, match="'ada' has no registered key"):
        require_approval(data, POLICY, replace(noon, approver_keys=dict), model="flights", action="train", by="carol")
