"""Lends the cases of serving what the tests of serving have, and cases of buckets a server."""

from collections.abc import Iterator
from typing import Any

import pytest

from serving.conftest import address, exported, graphs_lent, opened, redis_address

__all__ = ["address", "exported", "graphs_lent", "opened", "redis_address"]


@pytest.fixture(scope="session")
def bucket() -> Iterator[Any]:
    """A bucket on an S3 server of this process, one for all: clients are kept by their settings."""
    boto3 = pytest.importorskip("boto3")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0)
    with pytest.MonkeyPatch.context() as patch:
        server.start()
        host, port = server.get_host_and_port()
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            patch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="logs")
        yield client
        server.stop()
