"""Triggers by which a table takes rows and never changes or loses one."""

from __future__ import annotations

from collections.abc import Sequence

from alembic import op

_FUNCTION = """
CREATE OR REPLACE FUNCTION ml_lifecycle_insert_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
        MESSAGE = 'the ledger is insert-only: ' || TG_OP || ' on ' || TG_TABLE_NAME || ' is refused';
END $$
"""


def make_insert_only(table: str, *keys: Sequence[str]) -> None:
    """Let the database itself refuse to change or remove a row.

    :param keys: All unique keys. SQLite's ``INSERT OR REPLACE`` removes the row that it replaces without asking the
        trigger that watches over removals.
    """
    if op.get_bind().dialect.name == "sqlite":
        _on_sqlite(table, keys)
    else:
        _on_postgresql(table)


def _on_sqlite(table: str, keys: Sequence[Sequence[str]]) -> None:
    for verb in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER {table}_refuses_{verb.lower()} BEFORE {verb} ON {table} BEGIN "
            f"SELECT RAISE(ABORT, 'the ledger is insert-only: {verb} on {table} is refused'); END"
        )
    same = " OR ".join("(" + " AND ".join(f"{column} = NEW.{column}" for column in key) + ")" for key in keys)
    there = f"EXISTS (SELECT 1 FROM {table} WHERE {same})"  # noqa: S608  # names of our own tables
    op.execute(
        f"CREATE TRIGGER {table}_refuses_replace BEFORE INSERT ON {table} WHEN {there} BEGIN "
        f"SELECT RAISE(ABORT, 'the ledger is insert-only: {table} has this row already'); END"
    )


def _on_postgresql(table: str) -> None:
    op.execute(_FUNCTION)
    op.execute(
        f"CREATE TRIGGER {table}_is_insert_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION ml_lifecycle_insert_only()"
    )
