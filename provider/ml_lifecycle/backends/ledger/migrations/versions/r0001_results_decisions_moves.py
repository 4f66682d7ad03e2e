"""The tables of results, asks, decisions, moves and their audit."""

from __future__ import annotations

from alembic import op
from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    String,
    Text,
    UniqueConstraint,
    insert,
)

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make what schema version 1 consists of."""
    _audit_and_results()
    _asks_and_decisions()
    _moves()
    version = op.create_table("schema_version", Column("version", Integer, primary_key=True, autoincrement=False))
    op.execute(insert(version).values(version=1))


def _audited() -> tuple[Column[int], ForeignKeyConstraint, UniqueConstraint]:
    return (
        Column("audit_seq", Integer, nullable=False),
        ForeignKeyConstraint(["model", "audit_seq"], ["audit.model", "audit.seq"]),
        UniqueConstraint("model", "audit_seq"),
    )


def _audit_and_results() -> None:
    op.create_table(
        "audit",
        Column("model", String, primary_key=True),
        Column("seq", Integer, primary_key=True, autoincrement=False),
        Column("environment", String, nullable=False),
        Column("at", String, nullable=False),
        Column("actor", String, nullable=False),
        Column("action", String, nullable=False),
        Column("subject", String, nullable=False),
        Column("detail", Text, nullable=False),
        Column("record", String),
        Column("previous", String, nullable=False),
        Column("digest", String, nullable=False, unique=True),
    )
    op.create_table(
        "stage_results",
        Column("environment", String, primary_key=True),
        Column("run", String, primary_key=True),
        Column("stage", String, primary_key=True),
        Column("digest", String, primary_key=True),
        Column("model", String, primary_key=True),
        Column("content", Text, nullable=False),
        Column("at", String, nullable=False),
        *_audited(),
    )
    op.create_index("ix_stage_results_digest", "stage_results", ["environment", "digest"])
    op.create_index("ix_stage_results_stage", "stage_results", ["environment", "model", "stage"])


def _asks_and_decisions() -> None:
    op.create_table(
        "asks",
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
    )
    op.create_index("ix_asks_model", "asks", ["model", "environment"])
    op.create_table(
        "superseded_asks",
        Column("ask_id", String, ForeignKey("asks.ask_id"), primary_key=True),
        Column("model", String, nullable=False),
        Column("environment", String, nullable=False),
        Column("superseded_by", String, ForeignKey("asks.ask_id"), nullable=False),
        Column("at", String, nullable=False),
        *_audited(),
    )
    op.create_table(
        "decisions",
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
    )
    op.create_index("ix_decisions_digest", "decisions", ["model", "environment", "digest"])


def _moves() -> None:
    op.create_table(
        "moves",
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
    op.create_table(
        "deployment_steps",
        Column("model", String, primary_key=True),
        Column("environment", String, primary_key=True),
        Column("epoch", Integer, primary_key=True, autoincrement=False),
        Column("state", String, primary_key=True),
        Column("detail", Text, nullable=False),
        Column("at", String, nullable=False),
        *_audited(),
        ForeignKeyConstraint(["model", "environment", "epoch"], ["moves.model", "moves.environment", "moves.epoch"]),
    )
