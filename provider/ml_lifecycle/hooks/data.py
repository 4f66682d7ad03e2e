"""From the option ``data_root`` to the store of a deployment's data."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ml_lifecycle.hooks.clients import client_of

if TYPE_CHECKING:
    from ml_lifecycle.backends.data.base import DataStore
    from ml_lifecycle.backends.data.s3 import Credentials
    from ml_lifecycle.hooks.settings import Settings


def data_store(settings: Settings) -> DataStore:
    """The folder, or the bucket, that the settings name.

    :raises ConfigurationError: the connection that leads to the bucket is missing or cannot be used.
    """
    if not settings.data_address:
        from ml_lifecycle.backends.data.local import LocalStore

        return LocalStore(settings.data_root)
    from ml_lifecycle.backends.data.s3 import S3Store
    from ml_lifecycle.backends.s3 import split_address

    client = client_of("s3", settings.aws_conn_id, timeout_s=settings.http_timeout_s)
    bucket, prefix = split_address(settings.data_address)
    return S3Store(client, bucket, prefix, credentials=partial(_credentials, settings.aws_conn_id))


def _credentials(connection_id: str) -> Credentials:
    """Those of a role are renewed by whoever asks for them."""
    from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook

    found: Credentials = AwsBaseHook(aws_conn_id=connection_id or None, client_type="s3").get_credentials()
    return found
