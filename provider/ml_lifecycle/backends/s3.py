"""Addresses of S3, and its errors in this product's words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from ml_lifecycle.core.errors import (
    ConfigurationError,
    MissingLibraryError,
    ServiceRefusedError,
    ServiceUnavailableError,
)

SCHEME: Final = "s3://"
NOTHING_THERE: Final = ("NoSuchKey", "NotFound", "404")
ANOTHER_WAS_FIRST: Final = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")
"""What S3 answers to a conditional write that comes too late
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html)."""

_ADDRESS = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?P<prefix>(?:/[0-9A-Za-z_.,=@+-]+)*)/?")
_PASSING: Final = ("SlowDown", "RequestTimeout", "Throttling", "ThrottlingException", "RequestLimitExceeded")
_SERVER_ERROR, _TOO_MANY = 500, 429


def is_address(text: str) -> bool:
    """Whether this is meant as an address of S3, right or wrong."""
    return text.startswith(SCHEME)


def split_address(text: str) -> tuple[str, str]:
    """Bucket and prefix of ``s3://bucket/a/b``; the prefix is empty, or ends with a slash.

    :raises ConfigurationError: it is no such address.
    """
    found = _ADDRESS.fullmatch(text)
    if found is None or ".." in text:
        raise ConfigurationError(f"{text!r} is no address of S3", way_out="write it like s3://bucket/prefix")
    prefix = found["prefix"].strip("/")
    return found["bucket"], f"{prefix}/" if prefix else ""


@contextmanager
def s3_errors(where: str, *expected: str) -> Iterator[list[str]]:
    """Tell S3's errors as ours. Those with an expected code end the block without one, and are listed.

    :raises ServiceUnavailableError: it did not answer, or may answer at another try.
    :raises ServiceRefusedError: it says no.
    """
    try:
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError as error:
        raise MissingLibraryError(error.name or "boto3", "amazon") from None
    refused: list[str] = []
    try:
        yield refused
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in expected:
            refused.append(code)
            return
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        if status >= _SERVER_ERROR or status == _TOO_MANY or code in _PASSING:
            raise ServiceUnavailableError(f"S3 does not answer ({code})", where=where) from error
        raise ServiceRefusedError(
            f"S3 refuses {error.operation_name} ({code})",
            where=where,
            way_out="check the bucket, and what the connection may do there",
        ) from error
    except BotoCoreError as error:
        raise ServiceUnavailableError(f"S3 does not answer ({type(error).__name__})", where=where) from error
