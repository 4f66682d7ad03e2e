"""From Airflow's connections and options to clients."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import Connection

from ml_lifecycle.backends.data.s3 import S3Store
from ml_lifecycle.core.errors import ConfigurationError
from ml_lifecycle.hooks.data import data_store
from ml_lifecycle.hooks.ledger import LedgerHook
from ml_lifecycle.hooks.mlflow import MlflowHook, address_of
from ml_lifecycle.hooks.settings import read_settings
from ml_lifecycle.hooks.tools import project_folder, tools_for
from tests.fakes.s3 import bucket_at, client_at, s3_server


def connect(monkeypatch: pytest.MonkeyPatch, name: str, **fields: Any) -> None:
    """Define a connection."""
    monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(fields))


@pytest.mark.parametrize(
    ("fields", "address"),
    [
        ({"host": "mlflow", "port": 5000}, "http://mlflow:5000"),
        ({"host": "mlflow.example.com", "schema": "https"}, "https://mlflow.example.com"),
        ({"host": "https://mlflow.example.com/team/", "port": 8443}, "https://mlflow.example.com:8443/team"),
        ({"host": "http://mlflow:81", "port": 5000}, "http://mlflow:81"),
    ],
)
def test_the_server_s_address_is_read_from_the_connection(fields: dict[str, Any], address: str) -> None:
    assert address_of(Connection(conn_id="mlflow_default", conn_type="mlflow", **fields)) == address


def test_a_missing_connection_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=r"connection 'mlflow_prod'.*not defined.*mlflow_conn_id"):
        MlflowHook("mlflow_prod").get_conn()


def test_a_connection_without_a_host_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, "bare", conn_type="mlflow")

    with pytest.raises(ConfigurationError, match="names no host"):
        MlflowHook("bare").get_conn()


@pytest.mark.parametrize("value", [0, -1, "soon", "inf", "nan"])
def test_a_time_out_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, value: object) -> None:
    connect(monkeypatch, "slow", conn_type="mlflow", host="h", extra=json.dumps({"timeout_s": value}))

    with pytest.raises(ConfigurationError, match="timeout_s"):
        MlflowHook("slow").get_conn()


def test_a_folder_serves_as_the_tracking_server_of_one_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    connect(monkeypatch, "folder", conn_type="mlflow", host=f"file://{tmp_path}")

    assert MlflowHook("folder").test_connection() == (True, "The tracking server answers")


def test_a_folder_of_no_fixed_place_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, "folder", conn_type="mlflow", host="file://mlflow")

    assert MlflowHook("folder").test_connection()[0] is False


def test_a_server_that_is_down_is_named_and_its_password_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    extra = json.dumps({"timeout_s": 0.2})
    connect(
        monkeypatch, "down", conn_type="mlflow", host="127.0.0.1", port=9, login="u", password="s3cret", extra=extra
    )
    client = MlflowHook("down").get_conn()
    client._deadline_s = 0.3  # type: ignore[union-attr]
    monkeypatch.setattr(MlflowHook, "get_conn", lambda _: client)

    answers, text = MlflowHook("down").test_connection()

    assert not answers
    assert "127.0.0.1:9" in text
    assert "down" in text
    assert "s3cret" not in text


def test_the_ledger_is_a_file_below_the_data_root_unless_a_connection_says_more(airflow: Path) -> None:
    assert LedgerHook().url() == f"sqlite:///{airflow / 'data' / 'ledger.db'}"


def test_a_database_connection_takes_the_ledger_over(monkeypatch: pytest.MonkeyPatch) -> None:
    connect(
        monkeypatch, "ml_lifecycle_ledger", conn_type="postgres", host="db", port=5432, schema="gov", login="u",
        password="p@ss", extra=json.dumps({"sslmode": "require"}),
    )  # fmt: skip

    assert LedgerHook().url() == "postgresql://u:p%40ss@db:5432/gov?sslmode=require"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"conn_type": "http", "host": "db"}, "no ledger is kept in a 'http'"),
        ({"conn_type": "sqlite", "host": "ledger.db"}, "not an absolute path"),
    ],
)
def test_a_ledger_that_cannot_be_is_refused(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], message: str
) -> None:
    connect(monkeypatch, "ml_lifecycle_ledger", **fields)

    with pytest.raises(ConfigurationError, match=message):
        LedgerHook().url()


@pytest.mark.parametrize("spelling", ["{home}/airflow.db", "{home}/team/../airflow.db"])
def test_a_ledger_in_the_file_of_airflow_s_own_database_is_refused(
    monkeypatch: pytest.MonkeyPatch, airflow: Path, spelling: str
) -> None:
    connect(monkeypatch, "ml_lifecycle_ledger", conn_type="sqlite", host=spelling.format(home=airflow))

    with pytest.raises(ConfigurationError, match=r"Airflow's own database.*another file"):
        LedgerHook().get_conn()


@pytest.mark.parametrize("known", ["airflow-db-not-allowed:///", "postgresql://u:p@db/airflow", ""])
def test_a_ledger_in_a_file_of_its_own_is_taken_wherever_airflow_keeps_its_data(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, known: str
) -> None:
    connect(monkeypatch, "ml_lifecycle_ledger", conn_type="sqlite", host=str(tmp_path / "airflow.db"))
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", known)

    assert LedgerHook().get_conn().models("test") == ()


def test_sqlite_is_refused_where_tasks_run_on_several_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "LocalExecutor,CeleryExecutor")

    with pytest.raises(ConfigurationError, match="cannot serve CeleryExecutor"):
        LedgerHook().get_conn()


@pytest.mark.parametrize(
    ("option", "value"), [("data_root", "data"), ("project_root", "./team"), ("http_timeout_s", "-1")]
)
def test_an_option_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch, option: str, value: str) -> None:
    monkeypatch.setenv(f"AIRFLOW__ML_LIFECYCLE__{option.upper()}", value)

    with pytest.raises(ConfigurationError, match=rf"\[ml_lifecycle\] {option}"):
        read_settings()


@pytest.mark.parametrize(
    ("file", "folder"),
    [
        ("/opt/airflow/dags/late.py", "/opt/airflow"),
        ("/opt/airflow/dags/team/late.py", "/opt/airflow"),
        ("/dags/repo/dags/late.py", "/dags/repo"),
        ("/srv/late.py", "/srv"),
    ],
)
def test_the_project_is_the_folder_that_holds_the_nearest_dags_folder(file: str, folder: str) -> None:
    assert project_folder(Path(file)) == Path(folder)


def test_the_tools_belong_to_the_run_of_the_task(airflow: Path) -> None:
    dag = SimpleNamespace(dag_id="late_train", fileloc=str(airflow / "team" / "dags" / "late.py"))

    tools = tools_for({"dag": dag, "run_id": "manual__1"})  # type: ignore[typeddict-item]

    assert tools.run == "late_train/manual__1"
    assert tools.project == airflow / "team"
    assert tools.environment == "test"
    assert tools.estimators == ("sklearn.",)


def test_a_data_root_with_an_address_is_a_bucket_reached_by_its_connection(
    monkeypatch: pytest.MonkeyPatch, airflow: Path
) -> None:
    with s3_server() as address:
        client = client_at(address)
        bucket = bucket_at(client)
        client.close()
        extra = json.dumps({"region_name": "us-east-1", "endpoint_url": address})
        connect(monkeypatch, "aws_ml", conn_type="aws", login="test", password="test", extra=extra)
        monkeypatch.setenv("AIRFLOW__ML_LIFECYCLE__DATA_ROOT", f"s3://{bucket}/team/data")
        monkeypatch.setenv("AIRFLOW__ML_LIFECYCLE__AWS_CONN_ID", "aws_ml")
        store = data_store(read_settings())
        store.write_file("log/a.txt", b"one")

        files, path = store.filesystem("log/a.txt")

        assert path == f"{bucket}/team/data/log/a.txt"
        with files.open_input_stream(path) as stream:
            assert stream.read() == b"one"
        assert LedgerHook().url() == f"sqlite:///{airflow / 'ml_lifecycle' / 'ledger.db'}"
        assert isinstance(store, S3Store)
        store.client.close()


@pytest.mark.parametrize("text", ["s3://", "s3://a", "s3://Bucket/x", "s3://bucket/../x", "s3://bucket/a b"])
def test_a_data_root_that_is_no_address_is_named(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("AIRFLOW__ML_LIFECYCLE__DATA_ROOT", text)

    with pytest.raises(ConfigurationError, match=r"\[ml_lifecycle\] data_root.*s3://bucket/prefix"):
        read_settings()
