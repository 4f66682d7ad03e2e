"""From an Airflow connection to the key that releases are told under, and whose answers from outside count."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from ml_lifecycle.core.errors import ConfigurationError
from ml_lifecycle.hooks.settings import SECTION, Settings, read_settings

if TYPE_CHECKING:
    from ml_lifecycle.backends.signing.keys import Keys, SigningKey


class SigningHook(BaseHook):
    """Gives the key of this deployment, whose text is a connection's password.

    :param settings: Name the connection.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        super().__init__()
        self.settings = settings or read_settings()

    def get_conn(self) -> SigningKey | None:
        """The key, or ``None`` while the connection is not defined.

        :raises ConfigurationError: the connection has no password.
        :raises RequestError: its password is no Ed25519 private key.
        """
        from ml_lifecycle.backends.signing.keys import signing_key

        conn_id = self.settings.signing_conn_id
        where = f"connection {conn_id!r}"
        try:
            connection = self.get_connection(conn_id)
        except AirflowNotFoundException:
            return None
        if not connection.password:
            raise ConfigurationError(
                "it has no password",
                where=where,
                way_out="enter the text of the private key that `ml-lifecycle keygen` wrote as its password",
            )
        return signing_key(connection.password, where=where)


def approver_keys(settings: Settings) -> Keys | None:
    """Whose signed answers count, or ``None`` where the deployment does not say.

    :raises ConfigurationError: the file cannot be used.
    """
    from ml_lifecycle.backends.signing.keys import read_keys
    from ml_lifecycle.core.errors import RequestError

    if settings.approver_keys is None:
        return None
    try:
        return read_keys(settings.approver_keys)
    except RequestError as error:
        raise ConfigurationError(
            error.what, where=f"[{SECTION}] approver_keys, {error.where}", way_out=error.way_out
        ) from None
