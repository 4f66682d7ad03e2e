"""What earlier stages concluded, read back from the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from ml_lifecycle.core.contracts import Ask, Evaluation, GateDecision, ModelVersion, TrainedModel
from ml_lifecycle.core.deployment import NAMED
from ml_lifecycle.stages.runner import Tools


def registrations(model: str, tools: Tools) -> Iterator[ModelVersion]:
    """All that were recorded, oldest first: of one version, the last one counts."""
    for result in tools.ledger.results(tools.environment, model, "register"):
        yield ModelVersion.model_validate(result["content"])


def registration_of(ask: Ask, tools: Tools) -> ModelVersion | None:
    """The registration that a question is about: its version, with every digest that the question names."""
    found = tools.ledger.results(tools.environment, ask.model, "register", version=ask.version)
    for result in reversed(found):
        version = ModelVersion.model_validate(result["content"])
        if all(getattr(version, name) == getattr(ask, name) for name in NAMED):
            return version
    return None


def training_of(model: str, digest: str, tools: Tools, *, training_key: str | None = None) -> TrainedModel | None:
    """The first training that left these bytes: a later one of the same key only found them again."""
    for result in tools.ledger.results(tools.environment, model, "train", digest=digest):
        trained = TrainedModel.model_validate(result["content"])
        if training_key in (None, trained.training_key):
            return trained
    return None


def trained_until(model: TrainedModel, tools: Tools) -> datetime | None:
    """The moment of the newest row that a model was trained on; ``None`` where no evaluation of it says so."""
    measured = tools.ledger.results(tools.environment, model.name, "evaluate", model__digest=model.digest, limit=1)
    for result in measured:
        facts = Evaluation.model_validate(result["content"]).holdout
        return facts.training_until if facts is not None else None
    return None


def requesters_of(model: str, stage: str, tools: Tools, **held: Any) -> tuple[str, ...]:
    """Everybody who asked for a run in which the stage concluded what holds these values, oldest first."""
    found: dict[str, None] = {}
    for concluded in tools.ledger.results(tools.environment, model, stage, **held):
        for resolved in tools.ledger.results(tools.environment, model, "resolve", run=concluded["run"]):
            if person := resolved["content"].get("requester"):
                found[str(person)] = None
    return tuple(found)


def gate_of(version: ModelVersion, tools: Tools) -> GateDecision | None:
    """The judgement under which a version was registered."""
    judged = tools.ledger.results(tools.environment, version.name, "gate", policy_digest=version.policy_digest)
    for result in reversed(judged):
        decision = GateDecision.model_validate(result["content"])
        if decision.evaluation.content_digest() == version.metrics_digest:
            return decision
    return None
