"""An S3 that answers over HTTP on this machine, and buckets of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

_NUMBERS = count(1)


@contextmanager
def s3_server() -> Iterator[str]:
    """The address of a server of its own, which forgets everything at the end."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def client_at(address: str) -> Any:
    """A plain client with time-outs and without retries."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=address,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        region_name="us-east-1",
        config=Config(connect_timeout=5, read_timeout=20, retries={"total_max_attempts": 1}),
    )


def bucket_at(client: Any) -> str:
    """A new bucket's name."""
    bucket = f"bucket-{next(_NUMBERS)}"
    client.create_bucket(Bucket=bucket)
    return bucket


@contextmanager
def bucket_of() -> Iterator[tuple[Any, str]]:
    """A client, and an empty bucket, of a server of its own."""
    with s3_server() as address:
        client = client_at(address)
        try:
            yield client, bucket_at(client)
        finally:
            client.close()
