"""Several workers evaluate a run and tell its scenarios as one process does, to the byte, and speak once."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from distributed.test_row_shards import torchrec  # noqa: F401 - a fixture
from musenet.config.loading import validate_experiment
from musenet.preparation.prepare import prepare
from musenet.runs.folder import RunFolder
from places import TESTS
from preparation.logs import MemorySource, random_log, recipe
from serving.exports import SOFT, untrained_run

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("scoring_worker.py")
WRITTEN = (
    "predictions",
    "assignments",
    "evaluation",
    "calibration.json",
    "names.json",
    "scenarios.parquet",
    "found.json",
)


@pytest.fixture(scope="module")
def runs(torchrec: None, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """Runs of one model, for shards and for whole tables; nothing was made of them yet."""
    folder = tmp_path_factory.mktemp("scoring")
    dataset = prepare(MemorySource(random_log(requests=240)), recipe(), folder / "dataset").dataset
    content = recipe().model_dump(mode="json", by_alias=True)
    content |= {"name": "random", "data": {"source": "complete_journey"}, "model": SOFT, "calibration": "platt"}
    for name, embeddings in {"whole": "replicated", "sharded": "sharded"}.items():
        experiment = validate_experiment(content | {"training": {"embeddings": embeddings}}, "random")
        untrained_run(folder / name, dataset, experiment)
    return folder


def command(
    workers: int, *arguments: str | Path, script: Path = SCRIPT, **environment: str
) -> subprocess.CompletedProcess[str]:
    """A command, or another script, of so many workers, each of one thread."""
    started = [sys.executable]
    if workers > 1:
        started += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(workers)]
    path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [*started, str(script), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env=os.environ | {"NO_COLOR": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": path} | environment,
    )


def told(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Its sentences about what went wrong."""
    assert done.returncode != 0
    assert done.stdout == ""
    return [line for line in done.stderr.splitlines() if line.startswith("error: ")]


def all_of(run: Path, workers: int) -> dict[str, Any]:
    """What both commands print and write, of a copy of the run."""
    copy = shutil.copytree(run, run.with_name("copy"))
    try:
        printed = []
        for arguments in (
            ("evaluate", copy, "--out", copy / "found.json", "--json"),
            ("scenarios", copy, "--out", copy / "scenarios.parquet"),
        ):
            done = command(workers, *arguments)
            assert done.returncode == 0, done.stderr
            printed.append(done.stdout)
        files = [
            file for name in WRITTEN for file in ((copy / name).rglob("*") if (copy / name).is_dir() else [copy / name])
        ]
        return {"printed": printed} | {str(file.relative_to(copy)): file.read_bytes() for file in files}
    finally:
        shutil.rmtree(copy)


@pytest.fixture(scope="module")
def expected(runs: Path) -> dict[str, Any]:
    return all_of(runs / "sharded", 1)


def test_each_worker_scores_its_share_with_its_own_rows(runs: Path, tmp_path: Path):
    out = tmp_path / "scenarios.csv"
    done = command(
        3, "scenarios", shutil.copytree(runs / "sharded", tmp_path / "run"), "--out", out, HELD=str(tmp_path)
    )
    assert done.returncode == 0, done.stderr
    rows, batches = zip(*(json.loads((tmp_path / str(rank)).read_text()) for rank in range(3)), strict=True)
    table = len(RunFolder(runs / "sharded").load_state()["table.weight"])
    assert rows == (share := -(-table // 3), share, table - 2 * share)
    assert max(batches) - min(batches) <= 1 < min(batches)


@pytest.mark.parametrize(("name", "workers"), [("sharded", 3), ("whole", 2)])
def test_workers_print_and_write_what_one_process_does(name: str, workers: int, runs: Path, expected: dict[str, Any]):
    found = all_of(runs / name, workers)
    assert sorted(found) == sorted(expected)
    assert [key for key, content in expected.items() if found[key] != content] == []


def test_a_script_makes_several_calls(runs: Path, expected: dict[str, Any], tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys, musenet\n"
        "found = [musenet.evaluate(sys.argv[1]).auc.value for _ in range(3)]\n"
        "print(*found) if os.environ['RANK'] == '0' else None\n"
    )
    done = command(2, shutil.copytree(runs / "sharded", tmp_path / "run"), script=script)
    assert done.returncode == 0, done.stderr
    auc = json.loads(expected["found.json"])["auc"]["value"]
    assert list(map(float, done.stdout.split())) == pytest.approx([auc] * 3, abs=1e-6)


def test_what_is_compared_is_all_there(expected: dict[str, Any]):
    names = {"found.json", "scenarios.parquet", "calibration.json", "names.json", "evaluation/test.json"}
    assert names <= set(expected)
    assert {
        f"{folder}/{split}.parquet" for folder in ("predictions", "assignments") for split in ("valid", "test")
    } <= set(expected)
    (line,) = expected["printed"][0].splitlines()
    assert json.loads(line) == json.loads(expected["found.json"])


def test_an_error_of_one_worker_ends_all_and_is_told_once(runs: Path):
    (sentence,) = told(command(2, "evaluate", runs / "sharded", FAILS="1"))
    assert sentence == "error: a column cannot be read: prepare the dataset again"
    assert not RunFolder(runs / "sharded").predictions_file("test").exists()


def test_a_killed_worker_ends_all_and_is_told_of_at_most_once(runs: Path):
    done = command(2, "scenarios", runs / "sharded", "--out", runs / "scenarios.csv", DIES="1")
    assert [one for one in told(done) if "another worker was killed" not in one] == []
    assert len(told(done)) <= 1
    assert "SIGKILL" in done.stderr
    assert not (runs / "scenarios.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("evaluate", "nowhere"), "does not exist: give the folder that `musenet train` wrote"),
        (("evaluate", "RUN", "--adapt"), "--data and --adapt are for one process: start it without torchrun"),
        (("export", "RUN", "--out", "out"), "export runs in one process: start it without torchrun"),
    ],
)
def test_a_mistake_that_all_see_is_told_once(arguments: tuple[str, ...], sentence: str, runs: Path):
    run = str(runs / "sharded")
    (said,) = told(command(2, *(run if one == "RUN" else one for one in arguments)))
    assert sentence in said
