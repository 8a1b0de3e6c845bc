"""Workers that share out the embedding table learn and write what those learn and write that hold it whole."""

import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from distributed.test_workers import FOLDERS, TINY, USUAL, assert_same_state, train_all
from musenet.config.experiment import Experiment
from musenet.config.loading import validate_experiment
from musenet.dataset.dataset import Dataset
from musenet.distributed import row_shards, workers
from musenet.distributed.pieces import InPieces
from musenet.distributed.row_shards import RowShards, normal_rows, sharded_tables
from musenet.errors import ConfigError, RunError
from musenet.evaluation.predictions import Predictions
from musenet.models.embedding import EmbeddingTable
from musenet.runs.folder import RunFolder
from musenet.runs.run import Run
from musenet.runs.tensor_files import load_tensors, save_tensors
from musenet.training import loop
from musenet.training.checkpoint import save_checkpoint
from musenet.training.train_run import train_run
from planted import SMALL_MUSENET, planted_experiment, write_planted
from training.trained_runs import progress_of, validations_of

pytestmark = pytest.mark.slow

SINGLE = USUAL | {"precision": "float32", "checkpoint_every": 4}
WIDE_DEEP = {"name": "wide_deep", "embedding": 4, "hidden": [8]}
EXPERIMENTS: dict[str, Experiment] = {
    "musenet": planted_experiment(SMALL_MUSENET | {"history_encoder": "attention"}, **TINY),
    "wide_deep": planted_experiment(WIDE_DEEP, **TINY),
    "single": planted_experiment(SMALL_MUSENET, **SINGLE),
}
"""More than twenty steps each: two in float64, some workers with nothing of a batch, and one in float32."""
REPLICATED = [("musenet", 1), ("wide_deep", 1), ("single", 2), ("musenet", 3)]
KILLED, STOPPED = "musenet-killed", "musenet-stopped"
SHARDED = [("musenet", 2), ("musenet", 3), ("wide_deep", 2), ("single", 2)]


def with_training(experiment: Experiment, **options: Any) -> Experiment:
    return experiment.model_copy(update={"training": experiment.training.model_copy(update=options)})


def sharded(experiment: Experiment) -> Experiment:
    return with_training(experiment, embeddings="sharded")


@pytest.fixture(scope="module")
def torchrec() -> None:
    if find_spec("torchrec") is None or find_spec("fbgemm_gpu") is None:
        if os.environ.get("REQUIRE_ALL") == "1":
            pytest.fail("TorchRec is missing: pip install 'musenet[cluster]', pip install --no-deps torchrec==1.8.0")
        pytest.skip("needs TorchRec")


