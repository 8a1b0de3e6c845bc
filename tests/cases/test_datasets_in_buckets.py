"""A bucket in place of folders: the same bits, whichever machine goes on, and one sentence for what is wrong there."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from musenet import api
from musenet.cli.main import run
from musenet.dataset.dataset import Dataset
from musenet.files import write_text
from musenet.runs.folder import RunFolder
from musenet.runs.tensor_files import load_tensors
from musenet.serving.manifest import MANIFEST, read_export
from musenet.serving.service.service import Service
from musenet.storage.copies import fetched, written
from places import TESTS
from serving.exports import Exported
from shown_runs import measure_little
from test_cli import refused, write_log
from training.trained_runs import assert_same_run, validations_of

TRAINING = ["--set", "training.epochs=3", "--set", "training.checkpoint_every=1", "--set", "training.batch_size=64"]
DATASET, RUN, EXPORT = "s3://logs/house/data", "s3://logs/house/run", "s3://logs/house/export"
Machine = Callable[[str], None]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bucket: Any) -> Iterator[Machine]:
    """Be on a machine of this name, whose cache is its own; nothing is left in the bucket."""
    monkeypatch.chdir(tmp_path)

    def be_on(name: str) -> None:
        monkeypatch.setenv("MUSENET_CACHE", str(tmp_path / "caches" / name))

    be_on("first")
    yield be_on
    for one in bucket.list_objects_v2(Bucket="logs", Prefix="house/").get("Contents", []):
        bucket.delete_object(Bucket="logs", Key=one["Key"])


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """What a command prints with --json; no word of it is of a cache."""
    capsys.readouterr()
    assert run([*arguments, "--json"]) == 0, capsys.readouterr().err
    printed = capsys.readouterr()
    assert "caches/" not in printed.out + printed.err
    found: dict[str, Any] = json.loads(printed.out.splitlines()[-1])
    return found


def keys(bucket: Any, prefix: str) -> set[str]:
    return {one["Key"] for one in bucket.list_objects_v2(Bucket="logs", Prefix=prefix).get("Contents", [])}


def killed(patch: str, *arguments: str) -> None:
    """Run a command in a process of its own that ends by SIGKILL where `patch` says."""
    program = f"import sys; sys.path.insert(0, {str(TESTS)!r})\n{patch}\nfrom musenet.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr


@pytest.mark.slow
def test_from_a_log_to_scores_with_everything_in_a_bucket(
    tmp_path: Path, machine: Machine, bucket: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(write_log(tmp_path))
    prepared = told(capsys, "prepare", config, "--out", DATASET)
    assert (prepared["dataset"], prepared["reused"]) == (DATASET, False)
    here = ["--dataset", "data", "--out", "run"]
    assert told(capsys, "train", config, *here, *TRAINING)["run"] == "run"
    there = ["--dataset", DATASET, "--out", RUN]
    machine("second")
    assert told(capsys, "train", config, *there, *TRAINING)["run"] == RUN
    machine("third")
    assert fetched(DATASET).joinpath("manifest.json").read_bytes() == Path("data/manifest.json").read_bytes()
    assert_same_run(fetched(RUN, whole=True), Path("run"))
    evaluated = told(capsys, "evaluate", RUN)
    assert evaluated == told(capsys, "evaluate", "run")
    assert "house/run/evaluation/test.json" in keys(bucket, "house/")
    assert told(capsys, "evaluate", RUN, "--dataset", "data")["auc"] == evaluated["auc"]
    scenarios = told(capsys, "scenarios", RUN, "--out", "s3://logs/house/scenarios.parquet")
    assert scenarios["out"] == "s3://logs/house/scenarios.parquet"
    assert told(capsys, "export", RUN, "--out", EXPORT)["export"] == EXPORT
    export = str(fetched(EXPORT))
    machine("fourth")
    scores = "s3://logs/house/scores.parquet"
    rows = told(capsys, "predict", EXPORT, "impressions.parquet", "--out", scores)
    assert rows["out"] == scores
    assert run(["predict", export, "impressions.parquet", "--out", "scores.parquet"]) == 0
    bucket.download_file("logs", "house/scores.parquet", "fetched.parquet")
    assert pq.read_table("fetched.parquet").equals(pq.read_table("scores.parquet"))
    assert {"house/scenarios.parquet", "house/scores.parquet"} < keys(bucket, "house/")
    assert not list((tmp_path / "caches").glob("*/result-*"))


@pytest.mark.slow
def test_killed_at_any_machine_a_training_goes_on_at_another(
    tmp_path: Path, machine: Machine, bucket: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(write_log(tmp_path))
    told(capsys, "train", config, "--dataset", "data", "--out", "run", *TRAINING)
    command = ["train", config, "--dataset", DATASET, "--out", RUN, *TRAINING]
    killed("from training.killed_runs import arm; arm('step', 3)", *command)
    assert "house/run/checkpoint.safetensors" in keys(bucket, "house/run")
    machine("second")
    assert "if it was killed, continue with --resume" in refused(command, capsys)
    assert told(capsys, *command, "--resume")["run"] == RUN
    assert_same_run(fetched(RUN, whole=True), Path("run"))
    assert "house/run/writer.json" not in keys(bucket, "house/run")


@pytest.mark.slow
def test_workers_of_two_machines_share_no_folder(
    tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(write_log(tmp_path))
    exact = [*TRAINING, "--set", "training.precision=float64"]
    told(capsys, "train", config, "--dataset", "data", "--out", "run", *exact)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    command = [sys.executable, "-m", "musenet", "train", config, "--dataset", DATASET, "--out", RUN, *exact]
    workers = []
    for rank in ("0", "1"):
        machine(f"machine {rank}")
        env = os.environ | address | {"RANK": rank, "LOCAL_RANK": "0"}
        workers.append(subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True))
    for worker in workers:
        said = worker.communicate()[1]
        assert worker.returncode == 0, said
    there, here = (load_tensors(RunFolder(path).model_file)[0] for path in (fetched(RUN), Path("run")))
    assert [name for name, value in here.items() if not torch.allclose(there[name], value, atol=1e-8)] == []
    assert validations_of(fetched(RUN))[-1]["step"] == validations_of(Path("run"))[-1]["step"]


def test_a_killed_upload_shows_no_dataset_and_the_same_command_ends_it(
    tmp_path: Path, machine: Machine, bucket: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(write_log(tmp_path))
    die = "from training.killed_runs import then_die; from musenet.storage.bucket import Bucket"
    killed(f"{die}; Bucket.upload = then_die(Bucket.upload, 5)", "prepare", config, "--out", DATASET)
    assert len(keys(bucket, "house/data")) == 5
    machine("second")
    assert not fetched(DATASET).exists()
    machine("first")
    assert told(capsys, "prepare", config, "--out", DATASET)["reused"]
    machine("second")
    Dataset(fetched(DATASET)).verify()


def test_a_report_and_runs_in_python(
    tmp_path: Path, machine: Machine, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure_little(monkeypatch)
    monkeypatch.setattr("musenet.reporting.figures.browser.BROWSERS", ())  # no pictures, which take long
    trained = api.train(write_log(tmp_path), RUN, dataset=DATASET)
    assert repr(trained) == f"Run({RUN!r})"
    machine("second")
    again = api.Run(RUN)
    assert again.training.run == RUN
    assert again.dataset.folder == fetched(DATASET)
    assert again.evaluate().metrics == trained.evaluate().metrics
    again.report()
    assert "house/run/report.html" in keys(bucket, "house/run")


def test_a_service_takes_the_export_that_comes_into_its_bucket(
    exported: Exported, tmp_path: Path, machine: Machine
) -> None:
    def export(version: str) -> None:
        with written(EXPORT) as folder:
            shutil.copytree(exported.folder, folder, dirs_exist_ok=True)
            content = read_export(folder).model_copy(update={"model_version": version})
            write_text(folder / MANIFEST, content.model_dump_json())

    export("earlier")
    machine("of the service")
    service = Service(fetched(EXPORT), str(tmp_path / "history.sqlite"))
    assert (service.scorer.version, service.reload()) == ("earlier", False)
    machine("first")
    export("later")
    machine("of the service")
    assert (service.reload(), service.scorer.version) == (True, "later")
    service.close()


@pytest.fixture
def prepared(tmp_path: Path, machine: Machine) -> str:
    config = str(write_log(tmp_path))
    api.prepare(config, DATASET)
    return config


def test_mistakes_are_one_sentence(
    prepared: str, machine: Machine, bucket: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine("second")
    assert "s3://none/run cannot be reached" in refused(["evaluate", "s3://none/run"], capsys)
    assert "s3://logs/house/none does not exist" in refused(["evaluate", "s3://logs/house/none"], capsys)
    assert "s3://logs/house/none" in refused(["predict", "s3://logs/house/none", "a.csv", "--out", "b.csv"], capsys)
    train = ["train", prepared, "--dataset", DATASET, "--out", "run"]
    key = next(key for key in keys(bucket, "house/data") if key.endswith("label.npy"))
    content = bucket.get_object(Bucket="logs", Key=key)["Body"].read()
    bucket.put_object(Bucket="logs", Key=key, Body=content[:-1] + b"?")
    assert f"s3://logs/{key} is damaged" in refused(train, capsys)
    bucket.delete_object(Bucket="logs", Key=key)
    assert f"s3://logs/{key} is missing" in refused(train, capsys)
    assert "written to local folders only" in refused(["compare", prepared, "--out", RUN], capsys)
    assert "are folders or buckets" in refused(["prepare", prepared, "--out", "https://host/data"], capsys)
    asked = ["predict", "s3://logs/house/none", "s3://logs/house/asked/*.parquet", "--out", "s3://logs/house/asked"]
    assert "is where the requests are read" in refused(asked, capsys)
    monkeypatch.setattr("s3fs.S3FileSystem._cache", {})
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "Unable to locate credentials" in refused(train, capsys)


def test_init_looks_at_a_folder_of_a_bucket(
    tmp_path: Path, machine: Machine, bucket: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    write_log(tmp_path)
    for place in ("day=1", "day=2"):
        bucket.upload_file("impressions.parquet", "logs", f"house/shop/{place}/part.parquet")
    assert told(capsys, "init", "s3://logs/house/shop", "--out", "there.yaml")["config"] == "there.yaml"
    loaded = api.load("there.yaml")
    assert loaded.name == "there"
    assert loaded.data.model_dump()["impressions"]["path"] == "s3://logs/house/shop"
    told(capsys, "prepare", "there.yaml", "--out", "there")
