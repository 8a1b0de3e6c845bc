"""Puts tests/ on the import path, and lends what many tests share."""

import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from browsing import browser, chromium
from musenet.dataset.dataset import Dataset
from planted import write_planted
from shown_runs import contents_of, heard, make_run, write_comparison
from tiny_runs import make_experiment, tiny_dataset
from traced_graphs import graphs_traced_once

__all__ = [
    "browser",
    "chromium",
    "contents_of",
    "graphs_traced_once",
    "heard",
    "make_experiment",
    "make_run",
    "tiny_dataset",
    "write_comparison",
]


@pytest.fixture(scope="session")
def planted_dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_planted(tmp_path_factory.mktemp("planted") / "dataset")


@pytest.fixture
def run_path(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One session for all tests, with executors that are processes of their own and parts of every table."""
    if find_spec("pyspark") is None or shutil.which("java") is None:
        if os.environ.get("REQUIRE_ALL"):
            pytest.fail("pyspark or a Java runtime is missing: pip install 'musenet[spark]', default-jre-headless")
        pytest.skip("needs pyspark and a Java runtime")
    from pyspark.sql import SparkSession

    # No query runs for long enough that compiling it, or doing that well, is worth its time.
    quick = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
    settings: dict[str, bool | float | int | str | None] = {
        "spark.master": "local-cluster[2,1,1024]",
        "spark.ui.enabled": "false",
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        "spark.task.maxFailures": "2",  # of which one is enough where every try fails
        "spark.sql.shuffle.partitions": "2",
        "spark.default.parallelism": "2",
        "spark.sql.adaptive.coalescePartitions.enabled": "false",  # small parts are parts here as well
        "spark.driver.memory": "1g",
        "spark.executor.memory": "512m",
        "spark.driver.extraJavaOptions": quick,
        "spark.executor.extraJavaOptions": quick,
        "spark.sql.warehouse.dir": str(tmp_path_factory.mktemp("warehouse")),
    }
    session = SparkSession.builder.config(map=settings).getOrCreate()
    yield session
    session.stop()


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
