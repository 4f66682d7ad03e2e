"""One real Airflow with six people and MLflow, for all tests that attack it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from trial import Trial, names, pipeline_text

PLAIN = 40
"""Models that any test may take with :meth:`trial.Trial.model`."""


@pytest.fixture(scope="session")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    """The deployment, running; every process is ended at the end."""
    models = {model: pipeline_text(model) for model in names("m", PLAIN)}
    running = Trial(tmp_path_factory.mktemp("trial"), models)
    try:
        running.start()
        yield running
    finally:
        running.stop()
