"""The streams, run by Airflow on real files."""

from __future__ import annotations

from typing import Any

from tests.on_airflow.runs import result, states


def test_a_training_by_hand_registers_a_candidate_of_the_newest_partitions(dags: dict[str, Any]) -> None:
    run = dags["late_train"].test(logical_date=None)

    assert set(states(run).values()) == {"success"}
    assert result(run, "resolve")["partitions"] == ["2024-02", "2024-03"]
    assert result(run, "register")["version"] == 1
