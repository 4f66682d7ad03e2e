"""A dataset in, a report on its promises out."""

from __future__ import annotations

from typing import Literal

from ml_lifecycle.core.contracts import Contract, DatasetRef, ValidationReport
from ml_lifecycle.stages.runner import Tools


class ValidationJob(Contract):
    """Which suite a dataset is held to."""

    model: str
    dataset: DatasetRef
    suite: str
    """File below the project folder, such as ``include/flight_delays/expectations.json``."""
    on_failure: Literal["block", "quarantine", "warn"] = "block"


def validate(job: ValidationJob, tools: Tools) -> ValidationReport:
    """Hold the dataset to its suite, publish the report, and block, quarantine or warn."""
    raise NotImplementedError
