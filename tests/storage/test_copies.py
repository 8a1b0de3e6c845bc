"""What is in a bucket and its local copy are alike whenever one of them is opened or was written."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from musenet.errors import RunError, UserError
from musenet.files import checksum
from musenet.storage.addresses import copy_of
from musenet.storage.bucket import CLAIM, Bucket
from musenet.storage.cache import Copy
from musenet.storage.copies import fetched, result_at, send, training_in, written
from musenet.workspace import MANIFEST

Machine = Any


@pytest.fixture(autouse=True)
def empty(bucket: Any) -> None:
    """Other tests leave their objects in it."""
    for found in objects(bucket):
        bucket.delete_object(Bucket="logs", Key=found)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Be on a machine of this name: its cache is its own."""

    def be_on(name: str) -> None:
        monkeypatch.setenv("MUSENET_CACHE", str(tmp_path / name))

    be_on("first")
    return be_on


def objects(bucket: Any) -> set[str]:
    found = bucket.list_objects_v2(Bucket="logs").get("Contents", [])
    return {one["Key"] for one in found}


def put(bucket: Any, key: str, content: bytes) -> None:
    bucket.put_object(Bucket="logs", Key=key, Body=content)


def make(folder: Path, **files: str) -> None:
    """A folder of files with a manifest, the one that was there before replaced."""
    for old in folder.glob("*"):
        old.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    checksums = {name: checksum(folder / name) for name in files}
    (folder / MANIFEST).write_text(json.dumps({"checksums": checksums}))


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.name != MANIFEST}


def uploads(monkeypatch: pytest.MonkeyPatch, fail_at: int | None = None) -> list[str]:
    """The names that are uploaded from now on; the process is "killed" before the so-maniest."""
    names: list[str] = []
    upload = Bucket.upload

    def counted(self: Bucket, file: Path, name: str) -> Any:
        if len(names) == fail_at:
            raise KeyboardInterrupt
        names.append(name)
        return upload(self, file, name)

    monkeypatch.setattr(Bucket, "upload", counted)
    return names


