"""The address of the reports, in Airflow's own API server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ml_lifecycle.hooks.reports import report_address
from ml_lifecycle.links import MlflowRunLink, MlflowVersionLink, ReportLink
from ml_lifecycle.plugin import find_report

PAGE = "<script>1</script>"
ADDRESS = "/ml-lifecycle/reports/seen_train/validation/seen/abc"


@pytest.fixture
def reports(airflow: Path) -> Path:
    """A published report of the model ``seen``, and one of another model."""
    folder = airflow / "data" / "reports" / "validation"
    for model in ("seen", "other"):
        (folder / model / "abc").mkdir(parents=True, exist_ok=True)
        (folder / model / "abc" / "index.html").write_text(PAGE)
        (folder / model / "abc" / "report.json").write_text("{}")
        (folder / model / "abc" / "data.bin").write_bytes(b"\0")
    return folder


@pytest.fixture(scope="module")
def client(airflow: Path) -> Iterator[Any]:
    """Airflow's API server, with the plugin as it is installed."""
    from airflow.api_fastapi.app import create_app, purge_cached_app
    from fastapi.testclient import TestClient

    purge_cached_app()
    with TestClient(create_app(apps="core"), raise_server_exceptions=False) as client:
        yield client
    purge_cached_app()


@pytest.fixture
def signed_in(client: Any) -> dict[str, str]:
    """The header of somebody who may read every DAG."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    token = get_auth_manager().generate_jwt(SimpleAuthManagerUser(username="viewer", role="viewer"))
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def seen(dags: Callable[..., dict[str, Any]]) -> None:
    """The DAGs of the model ``seen``, as Airflow's database knows them."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db

    dags("seen")
    manager = DagBundlesManager()  # type: ignore[no-untyped-call]
    manager.sync_bundles_to_db()
    for bundle in manager.get_all_dag_bundles():
        bundle.initialize()
        bag = BundleDagBag(dag_folder=bundle.path, bundle_path=bundle.path, bundle_name=bundle.name)
        sync_bag_to_db(bag, bundle.name, bundle.version)


def test_a_reader_of_the_dag_sees_the_report_in_an_origin_of_its_own(
    client: Any, signed_in: dict[str, str], seen: None, reports: Path
) -> None:
    answer = client.get(ADDRESS, headers=signed_in)

    assert (answer.status_code, answer.text) == (200, PAGE)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"] == "sandbox allow-scripts"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"].startswith("private")


def test_a_file_of_another_kind_is_a_download(
    client: Any, signed_in: dict[str, str], seen: None, reports: Path
) -> None:
    page = client.get(f"{ADDRESS}/report.json", headers=signed_in)
    file = client.get(f"{ADDRESS}/data.bin", headers=signed_in)

    assert page.headers["content-type"] == "application/json"
    assert file.headers["content-type"] == "application/octet-stream"
    assert file.headers["content-disposition"].startswith("attachment")


def test_nobody_sees_a_report_without_signing_in(client: Any, seen: None, reports: Path) -> None:
    assert client.get(ADDRESS).status_code == 401
    assert client.get(ADDRESS, headers={"Authorization": "Bearer nonsense"}).status_code == 403


def test_whoever_may_not_read_the_dag_does_not_see_its_reports(
    client: Any, signed_in: dict[str, str], seen: None, reports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.api_fastapi.app import get_auth_manager

    monkeypatch.setattr(type(get_auth_manager()), "is_authorized_dag", lambda *_, **__: False)

    assert client.get(ADDRESS, headers=signed_in).status_code == 403


@pytest.mark.parametrize(
    "address",
    [
        "/ml-lifecycle/reports/seen_train/validation/other/abc",
        "/ml-lifecycle/reports/unknown/validation/seen/abc",
        "/ml-lifecycle/reports/seen_train/validation/seen/%2e%2e/other/abc",
        "/ml-lifecycle/reports/seen_train/validation/seen/..%2f..%2f..%2f..%2fledger.db",
        "/ml-lifecycle/reports/seen_train/validation/seen/abc/none.html",
        "/ml-lifecycle/reports/seen_train/validation/seen",
        "/ml-lifecycle/reports/seen_train/",
        "/ml-lifecycle/docs",
        "/ml-lifecycle/openapi.json",
    ],
)
def test_nothing_but_the_model_s_own_reports_is_served(
    client: Any, signed_in: dict[str, str], seen: None, reports: Path, address: str
) -> None:
    assert client.get(address, headers=signed_in).status_code == 404


def test_no_link_and_no_climbing_name_leads_out_of_the_reports(reports: Path) -> None:
    models = frozenset({"seen"})
    (reports / "seen" / "abc" / "link.html").symlink_to(reports / "other" / "abc" / "index.html")
    (reports / "seen" / "away").symlink_to("/etc")

    assert find_report("validation/seen/abc/index.html", models=models) is not None
    for path in (
        "validation/seen/../other/abc/index.html", "validation/seen/abc/link.html", "validation/seen/away/passwd",
        "validation//seen/abc/index.html", "/etc/passwd", "validation/other/abc/index.html", "", "validation",
    ):  # fmt: skip
        assert find_report(path, models=models) is None


def test_the_plugin_loads_without_the_web_framework() -> None:
    program = (
        "import sys; import ml_lifecycle.plugin;"
        "print([m for m in ('airflow.api_fastapi', 'sklearn', 'pandas', 'mlflow') if m in sys.modules])"
    )

    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout.splitlines()[-1] == "[]"


def test_a_task_s_buttons_lead_where_the_operator_worked() -> None:
    operator: Any = SimpleNamespace(
        mlflow_run_url="http://mlflow/run", mlflow_version_url="http://mlflow/version",
        report_uri="reports/validation/late/abc",
    )  # fmt: skip
    key: Any = SimpleNamespace(dag_id="late_train")

    assert MlflowRunLink().get_link(operator, ti_key=key) == "http://mlflow/run"
    assert MlflowVersionLink().get_link(operator, ti_key=key) == "http://mlflow/version"
    assert (
        ReportLink().get_link(operator, ti_key=key)
        == "http://airflow.example.com/ml-lifecycle/reports/late_train/validation/late/abc"
    )


def test_a_task_without_a_report_has_no_address() -> None:
    key: Any = SimpleNamespace(dag_id="late_train")
    nothing: Any = SimpleNamespace()

    assert [link.get_link(nothing, ti_key=key) for link in (MlflowRunLink(), MlflowVersionLink(), ReportLink())] == [
        "", "", "",
    ]  # fmt: skip
    assert report_address("late_train", "snapshots/abc") == ""
