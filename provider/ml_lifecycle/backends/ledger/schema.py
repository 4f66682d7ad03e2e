"""The ledger's tables as ``migrations`` makes them. Every row carries the number of the audit row written with it."""

from __future__ import annotations

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

VERSION = 2
"""Of this schema; an older ledger is upgraded at the first use, a newer one refused."""

metadata = MetaData()


def _audited() -> tuple[Column[int], ForeignKeyConstraint, UniqueConstraint]:
    """The link to the audit row of the same transaction, which no two rows of a table share."""
    return (
        Column("audit_seq", Integer, nullable=False),
        ForeignKeyConstraint(["model", "audit_seq"], ["audit.model", "audit.seq"]),
        UniqueConstraint("model", "audit_seq"),
    )


schema_version = Table("schema_version", metadata, Column("version", Integer, primary_key=True, autoincrement=False))

audit = Table(
    "audit",
    metadata,
    Column("model", String, primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("environment", String, nullable=False),
    Column("at", String, nullable=False),
    Column("actor", String, nullable=False),
    Column("action", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("detail", Text, nullable=False),
    # Digest of the row that was written with this one; null for a refusal, which writes nothing else.
    Column("record", String),
    Column("previous", String, nullable=False),
    Column("digest", String, nullable=False, unique=True),
    Index("ix_audit_environment", "environment", "model"),
)

stage_results = Table(
    "stage_results",
    metadata,
    Column("environment", String, primary_key=True),
    Column("run", String, primary_key=True),
    Column("stage", String, primary_key=True),
    Column("digest", String, primary_key=True),
    # The same value may be concluded for two models by one run of a hand-written DAG.
    Column("model", String, primary_key=True),
    Column("content", Text, nullable=False),
    Column("at", String, nullable=False),
    *_audited(),
    Index("ix_stage_results_digest", "environment", "digest"),
    Index("ix_stage_results_newest", "environment", "model", "stage", "audit_seq"),
)

asks = Table(
    "asks",
    metadata,
    Column("ask_id", String, primary_key=True),
    Column("model", String, nullable=False),
    Column("environment", String, nullable=False),
    Column("digest", String, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("content", Text, nullable=False),
    Column("requested_by", String),
    Column("at", String, nullable=False),
    Column("expires_at", String),
    # Who may reject and never approve, beside whoever asked, each with why: an object as JSON, or a list of committers.
    Column("excluded", Text),
    *_audited(),
    Index("ix_asks_model", "model", "environment"),
)

superseded_asks = Table(
    "superseded_asks",
    metadata,
    Column("ask_id", String, ForeignKey("asks.ask_id"), primary_key=True),
    Column("model", String, nullable=False),
    Column("environment", String, nullable=False),
    Column("superseded_by", String, ForeignKey("asks.ask_id"), nullable=False),
    Column("at", String, nullable=False),
    *_audited(),
)

blocked_asks = Table(
    "blocked_asks",
    metadata,
    Column("ask_id", String, ForeignKey("asks.ask_id"), primary_key=True),
    Column("model", String, nullable=False),
    Column("environment", String, nullable=False),
    Column("why", Text, nullable=False),
    Column("at", String, nullable=False),
    *_audited(),
)

postings = Table(
    "postings",
    metadata,
    Column("ask_id", String, ForeignKey("asks.ask_id"), primary_key=True),
    Column("number", Integer, CheckConstraint("number >= 1"), primary_key=True, autoincrement=False),
    Column("model", String, nullable=False),
    Column("environment", String, nullable=False),
    Column("dag_id", String, nullable=False),
    Column("run_id", String, nullable=False),
    Column("task_id", String, nullable=False),
    Column("map_index", Integer, nullable=False),
    # Counts what tasks of this name have shown, whichever question it was, and in whichever environment.
    Column("turn", Integer, nullable=False),
    Column("ti_id", String, nullable=False),
    Column("author", String),
    Column("at", String, nullable=False),
    *_audited(),
    UniqueConstraint("dag_id", "run_id", "task_id", "map_index", "turn"),
)

# Nobody answers twice, and a posting takes one answer: both are unique keys.
votes = Table(
    "votes",
    metadata,
    Column("ask_id", String, ForeignKey("asks.ask_id"), primary_key=True),
    # The person's name in the form in which two spellings of it are equal.
    Column("voter", String, primary_key=True),
    Column("model", String, nullable=False),
    Column("environment", String, nullable=False),
    Column("outcome", String, CheckConstraint("outcome IN ('approve', 'reject')"), nullable=False),
    Column("person", String, nullable=False),
    Column("channel", String, CheckConstraint("channel IN ('airflow', 'signed', 'policy')"), nullable=False),
    Column("posting", Integer),
    Column("reason", Text, nullable=False),
    Column("signature", Text, nullable=False),
    Column("at", String, nullable=False),
    *_audited(),
    UniqueConstraint("ask_id", "posting"),
    ForeignKeyConstraint(["ask_id", "posting"], ["postings.ask_id", "postings.number"]),
)

# The primary key makes the first outcome the decision, whoever else answers.
decisions = Table(
    "decisions",
    metadata,
    Column("ask_id", String, ForeignKey("asks.ask_id"), primary_key=True),
    Column("model", String, nullable=False),
    Column("environment", String, nullable=False),
    Column("digest", String, nullable=False),
    Column("outcome", String, CheckConstraint("outcome IN ('approve', 'reject')"), nullable=False),
    Column("decided_by", String, nullable=False),
    Column("requested_by", String),
    Column("reason", Text, nullable=False),
    Column("at", String, nullable=False),
    Column("expires_at", String),
    # Everybody who approved, in order: a list as JSON.
    Column("approved_by", Text),
    *_audited(),
    Index("ix_decisions_digest", "model", "environment", "digest"),
)

# The primary key is the compare-and-swap: of all who insert head + 1, one succeeds.
moves = Table(
    "moves",
    metadata,
    Column("model", String, primary_key=True),
    Column("environment", String, primary_key=True),
    Column("epoch", Integer, CheckConstraint("epoch >= 1"), primary_key=True, autoincrement=False),
    Column("kind", String, CheckConstraint("kind IN ('release', 'rollback')"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("digest", String, nullable=False),
    Column("uri", String, nullable=False),
    Column("decision_id", String, ForeignKey("decisions.ask_id"), unique=True),
    Column("rollback_key", String),
    Column("moved_by", String, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", String, nullable=False),
    # Where it serves and with which options, as JSON; null where nobody said.
    Column("target", Text),
    *_audited(),
    UniqueConstraint("model", "environment", "rollback_key"),
    CheckConstraint("(kind = 'release') = (decision_id IS NOT NULL)", name="release_has_decision"),
    CheckConstraint("(kind = 'rollback') = (rollback_key IS NOT NULL)", name="rollback_has_key"),
)

deployment_steps = Table(
    "deployment_steps",
    metadata,
    Column("model", String, primary_key=True),
    Column("environment", String, primary_key=True),
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("state", String, primary_key=True),
    Column("detail", Text, nullable=False),
    Column("at", String, nullable=False),
    *_audited(),
    ForeignKeyConstraint(["model", "environment", "epoch"], ["moves.model", "moves.environment", "moves.epoch"]),
)
