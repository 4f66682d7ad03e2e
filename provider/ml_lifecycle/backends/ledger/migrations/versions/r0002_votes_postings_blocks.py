"""Who answered what, where it was shown, what was blocked; no row can be changed or removed."""

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
    column,
    insert,
    table,
)

from ml_lifecycle.backends.ledger.migrations.insert_only import make_insert_only

revision = "0002"
down_revision = "0001"

KEYS: dict[str, tuple[tuple[str, ...], ...]] = {
    "audit": (("model", "seq"), ("digest",)),
    "stage_results": (("environment", "run", "stage", "digest", "model"),),
    "asks": (("ask_id",),),
    "superseded_asks": (("ask_id",),),
    "blocked_asks": (("ask_id",),),
    "postings": (("ask_id", "number"), ("dag_id", "run_id", "task_id", "map_index", "turn")),
    "votes": (("ask_id", "voter"), ("ask_id", "posting")),
    "decisions": (("ask_id",),),
    "moves": (("model", "environment", "epoch"), ("decision_id",), ("model", "environment", "rollback_key")),
    "deployment_steps": (("model", "environment", "epoch", "state"),),
}
"""The unique keys of every table, without the audit row's number, which all but ``audit`` have."""


def upgrade() -> None:
    """Add what schema version 2 has beside version 1."""
    _new_columns()
    _blocked_asks()
    _postings()
    _votes()
    op.create_index("ix_audit_environment", "audit", ["environment", "model"])
    op.create_index("ix_stage_results_newest", "stage_results", ["environment", "model", "stage", "audit_seq"])
    op.drop_index("ix_stage_results_stage", "stage_results")
    for name, keys in KEYS.items():
        make_insert_only(name, *keys, *([] if name == "audit" else [("model", "audit_seq")]))
    op.execute(insert(table("schema_version", column("version", Integer))).values(version=2))


def _new_columns() -> None:
    for name, added in (("asks", "excluded"), ("decisions", "approved_by"), ("moves", "target")):
        op.add_column(name, Column(added, Text))


def _audited() -> tuple[Column[int], ForeignKeyConstraint, UniqueConstraint]:
    return (
        Column("audit_seq", Integer, nullable=False),
        ForeignKeyConstraint(["model", "audit_seq"], ["audit.model", "audit.seq"]),
        UniqueConstraint("model", "audit_seq"),
    )


def _blocked_asks() -> None:
    op.create_table(
        "blocked_asks",
        Column("ask_id", String, ForeignKey("asks.ask_id"), primary_key=True),
        Column("model", String, nullable=False),
        Column("environment", String, nullable=False),
        Column("why", Text, nullable=False),
        Column("at", String, nullable=False),
        *_audited(),
    )


def _postings() -> None:
    op.create_table(
        "postings",
        Column("ask_id", String, ForeignKey("asks.ask_id"), primary_key=True),
        Column("number", Integer, CheckConstraint("number >= 1"), primary_key=True, autoincrement=False),
        Column("model", String, nullable=False),
        Column("environment", String, nullable=False),
        Column("dag_id", String, nullable=False),
        Column("run_id", String, nullable=False),
        Column("task_id", String, nullable=False),
        Column("map_index", Integer, nullable=False),
        Column("turn", Integer, nullable=False),
        Column("ti_id", String, nullable=False),
        Column("author", String),
        Column("at", String, nullable=False),
        *_audited(),
        UniqueConstraint("dag_id", "run_id", "task_id", "map_index", "turn"),
    )


def _votes() -> None:
    op.create_table(
        "votes",
        Column("ask_id", String, ForeignKey("asks.ask_id"), primary_key=True),
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
