"""Reads the demo's final state back from MLflow, the ledger and the files, each from its own side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import requests

from local_deployment import LocalDeployment
from ml_lifecycle.backends.ledger.sql import SqlLedger
from ml_lifecycle.core.contracts import Move

ENVIRONMENT = "dev"


def final_state_mistakes(deployment: LocalDeployment, model: str, months: Sequence[str]) -> list[str]:
    """Everything that is not as it should be after the demo; empty when all is well."""
    ledger = SqlLedger(deployment.ledger_url)
    moves = ledger.moves(model, ENVIRONMENT)
    return [
        *_in_the_ledger(ledger, moves, model),
        *_in_mlflow(deployment.mlflow_url, moves, model),
        *_in_the_files(deployment, moves, months),
    ]


def _in_the_ledger(ledger: SqlLedger, moves: Sequence[Move], model: str) -> Iterator[str]:
    history = [(move.epoch, move.kind, move.version) for move in moves]
    wanted = [(1, "release", 1), (2, "release", 2), (3, "rollback", 1)]
    if history != wanted:
        yield f"the ledger's moves are {history}, not {wanted}"
        return
    for move in moves[:2]:
        decision = ledger.decision(move.decision_id or "")
        if decision is None or decision.decided_by != "approver" or decision.ask.digest != move.digest:
            yield f"move {move.epoch} does not rest on the approver's decision about its digest: {decision}"
    back = moves[2]
    if (back.moved_by, back.digest) != ("engineer", moves[0].digest) or "Newark" not in back.reason:
        yield f"the rollback does not say who, what and why: {back}"
    ledger.verify_audit(model)
    audited = [row for row in ledger.audit(model) if row["actor"] == "engineer" and "rollback" in row["action"]]
    if not audited:
        yield "the audit has no row about the engineer's rollback"


def _in_mlflow(url: str, moves: Sequence[Move], model: str) -> Iterator[str]:
    def get(path: str, **query: Any) -> dict[str, Any]:
        answer = requests.get(f"{url}/api/2.0/mlflow/{path}", params=query, timeout=30)
        answer.raise_for_status()
        value: dict[str, Any] = answer.json()
        return value

    champion = get("registered-models/alias", name=model, alias="champion")["model_version"]
    if champion["version"] != "1":
        yield f"MLflow's champion is version {champion['version']}, not 1"
    for version in ("1", "2"):
        found = get("model-versions/get", name=model, version=version)["model_version"]
        run = get("runs/get", run_id=found["run_id"])["run"]["data"]
        recorded = {tag["key"]: tag["value"] for tag in (*found.get("tags", ()), *run.get("tags", ()))}
        recorded |= {item["key"]: item["value"] for item in run.get("params", ())}
        yield from _record_gaps(f"MLflow's version {version}", recorded)
        digests = {move.digest for move in moves if str(move.version) == version}
        if recorded.get("ml_lifecycle.digest") not in digests:
            yield f"MLflow's version {version} has digest {recorded.get('ml_lifecycle.digest')}, the ledger {digests}"
    if "drift" not in recorded.get("ml_lifecycle.reason", ""):
        yield f"MLflow's version 2 does not say that drift was its reason: {recorded.get('ml_lifecycle.reason')}"


def _record_gaps(what: str, recorded: dict[str, str]) -> Iterator[str]:
    wanted = ("dataset_fingerprint", "code_version", "hyperparameters", "seed", "environment_digest", "hardware")
    for name in wanted:
        if not recorded.get(f"ml_lifecycle.{name}"):
            yield f"{what} does not record its {name}"


def _in_the_files(deployment: LocalDeployment, moves: Sequence[Move], months: Sequence[str]) -> Iterator[str]:
    import pandas as pd

    for month in months:
        flights = pd.read_parquet(deployment.data_root / "flights" / f"{month}.parquet", columns=["flight_id"])
        scored = pd.read_parquet(deployment.data_root / "scored" / month / "predictions.parquet")
        if sorted(scored["flight_id"]) != sorted(flights["flight_id"]):
            yield f"scored/{month} does not hold each of the month's {len(flights)} flights exactly once"
        stamps = set(zip(scored["model_version"], scored["model_digest"], strict=True))
        if stamps != {(1, moves[0].digest)}:
            yield f"scored/{month} is not stamped with version 1 and its digest: {sorted(stamps)[:3]}"
        if not scored["score"].between(0, 1).all():
            yield f"scored/{month} holds scores outside 0 to 1"
