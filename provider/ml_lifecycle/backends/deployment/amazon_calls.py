"""Calls of Amazon's services whose refusals are told in this product's words."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from ml_lifecycle.core.errors import (
    ConfigurationError,
    LifecycleError,
    MissingLibraryError,
    ServiceRefusedError,
    ServiceUnavailableError,
)

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

PATIENCE_S: Final = 20.0
"""How long a write waits for an update that is on its way before it asks to be tried again."""
GUIDE: Final = "docs/guides/sagemaker.md"

_SERVER_ERROR: Final = 500
_MISSING: Final = frozenset(
    {"404", "NoSuchKey", "NotFound", "ObjectNotFoundException", "ResourceNotFound", "ResourceNotFoundException"}
)
_EXISTS: Final = frozenset({"ConflictException"})
_PASSING: Final = frozenset(
    {
        *("InternalFailure", "RequestLimitExceeded", "RequestTimeout", "ResourceInUse", "ServiceUnavailable"),
        *("SlowDown", "Throttling", "ThrottlingException", "ThrottledException", "TooManyRequestsException"),
        *("ConcurrentUpdateException", "RequestTimeoutException"),
    }
)
_DENIED: Final = frozenset({"AccessDenied", "AccessDeniedException", "403", "UnauthorizedOperation"})
_UNKNOWN_CALLER: Final = frozenset(
    {
        *("ExpiredToken", "ExpiredTokenException", "IncompleteSignature", "InvalidAccessKeyId", "InvalidClientTokenId"),
        *("InvalidSignatureException", "SignatureDoesNotMatch", "UnrecognizedClientException"),
    }
)


class AmazonCalls:
    """Plain clients, each made at its first use.

    :param client: The client of a service, by boto3's name of it.
    :param where: What an error is about: the connection.
    """

    def __init__(self, client: Callable[[str], Any], where: str) -> None:
        self._make, self._where = client, where
        self._made: dict[str, Any] = {}

    def __call__(self, service: str, operation: str, **arguments: Any) -> dict[str, Any]:
        """The answer.

        :raises ServiceUnavailableError: it may be answered at another try: throttled, broken, busy, not there yet.
        :raises ServiceRefusedError: it will not be answered.
        :raises ConfigurationError: nobody, or somebody unknown, asked.
        """
        return self._call(service, operation, arguments)[0] or {}

    def find(self, service: str, operation: str, **arguments: Any) -> dict[str, Any] | None:
        """The answer, or ``None`` where what is asked for does not exist."""
        answer, found = self._call(service, operation, arguments, missing=True)
        return answer if found else None

    def ensure(self, service: str, operation: str, **arguments: Any) -> bool:
        """Create something under a name that says what it is; whether it was not there before."""
        return self._call(service, operation, arguments, exists=True)[1]

    def remove(self, service: str, operation: str, **arguments: Any) -> bool:
        """Delete something; whether it was there."""
        return self._call(service, operation, arguments, missing=True)[1]

    def pages(self, service: str, operation: str, items: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        """What a listing lists, over all its pages."""
        more: dict[str, Any] = {}
        while True:
            answer = self(service, operation, **arguments, **more)
            yield from answer.get(items, ())
            if not answer.get("NextToken"):
                return
            more = {"NextToken": answer["NextToken"]}

    def _call(
        self, service: str, operation: str, arguments: dict[str, Any], *, missing: bool = False, exists: bool = False
    ) -> tuple[dict[str, Any] | None, bool]:
        """The answer, and whether it is not one of those that the caller expects."""
        try:
            from botocore.exceptions import (
                BotoCoreError,
                ClientError,
                NoCredentialsError,
                NoRegionError,
                ParamValidationError,
            )
        except ModuleNotFoundError:
            raise MissingLibraryError("boto3", "amazon") from None
        try:
            return getattr(self._client(service), operation)(**arguments), True
        except ClientError as error:
            if (missing and _is_missing(error)) or (exists and _is_there(error)):
                return None, False
            raise self._told(error, operation) from error
        except (NoCredentialsError, NoRegionError) as error:
            raise ConfigurationError(
                str(error).rstrip("."), where=self._where, way_out="enter key, secret and region, or the machine's role"
            ) from error
        except ParamValidationError as error:
            raise ServiceRefusedError(
                f"{operation}: {' '.join(str(error).split())[:300]}",
                where=self._where,
                way_out="mend the option that it names",
            ) from error
        except BotoCoreError as error:
            raise ServiceUnavailableError(
                f"{operation} was not answered ({type(error).__name__})",
                where=self._where,
                way_out="the next try asks again; if it stays, check the network and the region",
            ) from error

    def _client(self, service: str) -> Any:
        if service not in self._made:
            self._made[service] = self._make(service)
        return self._made[service]

    def _told(self, error: ClientError, operation: str) -> LifecycleError:
        code, text = _code(error), _text(error)
        what = f"{operation}: {text or code}"
        if code in _DENIED:
            return ServiceRefusedError(what, where=self._where, way_out=f"grant what {GUIDE} lists")
        if code in _UNKNOWN_CALLER:
            return ConfigurationError(f"{operation}: {code}", where=self._where, way_out="renew its credentials")
        if code == "ResourceLimitExceeded":
            return ServiceRefusedError(
                what, where=self._where, way_out="have the quota raised, or take fewer instances"
            )
        if _is_passing(error):
            return ServiceUnavailableError(what, where=self._where, way_out="the next try asks again")
        return ServiceRefusedError(what, where=self._where, way_out="mend the option that it names")


def waits(within_s: float) -> Iterator[None]:
    """Pauses that grow from a twentieth of a second to five seconds, until the time is over."""
    deadline, pause = time.monotonic() + within_s, 0.05
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, 5.0)
        yield


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _text(error: ClientError) -> str:
    lines = str(error.response.get("Error", {}).get("Message", "")).splitlines()
    return lines[0][:300] if lines else ""


def _is_missing(error: ClientError) -> bool:
    return _is_not_found(error) or (_code(error) == "ValidationException" and "does not exist" in _text(error))


def _is_not_found(error: ClientError) -> bool:
    text = _text(error).lower()
    return _code(error) in _MISSING or (_code(error) == "ValidationException" and "could not find" in text)


def _is_there(error: ClientError) -> bool:
    return _code(error) in _EXISTS or "already exist" in _text(error).lower()


def _is_passing(error: ClientError) -> bool:
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    text = _text(error).lower()
    busy = "in-progress" in text or "in progress" in text
    # What was created a moment ago may not be found yet: Amazon's own advice is to ask again.
    return _code(error) in _PASSING or status >= _SERVER_ERROR or busy or _is_not_found(error)