def test_what_was_written_is_fetched_elsewhere_and_again_only_where_it_changed(
    bucket: Any, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with written("s3://logs/data") as folder:
        make(folder, a="1", b="2")
    put(bucket, "data/nested/run/model", b"no part of it")
    machine("second")
    assert contents(fetched("s3://logs/data")) == {"a": "1", "b": "2"}
    machine("first")
    with written("s3://logs/data") as folder:
        make(folder, b="2", c="3")
    assert objects(bucket) == {"data/b", "data/c", f"data/{MANIFEST}", "data/nested/run/model"}
    machine("second")
    asked: list[str] = []
    download = Bucket.download

    def counted(self: Bucket, names: list[str], folder: Path) -> None:
        asked.extend(names)
        download(self, names, folder)

    monkeypatch.setattr(Bucket, "download", counted)
    assert contents(fetched("s3://logs/data")) == {"b": "2", "c": "3"}
    assert "nested/run/model" not in asked
    asked.clear()
    fetched("s3://logs/data")
    assert not asked
    (fetched("s3://logs/data") / "b").write_text("changed in the cache")
    assert contents(fetched("s3://logs/data")) == {"b": "2", "c": "3"}
    assert asked == ["b"]


def test_the_manifest_is_sent_last_and_taken_away_first(
    bucket: Any, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        names = uploads(patch)
        with written("s3://logs/data") as folder:
            make(folder, a="1", z="2")
        assert names == ["a", "z", MANIFEST]
    with monkeypatch.context() as patch:
        uploads(patch, fail_at=1)
        with pytest.raises(KeyboardInterrupt), written("s3://logs/data") as folder:
            make(folder, a="3", z="4")
    assert objects(bucket) == {"data/a", "data/z"}
    machine("second")
    assert not fetched("s3://logs/data").exists() or not contents(fetched("s3://logs/data")), "nobody sees it"
    machine("first")
    with monkeypatch.context() as patch:
        names = uploads(patch)
        with written("s3://logs/data") as folder:
            assert contents(folder) == {"a": "3", "z": "4"}, "what was made is still there"
        assert names == ["z", MANIFEST], "only the rest is sent"
    machine("second")
    assert contents(fetched("s3://logs/data")) == {"a": "3", "z": "4"}


def test_what_is_deleted_in_the_bucket_is_sent_again_by_who_has_it(bucket: Any, machine: Machine) -> None:
    with written("s3://logs/data") as folder:
        make(folder, a="1")
    for name in ("a", MANIFEST):
        bucket.delete_object(Bucket="logs", Key=f"data/{name}")
    with written("s3://logs/data") as folder:
        assert contents(folder) == {"a": "1"}
    assert objects(bucket) == {"data/a", f"data/{MANIFEST}"}


def test_missing_and_damaged_objects_are_named(bucket: Any, machine: Machine) -> None:
    with written("s3://logs/data") as folder:
        make(folder, a="1", b="2")
    machine("second")
    put(bucket, "data/b", b"3")
    with pytest.raises(UserError, match=r"^s3://logs/data/b is damaged, or was changed"):
        fetched("s3://logs/data")
    bucket.delete_object(Bucket="logs", Key="data/b")
    with pytest.raises(UserError, match=r"^s3://logs/data/b is missing"):
        fetched("s3://logs/data")
    put(bucket, "data/b", b"2")
    assert contents(fetched("s3://logs/data")) == {"a": "1", "b": "2"}


def test_a_run_is_as_in_the_bucket_whatever_a_killed_process_left_here(bucket: Any, machine: Machine) -> None:
    with training_in(run := fetched("s3://logs/run"), goes_on=False):
        run.mkdir(parents=True)
        (run / "run.json").write_text("{}")
        (run / "checkpoint.safetensors").write_text("step 1")
        send(run)
        assert objects(bucket) == {"run/run.json", "run/checkpoint.safetensors", f"run/{CLAIM}"}
    assert f"run/{CLAIM}" not in objects(bucket)
    (run / "checkpoint.safetensors").write_text("step 2, not sent")
    (run / "model.safetensors").write_text("step 2, not sent")
    with training_in(run, goes_on=True):
        assert contents(run) == {"run.json": "{}", "checkpoint.safetensors": "step 1"}
        (run / "checkpoint.safetensors").unlink()
    assert objects(bucket) == {"run/run.json"}


def test_who_reads_a_run_does_not_wait_for_its_checkpoint(bucket: Any, machine: Machine) -> None:
    for name in ("run.json", "checkpoint.safetensors", "model.safetensors"):
        put(bucket, f"run/{name}", b"{}")
    run = fetched("s3://logs/run")
    assert contents(run).keys() == {"run.json", "model.safetensors"}
    (run / "evaluation").mkdir()
    (run / "evaluation" / "test.json").write_text("{}")
    send(run)
    assert "run/checkpoint.safetensors" in objects(bucket)
    assert "run/evaluation/test.json" in objects(bucket)


def test_a_run_that_is_being_trained_is_claimed_until_another_training_takes_it_over(
    bucket: Any, machine: Machine
) -> None:
    first = fetched("s3://logs/run")

    def train() -> None:
        with training_in(first, goes_on=False):
            first.mkdir(parents=True)
            (first / "run.json").write_text("first")
            send(first)
            at_work = "another process of this machine is working in s3://logs/run"
            with pytest.raises(UserError, match=at_work), training_in(first, goes_on=True):
                pass
            machine("second")
            second = copy_of("s3://logs/run")
            claimed = r"is being trained by process \d+ of .* since 20.*continue with --resume"
            with pytest.raises(RunError, match=claimed), training_in(second, goes_on=False):
                pass
            with training_in(second, goes_on=True):
                (second / "model.safetensors").write_text("second")
            machine("first")
            (first / "model.safetensors").write_text("late")
            send(first)

    with pytest.raises(RunError, match=r"^s3://logs/run was taken over by another training"):
        train()
    assert objects(bucket) == {"run/run.json", "run/model.safetensors"}
    assert bucket.get_object(Bucket="logs", Key="run/model.safetensors")["Body"].read() == b"second"


def test_refusing_to_go_on_takes_nothing_over(bucket: Any, machine: Machine) -> None:
    put(bucket, "run/run.json", b"{}")
    put(bucket, f"run/{CLAIM}", b"{}")
    run = fetched("s3://logs/run")
    with pytest.raises(RunError, match="another configuration"), training_in(run, goes_on=True):
        raise RunError("another configuration")
    assert bucket.get_object(Bucket="logs", Key=f"run/{CLAIM}")["Body"].read() == b"{}"


def test_a_copy_that_is_written_here_is_read_as_it_is(bucket: Any, machine: Machine) -> None:
    put(bucket, "run/run.json", b"{}")
    run = fetched("s3://logs/run")
    with training_in(run, goes_on=True):
        (run / "metrics.jsonl").write_text("a line that is not sent yet")
        assert "metrics.jsonl" in contents(fetched("s3://logs/run"))


def test_copies_used_longest_ago_give_way(bucket: Any, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c"):
        put(bucket, f"{name}/run.json", b"x" * 1000)
    monkeypatch.setattr(Copy, "hold", lambda self: None)  # as if other processes had fetched them, and ended
    monkeypatch.setenv("MUSENET_CACHE_SIZE", "2500B")
    first, second = fetched("s3://logs/a"), fetched("s3://logs/b")
    for record in Path(os.environ["MUSENET_CACHE"]).glob("state/*.json"):
        moment = 2 if "s3://logs/b" in record.read_text() else 1
        os.utime(record, (moment, moment))
    third = fetched("s3://logs/c")
    assert [folder.exists() for folder in (first, second, third)] == [False, True, True]


def test_what_is_in_use_stays_and_what_has_no_room_is_refused(
    bucket: Any, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        put(bucket, f"{name}/run.json", b"x" * 1000)
    monkeypatch.setenv("MUSENET_CACHE_SIZE", "1500B")
    first = fetched("s3://logs/a")
    with pytest.raises(UserError, match=r"^s3://logs/b has .* GB, for which the cache .* raise MUSENET_CACHE_SIZE"):
        fetched("s3://logs/b")
    assert first.exists()
    monkeypatch.setenv("MUSENET_CACHE_SIZE", "much")
    with pytest.raises(UserError, match="MUSENET_CACHE_SIZE: 'much' is not a size"):
        fetched("s3://logs/b")


def test_a_copy_that_is_asked_for_keeps_its_files_inside_another(
    bucket: Any, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an export in its run's folder, where the run was fetched, too, and is not in use."""
    with monkeypatch.context() as patch:
        patch.setattr(Copy, "hold", lambda self: None)  # as if another process had fetched them, and ended
        put(bucket, "run/run.json", b"x" * 1000)
        with written("s3://logs/run/export") as export:
            make(export, a="x" * 1000)
        for address in ("s3://logs/run", "s3://logs/run/export"):
            fetched(address)
    monkeypatch.setenv("MUSENET_CACHE_SIZE", "1500B")
    with pytest.raises(UserError, match="raise MUSENET_CACHE_SIZE"):
        fetched("s3://logs/run/export")
    assert contents(export) == {"a": "x" * 1000}


def test_files_that_commands_write_may_lie_in_a_bucket(bucket: Any, machine: Machine) -> None:
    with result_at("s3://logs/out/page.html") as page:
        page.write_text("page")
        page.with_name("page-figures").mkdir()
        (page.with_name("page-figures") / "auc.csv").write_text("1")
    assert objects(bucket) == {"out/page.html", "out/page-figures/auc.csv"}


def test_what_cannot_be_reached_is_said_in_one_sentence(
    bucket: Any, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"^s3://none/data cannot be reached \(The specified bucket does not exist\)"):
        fetched("s3://none/data")
    monkeypatch.setattr("s3fs.S3FileSystem._cache", {})
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(UserError, match=r"^s3://logs/data cannot be reached \(Unable to locate credentials\)"):
        fetched("s3://logs/data")
