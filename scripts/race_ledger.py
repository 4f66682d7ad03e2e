"""Races on the ledger, by threads with connections of their own: ``python scripts/race_ledger.py``.

In each race four people answer one question at the same moment, half of them approve and half reject; or four releases,
each with an approval of its own, go for the next epoch. Whatever the timing, one has to win.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from ml_lifecycle.backends.ledger.sql import SqlLedger
from ml_lifecycle.core.contracts import Ask, ModelVersion, Posting, Verdict, Vote, digest_of
from ml_lifecycle.core.errors import ApprovalRefusedError, StaleEpochError

REPOSITORY = Path(__file__).resolve().parent.parent
MODEL, ENVIRONMENT = "flights", "test"
NOON = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
PEOPLE: tuple[tuple[str, Literal["approve", "reject"]], ...] = (
    ("ada", "approve"),
    ("eve", "reject"),
    ("olga", "approve"),
    ("ines", "reject"),
)
PATIENCE_S = 120


@dataclass(frozen=True)
class Races:
    """What came out."""

    races: int
    wins: int
    double_wins: int
    """Races that two or more won."""
    gaps: int
    """Races that nobody won, or epochs that are missing or twice."""
    sent_on: int
    """Answers that were handed to Airflow."""
    audit_rows: int
    """In one chain that verifies."""
    seconds: float


def race_for_decisions(url: str, races: int) -> Races:
    """Four contradictory answers to one question at once, again and again."""
    ledger, began, sent = SqlLedger(url), time.monotonic(), []
    asks = [_ask(_version(number), epoch=0) for number in range(1, races + 1)]

    def prepare(race: int) -> None:
        ledger.ask(asks[race], requested_by="bob", at=NOON, expires_at=None)
        posting = Posting(
            ask_id=asks[race].ask_id,
            model=MODEL,
            environment=ENVIRONMENT,
            dag_id=f"{MODEL}_release",
            run_id=str(race),
            task_id="approve",
        )
        ledger.post(posting, at=NOON)

    def answer(own: SqlLedger, racer: int, race: int) -> bool:
        person, outcome = PEOPLE[racer]
        vote = Vote(
            ask_id=asks[race].ask_id,
            outcome=outcome,
            person=person,
            channel="airflow",
            posting=1,
            reason="a race",
            at=NOON,
        )
        try:
            own.vote(vote, forward=lambda: sent.append(race))
        except ApprovalRefusedError:
            return False
        return True

    won = _race(url, races, prepare, answer)
    decided = [ledger.decision(ask.ask_id) for ask in asks]
    answers = [ledger.votes(ask.ask_id) for ask in asks]
    contradicted = sum(
        len(votes) != 1 or decision is None or votes[0].outcome != decision.outcome
        for votes, decision in zip(answers, decided, strict=True)
    )
    return _counted(won, gaps=contradicted, sent_on=len(sent), ledger=ledger, began=began)


def race_for_epochs(url: str, races: int) -> Races:
    """Four releases, each under an approval of its own, go for the same epoch at once, again and again."""
    ledger, began = SqlLedger(url), time.monotonic()

    def version(racer: int, race: int) -> ModelVersion:
        return _version(len(PEOPLE) * race + racer + 1)

    def prepare(race: int) -> None:
        for racer in range(len(PEOPLE)):
            ask = _ask(version(racer, race), epoch=race)
            ledger.ask(ask, requested_by="bob", at=NOON, expires_at=None)
            ledger.vote(Vote(ask_id=ask.ask_id, outcome="approve", person="ada", channel="signed", at=NOON))

    def release(own: SqlLedger, racer: int, race: int) -> bool:
        candidate = version(racer, race)
        decision = own.decision(_ask(candidate, epoch=race).ask_id)
        if decision is None:
            raise AssertionError("the approval that was given is not there")
        try:
            own.release(candidate, decision, moved_by=PEOPLE[racer][0], at=NOON)
        except StaleEpochError:
            return False
        return True

    won = _race(url, races, prepare, release)
    epochs = [move.epoch for move in ledger.moves(MODEL, ENVIRONMENT)]
    gaps = len(set(range(1, races + 1)) ^ set(epochs)) + len(epochs) - len(set(epochs))
    return _counted(won, gaps=gaps, sent_on=0, ledger=ledger, began=began)


def _race(
    url: str, races: int, prepare: Callable[[int], None], attempt: Callable[[SqlLedger, int, int], bool]
) -> list[int]:
    """How many won each race."""
    ready = threading.Barrier(len(PEOPLE), timeout=PATIENCE_S)

    def run(racer: int) -> list[bool]:
        own, won = SqlLedger(url), []
        for race in range(races):
            if racer == 0:
                prepare(race)
            ready.wait()
            won.append(attempt(own, racer, race))
            ready.wait()
        return won

    def guarded(racer: int) -> list[bool]:
        try:
            return run(racer)
        except BaseException:
            ready.abort()
            raise

    with ThreadPoolExecutor(len(PEOPLE)) as pool:
        columns = list(pool.map(guarded, range(len(PEOPLE))))
    return [sum(race) for race in zip(*columns, strict=True)]


def _counted(won: list[int], *, gaps: int, sent_on: int, ledger: SqlLedger, began: float) -> Races:
    return Races(
        races=len(won),
        wins=sum(won),
        double_wins=sum(winners > 1 for winners in won),
        gaps=gaps + won.count(0),
        sent_on=sent_on,
        audit_rows=ledger.verify_audit(MODEL),
        seconds=round(time.monotonic() - began, 1),
    )


def _version(number: int) -> ModelVersion:
    return ModelVersion(
        name=MODEL,
        version=number,
        digest=digest_of(["model", number]),
        training_key=digest_of(["key", number]),
        uri=f"runs:/{number}/model",
        run_id=str(number),
        dataset_fingerprint=digest_of("data"),
        metrics_digest=digest_of("metrics"),
        gate_verdict=Verdict.PASS,
        policy_digest=digest_of("policy"),
    )


def _ask(version: ModelVersion, epoch: int) -> Ask:
    return Ask(
        model=MODEL,
        environment=ENVIRONMENT,
        version=version.version,
        digest=version.digest,
        dataset_fingerprint=version.dataset_fingerprint,
        metrics_digest=version.metrics_digest,
        gate_verdict=version.gate_verdict,
        policy_digest=version.policy_digest,
        epoch=epoch,
    )


def main() -> int:
    """Race on both databases; 1 where anything but one winner each came out."""
    from private_postgresql import running

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--races", type=int, default=2000, help="of each kind on each database (default: 2000)")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "benchmarks" / "ledger_races.json")
    options = parser.parse_args()
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder, running() as server:
        for database in ("sqlite", "postgresql"):
            results[database] = {}
            for kind, race in (("decisions", race_for_decisions), ("epochs", race_for_epochs)):
                url = f"sqlite:///{folder}/{kind}.db" if database == "sqlite" else server.new_database()
                results[database][kind] = asdict(race(url, options.races))
                print(database, kind, json.dumps(results[database][kind]), flush=True)
    machine = {"python": platform.python_version(), "cores": os.cpu_count(), "racers": len(PEOPLE)}
    options.output.write_text(json.dumps({**machine, "races": results}, indent=2) + "\n")
    found = [kind for kinds in results.values() for kind in kinds.values()]
    return int(any(one["wins"] != one["races"] or one["double_wins"] or one["gaps"] for one in found))


if __name__ == "__main__":
    sys.exit(main())