@pytest.fixture(scope="module")
def runs(torchrec: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every experiment, with whole tables and with shards of them."""
    folder = tmp_path_factory.mktemp("sharded")
    dataset = write_planted(folder / "dataset", weighted=True)
    trainings = EXPERIMENTS | {f"{name}-sharded": sharded(experiment) for name, experiment in EXPERIMENTS.items()}
    trainings |= {
        KILLED: sharded(with_training(EXPERIMENTS["musenet"], checkpoint_every=4)),
        STOPPED: trainings["musenet-sharded"],
    }
    for name, experiment in trainings.items():
        (folder / f"{name}.json").write_text(experiment.model_dump_json(by_alias=True))
    cases: list[Any] = [*REPLICATED, *((f"{name}-sharded", count) for name, count in SHARDED)]
    files = [folder / f"{name}.json" for name in trainings]
    cases += [(KILLED, 2, 9), (STOPPED, 2)]
    stop_with_the_whole_table(dataset, folder / "runs" / STOPPED / "2")
    train_all(dataset, folder / "runs", cases, files)
    return folder / "runs"


def stop_with_the_whole_table(dataset: Dataset, path: Path) -> None:
    """Begin a training that is interrupted once its first checkpoint is there, after eight steps."""

    def save_and_stop(*args: Any) -> None:
        save_checkpoint(*args)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "save_checkpoint", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            train_run(with_training(EXPERIMENTS["musenet"], checkpoint_every=8), dataset, path)
    assert progress_of(path)["step"] == 8


@pytest.mark.parametrize(("name", "count"), [case for case in SHARDED if case[0] != "single"])
def test_shards_learn_what_one_process_learns(name: str, count: int, runs: Path):
    found, expected = runs / f"{name}-sharded" / str(count), runs / name / "1"
    assert_same_state(found, expected)
    assert progress_of(found)["step"] == progress_of(expected)["step"] >= 20
    counts = [RunFolder(path).read_json("training.json")["parameters"] for path in (found, expected)]
    assert counts[0] == counts[1]


@pytest.mark.parametrize(("name", "count"), [("single", 2), ("musenet", 3)])
def test_shards_learn_the_same_bits_as_so_many_workers_with_whole_tables(name: str, count: int, runs: Path):
    found, expected = (RunFolder(runs / trained / str(count)) for trained in (f"{name}-sharded", name))
    assert found.model_file.read_bytes() == expected.model_file.read_bytes()
    tensors, others = (load_tensors(run.checkpoint_file)[0] for run in (found, expected))  # beside them stand times
    assert sorted(tensors) == sorted(others)
    assert [name for name, value in tensors.items() if not torch.equal(value, others[name])] == []


def test_shards_validate_and_predict_the_same(runs: Path):
    found, expected = runs / "musenet-sharded" / "3", runs / "musenet" / "3"
    for entry, other in zip(*map(validations_of, (found, expected)), strict=True):
        assert entry["valid"] == pytest.approx(other["valid"], abs=1e-8)
    predictions = [Predictions.from_parquet(*(p / f / "test.parquet" for f in FOLDERS)) for p in (found, expected)]
    for name in ("logit", "assignment"):
        several, one = (getattr(each, name) for each in predictions)
        np.testing.assert_allclose(several, one, rtol=0, atol=1e-8)


def test_one_process_evaluates_the_run_folder_of_shards(runs: Path):
    found, expected = (RunFolder.open(runs / name) for name in ("musenet-sharded/2", "musenet/1"))
    for run in (found, expected):
        for folder in FOLDERS:
            (run.path / folder / "test.parquet").unlink()  # scored anew, by one process with the whole table
    scores = [Run(run).evaluate("test").to_json() for run in (found, expected)]
    assert scores[0]["auc"] == pytest.approx(scores[1]["auc"], abs=1e-8)
    assert scores[0]["logloss"] == pytest.approx(scores[1]["logloss"], abs=1e-8)


@pytest.mark.parametrize(("name", "count"), SHARDED)
def test_each_worker_holds_its_rows_and_their_moments_alone(name: str, count: int, runs: Path):
    run = runs / f"{name}-sharded"
    held = [load_file(run / "held" / f"{count}-{rank}.safetensors") for rank in range(count)]
    stored = load_tensors(RunFolder(run / str(count)).checkpoint_file)[0]
    share = -(-len(stored["model.table.weight"]) // count)
    assert [len(tensors["weight"]) for tensors in held[:-1]] == [share] * (count - 1)
    of_file = {"weight": "model.table.weight", "mean": "optimizer.lazy.mean", "square": "optimizer.lazy.square"}
    for part, whole in of_file.items():
        torch.testing.assert_close(torch.cat([tensors[part] for tensors in held]), stored[whole], rtol=0, atol=0)


def test_one_of_two_with_shards_is_killed_and_one_with_the_whole_table_goes_on(runs: Path):
    path = runs / KILLED / "2"
    assert progress_of(path)["step"] == 8
    whole = with_training(EXPERIMENTS["musenet"], checkpoint_every=4)
    train_run(whole, Dataset(runs.parent / "dataset"), path, resume=True)
    assert_same_state(path, runs / "musenet" / "1")


def test_two_with_shards_go_on_where_one_with_the_whole_table_stopped(runs: Path):
    assert_same_state(runs / STOPPED / "2", runs / "musenet" / "1")


@pytest.mark.parametrize(("rows", "size"), [(1, 3), (5, 3), (32, 1), (33, 3), (100, 5), (161, 2)])
def test_rows_are_drawn_as_the_whole_table_would_be(rows: int, size: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(row_shards, "PIECE", 32)
    torch.manual_seed(3)
    expected, following = torch.randn(rows, size), torch.randn(4)
    for own in (range(rows), range(rows // 3), range(rows // 3, rows - 1), range(rows, rows)):
        torch.manual_seed(3)
        assert torch.equal(normal_rows(rows, size, own), expected[own.start : own.stop])
        assert torch.equal(torch.randn(4), following)


def test_a_file_written_in_pieces_is_the_same_to_the_byte(tmp_path: Path):
    table = torch.arange(21.0, dtype=torch.float64).reshape(7, 3)
    rest = {"step": torch.tensor(4), "seen": torch.tensor([True, False, True]), "single": torch.ones(3, 1)}
    in_pieces = InPieces((7, 3), torch.float64, lambda: iter(table.split(2)))
    save_tensors(tmp_path / "pieces", {"seen": rest["seen"], "table": in_pieces, **rest}, {"progress": "{}"})
    save_tensors(tmp_path / "whole", {"table": table, **rest}, {"progress": "{}"})
    assert (tmp_path / "pieces").read_bytes() == (tmp_path / "whole").read_bytes()


@pytest.mark.parametrize("count", [2, 3, 9])
def test_of_a_file_each_worker_reads_its_rows_and_no_other_table(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    table, file = torch.arange(14.0).reshape(7, 2), tmp_path / "model.safetensors"
    save_tensors(file, {"table": table, "bias": torch.ones(2)})
    monkeypatch.setattr(workers, "count", lambda: count)
    parts = []
    for rank in range(count):
        monkeypatch.setattr(workers, "rank", lambda rank=rank: rank)
        tensors, _ = load_tensors(file, {"table": RowShards(7)})
        assert torch.equal(tensors["bias"], torch.ones(2))
        parts.append(tensors["table"])
        with pytest.raises(RunError, match="7 rows, the dataset needs 8"):
            load_tensors(file, {"table": RowShards(8)})
    assert torch.equal(torch.cat(parts), table)
    assert max(map(len, parts)) == -(-7 // count)


def test_of_a_file_larger_than_memory_a_worker_reads_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file, size = tmp_path / "model.safetensors", 16
    rows = 4 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // (size * 4)
    entry = {"dtype": "F32", "shape": [rows, size], "data_offsets": [0, rows * size * 4]}
    header = json.dumps({"table": entry}).encode()
    header += b" " * (-len(header) % 8)
    with file.open("wb") as out:  # of zeros that take no place, but for the last row
        out.write(len(header).to_bytes(8, "little") + header)
        out.seek(rows * size * 4 - 4, 1)
        out.write(np.float32(1.5).tobytes())
    monkeypatch.setattr(workers, "count", lambda: -(-rows // 3))
    monkeypatch.setattr(workers, "rank", lambda: (rows - 1) // 3)
    own = load_tensors(file, {"table": RowShards(rows)})[0]["table"]
    assert 0 < len(own) <= 3
    assert own[-1, -1].item() == own.sum().item() == 1.5


def test_a_file_that_was_cut_short_is_refused(tmp_path: Path):
    file = tmp_path / "model.safetensors"
    save_tensors(file, {"table": torch.ones(5, 3), "step": torch.tensor(4)})
    content = file.read_bytes()
    for length in (0, 5, 20, len(content) - 1):
        file.write_bytes(content[:length])
        with pytest.raises(RunError, match=r"model\.safetensors is missing or damaged"):
            load_tensors(file)


def test_without_torchrec_several_workers_are_told_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(workers, "count", lambda: 2)
    monkeypatch.setattr(row_shards, "find_spec", lambda _: None)
    said = r"training.embeddings is sharded.*musenet\[cluster\].*--no-deps torchrec"
    with pytest.raises(RunError, match=said), sharded_tables(True):
        pass


def test_one_worker_needs_no_torchrec_and_has_the_whole_table(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(row_shards, "find_spec", lambda _: None)
    with sharded_tables(True):
        table = EmbeddingTable(7, 2)
    assert table.shards is None
    assert len(table.weight) == 7


def test_an_unknown_way_of_holding_embeddings_is_refused():
    content: Any = EXPERIMENTS["single"].model_dump(mode="json", by_alias=True)
    content["training"]["embeddings"] = "split"
    with pytest.raises(ConfigError, match=r"training\.embeddings"):
        validate_experiment(content, "here")
