"""A dataset in, a report on its promises out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from ml_lifecycle.backends.files import inside, read_parquet
from ml_lifecycle.backends.validation.base import ValidationResult, Validator
from ml_lifecycle.core.contracts import (
    Columns,
    Contract,
    DataRejection,
    DatasetRef,
    ExpectationResult,
    RunRequest,
    Source,
    ValidationReport,
    Verdict,
    digest_of,
)
from ml_lifecycle.core.errors import DataRejectedError, NoRowsError, SuiteError
from ml_lifecycle.core.validation import blocks, in_words, judge, reason_to_block, unmet
from ml_lifecycle.stages.data import SnapshotJob, dataset_ref, publish_dataset, snapshot
from ml_lifecycle.stages.runner import Tools, record

if TYPE_CHECKING:
    import pandas as pd


class ValidationJob(Contract):
    """Which suite a dataset is held to."""

    model: str
    dataset: DatasetRef
    suite: str
    """File below the project folder, such as ``include/flight_delays/expectations.json``."""
    on_failure: Literal["block", "quarantine", "warn"] = "block"
    leave_out: tuple[str, ...] | None = None
    """Of one partition that has no labels yet, the labels' columns: what the suite says of them, and of the table as a
    whole, is left out. ``None``: everything is checked."""


class QualityJob(Contract):
    """Which partition is held to the suite before its model's champion is watched on it."""

    request: RunRequest
    source: Source
    related: dict[str, Source] = Field(default_factory=dict)
    columns: Columns
    suite: str
    """File below the project folder."""


def validate(job: ValidationJob, tools: Tools) -> ValidationReport:
    """Hold the dataset to its suite, publish the report, and block, quarantine or warn.

    :raises SuiteError: the suite cannot be read or run.
    :raises DataRejectedError: the data failed, or could not be checked, and the job says that this blocks; the
        report is published by then.
    """
    suite = _applicable(read_suite(tools.project, job.suite), job)
    with tools.data.folder(job.dataset.uri, job.dataset.fingerprint) as folder:
        table = read_parquet(folder / "data.parquet")
    validator = default_validator()
    first = validator.validate(table, suite, where=job.suite)
    findings = Findings(first=first, last=first, dataset=job.dataset)
    if findings.verdict is Verdict.FAIL and job.on_failure == "quarantine":
        first = validator.validate(table, suite, key=job.dataset.columns.key, where=job.suite)
        dataset, set_aside = _quarantine(job, table, first, tools)
        last = validator.validate(_without(table, job, first), suite, where=job.suite) if set_aside else first
        findings = Findings(first=first, last=last, dataset=dataset, set_aside=set_aside)
    report_uri = _publish_report(job, suite, findings, tools)
    if blocks(findings.verdict, job.on_failure):
        reason = reason_to_block(findings.last.results)
        if findings.verdict is Verdict.FAIL:
            # Monitoring asks for no training on it; the error alone would leave nothing in the ledger.
            rejection = DataRejection(model=job.model, dataset=job.dataset, reason=reason, report_uri=report_uri)
            record("reject_data", rejection, tools, model=job.model)
        rest = f"; after {findings.set_aside} rows were set aside" if findings.set_aside else ""
        raise DataRejectedError(
            reason + rest,
            where=f"{job.dataset.uri} held to {job.suite}",
            way_out=f"mend the data or the suite; the report is {report_uri}",
            report_uri=report_uri,
        )
    return ValidationReport(
        dataset=findings.dataset,
        verdict=findings.verdict,
        expectations=len(findings.last.results),
        unmet=unmet(findings.last.results),
        quarantined_rows=findings.set_aside,
        quarantined_for=unmet(findings.first.results) if findings.set_aside else (),
        report_uri=report_uri,
    )


def check_quality(job: QualityJob, tools: Tools) -> ValidationReport:
    """Hold a partition, as it is scored, to what its model's training data is held to; it never blocks.

    :raises SuiteError: the suite cannot be read or run, or says nothing of a single partition.
    """
    from ml_lifecycle.stages.champion import champion_info

    dataset = snapshot(SnapshotJob.unlabelled(job.request, job.source, job.related, job.columns), tools)
    champion = champion_info(job.request.model, tools)
    later = champion.dataset.label_columns if champion is not None else ()
    labels = {*later, *([job.columns.target] if job.columns.target else [])}
    checked = ValidationJob(
        model=job.request.model,
        dataset=dataset,
        suite=job.suite,
        on_failure="warn",
        leave_out=tuple(sorted(labels)),
    )
    return validate(checked, tools)


