"""Monitoring asks for a rollback or a training, and tells people what they can do."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.bases.notifier import BaseNotifier
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from ml_lifecycle.core.contracts import Metric, MonitoringResponse, PerformanceReport, Verdict
from ml_lifecycle.hooks.tools import tools_for
from ml_lifecycle.operators.assets import announce_response, retrain_asset, rollback_wanted_asset
from ml_lifecycle.stages.runner import record
from tests.fakes.champions import decided, registered
from tests.on_airflow.runs import context_of

Dags = Callable[..., dict[str, Any]]
BACK = ("monitoring:\n", "monitoring:\n  on_performance: rollback\n  runbook: https://wiki.example.com/late\n")


class Page(BaseNotifier):
    """As Slack's or an e-mail's notifier: a template is rendered and sent, here into a file."""

    template_fields = ("text",)

    def __init__(self, *, text: str, path: str) -> None:
        super().__init__()
        self.text = text
        self.path = path

    def notify(self, context: Any) -> None:
        with Path(self.path).open("a", encoding="utf-8") as file:
            file.write(self.text + "\n")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """What the deployment's notifier sent, one JSON object a line."""
    path = tmp_path / "told"
    notifier = {"class": f"{__name__}.Page", "kwargs": {"text": "{{ ml_lifecycle | tojson }}", "path": str(path)}}
    monkeypatch.setenv("AIRFLOW__ML_LIFECYCLE__NOTIFIERS", json.dumps([notifier]))
    return path


@pytest.fixture
def flights(dags: Dags, tmp_path: Path) -> dict[str, Any]:
    """The DAGs of a model of which version 1 served and version 2 serves."""
    life = dags("flights", BACK)
    tools = tools_for(context_of(life["flights_monitor"].get_task("respond")))
    for number in (1, 2):
        version = registered(tools, tmp_path, number)
        tools.ledger.release(version, decided(tools, version).decision, moved_by="ada", at=tools.clock())
    return life


def lost(model: str, version: int) -> PerformanceReport:
    return PerformanceReport(
        model=model,
        version=version,
        partition="2024-03",
        verdict=Verdict.FAIL,
        metrics={"roc_auc": Metric(value=0.41, rows=200)},
        labelled_rows=200,
    )


def respond(task: Any, report: PerformanceReport, run_id: str) -> tuple[dict[str, Any], Any]:
    """What the monitor's last task returns and what it emits, in a run that found this."""
    context = context_of(task, run_id=run_id)
    record("measure_performance", report, tools_for(context), model=report.model)
    task.request, task.drift, task.quality, task.partition = None, None, None, report.partition
    task.performance = report.to_xcom()
    return task.execute(context), context["outlet_events"]


def roll_back(task: Any, extra: Mapping[str, Any], run_id: str) -> Any:
    """The rollback's two tasks, in a run that an asset event started."""
    dag, asset = task.dag, rollback_wanted_asset(task.model)
    event = SimpleNamespace(timestamp=datetime(2024, 4, 1, tzinfo=timezone.utc), extra=dict(extra))
    run = {"run_type": "asset_triggered", "triggering_user_name": None}
    resolving = context_of(dag.get_task("resolve"), run_id=run_id, **run)
    resolving["triggering_asset_events"] = {asset: [event]}
    task.request = dag.get_task("resolve").execute(resolving)
    return task.execute(context_of(task, run_id=run_id, **run))


def test_lost_performance_brings_the_earlier_version_back_once_and_people_are_told(
    flights: dict[str, Any], told: Path
) -> None:
    monitor, rollback = flights["flights_monitor"].get_task("respond"), flights["flights_rollback"].get_task("rollback")

    answer, emitted = respond(monitor, lost("flights", 2), "march")
    extra = emitted[rollback_wanted_asset("flights")].extra
    back = roll_back(rollback, extra, "asset__1")

    assert (answer["action"], answer["back_to"]) == ("rollback", 1)
    assert (extra["epoch"], extra["version"], extra["observed"]) == (2, 1, "2024-03")
    champion = back["champion"]
    assert (champion["version"], champion["kind"], champion["moved_by"]) == (1, "rollback", "monitoring")
    assert "roc_auc 0.410 is out of its limits on 2024-03" in champion["reason"]
    with pytest.raises(AirflowSkipException, match="asked for at epoch 2, and version 1 at epoch 3 is in force"):
        roll_back(rollback, extra, "asset__2")
    (notice,) = [json.loads(line) for line in told.read_text().splitlines()]
    assert (notice["event"], notice["runbook"]) == ("alert", "https://wiki.example.com/late")
    assert notice["prepared"].startswith('trigger flights_rollback with {"version": 1} to go back to version 1')
    (trend,) = notice["evidence"]
    assert "/reports/flights_monitor/trend/flights/2024-03-" in trend
    for words in ("roc_auc 0.410", "What you can do: trigger flights_rollback", "Runbook: https", "Evidence: http"):
        assert words in notice["message"]


