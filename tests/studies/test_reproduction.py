"""`reproduce`: a run trained again is the same to the bit, and what is otherwise is told."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import musenet
from musenet.cli.main import run as command
from musenet.config.experiment import Experiment
from musenet.dataset.dataset import Dataset
from musenet.errors import DatasetError, RunError
from musenet.runs.folder import RunFolder
from musenet.training.train_run import train_run
from tiny_runs import write_dataset


@pytest.fixture
def trained(make_experiment: Callable[..., Experiment], tiny_dataset: Dataset, tmp_path: Path) -> Path:
    train_run(make_experiment(), tiny_dataset, tmp_path / "run")
    return tmp_path / "run"


def test_a_run_trained_again_is_the_same_to_the_bit(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["reproduce", str(trained), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["identical"]
    assert found["versions"] == {}
    assert found["again"] == str(trained.with_name("run-again"))
    weights = [(folder / "model.safetensors").read_bytes() for folder in (trained, trained.with_name("run-again"))]
    assert weights[0] == weights[1]
    for split in ("valid", "test"):
        measured = musenet.evaluate(trained, split).to_json()
        assert found["metrics"][split]["auc"] == [measured["auc"]["value"]] * 2


def test_other_weights_other_metrics_and_other_versions_are_told(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # As a training under another release would have left it: more careful, and with another numpy.
    text = (trained / "config.yaml").read_text()
    (trained / "config.yaml").write_text(text.replace("seed: 1", "seed: 2"))
    versions = json.loads((trained / "versions.json").read_text())
    now = versions["numpy"]
    (trained / "versions.json").write_text(json.dumps(versions | {"numpy": "1.0"}))
    assert command(["reproduce", str(trained), "--out", str(tmp_path / "second")]) == 1
    shown = capsys.readouterr().out
    assert "other weights and other metrics" in " ".join(shown.split())
    assert f"numpy: 1.0 then, {now} now" in shown


@pytest.mark.parametrize("form", ["log", "auto"])
def test_the_threads_of_training_are_kept_and_compared(
    form: str,
    make_experiment: Callable[..., Experiment],
    tiny_dataset: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not those of the process, since training takes as many as a batch has work for: sums of floats depend on it."""
    has = [3]
    monkeypatch.setattr(torch, "get_num_threads", lambda: has[-1])
    monkeypatch.setattr(torch, "set_num_threads", has.append)
    model = {"name": "musenet", "scenarios": 2, "hidden": [4], "embedding": 2, "form": form}
    experiment = make_experiment(model=model, training={"epochs": 1, "batch_size": 64})
    train_run(experiment, tiny_dataset, tmp_path / "run")
    assert RunFolder(tmp_path / "run").versions["threads"] == 1
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text().replace("threads: null", "threads: 2"))
    assert musenet.reproduce(tmp_path / "run").versions == {"threads": [1, 2]}


def test_what_cannot_be_reproduced_is_refused(trained: Path, tmp_path: Path) -> None:
    (trained / "training.json").unlink()
    (trained / "model.safetensors").unlink()
    with pytest.raises(RunError, match="no trained model yet"):
        musenet.reproduce(trained)
    with pytest.raises(RunError, match="does not exist"):
        musenet.reproduce(tmp_path / "nowhere")


def test_a_changed_dataset_is_refused_before_anything_is_trained(
    make_experiment: Callable[..., Experiment], tmp_path: Path
) -> None:
    dataset = write_dataset(tmp_path / "dataset")
    train_run(make_experiment(), dataset, tmp_path / "run")
    file = next(dataset.folder.rglob("device*"))
    changed = bytearray(file.read_bytes())
    changed[-1] ^= 1
    file.write_bytes(changed)
    with pytest.raises(DatasetError, match="device"):
        musenet.reproduce(tmp_path / "run")
    assert not (tmp_path / "run-again").exists()
