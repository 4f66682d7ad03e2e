"""When data is good enough to train on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ml_lifecycle.core.contracts import ExpectationResult, Verdict

OnFailure = Literal["block", "quarantine", "warn"]


def judge(results: Sequence[ExpectationResult]) -> Verdict:
    """The suite's verdict: only critical expectations count, and a suite without one says nothing.

    A critical check that broke leaves it inconclusive unless another one failed: it says nothing about the data.
    """
    return Verdict.worst(result.verdict for result in results if result.severity == "critical")


def blocks(verdict: Verdict, on_failure: OnFailure) -> bool:
    """Whether the run must end here: what could not be checked blocks like what failed."""
    return verdict is not Verdict.PASS and on_failure != "warn"


def unmet(results: Sequence[ExpectationResult]) -> tuple[ExpectationResult, ...]:
    """Those that did not pass, the critical ones first."""
    order = {"critical": 0, "warning": 1, "info": 2}
    failing = (result for result in results if result.verdict is not Verdict.PASS)
    return tuple(sorted(failing, key=lambda result: order[result.severity]))


def in_words(result: ExpectationResult) -> str:
    """One unmet expectation on one line: ``distance: expect_column_values_to_be_between (3 rows) ...``."""
    place = f"{result.column}: " if result.column else ""
    if result.verdict is Verdict.INCONCLUSIVE:
        return f"{place}the check {result.expectation} could not tell ({result.detail or 'no reason given'})"
    rows = f" ({result.unexpected_rows} rows)" if result.unexpected_rows is not None else ""
    detail = f", {result.detail}" if result.detail and result.unexpected_rows is None else ""
    return f"{place}{result.expectation}{rows}{detail}"


def reason_to_block(results: Sequence[ExpectationResult]) -> str:
    """What a blocked run says: each unmet critical expectation, and whether the data or a check is to blame."""
    critical = [result for result in unmet(results) if result.severity == "critical"]
    broke = [result for result in critical if result.verdict is Verdict.INCONCLUSIVE]
    if not critical:
        return "the suite holds no critical expectation, so nothing was promised"
    if len(broke) == len(critical):
        start = f"{len(broke)} critical checks could not tell, so nothing is known about the data"
    elif broke:
        start = f"{len(critical) - len(broke)} critical expectations are unmet and {len(broke)} could not be checked"
    else:
        start = f"{len(critical)} critical expectations are unmet"
    return f"{start}: {'; '.join(in_words(result) for result in critical)}"
