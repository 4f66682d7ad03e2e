"""Great Expectations on pandas, without its files, its data docs and its network."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ml_lifecycle.backends.validation.base import ValidationResult, Validator
from ml_lifecycle.core.contracts import ExpectationResult, Verdict
from ml_lifecycle.core.errors import MissingLibraryError, SuiteError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

_ENTRY_KEYS = ("type", "kwargs", "severity", "meta", "description", "notes", "id")
_SEVERITIES = ("critical", "warning", "info")
_PLACE = "ml_lifecycle_place"
_FORBIDDEN = {
    "row_condition": "its text is run by pandas, and a suite must not run code; use a drop rule",
    "condition_parser": "its text is run by pandas, and a suite must not run code; use a drop rule",
    "result_format": "the stage chooses how much is collected; remove it",
    "catch_exceptions": "the stage tells broken checks from bad data; remove it",
    "batch_id": "the suite is about whatever dataset the stage is handed; remove it",
}
_EXAMPLES = 5


class GreatExpectationsValidator(Validator):
    """Runs suites as Great Expectations writes them: JSON with ``name`` and ``expectations``."""

    def check_suite(self, suite: Mapping[str, Any], *, where: str) -> None:
        """Refuse a suite that cannot run, naming every mistake in it."""
        _expectations(suite, where=where)

    def validate(
        self, table: pd.DataFrame, suite: Mapping[str, Any], *, key: str | None = None, where: str
    ) -> ValidationResult:
        """Check a table in memory; nothing is written and nothing is sent anywhere."""
        expectations = _expectations(suite, where=where)
        import great_expectations as gx

        context = gx.get_context(mode="ephemeral")
        context.enable_analytics(enable=False)
        context.variables.progress_bars = {"globally": False, "metric_calculations": False}
        asset = context.data_sources.add_pandas("dataset").add_dataframe_asset("table")
        batch = asset.add_batch_definition_whole_dataframe("whole").get_batch({"dataframe": table})
        built = gx.ExpectationSuite(name=str(suite.get("name") or "suite"), expectations=expectations)
        result_format: dict[str, Any] = {"result_format": "BASIC", "partial_unexpected_count": _EXAMPLES}
        if key is not None:
            result_format = {"result_format": "COMPLETE", "unexpected_index_column_names": [key]}
        try:
            outcome = batch.validate(built, result_format=result_format)
        except Exception as error:  # a broken check may raise anything
            raise SuiteError(
                f"Great Expectations could not run the suite ({type(error).__name__}: {_short(error)})",
                where=where,
                way_out="run it without its newest expectations to find the one that breaks",
            ) from error
        return _collect(outcome.results, key, table)


def _expectations(suite: Mapping[str, Any], *, where: str) -> list[Any]:
    """Every expectation as an object of the library.

    A suite that is constructed whole logs an expectation that it does not know, and goes on without it.
    """
    _quieten()
    entries = suite.get("expectations")
    if not isinstance(entries, list) or not entries:
        raise SuiteError("the suite holds no list of expectations", where=where, way_out="add at least one")
    built: list[Any] = []
    mistakes: list[str] = []
    for place, entry in enumerate(entries):
        problems = list(_shape_mistakes(entry))
        if not problems:
            expectation, problems = _build(entry, place)
            built.append(expectation)
        name = entry.get("type", "") if isinstance(entry, Mapping) else ""
        mistakes += [f"expectations[{place}] {name}: {problem}" for problem in problems]
    if mistakes:
        raise SuiteError("\n".join(mistakes), where=where, way_out="mend the suite; nothing was checked")
    return built


def _quieten() -> None:
    """The library tells a task's log 200 lines about itself, which bury what the suite found."""
    logger = logging.getLogger("great_expectations")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.WARNING)


def _shape_mistakes(entry: Any) -> Iterator[str]:
    if not isinstance(entry, Mapping):
        yield f"{entry!r} is no mapping with type and kwargs"
        return
    for key in entry:
        if key not in _ENTRY_KEYS:
            yield f"unknown key {key!r}{did_you_mean(str(key), _ENTRY_KEYS)}"
    if not isinstance(entry.get("type"), str):
        yield "it has no type"
    if not isinstance(entry.get("kwargs", {}), Mapping):
        yield "kwargs is no mapping"
    elif found := sorted(set(entry.get("kwargs", {})) & set(_FORBIDDEN)):
        for name in found:
            yield f"the argument {name!r} is not taken: {_FORBIDDEN[name]}"
    severity = entry.get("severity", "critical")
    if severity not in _SEVERITIES:
        yield f"severity {severity!r} is none of {', '.join(_SEVERITIES)}"


