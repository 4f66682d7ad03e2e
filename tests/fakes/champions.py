"""Versions, approvals and champions in a real ledger, with packages of one small file each."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

from ml_lifecycle.backends.files import digest_of_folder
from ml_lifecycle.core.contracts import Ask, ModelVersion, Posting, RunRequest, Verdict, Vote
from ml_lifecycle.stages.deployment import deploy
from ml_lifecycle.stages.release_right import DeploymentJob
from ml_lifecycle.stages.runner import Tools, record

NOON = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)


def at(tools: Tools, hours: float) -> Tools:
    """The same tools, that many hours after noon."""
    return replace(tools, clock=lambda: NOON + hours * HOUR)


def registered(
    tools: Tools, folder: Path, number: int, *, write: Callable[[Path, int], object] | None = None
) -> ModelVersion:
    """A version whose package is uploaded and whose registration stands in the ledger.

    :param write: Fills the package's folder; left out, it holds one small file.
    """
    package = folder / f"package-{number}"
    package.mkdir()
    (write or _small)(package, number)
    key = f"{number:064d}"
    tracked = tools.tracking.ensure_run("flights", key, name=str(number), tags={})
    uri = tools.tracking.upload(tracked.run_id, package, "model")
    found = tools.registry.ensure_version("flights", training_key=key, uri=uri, run_id=tracked.run_id, tags={})
    version = ModelVersion(
        name="flights",
        version=found.version,
        digest=digest_of_folder(package),
        training_key=key,
        uri=uri,
        run_id=tracked.run_id,
        dataset_fingerprint="d" * 64,
        metrics_digest="e" * 64,
        gate_verdict=Verdict.PASS,
        policy_digest="f" * 64,
    )
    record("register", version, tools, model="flights")
    return version


def _small(package: Path, number: int) -> None:
    (package / "package.json").write_text(json.dumps({"number": number}))


def decided(tools: Tools, version: ModelVersion, outcome: str = "approve", by: str = "ada") -> DeploymentJob:
    """The answer about a version at the epoch in force, as a job to carry out; a person answers in Airflow."""
    head = tools.ledger.head("flights", tools.environment)
    fields = version.model_dump(include={"version", "digest", "dataset_fingerprint", "metrics_digest", "policy_digest"})
    ask = Ask(
        model="flights",
        environment=tools.environment,
        gate_verdict=version.gate_verdict,
        epoch=head.epoch if head else 0,
        **fields,
    )
    now = tools.clock()
    tools.ledger.ask(ask, requested_by=None, at=now, expires_at=now + 72 * HOUR)
    vote = {"ask_id": ask.ask_id, "outcome": outcome, "person": by, "reason": "why", "at": now}
    way = {"channel": "policy"} if by == "policy" else {"channel": "airflow", "posting": shown(ask, tools)}
    decision = tools.ledger.vote(Vote.model_validate({**vote, **way}))
    assert decision is not None
    request = RunRequest(
        model="flights", stream="release", run_id=f"release/{version.version}", version=version.version
    )
    return DeploymentJob(request=request, decision=decision)


def shown(ask: Ask, tools: Tools) -> int:
    """The number under which a task shows the question."""
    posting = Posting(
        ask_id=ask.ask_id,
        model=ask.model,
        environment=ask.environment,
        dag_id=f"{ask.model}_release",
        run_id=f"release/{ask.version}",
        task_id="approve",
    )
    return tools.ledger.post(posting, at=tools.clock()).number


def released(tools: Tools, folder: Path, number: int) -> DeploymentJob:
    """A version that was registered, approved and deployed."""
    job = decided(tools, registered(tools, folder, number))
    assert deploy(job, tools) is not None
    return job
