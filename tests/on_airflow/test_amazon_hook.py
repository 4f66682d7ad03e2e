"""From an Airflow connection to clients of Amazon's services."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ml_lifecycle.core.errors import ConfigurationError
from ml_lifecycle.hooks.amazon import ATTEMPTS, amazon_client
from ml_lifecycle.hooks.clients import client_of


@pytest.fixture(autouse=True)
def _nobodys_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")


def connect(monkeypatch: pytest.MonkeyPatch, **extra: Any) -> None:
    held = {"conn_type": "aws", "login": "key", "password": "s3cret", "extra": json.dumps(extra)}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_SERVING", json.dumps(held))


def test_a_connection_gives_clients_of_every_service(monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, region_name="eu-west-1")

    clients = {name: client_of(name, "aws_serving", timeout_s=30.0) for name in ("sagemaker", "s3", "cloudwatch")}

    assert {name: client.meta.service_model.service_name for name, client in clients.items()} == {
        name: name for name in clients
    }
    assert clients["sagemaker"].meta.region_name == "eu-west-1"


def test_every_call_ends_and_is_tried_again_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, region_name="eu-west-1")

    config = amazon_client("sagemaker", "aws_serving", timeout_s=30.0).meta.config

    assert (config.connect_timeout, config.read_timeout) == (5.0, 5.0)
    assert config.retries["mode"] == "standard"
    assert config.retries["total_max_attempts"] == ATTEMPTS == 4


def test_what_the_connection_says_of_calls_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, region_name="eu-west-1", config_kwargs={"read_timeout": 50})

    config = amazon_client("sagemaker", "aws_serving", timeout_s=30.0).meta.config

    assert (config.connect_timeout, config.read_timeout) == (5.0, 50)


def test_a_connection_can_name_another_address(monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, region_name="eu-west-1", endpoint_url="http://127.0.0.1:9")

    assert amazon_client("sagemaker", "aws_serving", timeout_s=30.0).meta.endpoint_url == "http://127.0.0.1:9"


def test_a_connection_that_is_not_defined_is_not_replaced_by_what_the_machine_may_do() -> None:
    with pytest.raises(ConfigurationError, match=r"connection 'aws_serving': it is not defined.*aws_conn_id: ''"):
        amazon_client("sagemaker", "aws_serving", timeout_s=30.0)


def test_whoever_names_none_gets_what_the_machine_may_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")

    assert amazon_client("sagemaker", "", timeout_s=30.0).meta.region_name == "eu-central-1"


def test_a_connection_without_a_region_says_so_and_not_its_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch)

    with pytest.raises(ConfigurationError, match="enter its region") as raised:
        amazon_client("sagemaker", "aws_serving", timeout_s=30.0)

    assert "s3cret" not in str(raised.value)
