"""Keys out of Airflow's connections and options, and what a release under them publishes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ml_lifecycle.__main__ import main
from ml_lifecycle.backends.signing.keys import generated
from ml_lifecycle.core.errors import ConfigurationError, RequestError
from ml_lifecycle.hooks.settings import read_settings
from ml_lifecycle.hooks.signing import SigningHook, approver_keys
from tests.on_airflow.runs import result

Dags = Callable[..., dict[str, Any]]
KEY = generated()
CONNECTION = "AIRFLOW_CONN_ML_LIFECYCLE_SIGNING"
APPROVERS = "AIRFLOW__ML_LIFECYCLE__APPROVER_KEYS"


def password(text: str) -> str:
    return json.dumps({"conn_type": "generic", "password": text})


def test_the_key_is_the_password_of_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONNECTION, password(KEY.pem().decode()))

    found = SigningHook().get_conn()

    assert found is not None
    assert found.public == KEY.public


def test_without_the_connection_there_is_no_key() -> None:
    assert SigningHook().get_conn() is None


def test_another_connection_may_hold_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__ML_LIFECYCLE__SIGNING_CONN_ID", "seal")
    monkeypatch.setenv("AIRFLOW_CONN_SEAL", password(KEY.pem().decode()))

    assert SigningHook().get_conn() is not None


def test_a_connection_without_a_password_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONNECTION, json.dumps({"conn_type": "generic"}))

    with pytest.raises(ConfigurationError, match="connection 'ml_lifecycle_signing': it has no password"):
        SigningHook().get_conn()


def test_a_password_that_is_no_key_is_refused_without_showing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONNECTION, password("hunter2"))

    with pytest.raises(RequestError, match="connection 'ml_lifecycle_signing'") as refused:
        SigningHook().get_conn()

    assert "hunter2" not in str(refused.value)


def test_the_approvers_keys_are_read_from_the_admins_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text(json.dumps({"ada": KEY.public.text}))
    monkeypatch.setenv(APPROVERS, str(tmp_path / "keys.json"))

    assert approver_keys(read_settings()) == {"ada": (KEY.public,)}


def test_without_the_option_nobodys_keys_are_known() -> None:
    assert approver_keys(read_settings()) is None


def test_a_file_of_keys_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(APPROVERS, str(tmp_path / "keys.json"))

    with pytest.raises(ConfigurationError, match=r"\[ml_lifecycle\] approver_keys, .*keys\.json: it cannot be read"):
        approver_keys(read_settings())


def test_a_relative_path_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(APPROVERS, "keys.json")

    with pytest.raises(ConfigurationError, match="not an absolute path"):
        read_settings()


def test_a_release_is_told_of_and_verified_without_airflow(
    dags: Dags, airflow: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(CONNECTION, password(KEY.pem().decode()))
    (tmp_path / "release.pub").write_text(f"release {KEY.public.text}\n")
    told = dags("told", ("required: always, approvers: [approver]", "required: never"))

    trained = result(told["told_train"].test(logical_date=None), "train")
    released = result(told["told_release"].test(logical_date=None), "deploy")

    capsys.readouterr()
    statement = airflow / "data" / "provenance" / "told" / "test" / "1.dsse.json"
    code = main(
        [
            *("verify", str(statement), "--key", str(tmp_path / "release.pub")),
            *("--data", str(airflow / "data" / trained["dataset"]["uri"]), "--environment", "test"),
        ]
    )
    assert (code, released["champion"]["epoch"]) == (0, 1)
    assert "approved by policy" in capsys.readouterr().out


def test_a_release_without_a_key_publishes_nothing(dags: Dags, airflow: Path) -> None:
    untold = dags("untold", ("required: always, approvers: [approver]", "required: never"))
    untold["untold_train"].test(logical_date=None)

    released = result(untold["untold_release"].test(logical_date=None), "deploy")

    assert released["champion"]["version"] == 1
    assert not (airflow / "data" / "provenance" / "untold").exists()
