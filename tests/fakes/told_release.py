"""A release of a real small model, judged, approved and deployed, for tests of what is told of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from ml_lifecycle.backends.data.local import LocalStore
from ml_lifecycle.backends.ledger.sql import SqlLedger
from ml_lifecycle.backends.signing.keys import SigningKey
from ml_lifecycle.backends.tracking.local import LocalTracking
from ml_lifecycle.core.contracts import ApprovalTerms, Ask, Deployment, GateRule, ModelVersion, RunRequest, Vote
from ml_lifecycle.core.deployment import NAMED
from ml_lifecycle.stages.deployment import deploy
from ml_lifecycle.stages.evaluation import EvaluationJob, GateJob, RegistrationJob, evaluate, gate, register
from ml_lifecycle.stages.release_right import DeploymentJob
from ml_lifecycle.stages.runner import Tools, record, run
from tests.fakes.champions import shown
from tests.fakes.small_model import request, trained, with_project

NOON = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)


def candidate(tools: Tools, **training: Any) -> ModelVersion:
    """A registered version, with all that each stage concluded about it in the ledger."""
    model = trained(tools, **training)
    evaluation = run(evaluate, EvaluationJob(model=model), tools, model="flights")
    judged = run(
        gate, GateJob(evaluation=evaluation, rules=(GateRule(metric="roc_auc", at_least=0.5),)), tools, model="flights"
    )
    asked = request()
    record("resolve", asked, tools, model="flights")
    order = RegistrationJob(request=asked, decision=judged)
    version = run(register, order, tools, model="flights")  # type: ignore[type-var]  # None on a failed gate
    assert version is not None
    return version


def release(tools: Tools, version: ModelVersion, *, environment: str = "test") -> Deployment:
    """The version deployed, after Bert and Carl approved it."""
    here = replace(tools, environment=environment)
    head = here.ledger.head("flights", environment)
    ask = Ask(
        model="flights",
        environment=environment,
        version=version.version,
        epoch=head.epoch if head is not None else 0,
        terms=ApprovalTerms(approvers=("bert", "carl"), count=2),
        **{name: getattr(version, name) for name in NAMED},
    )
    here.ledger.ask(ask, requested_by="anna", at=NOON, expires_at=NOON + 72 * HOUR)
    decision = None
    for hours, person in enumerate(("bert", "carl"), start=1):
        vote = Vote(
            ask_id=ask.ask_id,
            outcome="approve",
            person=person,
            channel="airflow",
            posting=shown(ask, here),
            reason=f"{person} looked",
            at=NOON + hours * HOUR,
        )
        decision = here.ledger.vote(vote)
    assert decision is not None
    order = RunRequest(model="flights", stream="release", run_id="flights_release/one", version=version.version)
    record("resolve", order, here, model="flights")
    job = DeploymentJob(request=order, decision=decision)
    deployed = run(deploy, job, here, model="flights")  # type: ignore[type-var]  # None on a rejection
    assert deployed is not None
    return deployed


def with_clock(tools: Tools, folder: Path) -> Tools:
    """The same tools at three in the afternoon, on a project of their own."""
    return replace(with_project(tools, folder), clock=lambda: NOON + 3 * HOUR)


def deployment_below(folder: Path, key: SigningKey) -> Tools:
    """A deployment of its own, in the environment ``test``, which signs with this key."""
    tracking = LocalTracking(folder / "tracking")
    tools = Tools(
        data=LocalStore(folder / "data"),
        project=folder,
        tracking=tracking,
        registry=tracking,
        ledger=SqlLedger(f"sqlite:///{folder / 'ledger.db'}"),
        environment="test",
        signing_key=lambda: key,
    )
    return with_clock(tools, folder / "project")