def _build(entry: Mapping[str, Any], place: int) -> tuple[Any, list[str]]:
    """One expectation, or what is wrong with it."""
    try:
        from great_expectations.exceptions import ExpectationNotFoundError
        from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
        from great_expectations.expectations.registry import list_registered_expectation_implementations
    except ImportError as error:
        raise MissingLibraryError(error.name or "great_expectations", "great-expectations") from None
    known = list_registered_expectation_implementations()
    try:
        configuration = ExpectationConfiguration(
            type=entry["type"],
            kwargs=dict(entry.get("kwargs", {})),
            severity=entry.get("severity", "critical"),
            # Results come back in another order; the place is how they find their expectation.
            meta={**(entry.get("meta") or {}), _PLACE: place},
        )
        return configuration.to_domain_obj(), []
    except ExpectationNotFoundError:
        return None, [f"Great Expectations knows no expectation of this name{did_you_mean(entry['type'], known)}"]
    except (TypeError, ValueError, KeyError) as error:
        # pydantic 1's ValidationError, which the library still uses, is a ValueError.
        errors = error.errors() if hasattr(error, "errors") else ()
        found = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in errors]
        return None, found or [_short(error)]


def _collect(outcomes: Any, key: str | None, table: pd.DataFrame) -> ValidationResult:
    by_place = {int(outcome.expectation_config.meta[_PLACE]): outcome for outcome in outcomes}
    results: list[ExpectationResult] = []
    keys: set[Any] = set()
    examples: dict[int, tuple[str, ...]] = {}
    for place in sorted(by_place):
        outcome = by_place[place]
        found = _result(outcome, table)
        if found.verdict is Verdict.FAIL:
            examples[len(results)] = _examples(outcome.result)
            if key is not None and found.severity == "critical":
                keys |= {row[key] for row in outcome.result.get("unexpected_index_list") or ()}
        results.append(found)
    return ValidationResult(results=tuple(results), unexpected_keys=frozenset(keys), examples=examples)


def _result(outcome: Any, table: pd.DataFrame) -> ExpectationResult:
    configuration, result = outcome.expectation_config, outcome.result
    verdict, detail = _verdict(outcome)
    if _exception(outcome.exception_info):
        detail += _held(table, configuration.kwargs.get("column"))
    severity = getattr(configuration.severity, "value", configuration.severity)
    count = result.get("unexpected_count")
    return ExpectationResult(
        expectation=configuration.type,
        column=_column(configuration.kwargs),
        severity=severity,
        verdict=verdict,
        unexpected_rows=None if count is None or verdict is Verdict.INCONCLUSIVE else int(count),
        detail=detail,
    )


def _verdict(outcome: Any) -> tuple[Verdict, str]:
    """A check that broke or had nothing to look at is inconclusive, whatever the library's ``success`` says."""
    if message := _exception(outcome.exception_info):
        return Verdict.INCONCLUSIVE, f"the check broke: {message}"
    result = outcome.result
    rows = result.get("element_count")
    if rows and result.get("missing_count") == rows:
        return Verdict.INCONCLUSIVE, f"all {rows} values are missing, so none could be checked"
    observed = result.get("observed_value")
    if "observed_value" in result and (
        observed is None or (isinstance(observed, float) and not math.isfinite(observed))
    ):
        return Verdict.INCONCLUSIVE, f"observed {'nothing' if observed is None else observed}"
    detail = f"observed {_observed(observed)}" if observed is not None else ""
    if not detail and result.get("unexpected_percent") is not None:
        detail = f"{result['unexpected_percent']:.3g}% unexpected"
    return (Verdict.PASS if outcome.success else Verdict.FAIL), detail


def _held(table: pd.DataFrame, column: Any) -> str:
    """What a column holds where a check broke on it: mostly another type than the check is made for."""
    if column not in table.columns:
        return ""
    values = table[column].dropna()
    example = f", such as {str(values.iloc[0])[:60]!r}" if len(values) else ""
    return f"; the column is of type {table[column].dtype}{example}"


def _exception(info: Any) -> str:
    """The first exception's message; the library keys them by metric, or gives one flat mapping."""
    if not isinstance(info, Mapping):
        return ""
    entries = [info] if "raised_exception" in info else list(info.values())
    for entry in entries:
        if isinstance(entry, Mapping) and entry.get("raised_exception"):
            return _short(entry.get("exception_message") or "no message")
    return ""


def _column(kwargs: Mapping[str, Any]) -> str | None:
    if kwargs.get("column") is not None:
        return str(kwargs["column"])
    several = kwargs.get("column_list") or [kwargs[name] for name in ("column_A", "column_B") if name in kwargs]
    return ", ".join(map(str, several)) or None


def _examples(result: Mapping[str, Any]) -> tuple[str, ...]:
    values = list(result.get("partial_unexpected_list") or ())[:_EXAMPLES]
    return tuple(dict.fromkeys(str(value)[:60] for value in values))


def _observed(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)[:200]


def _short(error: object) -> str:
    """The message on one line; tracebacks and long lists stay in the log."""
    return " ".join(str(error).split())[:300] or type(error).__name__