def _applicable(suite: dict[str, Any], job: ValidationJob) -> dict[str, Any]:
    """The suite, of a partition without labels only what it says of the columns that are there by then."""
    entries = suite.get("expectations")
    if job.leave_out is None or not isinstance(entries, list):
        return suite
    kept = [entry for entry in entries if not _is_left_out(entry, job.leave_out)]
    if not kept:
        raise SuiteError(
            "it says nothing of a single partition", where=job.suite, way_out="add an expectation about a column"
        )
    return {**suite, "expectations": kept}


def _is_left_out(entry: Any, columns: tuple[str, ...]) -> bool:
    if not isinstance(entry, Mapping):
        return False
    named = entry.get("kwargs") or {}
    about = [value for key, value in named.items() if key.startswith("column")] if isinstance(named, Mapping) else []
    flat = {name for value in about for name in (value if isinstance(value, list) else [value])}
    return str(entry.get("type", "")).startswith("expect_table_") or bool(flat & set(columns))


@dataclass(frozen=True)
class Findings:
    """What a suite found before and after rows were set aside; the same twice where none were."""

    first: ValidationResult
    last: ValidationResult
    dataset: DatasetRef
    """What later stages read."""
    set_aside: int = 0

    @property
    def verdict(self) -> Verdict:
        """On what later stages read."""
        return judge(self.last.results)


def default_validator() -> Validator:
    """The tool that suites are run by."""
    from ml_lifecycle.backends.validation.great_expectations import GreatExpectationsValidator

    return GreatExpectationsValidator()


def check_table(table: pd.DataFrame, suite: Mapping[str, Any], *, where: str) -> tuple[Verdict, ValidationResult]:
    """Hold any table to a suite, without a snapshot, a report or a ledger."""
    if table.empty:
        raise NoRowsError("there is no row to check", where=where, way_out="hand in a table with rows")
    found = default_validator().validate(table, suite, where=where)
    return judge(found.results), found


def read_suite(project: Path, suite: str) -> dict[str, Any]:
    """An expectation suite below the project folder.

    :raises SuiteError: it is not there, or is no JSON object.
    """
    path = inside(project, suite)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SuiteError(
            f"the suite cannot be read ({type(error).__name__})",
            where=str(path),
            way_out="name a file below the project",
        ) from error
    except json.JSONDecodeError as error:
        raise SuiteError(
            f"this is no JSON: {error.msg}", where=f"{path}:{error.lineno}:{error.colno}", way_out="mend the file"
        ) from error
    if not isinstance(content, dict):
        raise SuiteError("the suite is no JSON object", where=str(path), way_out="write name and expectations into it")
    return content


def render_report(summary: Mapping[str, Any]) -> str:
    """The report as one page without script or address: every value is data, and is escaped."""
    facts = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in summary["facts"]
    )
    rows = "".join(_report_row(entry) for entry in summary["expectations"])
    verdict = escape(str(summary["verdict"]))
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(summary["title"])}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{escape(summary['title'])}</h1>"
        f'<p class="verdict {verdict}">{verdict}</p><table class="facts">{facts}</table>'
        "<table><thead><tr><th>Verdict</th><th>Severity</th><th>Column</th><th>Expectation</th><th>Unexpected rows</th>"
        f"<th>Detail</th></tr></thead><tbody>{rows}</tbody></table></body></html>\n"
    )


_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:75rem;padding:0 1rem;color:#1c2430}"
    "h1{font-size:1.4rem}table{border-collapse:collapse;width:100%;margin:1rem 0}"
    "th,td{text-align:left;padding:.4rem .7rem;border-bottom:1px solid #dfe3e8;vertical-align:top}"
    "thead th{background:#f3f5f7}.facts{width:auto}.facts th{font-weight:600}td{overflow-wrap:anywhere}"
    "code{font-size:.9em}small{color:#5b6675;display:block}"
    ".verdict,td b{display:inline-block;padding:.1rem .6rem;border-radius:.3rem;font-weight:600}"
    ".pass{background:#d8f3dc;color:#14532d}.fail{background:#fbd5d5;color:#7f1d1d}"
    ".inconclusive{background:#fdecc8;color:#6b4300}"
)