def test_a_trend_that_cannot_be_drawn_keeps_nobody_from_being_told(
    flights: dict[str, Any], told: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> str:
        raise RuntimeError("out of ink")

    monkeypatch.setattr("ml_lifecycle.stages.trend.publish_trend", broken)

    answer, _ = respond(flights["flights_monitor"].get_task("respond"), lost("flights", 2), "march")

    (notice,) = [json.loads(line) for line in told.read_text().splitlines()]
    assert (answer["action"], notice["event"], notice["evidence"]) == ("rollback", "alert", [])


@pytest.mark.parametrize(
    ("action", "emitted"), [("retrain", ["late_retrain"]), ("rollback", ["late_rollback_wanted"]), ("alert", [])]
)
def test_airflow_emits_what_is_asked_for_and_nothing_beside_it(dags: Dags, action: str, emitted: list[str]) -> None:
    task = dags("late", BACK)["late_monitor"].get_task("respond")
    answer = MonitoringResponse(model="late", partition="2024-03", action=action, reason="drift", epoch=2, back_to=1)

    announce_response(context_of(task), answer)

    assert [outlet.name for outlet in task.outlets] == emitted


def test_the_same_finding_is_told_once(dags: Dags, told: Path) -> None:
    task = dags("calm", ("monitoring:\n", "monitoring:\n  on_drift: alert\n"))["calm_monitor"].get_task("respond")

    for run_id in ("march", "march_again", "march_and_again"):
        with pytest.raises(AirflowSkipException, match="alert: "):
            respond(task, lost("calm", 1), run_id)

    assert len(told.read_text().splitlines()) == 1


def test_an_event_that_monitoring_did_not_make_rolls_nothing_back(dags: Dags) -> None:
    rollback = dags("forged", BACK)["forged_rollback"].get_task("rollback")

    with pytest.raises(AirflowFailException, match="monitoring asked for no rollback of epoch 1"):
        roll_back(rollback, {"epoch": 1, "version": 1}, "asset__1")


def test_only_a_pipeline_that_asks_for_it_is_rolled_back_by_monitoring(dags: Dags) -> None:
    with_it, without = dags("willing", BACK)["willing_rollback"], dags("unwilling")["unwilling_rollback"]

    assert [asset.name for asset in with_it.timetable.asset_condition.objects] == ["willing_rollback_wanted"]
    assert list(with_it.params) == list(without.params) == ["reason"]
    assert without.schedule is None
    assert "It runs by hand, and when monitoring finds" in str(with_it.doc_md)
    assert "It runs by hand." in str(without.doc_md)


def test_a_retraining_says_which_partitions_it_leaves_out(dags: Dags) -> None:
    task = dags("choosy")["choosy_monitor"].get_task("respond")
    context = context_of(task)
    response = MonitoringResponse(
        model="choosy", partition="2024-03", action="retrain", reason="drift", excluded=("2024-03",)
    )

    announce_response(context, response)

    extra = context["outlet_events"][retrain_asset("choosy")].extra
    assert extra == {"model": "choosy", "observed": "2024-03", "reason": "drift", "excluded": ["2024-03"]}
    assert context["outlet_events"][rollback_wanted_asset("choosy")].extra == {}


def test_a_training_that_monitoring_asks_for_leaves_refused_partitions_out(dags: Dags) -> None:
    task = dags("picky")["picky_train"].get_task("resolve")
    event = SimpleNamespace(
        timestamp=datetime(2024, 4, 1, tzinfo=timezone.utc), extra={"excluded": ["2024-03"], "reason": "drift"}
    )
    context = context_of(task, run_type="asset_triggered", triggering_user_name=None)
    context["triggering_asset_events"] = {retrain_asset("picky"): [event]}

    request = task.execute(context)

    assert (request["partitions"], request["excluded"]) == (["2024-01", "2024-02"], ["2024-03"])
