"""What only a real PostgreSQL can show of the ledger; the shared suite runs on it too."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from ml_lifecycle.backends.ledger import database
from ml_lifecycle.backends.ledger.sql import SqlLedger
from ml_lifecycle.backends.ledger.upgrade import upgrade
from ml_lifecycle.core.contracts import Ask, RunRequest, Verdict, Vote, digest_of
from ml_lifecycle.core.errors import LedgerError, ServiceUnavailableError
from private_postgresql import Server
from tests.fakes.alarms import storm
from tests.fakes.watched_model import MODEL

pytestmark = pytest.mark.services

NOON = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)


@pytest.fixture
def url(postgresql: Server) -> str:
    return postgresql.new_database()


def record(url: str, run: str, model: str = "flights") -> str:
    return SqlLedger(url).record_result("test", run, "resolve", RunRequest(model=model), model=model, at=NOON)


def question() -> Ask:
    digest = digest_of("a model")
    return Ask(
        model="flights",
        environment="test",
        version=1,
        digest=digest,
        dataset_fingerprint=digest,
        metrics_digest=digest,
        gate_verdict=Verdict.PASS,
        policy_digest=digest,
        epoch=0,
    )


def test_a_ledger_of_the_first_schema_is_upgraded_by_whoever_is_first(url: str) -> None:
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        upgrade(connection, version=None, target="0001")
        connection.exec_driver_sql("DROP TABLE alembic_version")

    with ThreadPoolExecutor(6) as pool:
        digests = set(pool.map(lambda run: record(url, f"run {run}"), range(12)))

    assert len(digests) == 1
    assert SqlLedger(url).verify_audit("flights") == 12
    with engine.connect() as connection:
        versions = connection.exec_driver_sql("SELECT version FROM schema_version ORDER BY version").scalars().all()
    assert list(versions) == [1, 2]


def test_a_table_cannot_be_emptied_as_a_whole(url: str) -> None:
    record(url, "run 1")
    engine = create_engine(url, poolclass=NullPool)

    with pytest.raises(DBAPIError, match="TRUNCATE on stage_results is refused"), engine.begin() as connection:
        connection.exec_driver_sql("TRUNCATE stage_results")

    assert SqlLedger(url).verify_audit("flights") == 1


def test_a_role_that_may_only_read_and_insert_can_use_a_ledger_that_is_there(postgresql: Server, url: str) -> None:
    record(url, "run 1")
    name = url.rpartition("/")[2]
    role = f"worker_of_{name}"
    postgresql.run(f"CREATE ROLE {role} LOGIN PASSWORD 'a secret'", database=name)
    postgresql.run(f"GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO {role}", database=name)
    as_worker = f"postgresql+psycopg://{role}:a secret@127.0.0.1:{postgresql.port}/{name}"

    record(as_worker, "run 2")

    assert SqlLedger(url).verify_audit("flights") == 2


def test_while_one_answer_is_sent_on_another_one_waits_and_other_models_do_not(url: str) -> None:
    ledger, ask = SqlLedger(url), question()
    ledger.ask(ask, requested_by=None, at=NOON, expires_at=None)
    sending, sent = threading.Event(), threading.Event()

    def forward() -> None:
        sending.set()
        assert sent.wait(30)

    def answer(person: str) -> object:
        vote = Vote(ask_id=ask.ask_id, outcome="approve", person=person, channel="signed", at=NOON)
        try:
            return SqlLedger(url).vote(vote, forward=forward if person == "ada" else None)
        except LedgerError as refusal:
            return refusal

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(answer, "ada")
        assert sending.wait(30)
        second = pool.submit(answer, "eve")
        record(url, "run 1", model="trains")
        time.sleep(0.3)
        waiting = not second.done()
        sent.set()
        heard = [one.result(30) for one in (first, second)]

    assert waiting
    assert heard[0] == ledger.decision(ask.ask_id)
    assert "is decided: approve by ada" in str(heard[1])


def test_a_writer_that_waits_too_long_is_told_so(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, ask = SqlLedger(url), question()
    ledger.ask(ask, requested_by=None, at=NOON, expires_at=None)
    monkeypatch.setattr(database, "WAIT_S", 1)
    said: list[str] = []

    def forward() -> None:
        try:
            record(url, "run 1")
        except ServiceUnavailableError as error:
            said.append(str(error))

    ledger.vote(Vote(ask_id=ask.ask_id, outcome="approve", person="ada", channel="signed", at=NOON), forward=forward)

    assert "timeout" in said[0]
    assert "owner" not in said[0]


def test_three_hundred_alarms_in_an_hour_ask_for_one_retraining(url: str, tmp_path: Path) -> None:
    answers = storm(tmp_path, url)

    assert (len(answers), answers.count("retrain"), answers.count("nothing")) == (300, 1, 299)
    assert len(SqlLedger(url).results("test", MODEL, "respond", action="retrain")) == 1
    assert SqlLedger(url).verify_audit(MODEL) > 300


@pytest.mark.parametrize("wrong", ["password", "port", "database"])
def test_a_server_that_does_not_take_us_is_named_without_the_password(url: str, wrong: str) -> None:
    server, _, name = url.rpartition("/")
    broken = {
        "password": url.replace("owner:", "owner:wrong"),
        "port": f"{server.rpartition(':')[0]}:1/{name}",
        "database": f"{url}_elsewhere",
    }[wrong]
    password = url.split(":")[2].partition("@")[0]

    with pytest.raises(ServiceUnavailableError, match="did not do its work") as refused:
        SqlLedger(broken).head("flights", "test")

    assert password not in str(refused.value)
    assert "127.0.0.1" in str(refused.value)
