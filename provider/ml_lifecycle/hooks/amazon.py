"""From an Airflow connection to a client of one of Amazon's services."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from ml_lifecycle.core.errors import ConfigurationError, MissingLibraryError

if TYPE_CHECKING:
    from botocore.config import Config

ATTEMPTS: Final = 4
"""Of each call, with pauses of up to 1, 2 and 4 seconds between them: standard retries."""

_SHARES: Final = 6.0


def amazon_client(service: str, connection_id: str, *, timeout_s: float) -> Any:
    """A boto3 client of the service; what is throttled or not answered is asked again within the time-out.

    :param connection_id: Of type ``aws``; empty for what the machine itself is allowed to, such as its role.
    :raises ConfigurationError: the connection is not defined, or says too little.
    :raises MissingLibraryError: the provider for Amazon is not installed.
    """
    try:
        from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
        from botocore.exceptions import BotoCoreError
    except ModuleNotFoundError as error:
        raise MissingLibraryError(error.name or "boto3", "amazon") from None
    if connection_id:
        _refuse_undefined(connection_id)
    hook: Any = AwsBaseHook(aws_conn_id=connection_id or None, client_type=service)
    try:
        return hook.get_client_type(config=_config(timeout_s).merge(hook.config))
    except (BotoCoreError, ValueError) as error:
        # What boto3 says may repeat what the connection holds.
        raise ConfigurationError(
            f"no client of {service} can be made of it ({type(error).__name__})",
            where=f"connection {connection_id!r}",
            way_out="enter its region, as region_name in the extra, and key and secret or a role",
        ) from None


def _config(timeout_s: float) -> Config:
    """Four attempts and the pauses between them fit into the time-out; a connection's own ``config_kwargs`` win."""
    from botocore.config import Config

    share = max(1.0, timeout_s / _SHARES)
    retries: Any = {"mode": "standard", "total_max_attempts": ATTEMPTS}
    return Config(connect_timeout=share, read_timeout=share, retries=retries)


def _refuse_undefined(connection_id: str) -> None:
    """The hook would go on with whatever the machine is allowed to."""
    try:
        BaseHook.get_connection(connection_id)
    except AirflowNotFoundException:
        raise ConfigurationError(
            "it is not defined",
            where=f"connection {connection_id!r}",
            way_out="add a connection of type aws by that id; to use the machine's own role, write aws_conn_id: ''",
        ) from None
