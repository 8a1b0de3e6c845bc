"""What benchmarks/accuracy hands to other implementations, against a reading of the dataset row by row."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from musenet.dataset.dataset import Dataset
from musenet.dataset.inputs.repeat_features import repeat_features
from musenet.dataset.manifest import FIRST_VALUE
from musenet.errors import ConfigError
from musenet.preparation.prepare import prepare
from places import ROOT
from preparation.logs import MemorySource, random_log, recipe

WITHOUT_TAGS = {
    "user": [{"age": {"numeric": "log"}}, {"home": {"vocabulary": "city"}}],
    "item": ["city", "brand", {"stars": {"numeric": "standardise"}}],
    "context": ["device", "party"],
    "candidate": [{"price": {"numeric": "log"}}, {"place": "position"}],
}


def load(name: str) -> ModuleType:
    path = ROOT / "benchmarks" / "accuracy" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


peer_export, peer_table = load("peer_export"), load("peer_table")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    out = tmp_path_factory.mktemp("export") / "dataset"
    return prepare(MemorySource(random_log(3)), recipe(features=WITHOUT_TAGS), out).dataset


@pytest.fixture(scope="module")
def folder(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out: Path = tmp_path_factory.mktemp("exported")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(peer_export, "REQUESTS_AT_ONCE", 7)  # several blocks
        peer_export.export(dataset, out)
    return out


def arrays(folder: Path, split: str) -> dict[str, Any]:
    with np.load(folder / f"{split}.npz") as content:
        return dict(content)


def events_of(dataset: Dataset, request: int) -> range:
    """Rows of the last events of the request's user before it."""
    user, end = int(dataset.requests.user[request]), int(dataset.requests.history_end[request])
    begin = int(dataset.events.offset[user])
    return range(max(begin, end - dataset.manifest.history_length), end)


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_rows_are_those_of_the_dataset(dataset: Dataset, folder: Path, split: Any):
    exported, schema = arrays(folder, split), json.loads((folder / "schema.json").read_text())
    period, offset = dataset.manifest.splits[split], dataset.requests.candidate_offset
    row = 0
    for place, request in enumerate(range(period.begin, period.end)):
        for candidate in range(int(offset[request]), int(offset[request + 1])):
            rows = {"context": request, "candidate": candidate, "item": int(dataset.candidates.item[candidate])}
            rows["user"] = int(dataset.requests.user[request])
            expected = [
                FIRST_VALUE
                if field["name"] == "place" and split != "train"
                else dataset.column(dataset.field(field["side"], field["name"]))[rows[field["side"]]]
                for field in schema["fields"]
            ]
            assert exported["codes"][row].tolist() == expected
            assert exported["label"][row] == dataset.candidates.label[candidate]
            assert exported["request"][row] == place
            scenario = int(dataset.requests.predefined_scenario[request])
            assert exported["scenario"][row] == scenario >= 0
            row += 1
    assert all(len(exported[name]) == row == period.impressions for name in ("codes", "dense", "label", "request"))


@pytest.mark.parametrize("split", ["train", "test"])
def test_histories_are_padded_behind_the_newest_event(dataset: Dataset, folder: Path, split: Any):
    exported, period = arrays(folder, split), dataset.manifest.splits[split]
    for place, request in enumerate(range(period.begin, period.end)):
        events = events_of(dataset, request)
        padding = [0] * (dataset.manifest.history_length - len(events))
        for at, name in enumerate(["item_id", "city", "brand"]):
            codes = dataset.column(dataset.field("history", name))[events.start : events.stop].tolist()
            assert exported["history"][place, at].tolist() == codes + padding
        assert exported["length"][place] == len(events)
    longest = dataset.manifest.history_length
    assert len(set(exported["length"].tolist())) > 1, "all histories are of one length"
    assert exported["history"].shape[1:] == (3, longest)


def test_numbers_end_with_the_repeat_features(dataset: Dataset, folder: Path):
    exported, schema = arrays(folder, "test"), json.loads((folder / "schema.json").read_text())
    period, offset = dataset.manifest.splits["test"], dataset.requests.candidate_offset
    shown = slice(int(offset[period.begin]), int(offset[period.end]))
    named = dict(zip(schema["dense"], exported["dense"].T, strict=True))
    assert {"age", "stars", "price"} < set(named)
    np.testing.assert_array_equal(named["price"], dataset.column(dataset.field("candidate", "price"))[shown])
    items = dataset.candidates.item[shown]
    np.testing.assert_array_equal(named["stars"], dataset.column(dataset.field("item", "stars"))[items])
    candidates = dataset.candidates
    repeats = [of[shown] for of in (candidates.repeat_indicator, candidates.repeat_count, candidates.repeat_recency)]
    assert schema["dense"][-3:] == ["repeat_0", "repeat_1", "repeat_2"]
    np.testing.assert_array_equal(exported["dense"][:, -3:], repeat_features(*repeats))


def test_every_code_has_a_row_in_its_vocabulary(dataset: Dataset, folder: Path):
    schema = json.loads((folder / "schema.json").read_text())
    assert schema["codes"] == {name: size + 1 for name, size in dataset.manifest.vocabularies.items()}
    for split in ("train", "valid", "test"):
        exported = arrays(folder, split)
        sizes = [schema["codes"][field["vocabulary"]] for field in schema["fields"]]
        assert (exported["codes"].max(axis=0) < sizes).all()
        assert exported["codes"].min() >= 1
        sizes = [schema["codes"][field["vocabulary"]] for field in schema["history"]]
        assert (exported["history"].max(axis=(0, 2)) < sizes).all()


def test_the_same_dataset_is_not_exported_twice(dataset: Dataset, folder: Path):
    before = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    peer_export.export(dataset, folder)
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == before


def test_multi_valued_fields_are_refused_by_name(tmp_path: Path):
    dataset = prepare(MemorySource(random_log(3)), recipe(), tmp_path / "dataset").dataset
    with pytest.raises(ConfigError, match="tags: multi-valued fields cannot be exported"):
        peer_export.export(dataset, tmp_path / "export")


def test_one_standard_deviation_is_the_larger_of_both():
    row = peer_table.Comparison("din", ours=[0.70, 0.72, 0.74], peer=[0.73, 0.74, 0.75], initial="own")
    assert row.spread == pytest.approx(0.02)
    assert row.difference == pytest.approx(-0.02)
    assert not peer_table.Comparison("din", ours=[0.69, 0.70, 0.71], peer=[0.73, 0.74, 0.75], initial="own").reaches
    assert "| din | 0.7200 ± 0.0200 | 0.7400 ± 0.0100 | own | -0.0200 |" in peer_table.to_markdown([row], "peer 1.0")
