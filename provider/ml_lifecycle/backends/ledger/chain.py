"""The audit: rows that each name the digest of the one before, so that none can be changed without all that follow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from typing import Any, NamedTuple

from ml_lifecycle.core.contracts import digest_of
from ml_lifecycle.core.errors import LedgerError

Row = dict[str, Any]

COLUMNS = (
    "model",
    "seq",
    "environment",
    "at",
    "actor",
    "action",
    "subject",
    "detail",
    "record",
    "previous",
    "digest",
)
"""Of an audit row."""
BEGINNING = "0" * 64
"""What the first audit row of a model names as the digest before its own."""
AUDITED = (
    "stage_results",
    "asks",
    "superseded_asks",
    "postings",
    "votes",
    "decisions",
    "blocked_asks",
    "moves",
    "deployment_steps",
)
"""Tables whose rows each have an audit row."""
LATER = {"asks": ("excluded",), "decisions": ("approved_by",), "moves": ("target",)}
"""Columns that rows may be older than: while null they are left out of the row's digest."""


class Head(NamedTuple):
    """The newest row of a model's audit: whoever keeps it finds out later whether it, or a row before it, is gone."""

    seq: int
    digest: str


def follow(last: Mapping[str, Any] | None, entry: Row) -> Row:
    """The audit row for ``entry`` after ``last``, the newest one of its model; ``None`` where it is the first."""
    row = {**entry, "seq": last["seq"] + 1 if last else 1, "previous": last["digest"] if last else BEGINNING}
    return {**row, "digest": digest_of(row)}


def record_of(table: str, row: Mapping[str, Any]) -> str:
    """What an audit row says about the row that was written with it."""
    later = LATER.get(table, ())
    known = {name: value for name, value in row.items() if not (name in later and value is None)}
    return digest_of({"table": table, **known})


def exported(row: Mapping[str, Any]) -> Row:
    """An audit row as plain JSON, with the time written as it went into the digest."""
    return {**row, "at": text_of(row["at"])}


def text_of(at: datetime) -> str:
    """UTC in a form of fixed width, so that later is greater.

    :raises LedgerError: the time names no time zone.
    """
    if at.tzinfo is None:
        raise LedgerError(f"the time {at.isoformat()} names no time zone", way_out="hand in an aware datetime")
    return at.astimezone(timezone.utc).isoformat(timespec="microseconds")


def checked(rows: Iterable[Row]) -> Iterator[Row]:
    """The audit rows of one model, each once it is found to follow the one before.

    :raises LedgerError: a row was changed, removed or put in.
    """
    previous = BEGINNING
    for number, row in enumerate(rows, start=1):
        if row["seq"] != number:
            what = "it was removed" if row["seq"] > number else "another row was put in"
            raise tampered(row["model"], number, what)
        if row["previous"] != previous:
            raise tampered(row["model"], number, "it does not follow the row before it")
        previous = digest_of({name: value for name, value in row.items() if name != "digest"})
        if row["digest"] != previous:
            raise tampered(row["model"], number, "it was changed")
        yield row


def cut_off(model: str, kept: Head, rows: Mapping[int, str]) -> str:
    """Why an audit is not the one whose newest row was kept; empty where it is, or has grown since.

    :param rows: The digest of every row by its number.
    """
    if kept.seq not in rows:
        return f"row {kept.seq} of {model} is missing: the audit ended later before"
    if rows[kept.seq] != kept.digest:
        return f"row {kept.seq} of {model} is another one than before"
    return ""


def tampered(model: str, seq: int, what: str) -> LedgerError:
    """That a row of a model's audit is not what was written."""
    return LedgerError(
        f"row {seq} cannot be trusted: {what}",
        where=f"the audit of {model}",
        way_out="compare it with a backup, and find out who may write to the ledger's database",
    )
