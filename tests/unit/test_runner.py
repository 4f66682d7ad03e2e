from __future__ import annotations

from dataclasses import replace

import pytest

from ml_lifecycle.core.contracts import Contract, RunRequest
from ml_lifecycle.core.errors import EvidenceError, MissingLibraryError
from ml_lifecycle.stages.runner import Tools, record, run


class Job(Contract):
    request: RunRequest


def renamed(job: Job, tools: Tools) -> RunRequest:
    """A stage whose conclusion differs from what it was handed."""
    return job.request.model_copy(update={"reason": "renamed"})


def test_a_result_that_no_stage_concluded_is_refused_and_nothing_is_recorded(tools: Tools) -> None:
    with pytest.raises(EvidenceError, match=r"request \(RunRequest [0-9a-f]{12}\) is not a result that the ledger"):
        run(renamed, Job(request=RunRequest(model="flights")), tools, model="flights")

    assert tools.ledger.results("test", "flights", "renamed") == ()


def test_what_a_stage_concludes_is_evidence_for_the_next(tools: Tools) -> None:
    request = RunRequest(model="flights")
    record("resolve", request, tools, model="flights")

    first = run(renamed, Job(request=request), tools, model="flights")
    second = run(renamed, Job(request=first), tools, model="flights")

    assert second == first
    assert [result["run"] for result in tools.ledger.results("test", "flights", "renamed")] == ["command"]


def test_a_result_of_another_environment_is_no_evidence(tools: Tools) -> None:
    request = RunRequest(model="flights")
    tools.ledger.record_result("sandbox", "command", "resolve", request, model="flights", at=tools.clock())

    with pytest.raises(EvidenceError, match="in environment test"):
        run(renamed, Job(request=request), tools, model="flights")


def test_a_genuine_result_of_another_run_is_no_evidence(tools: Tools) -> None:
    request = RunRequest(model="flights")
    record("resolve", request, replace(tools, run="flights_train/monday"), model="flights")

    with pytest.raises(EvidenceError, match="flights_train/tuesday"):
        run(renamed, Job(request=request), replace(tools, run="flights_train/tuesday"), model="flights")


def test_a_library_that_is_not_installed_is_told_with_the_extra_that_brings_it(tools: Tools) -> None:
    def needs_sklearn(job: Contract, tools: Tools) -> RunRequest:
        raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn.ensemble")

    with pytest.raises(MissingLibraryError, match=r"'sklearn' is not installed.*ml-lifecycle\[sklearn\]"):
        run(needs_sklearn, Contract(), tools, model="flights")


def test_a_missing_module_of_the_team_stays_what_it_is(tools: Tools) -> None:
    def needs_theirs(job: Contract, tools: Tools) -> RunRequest:
        raise ModuleNotFoundError("No module named 'theirs'", name="theirs")

    with pytest.raises(ModuleNotFoundError, match="theirs"):
        run(needs_theirs, Contract(), tools, model="flights")


def test_a_refused_result_stands_in_the_audit_with_its_reason(tools: Tools) -> None:
    with pytest.raises(EvidenceError):
        run(renamed, Job(request=RunRequest(model="flights")), tools, model="flights")

    (row,) = tools.ledger.audit("flights")
    assert (row["actor"], row["action"]) == ("command", "evidence refused")
    assert "is not a result that the ledger knows" in row["detail"]
