"""What an export holds, and what is refused: folders that do not check out, and runs that cannot be served."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from musenet.cli.main import run as run_command
from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import write_manifest
from musenet.errors import ExportError, RunError
from musenet.preparation.prepare import prepare
from musenet.serving.export.export import export_run
from musenet.serving.manifest import read_export
from musenet.serving.scorer.scorer import Scorer
from preparation.logs import MemorySource, random_log, recipe
from serving.exports import SMALL, SOFT, Exported, new_run

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(exported: Exported, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    copy = tmp_path / "export"
    shutil.copytree(exported.folder, copy)
    return copy


def _edit(folder: Path, **changes: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing graph": (lambda f: (f / "candidates.onnx").unlink(), r"candidates\.onnx is missing: export the run again"),
    "missing table": (lambda f: (f / "items" / "codes.npy").unlink(), r"items/codes\.npy is missing"),
    "changed weights": (lambda f: _flip(f / "embeddings.npy"), r"embeddings\.npy was changed after the export"),
    "cut short": (lambda f: (f / "request.onnx").write_bytes(b""), r"request\.onnx was changed after the export"),
    "newer format": (lambda f: _edit(f, format=99), r"is of format 99, this version reads 3: install a newer musenet"),
    "older format": (lambda f: _edit(f, format=1), r"is of format 1, this version reads 3: export the run again"),
    "a key of the future": (lambda f: _edit(f, surprise=1), r"manifest\.json is damaged"),
    "no JSON": (lambda f: (f / "manifest.json").write_text("{"), r"manifest\.json is damaged"),
    "no manifest": (lambda f: (f / "manifest.json").unlink(), r"holds no export \(no manifest\.json\)"),
    "no folder": (shutil.rmtree, r"does not exist: give the folder that `musenet export` wrote"),
}


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_folder_that_does_not_check_out_is_refused(damage: str, folder: Path) -> None:
    change, sentence = DAMAGES[damage]
    change(folder)
    with pytest.raises(ExportError, match=sentence):
        Scorer(folder)


def test_an_export_is_whole_and_holds_no_pickle(exported: Exported) -> None:
    manifest = read_export(exported.folder)
    files = {path.relative_to(exported.folder).as_posix() for path in exported.folder.rglob("*") if path.is_file()}
    assert files == {*manifest.checksums, "manifest.json"}
    for name in files:
        if name.endswith(".npy"):
            np.load(exported.folder / name, allow_pickle=False)
    assert {Path(name).suffix for name in files} == {".npy", ".onnx", ".arrow", ".json"}


def test_the_manifest_says_what_serving_depends_on(exported: Exported) -> None:
    manifest = read_export(exported.folder)
    assert (manifest.history.length, manifest.history.kinds) == (5, ["click", "buy"])
    assert manifest.event_columns == {"item_id": "events", "city": "items", "brand": "items"}
    assert manifest.key_columns == {"item_id": "request"}
    assert manifest.separators == {"tags": ";"}
    assert manifest.scenarios == 3
    assert manifest.model_version.startswith("random-")


def test_an_export_is_replaced_and_anything_else_is_left_alone(
    exported: Exported, folder: Path, tmp_path: Path
) -> None:
    assert export_run(exported.run, folder) == read_export(exported.folder)
    (folder / "request.onnx").unlink()
    assert export_run(exported.run, folder) == read_export(exported.folder)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("keep")
    for other in (mine, exported.dataset.folder, exported.run.path):
        with pytest.raises(ExportError, match="exists and is not an export: name another folder"):
            export_run(exported.run, other)
    assert (mine / "notes.txt").read_text() == "keep"
    Dataset(exported.dataset.folder).verify()


@pytest.mark.parametrize("assignment", ["true", "permuted"])
def test_a_diagnostic_is_not_exported(assignment: str, exported: Exported, tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", exported.dataset, SOFT | {"assignment": assignment})
    with pytest.raises(RunError, match=f"the assignment '{assignment}' is a diagnostic"):
        export_run(run, tmp_path / "export")
    assert not (tmp_path / "export").exists()


def test_a_dataset_of_an_earlier_version_is_to_be_prepared_again(exported: Exported, tmp_path: Path) -> None:
    dataset = tmp_path / "dataset"
    shutil.copytree(exported.dataset.folder, dataset)
    earlier = {"event_columns": None, "key_columns": None}
    write_manifest(dataset, exported.dataset.manifest.model_copy(update=earlier))
    run = new_run(tmp_path / "run", Dataset(dataset), SMALL | {"name": "base_model"})
    with pytest.raises(RunError, match="did not keep what events and repeat keys look up: remove it, prepare it again"):
        export_run(run, tmp_path / "export")


def test_several_values_in_a_history_column_are_not_exported(tmp_path: Path) -> None:
    changes = {"history": {"columns": ["tags"], "length": 3}}
    dataset = prepare(MemorySource(random_log()), recipe(**changes), tmp_path / "dataset").dataset
    run = new_run(tmp_path / "run", dataset, SMALL | {"name": "base_model"}, **changes)
    with pytest.raises(RunError, match="the history column 'tags' holds several values"):
        export_run(run, tmp_path / "export")


def test_the_command_says_what_it_wrote(exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "served"
    assert run_command(["export", str(exported.run.path), "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"export": str(out)}
    assert read_export(out).name == "random"
    assert run_command(["export", str(tmp_path / "nothing"), "--out", str(out)]) == 2
    assert "does not exist: give the folder that `musenet train` wrote" in capsys.readouterr().err
