"""The ledger's tables. Every row of every table carries the number of the audit row that was written with it."""

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

VERSION = 1
"""Of this schema; a ledger of another version is refused."""

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
    Index("ix_stage_results_stage", "environment", "model", "stage"),
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

# The primary key makes the first answer the decision, whoever else answers.
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