def _report_row(entry: Mapping[str, Any]) -> str:
    verdict = escape(str(entry["verdict"]))
    count = "" if entry["unexpected_rows"] is None else f"{entry['unexpected_rows']:,}"
    asked = f"<small>{escape(entry['asked'])}</small>" if entry["asked"] else ""
    seen = f"<small>such as {escape(', '.join(entry['examples']))}</small>" if entry["examples"] else ""
    return (
        f'<tr><td><b class="{verdict}">{verdict}</b></td><td>{escape(entry["severity"])}</td>'
        f"<td>{escape(entry['column'] or '')}</td><td><code>{escape(entry['expectation'])}</code>{asked}</td>"
        f"<td>{count}</td><td>{escape(entry['detail'])}{seen}</td></tr>"
    )


def _publish_report(job: ValidationJob, suite: Mapping[str, Any], findings: Findings, tools: Tools) -> str:
    """Publish the page and its JSON below a name that comes from the dataset, the suite and what follows a failure."""
    held_to = digest_of({"suite": suite, "on_failure": job.on_failure})
    uri = f"reports/validation/{job.model}/{job.dataset.fingerprint[:16]}-{held_to[:8]}"
    facts: list[tuple[str, object]] = [
        ("Dataset", job.dataset.uri),
        ("Fingerprint", job.dataset.fingerprint),
        ("Partitions", ", ".join(job.dataset.partitions)),
        ("Rows", f"{job.dataset.rows:,}"),
        *((f"Dropped: {because}", f"{count:,}") for because, count in job.dataset.dropped.items()),
        ("Suite", job.suite),
        ("On failure", job.on_failure),
    ]
    if findings.set_aside:
        left = "; ".join(in_words(result) for result in unmet(findings.last.results)) or "nothing"
        facts += [("Rows set aside", f"{findings.set_aside:,}"), ("Unmet without them", left)]
    summary = {
        "title": f"Data validation: {job.model}",
        "verdict": findings.verdict.value,
        "facts": facts,
        "expectations": [
            _entry(result, suite["expectations"][place], findings.first.examples.get(place, ()))
            for place, result in enumerate(findings.first.results)
        ],
    }

    def write(folder: Path) -> None:
        (folder / "index.html").write_text(render_report(summary), encoding="utf-8")
        (folder / "report.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")

    tools.data.publish(uri, write)
    return f"{uri}/index.html"


def _entry(result: ExpectationResult, asked: Mapping[str, Any], examples: tuple[str, ...]) -> dict[str, Any]:
    named = {name: value for name, value in asked.get("kwargs", {}).items() if name != "column"}
    arguments = ", ".join(f"{name}={json.dumps(value)}" for name, value in named.items())
    notes = asked.get("description") or (asked.get("meta") or {}).get("notes") or ""
    return {
        **result.to_xcom(),
        "asked": ": ".join(filter(None, [str(notes), arguments])),
        "examples": list(examples),
    }


def _quarantine(
    job: ValidationJob, table: pd.DataFrame, found: ValidationResult, tools: Tools
) -> tuple[DatasetRef, int]:
    """Publish the failing rows apart, and the dataset without them; unchanged where no single row is to blame."""
    bad = table[job.dataset.columns.key].isin(found.unexpected_keys)
    count = int(bad.sum())
    if count == 0 or count == len(table):
        return job.dataset, 0
    name = digest_of({"dataset": job.dataset.fingerprint, "keys": sorted(map(str, found.unexpected_keys))})[:16]
    with tools.data.folder(job.dataset.uri, job.dataset.fingerprint) as folder:
        origin = json.loads((folder / "origin.json").read_text(encoding="utf-8"))
        related = {
            path.stem: read_parquet(path) for path in sorted(folder.glob("*.parquet")) if path.name != "data.parquet"
        }
    parent = {"dataset": job.dataset.to_xcom(), "suite": job.suite}
    apart = {**origin, "parent": parent, "rows": count}
    publish_dataset(tools.data, f"quarantine/{job.model}/{name}", {"data": table[bad]}, apart)
    cleaned = {**origin, "parent": parent, "rows": len(table) - count, "quarantined_rows": count}
    uri = f"snapshots/{job.model}/{name}"
    publish_dataset(tools.data, uri, {"data": table[~bad], **related}, cleaned)
    return dataset_ref(tools.data, uri), count


def _without(table: pd.DataFrame, job: ValidationJob, found: ValidationResult) -> pd.DataFrame:
    kept: pd.DataFrame = table[~table[job.dataset.columns.key].isin(found.unexpected_keys)].reset_index(drop=True)
    return kept
